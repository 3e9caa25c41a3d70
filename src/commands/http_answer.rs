//! Why there was no upgrade: what the HTTP answer, or its absence, means and what helps.

use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Response};

use super::printable;

/// What was found, and what to do.
pub fn explain(error: &Error, origin: Option<&str>) -> (String, String) {
    match error {
        Error::Http(response) => {
            let status = response.status();
            let detail = problem_detail(response).map(|detail| format!(": {detail}")).unwrap_or_default();
            (format!("HTTP {status}{detail}"), cure(status.as_u16(), response.headers(), origin))
        }
        Error::Tls(error) => (
            format!("TLS failed: {error}"),
            "check the certificate (its name, its age, who issued it), or use ws:// if the server speaks no TLS".into(),
        ),
        Error::Io(error) => (
            format!("no connection came about: {error}"),
            "check that a web server listens there, and that ws:// or wss:// is what it speaks".into(),
        ),
        other => (
            format!("what answered speaks no WebSocket: {}", printable(&other.to_string())),
            "check the port, and that a proxy between passes the upgrade on".into(),
        ),
    }
}

/// The sentence of a problem document, where the answer is one.
fn problem_detail(response: &Response<Option<Vec<u8>>>) -> Option<String> {
    let problem: Value = serde_json::from_slice(response.body().as_deref()?).ok()?;
    let sentence = problem["detail"].as_str().or_else(|| problem["title"].as_str())?;
    Some(printable(sentence))
}

fn cure(status: u16, headers: &HeaderMap, origin: Option<&str>) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(printable);
    let retry = header("retry-after").map_or("try again later".into(), |wait| format!("try again in {wait} s"));
    match status {
        301..=308 => format!(
            "WebSocket clients follow no redirect; connect to {} itself",
            header("location").unwrap_or_else(|| "its target".into())
        ),
        400 | 426 => "a proxy between may drop the headers Upgrade and Connection; let it pass them on".into(),
        401 => "this server checks the token before the upgrade; check the token".into(),
        403 => match origin {
            Some(origin) => {
                format!("add {origin} to TIDINGS_ALLOWED_ORIGINS of the server, or set its TIDINGS_PUBLIC_URL")
            }
            None => "a proxy or firewall refuses this; look into its log".into(),
        },
        404 => "check the path (/ws/chat/<id>/, /ws/notifications/<id>/, /ws/user/<id>/), and that the id is a whole \
                number above 0"
            .into(),
        429 => format!("too many handshakes from this address; {retry}, or raise TIDINGS_HANDSHAKES_PER_ADDRESS_MAX"),
        503 => format!("the server is draining or full; {retry}, or raise TIDINGS_CONNECTIONS_MAX"),
        500.. => "look into the log of the server, or of the proxy before it".into(),
        _ => "something else than a WebSocket server answers there; check host, port and path".into(),
    }
}
