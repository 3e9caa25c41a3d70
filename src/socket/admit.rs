//! Who may come in: the checks in their order, each with its close code, before the upgrade is answered; after it, the
//! connection they make.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use tokio::time::Instant;

use super::connection::{Connection, Guard};
use super::join;
use super::replay::Early;
use super::upgrade::{Handshake, Socket};
use super::websocket::{Life, WebSocket};
use crate::app::App;
use crate::auth::{AuthError, Verified};
use crate::hub::deadlines::{Due, Key};
use crate::hub::outbox::{Bounds, Outbox};
use crate::hub::people::Arrival;
use crate::hub::topic::Seat;
use crate::protocol::client::Endpoint;
use crate::protocol::{Close, Topic};
use crate::store::Fault;
use crate::store::conversations::Participation;
use crate::store::users::User;

/// A user who has shown a good token.
pub struct Authenticated {
    pub user: User,
    pub verified: Verified,
}

/// What a socket gives access to. Only the checks here make one.
pub enum Access {
    Chat { seat: Seat, participation: Participation },
    Notifications { seat: Seat, position: i64 },
    User { seat: Seat },
}

/// Who has been taken in before the upgrade is answered, so that whoever sees it answered is there: counted, online,
/// and missing nothing. Dropping it undoes that, where the upgrade never comes.
pub struct Admitted {
    authenticated: Authenticated,
    access: Access,
    since: Option<String>,
    guard: Guard,
}

/// Who is not taken in; the upgrade is answered all the same, for the reason is told by a close code.
pub struct Refused {
    close: Close,
    _socket: Socket,
}

/// Checks who comes, and takes them in.
pub async fn admit(app: &Arc<App>, handshake: Handshake, socket: Socket) -> Result<Admitted, Refused> {
    let revocations = app.hub.people.revocations();
    let checked = match authenticate(app, handshake.token.as_deref()).await {
        Ok(authenticated) => match access(app, &handshake, &authenticated.user).await {
            Ok(access) => Ok((authenticated, access)),
            Err(close) => Err((close, Some(authenticated.user.id))),
        },
        Err(close) => Err((close, None)),
    };
    let (authenticated, access) = match checked {
        Ok(checked) => checked,
        Err((close, user_id)) => {
            log_refusal(&handshake, close, user_id);
            return Err(Refused { close, _socket: socket });
        }
    };
    let outbox = new_outbox(app, &handshake, authenticated.user.id);
    let person = authenticated.user.person();
    if app.chat.arrive(&outbox, person, app.settings.connections_per_user_max) == Arrival::Refused {
        log_refusal(&handshake, Close::TooManyConnections, Some(authenticated.user.id));
        return Err(Refused { close: Close::TooManyConnections, _socket: socket });
    }
    let mut guard = Guard::new(app.clone(), outbox.clone(), socket);
    guard.expires = expiry_of(app, &outbox, &authenticated.verified);
    tracing::info!(
        endpoint = handshake.endpoint.as_str(),
        target.id = handshake.id,
        user.id = outbox.user_id,
        connection.id = outbox.id,
        address = %handshake.address,
        "connection accepted"
    );
    if app.hub.people.revocations() != revocations
        && let Err(close) = still_accepted(app, &authenticated).await
    {
        outbox.close(close);
    }
    Ok(Admitted { authenticated, access, since: handshake.since, guard })
}

/// Greets who was taken in and catches them up, or closes with the reason why not.
pub async fn begin(app: &Arc<App>, verdict: Result<Admitted, Refused>, upgraded: Upgraded) -> Option<Box<Connection>> {
    let life =
        verdict.as_ref().ok().map(|admitted| Life { outbox: admitted.guard.outbox.clone(), hub: app.hub.clone() });
    let mut ws = WebSocket::new(upgraded, app.settings.frame_bytes_max, life).await;
    let Admitted { authenticated, access, since, guard } = match verdict {
        Ok(admitted) => admitted,
        Err(refused) => {
            ws.close(refused.close).await;
            return None;
        }
    };
    let outbox = guard.outbox.clone();
    let greeting = join::Greeting {
        app,
        ws: &mut ws,
        outbox: &outbox,
        authenticated: &authenticated,
        since,
        early: Early::default(),
    };
    match greeting.join(access).await {
        Ok(joined) => Some(Box::new(Connection::new(ws, guard, joined))),
        Err(close) => {
            log_end(&outbox, close);
            ws.close(close).await;
            None
        }
    }
}

fn new_outbox(app: &App, handshake: &Handshake, user_id: i64) -> Arc<Outbox> {
    let bounds = Bounds {
        frames_max: usize::try_from(app.settings.outbox_frames_max).unwrap_or(usize::MAX),
        bytes_max: usize::try_from(app.settings.outbox_bytes_max).unwrap_or(usize::MAX),
    };
    Arc::new(Outbox::new(app.hub.next_connection_id(), user_id, handshake.endpoint, handshake.opted_in, bounds))
}

/// Checks a token and its user: missing, invalid, expired, revoked or erased, in this order.
pub async fn authenticate(app: &App, token: Option<&str>) -> Result<Authenticated, Close> {
    let token = token.ok_or(Close::MissingToken)?;
    let verified = app.verifier.verify(token).await.map_err(|error| match error {
        AuthError::Invalid(reason) => {
            tracing::info!(reason, "authentication failed");
            Close::InvalidToken
        }
        AuthError::Expired => Close::TokenExpired,
        AuthError::Unavailable => Close::TryAgainLater,
    })?;
    let user = app.store.meet_user(verified.user_id, &verified.names).await.map_err(out_of_reach)?;
    if user.refuses_token_of(verified.issued_at) {
        return Err(Close::SessionRevoked);
    }
    Ok(Authenticated { user, verified })
}

/// Checks once more that the platform has not ended the user's sessions.
async fn still_accepted(app: &App, authenticated: &Authenticated) -> Result<(), Close> {
    let user = app.store.find_user(authenticated.user.id).await.map_err(out_of_reach)?;
    match user.is_some_and(|user| user.refuses_token_of(authenticated.verified.issued_at)) {
        true => Err(Close::SessionRevoked),
        false => Ok(()),
    }
}

/// Checks that the user may have this socket. The place in a topic is taken before its position is read, so that
/// nothing passes by in between.
async fn access(app: &Arc<App>, handshake: &Handshake, user: &User) -> Result<Access, Close> {
    if handshake.endpoint != Endpoint::Chat {
        if handshake.id != user.id {
            return Err(Close::UserMismatch);
        }
        let topic = Topic::User(user.id);
        let seat = app.hub.open(topic);
        return Ok(match handshake.endpoint {
            // It is told its positions, so that they may be read later.
            Endpoint::User => Access::User { seat },
            _ => Access::Notifications { seat, position: position_of(app, topic).await? },
        });
    }
    let seat = app.hub.open(Topic::Conversation(handshake.id));
    let participation = app.store.find_participation(handshake.id, user.id).await.map_err(out_of_reach)?;
    participation.map(|participation| Access::Chat { seat, participation }).ok_or(Close::AccessDenied)
}

/// How far the log of a topic has come.
pub async fn position_of(app: &App, topic: Topic) -> Result<i64, Close> {
    Ok(app.store.last_event_id(topic).await.map_err(out_of_reach)?.unwrap_or_default())
}

/// The store could not be asked: that is no reason to say no.
pub fn out_of_reach(fault: Fault) -> Close {
    tracing::warn!(error = %fault, "the store failed");
    Close::TryAgainLater
}

/// Sets the deadlines of a connection's token.
pub fn expiry_of(app: &App, outbox: &Arc<Outbox>, verified: &Verified) -> Vec<Key> {
    let deadline_ms = app.verifier.deadline_ms(verified);
    let at =
        |ms: i64| Instant::now() + Duration::from_millis(u64::try_from(ms - app.clock.now_ms()).unwrap_or_default());
    let mut keys = vec![app.hub.deadlines.set(at(deadline_ms), Due::TokenExpires(Arc::downgrade(outbox)))];
    if let (true, Some(warning)) = (outbox.opted_in, app.settings.token_warning) {
        let expires_at_ms = verified.expires_at * 1000;
        let due = Due::TokenExpiresSoon(Arc::downgrade(outbox), expires_at_ms);
        keys.push(app.hub.deadlines.set(at(expires_at_ms - warning.as_millis() as i64), due));
    }
    keys
}

fn log_refusal(handshake: &Handshake, close: Close, user_id: Option<i64>) {
    tracing::info!(
        endpoint = handshake.endpoint.as_str(),
        target.id = handshake.id,
        user.id = user_id,
        address = %handshake.address,
        close.code = close.code(),
        reason = close.reason(),
        "connection refused"
    );
}

/// Logs the end of a connection that had been accepted.
pub fn log_end(outbox: &Outbox, close: Close) {
    tracing::info!(
        user.id = outbox.user_id,
        connection.id = outbox.id,
        close.code = close.code(),
        reason = close.reason(),
        "connection closed"
    );
}
