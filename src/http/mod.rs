//! The HTTP edge: the router on one page, a file per noun. Sockets are upgraded here and handed on.

mod access;
pub mod address;
mod attachments;
pub mod body;
pub mod caller;
mod conversations;
pub mod demo;
pub mod health;
pub mod idempotency;
mod messages;
mod notifications;
mod openapi;
pub mod origin;
pub mod page;
mod participants;
pub mod problem;
pub mod route;
mod search;
pub mod server;
mod sockets;
mod under_way;
mod unread;
mod users;

use std::sync::Arc;
use std::time::Duration;

pub use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::App;
use crate::config::Settings;
use route::Route;

/// Every REST route there is. The router and the OpenAPI document are both made of it, so that no route
/// can be in one and not in the other.
pub fn routes() -> Vec<Route> {
    [
        attachments::routes(),
        conversations::routes(),
        messages::routes(),
        notifications::routes(),
        participants::routes(),
        search::routes(),
        users::routes(),
        openapi::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The public listener's router.
pub fn router(app: &Arc<App>) -> Router {
    stateless_router(&app.settings).with_state(app.clone())
}

/// The same before it has an app; the simulation makes it once for all the servers that it starts.
pub(crate) fn stateless_router(settings: &Settings) -> Router<Arc<App>> {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router
        .route("/healthz", axum::routing::get(health::process))
        .route("/readyz", axum::routing::get(health::ready))
        .route("/ws/{*path}", axum::routing::any(sockets::upgrade))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(body_limit(settings)))
        .layer(cors(settings))
}

/// The admin listener's router.
pub fn admin_router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/healthz", axum::routing::get(health::process))
        .route("/readyz", axum::routing::get(health::ready))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .with_state(app.clone())
}

fn body_limit(settings: &Settings) -> usize {
    settings.request_bytes_max.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// Cross-origin requests: the same list as for sockets; never credentials.
fn cors(settings: &Settings) -> CorsLayer {
    let settings = Arc::new(settings.clone());
    let allowed = move |origin: &axum::http::HeaderValue, parts: &axum::http::request::Parts| {
        origin::is_allowed(&settings, Some(origin), &parts.headers)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("idempotency-key")])
        .expose_headers([header::LINK, header::RETRY_AFTER])
        .max_age(Duration::from_secs(600))
}
