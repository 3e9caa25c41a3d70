//! Who calls a route: extractors that only a good token, or the platform's key, can satisfy.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::problem::Problem;
use super::under_way::Keeper;
use crate::app::App;
use crate::auth::{AuthError, bearer};
use crate::error::{Code, Error};
use crate::store::commit::Actor;
use crate::store::users::User;

/// A user, by a token.
#[derive(Debug)]
pub struct UserCaller(pub User);

/// The platform, by one of its keys.
#[derive(Debug)]
pub struct PlatformCaller(());

/// A user or the platform.
#[derive(Debug)]
pub enum Caller {
    User(Box<User>),
    Platform,
}

impl UserCaller {
    pub fn id(&self) -> i64 {
        self.0.id
    }
}

impl Caller {
    /// The user; none for the platform.
    pub fn user_id(&self) -> Option<i64> {
        match self {
            Self::User(user) => Some(user.id),
            Self::Platform => None,
        }
    }

    pub fn actor(&self) -> Actor {
        self.user_id().map_or(Actor::Platform, Actor::User)
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token = token_of(parts)?;
        if app.api_keys.accepts(token) {
            return Ok(Self::Platform);
        }
        authenticate(app, parts, token).await.map(|user| Self::User(Box::new(user)))
    }
}

impl FromRequestParts<Arc<App>> for UserCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        authenticate(app, parts, token_of(parts)?).await.map(Self)
    }
}

/// Counts a request as under way until it is answered, if its user may have one more.
fn count(app: &App, parts: &Parts, user: &User) -> Result<(), Problem> {
    let Some(keeper) = parts.extensions.get::<Keeper>() else { return Ok(()) };
    let Some(place) = app.limits.requests_under_way.take(user.id) else {
        let error = Error::new(Code::RateLimited, "too many requests under way; read the answers to those first");
        return Err(error.with_retry_after_ms(1_000).into());
    };
    keeper.keep(place);
    Ok(())
}

impl FromRequestParts<Arc<App>> for PlatformCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Platform => Ok(Self(())),
            Caller::User(_) => Err(Error::forbidden("this route is for the platform, with one of its API keys").into()),
        }
    }
}

fn token_of(parts: &Parts) -> Result<&str, Problem> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(bearer).filter(|token| !token.is_empty());
    token.ok_or_else(|| Error::new(Code::MissingToken, "send a token as `Authorization: Bearer …`").into())
}

/// Checks a token and its user, and counts the request against the user's limits.
async fn authenticate(app: &Arc<App>, parts: &Parts, token: &str) -> Result<User, Problem> {
    let verified = app.verifier.verify(token).await.map_err(|error| match error {
        AuthError::Invalid(reason) => {
            tracing::info!(reason, "authentication failed");
            Error::new(Code::InvalidToken, "the token is not valid")
        }
        AuthError::Expired => Error::new(Code::TokenExpired, "the token has expired; get a fresh one"),
        AuthError::Unavailable => Error::unavailable(),
    })?;
    let user = app.store.meet_user(verified.user_id, &verified.names).await?;
    if user.refuses_token_of(verified.issued_at) {
        return Err(Error::new(Code::SessionRevoked, "the platform has revoked this token; get a fresh one").into());
    }
    if let Err(wait) = app.limits.requests.take(&user.id) {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        return Err(Error::new(Code::RateLimited, "too many requests; slow down").with_retry_after_ms(ms).into());
    }
    count(app, parts, &user)?;
    Ok(user)
}
