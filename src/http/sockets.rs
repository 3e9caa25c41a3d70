//! From a request on `/ws/…` to the socket's own handshake.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderValue, ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};

use super::address;
use super::origin;
use super::problem::{Problem, unknown_path};
use super::server::Peer;
use crate::app::App;
use crate::error::{Code, Error};
use crate::socket::upgrade::{self, Refusal, endpoint_of};

/// Answers a handshake.
pub async fn upgrade(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let Some(target) = endpoint_of(request.uri().path()) else {
        return unknown_path(request.uri().clone()).await.into_response();
    };
    let peer = request.extensions().get::<Peer>().map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
    let client = address::of_client(peer, request.headers(), &app.settings.trusted_proxies);
    let is_allowed = origin::is_allowed(&app.settings, request.headers().get(ORIGIN), request.headers());
    match upgrade::upgrade(&app, target, client, is_allowed, request).await {
        Ok(response) => response,
        Err(refusal) => {
            tracing::info!(
                endpoint = target.0.as_str(),
                target.id = target.1,
                address = %client,
                status = refusal.status.as_u16(),
                reason = refusal.message,
                "handshake refused"
            );
            refuse(refusal)
        }
    }
}

fn refuse(refusal: Refusal) -> Response {
    let code = match refusal.status {
        StatusCode::FORBIDDEN => Code::Forbidden,
        StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::UPGRADE_REQUIRED => Code::Unsupported,
        _ => Code::InvalidField,
    };
    let error = Error {
        retry_after_ms: refusal.retry_after_s.map(|seconds| seconds * 1000),
        ..Error::new(code, refusal.message)
    };
    let mut response = Problem { status: refusal.status, error }.into_response();
    if refusal.status == StatusCode::UPGRADE_REQUIRED {
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}
