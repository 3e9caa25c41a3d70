//! The demo's page: one HTML document with its style and script inside, for a browser on this machine. Only
//! `tidings demo` serves it. Holds no rule of chat: the page is a client like any other.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use super::server::Peer;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 4] =
    [include_str!("dom.js"), include_str!("session.js"), include_str!("pane.js"), include_str!("page.js")];

/// Makes what the page begins with: who one can be, with fresh tokens.
pub type Settings = Arc<dyn Fn() -> anyhow::Result<Value> + Send + Sync>;

/// Adds the page at `/`.
pub fn with_page(router: Router, settings: Settings) -> Router {
    router.route("/", axum::routing::get(move |peer, headers| page(settings.clone(), peer, headers)))
}

async fn page(settings: Settings, Extension(Peer(peer)): Extension<Peer>, headers: HeaderMap) -> Response {
    // It carries tokens: for this machine alone, and not for a foreign page that has made its own name point here.
    if !peer.to_canonical().is_loopback() || !names_this_machine(headers.get(HOST)) {
        let answer = "the demo's page is for browsers on the machine that it runs on; use the address it printed\n";
        return (StatusCode::FORBIDDEN, answer).into_response();
    }
    let settings = match settings() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(%error, "the demo's page could not be made");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let Ok(policy) = HeaderValue::try_from(policy) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, Html(render(&settings, &nonce))).into_response()
}

fn render(settings: &Value, nonce: &str) -> String {
    // Inside a script element only `<` could end it.
    let settings = settings.to_string().replace('<', "\\u003c");
    PAGE.replace("{{nonce}}", nonce)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", &SCRIPTS.concat())
        .replace("{{settings}}", &settings)
}

fn names_this_machine(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    let name = super::origin::without_port(host);
    let address: Result<IpAddr, _> = name.trim_start_matches('[').trim_end_matches(']').parse();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_get_the_page() {
        let names = |host: &str| names_this_machine(Some(&host.parse().expect("a header")));
        for host in ["127.0.0.1:8000", "localhost", "LocalHost:1", "[::1]:8000"] {
            assert!(names(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8000", "192.168.1.7:8000", "localhost.evil.example", ""] {
            assert!(!names(host), "{host}");
        }
        assert!(!names_this_machine(None));
    }

    #[test]
    fn the_page_is_whole_and_what_is_put_in_cannot_end_a_script() {
        let page = render(&serde_json::json!({ "users": ["</script>"] }), "n1");
        assert!(!page.contains("{{"), "a place was left open");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("\\u003c/script>"));
        for outside in ["http://", "https://", "src=\"/"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
