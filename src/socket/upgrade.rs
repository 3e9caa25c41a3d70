//! The handshake: what is answered by HTTP before the upgrade, and the upgrade itself. Everything about the token or
//! access is looked at before it, so that an open socket is one that is there, and answered after it, with a close
//! code, for a browser can't see a status.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{admit, connection};
use crate::app::App;
use crate::auth::pick_token;
use crate::ids::parse_id;
use crate::protocol::client::Endpoint;

/// The subprotocol that asks for more than the guide.
const SUBPROTOCOL: &str = "tidings.v1";

/// What a client asks for.
pub struct Handshake {
    pub endpoint: Endpoint,
    /// The conversation of a chat socket, the user of the others.
    pub id: i64,
    pub token: Option<String>,
    /// The `since` of the query; an empty one counts as not there.
    pub since: Option<String>,
    pub opted_in: bool,
    pub address: IpAddr,
}

/// Why a handshake is refused before the upgrade: a status and a sentence.
pub struct Refusal {
    pub status: StatusCode,
    pub message: &'static str,
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, retry_after_s: None }
    }
}

/// The socket that a path names, if it names one: `/ws/chat/7/`, with or without the last slash.
pub fn endpoint_of(path: &str) -> Option<(Endpoint, i64)> {
    let rest = path.strip_prefix("/ws/")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (name, id) = rest.split_once('/')?;
    let endpoint = match name {
        "chat" => Endpoint::Chat,
        "notifications" => Endpoint::Notifications,
        "user" => Endpoint::User,
        _ => return None,
    };
    Some((endpoint, parse_id(id)?))
}

/// Upgrades a request to a socket, or says why not. `origin_is_allowed` is the answer of the same list
/// that rules cross-origin requests.
pub async fn upgrade(
    app: &Arc<App>,
    (endpoint, id): (Endpoint, i64),
    address: IpAddr,
    origin_is_allowed: bool,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let accept = check_headers(&request)?;
    if !origin_is_allowed {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not connect; see TIDINGS_ALLOWED_ORIGINS",
        ));
    }
    let socket = check_room(app, address)?;
    let headers = request.headers();
    let offers = || headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offers_subprotocol = offers().flat_map(|value| value.split(',')).any(|offer| offer.trim() == SUBPROTOCOL);
    let query = request.uri().query().unwrap_or_default();
    let since = query_value(query, "since").filter(|since| !since.is_empty());
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let handshake = Handshake {
        endpoint,
        id,
        token: pick_token(Some(query), authorization, offers()),
        opted_in: offers_subprotocol || endpoint == Endpoint::User || since.is_some(),
        since,
        address,
    };
    let on_upgrade = hyper::upgrade::on(&mut request);
    // Where the peer goes meanwhile, this future or the task is dropped, and whoever was taken in departs.
    let verdict = admit::admit(app, handshake, socket).await;
    let task = app.clone();
    app.tasks.spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        // The greeting is a large future; the connection that it makes is a small one of its own.
        if let Some(connection) = admit::begin(&task, verdict, upgraded).await {
            task.clone().tasks.spawn(connection::run(task, connection));
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if offers_subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Whether this is a WebSocket handshake (RFC 6455, section 4.2.1); the key's answer.
fn check_headers(request: &Request<Body>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET
        || !has_token(headers, CONNECTION.as_str(), "upgrade")
        || !has_token(headers, UPGRADE.as_str(), "websocket")
    {
        return Err(Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "this address speaks WebSocket: connect with `new WebSocket(…)` or another WebSocket client",
        ));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "the WebSocket version must be 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    key.filter(|key| BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .and_then(|key| HeaderValue::try_from(derive_accept_key(key)).ok())
        .ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "the handshake needs a `Sec-WebSocket-Key`: 16 bytes in base64")
        })
}

fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Whether there is room for one more socket, and for one more handshake right now.
fn check_room(app: &Arc<App>, address: IpAddr) -> Result<Socket, Refusal> {
    let busy = |message, retry_after_s| Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message,
        retry_after_s: Some(retry_after_s),
    };
    if app.is_draining() {
        return Err(busy("this server is being stopped; connect again", 2));
    }
    if let Err(wait) = app.limits.handshakes_per_address.take(&address) {
        return Err(Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: "too many handshakes from this address",
            retry_after_s: Some(wait.as_secs() + 1),
        });
    }
    if let Err(wait) = app.limits.handshakes.take(&()) {
        return Err(busy("too many handshakes; connect again a little later", wait.as_secs() + 1));
    }
    let socket = Socket::count(app);
    if app.settings.connections_max.is_some_and(|most| app.sockets.load(Ordering::Relaxed) as u64 > most) {
        return Err(busy("this server holds as many connections as it may", 5));
    }
    Ok(socket)
}

/// One counted socket, from the upgrade until it is dropped.
pub struct Socket(Arc<App>);

impl Socket {
    fn count(app: &Arc<App>) -> Self {
        counter(app).fetch_add(1, Ordering::Relaxed);
        Self(app.clone())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        counter(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

fn counter(app: &App) -> &AtomicUsize {
    &app.sockets
}

/// A value of a query by its name, decoded; the first one counts.
fn query_value(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The name of the header that says when to come back.
pub const RETRY_AFTER_HEADER: axum::http::HeaderName = RETRY_AFTER;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_sockets_with_or_without_the_last_slash() {
        assert_eq!(endpoint_of("/ws/chat/7/"), Some((Endpoint::Chat, 7)));
        assert_eq!(endpoint_of("/ws/chat/7"), Some((Endpoint::Chat, 7)));
        assert_eq!(endpoint_of("/ws/notifications/9007199254740991/"), Some((Endpoint::Notifications, (1 << 53) - 1)));
        assert_eq!(endpoint_of("/ws/user/3/"), Some((Endpoint::User, 3)));
        for path in [
            "/ws/chat/",
            "/ws/chat/0/",
            "/ws/chat/-1/",
            "/ws/chat/7/8/",
            "/ws/chat/7//",
            "/ws/nope/7/",
            "/ws/chat/x/",
            "/ws/chat/9007199254740992/",
        ] {
            assert_eq!(endpoint_of(path), None, "{path}");
        }
    }
}
