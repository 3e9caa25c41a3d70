//! `tidings doctor`: says step by step why a connection is accepted or refused, and what helps.
//!
//! The server's own answer is the verdict; what is found here beforehand explains it. Never shows a token.

mod report;
mod token_reading;

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::tungstenite::{self, handshake::client::Response};

use self::report::Report;
use self::token_reading::{TokenReading, time_shown};
use super::client::{Endpoint, Place, Socket};
use super::close_codes::explain;
use super::{http_answer, printable};
use crate::auth::{AuthError, AuthSettings, Verifier};
use crate::clock::Clock;
use crate::config::{DoctorTarget, Settings};

/// How long a server has to refuse or greet after the upgrade.
const VERDICT_TIME_MAX: Duration = Duration::from_millis(1_500);
/// How long a server has to answer a close frame.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// A difference between clocks that is worth telling; the `Date` header has whole seconds.
const CLOCK_SKEW_S: i64 = 2;

/// Examines the connection; whether it was accepted.
pub async fn examine(settings: &Settings, target: &DoctorTarget, clock: &Clock, out: &mut impl Write) -> Result<bool> {
    let mut report = Report::new(out);
    let endpoint = match Endpoint::parse(target.url.expose(), target.token.as_ref()) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            report.fail("address", &problem, "give it like ws://127.0.0.1:8000/ws/chat/1/")?;
            return report.refused("none, no connection was tried");
        }
    };
    tell_place(&mut report, &endpoint)?;
    tell_token(&mut report, settings, &endpoint, clock).await?;
    tell_signature(&mut report, settings, &endpoint, clock).await?;
    match endpoint.reach().await {
        Ok(stream) => report.ok("server", &format!("{} answers at {}", endpoint.authority(), stream.peer_addr()?))?,
        Err(error) => {
            let found = format!("{} cannot be reached: {error}", endpoint.authority());
            report.fail("server", &found, "check host and port, that the server runs there, and firewalls between")?;
            return report.refused("none, there was no connection");
        }
    }
    let origin = target.origin.as_deref();
    match endpoint.connect(origin).await {
        Ok((socket, response)) => {
            tell_upgrade(&mut report, &response, origin)?;
            tell_clock(&mut report, response.headers(), clock)?;
            tell_access(&mut report, &endpoint, socket).await
        }
        Err(error) => {
            let (found, cure) = http_answer::explain(&error, origin);
            report.fail("upgrade", &found, &cure)?;
            if let tungstenite::Error::Http(response) = &error {
                tell_clock(&mut report, response.headers(), clock)?;
            }
            report.refused("none, the connection was refused before the upgrade")
        }
    }
}

fn tell_place(report: &mut Report<impl Write>, endpoint: &Endpoint) -> Result<()> {
    let address = endpoint.shown();
    match endpoint.place() {
        Place::Chat(id) => report.ok("address", &format!("{address} is the chat socket of conversation {id}")),
        Place::Notifications(id) => {
            report.ok("address", &format!("{address} is the notifications socket of user {id}"))
        }
        Place::User(id) => report.ok("address", &format!("{address} is the socket for everything of user {id}")),
        Place::Unknown => report.fail(
            "address",
            &format!("{address} ends like none of the sockets"),
            "end it with /ws/chat/<conversation id>/, /ws/notifications/<user id>/ or /ws/user/<user id>/; an id is a \
             whole number above 0",
        ),
    }
}

/// What the token says of itself, and whether that alone gets it refused.
async fn tell_token(
    report: &mut Report<impl Write>,
    settings: &Settings,
    endpoint: &Endpoint,
    clock: &Clock,
) -> Result<()> {
    let Some(token) = endpoint.token() else {
        return report.fail("token", "there is none: 4003", "give one with --token");
    };
    let reading = match TokenReading::of(&token) {
        Ok(reading) => reading,
        Err(problem) => return report.fail("token", &format!("it {problem}: 4001"), "give the whole token"),
    };
    let now_s = clock.now_s();
    let user_id = reading.user_id(&settings.jwt_user_claim);
    let key = reading.key_id.as_ref().map(|id| format!(", key {}", printable(id))).unwrap_or_default();
    let user = user_id.map_or("nobody".into(), |id| format!("user {id}"));
    report.ok("token", &format!("{}{key}, for {user}", printable(&reading.algorithm)))?;
    for (claim, meaning) in [("iat", "issued"), ("nbf", "good from"), ("exp", "expires")] {
        if let Some(seconds) = reading.time(claim) {
            report.detail(&format!("{claim}: {meaning} {}", time_shown(seconds, now_s)))?;
        }
    }
    if let Some((found, cure)) = token_problem(&reading, user_id, endpoint.place(), settings, now_s) {
        report.fail("claims", &found, &cure)?;
    }
    Ok(())
}

/// The first thing about the claims that gets the token refused, in the server's order.
fn token_problem(
    reading: &TokenReading,
    user_id: Option<i64>,
    place: Place,
    settings: &Settings,
    now_s: i64,
) -> Option<(String, String)> {
    let leeway_s = i64::try_from(settings.jwt_leeway.as_secs()).unwrap_or(i64::MAX);
    let problem = |found: &str, cure: &str| Some((found.to_string(), cure.to_string()));
    if let Some(kind) = reading.wrong_type() {
        return problem(
            &format!("token_type is {}: 4001", printable(&kind)),
            "use the access token, not the refresh token",
        );
    }
    let Some(user_id) = user_id else {
        let cure =
            format!("put the user's id into `{}` or `sub`, or set TIDINGS_JWT_USER_CLAIM", settings.jwt_user_claim);
        return problem("no claim holds a user id: 4001", &cure);
    };
    if reading.time("nbf").is_some_and(|from| from > now_s.saturating_add(leeway_s)) {
        return problem("it is not good yet: 4001", "compare the clocks of the platform and of this machine");
    }
    match reading.time("exp") {
        None => return problem("it never expires (no exp): 4001", "issue tokens with an exp claim"),
        Some(expiry) if expiry.saturating_add(leeway_s) <= now_s => {
            return problem("it has expired: 4002", "get a fresh token from the platform");
        }
        Some(_) => {}
    }
    match place {
        Place::Notifications(id) | Place::User(id) if id != user_id => problem(
            &format!("it is for user {user_id} and the address for user {id}: 4005"),
            &format!("put {user_id} into the address, or use a token of user {id}"),
        ),
        _ => None,
    }
}

/// Checks the token as this machine's settings would, where they have a key.
async fn tell_signature(
    report: &mut Report<impl Write>,
    settings: &Settings,
    endpoint: &Endpoint,
    clock: &Clock,
) -> Result<()> {
    let Some(token) = endpoint.token() else { return Ok(()) };
    if settings.jwt_secret.is_none() && settings.jwt_public_key_file.is_none() && settings.jwks_url.is_none() {
        return report.note("signature", "not checked here: no key is set (TIDINGS_JWT_SECRET and others)");
    }
    let verifier = match AuthSettings::configured(settings).and_then(|settings| Verifier::new(settings, clock.clone()))
    {
        Ok(verifier) => verifier,
        Err(error) => return report.fail("signature", &format!("{error:#}"), "correct these settings"),
    };
    match verifier.verify(&token).await {
        Ok(_) => report.ok("signature", "the token is good by the settings given here"),
        Err(AuthError::Expired) => report.ok("signature", "it is right by the settings given here; but see its age"),
        Err(AuthError::Invalid(reason)) => report.fail(
            "signature",
            &format!("by the settings given here: {reason}"),
            "check that the platform signs with the key, algorithm, issuer and audience of these settings",
        ),
        Err(AuthError::Unavailable) => report.fail(
            "signature",
            "the key set cannot be fetched from here: 1013 if the server cannot either",
            "check TIDINGS_JWKS_URL",
        ),
    }
}

fn tell_upgrade(report: &mut Report<impl Write>, response: &Response, origin: Option<&str>) -> Result<()> {
    let subprotocol = response.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
    let speaks = subprotocol.map_or("no subprotocol".into(), |name| format!("subprotocol {}", printable(name)));
    report.ok("upgrade", &format!("HTTP 101, {speaks}"))?;
    match origin {
        Some(origin) => report.ok("origin", &format!("{origin} is allowed")),
        None => report.note("origin", "none was sent, as programs do; see what a browser would get with --origin"),
    }
}

fn tell_clock(report: &mut Report<impl Write>, headers: &tungstenite::http::HeaderMap, clock: &Clock) -> Result<()> {
    let date = headers.get("date").and_then(|value| jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok());
    let Some(date) = date else { return report.note("clock", "the server does not tell its time") };
    let ahead_s = date.timestamp().as_second().saturating_sub(clock.now_s());
    if ahead_s.abs() <= CLOCK_SKEW_S {
        return report.ok("clock", "the server's clock and this machine's agree");
    }
    let side = if ahead_s > 0 { "ahead of" } else { "behind" };
    report.fail(
        "clock",
        &format!("the server's clock is {} s {side} this machine's", ahead_s.abs()),
        "set both by NTP, also the platform's: tokens expire by the server's clock (TIDINGS_JWT_LEEWAY allows for some)",
    )
}

/// What a server said about access after the upgrade.
enum Verdict {
    /// It greeted with `connected`.
    Greeted(Value),
    /// It left the socket open.
    Open,
    /// It closed, with this frame.
    Closed(Option<CloseFrame>),
    /// The connection broke.
    Broken(String),
}

async fn verdict(socket: &mut Socket) -> Verdict {
    let deadline = Instant::now() + VERDICT_TIME_MAX;
    loop {
        match timeout_at(deadline, socket.next()).await {
            Err(_) => return Verdict::Open,
            Ok(None) => return Verdict::Closed(None),
            Ok(Some(Ok(Message::Close(frame)))) => return Verdict::Closed(frame),
            Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str::<Value>(&text) {
                Ok(frame) if frame["type"] == "connected" => return Verdict::Greeted(frame),
                // State that a server sends on connecting; a close may still follow.
                _ => {}
            },
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return Verdict::Broken(error.to_string()),
        }
    }
}

async fn tell_access(report: &mut Report<impl Write>, endpoint: &Endpoint, mut socket: Socket) -> Result<bool> {
    match verdict(&mut socket).await {
        Verdict::Greeted(connected) => {
            report.ok("access", &granted(&connected, endpoint.place()))?;
            report.accepted(&leave(socket).await)
        }
        Verdict::Open => {
            report.ok("access", "the server has let the socket open and says nothing more")?;
            report.accepted(&leave(socket).await)
        }
        Verdict::Closed(frame) => {
            let code = frame.as_ref().map_or(1005, |frame| u16::from(frame.code));
            let (meaning, cure) = explain(code);
            report.fail("access", meaning, cure)?;
            let reason = frame.map(|frame| printable(&frame.reason)).filter(|reason| !reason.is_empty());
            report.refused(&format!("{code} {}", reason.unwrap_or_default()))
        }
        Verdict::Broken(error) => {
            let (_, cure) = explain(1006);
            report.fail("access", &format!("the connection broke: {}", printable(&error)), cure)?;
            report.refused("none, the connection broke")
        }
    }
}

/// What `connected` says of user and participation.
fn granted(connected: &Value, place: Place) -> String {
    let user = &connected["user"];
    let names = ["first_name", "last_name", "username"].map(|field| user[field].as_str().unwrap_or_default());
    let name = names.iter().copied().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ");
    let place = match place {
        Place::Chat(id) => format!("takes part in conversation {id}"),
        Place::Notifications(_) => "hears their notifications".into(),
        Place::User(_) => "hears all their conversations and notifications".into(),
        Place::Unknown => "is let in".into(),
    };
    let last = connected["last_event_id"].as_i64().map(|id| format!("; the last event is {id}")).unwrap_or_default();
    format!("user {} ({}) {place}{last}", user["id"], printable(&name))
}

/// Ends an accepted connection in good order; the code with which it ended.
async fn leave(mut socket: Socket) -> String {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let ended = timeout(CLOSE_TIME_MAX, async {
        socket.close(Some(goodbye)).await.ok()?;
        while let Some(Ok(frame)) = socket.next().await {
            if let Message::Close(frame) = frame {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
        None
    });
    match ended.await {
        Ok(Some(code)) => format!("{code}, as this examination closed the connection"),
        _ => "none, the server did not answer the close of this examination".into(),
    }
}

#[cfg(test)]
mod tests;
