//! What is fuzzed: each function takes any bytes and fails on what must never be. Called by `fuzz_targets/` under
//! cargo-fuzz, and by `tests/it/fuzz.rs` on every run of the tests.

use futures_util::FutureExt;
use tidings::auth::{AuthSettings, Verifier, parse_algorithm, pick_token};
use tidings::clock::Clock;
use tidings::config::{SettingsFile, Sources};
use tidings::protocol::client::{Bounds, Command, Endpoint, parse};
use tidings::store::search::snippet_of;

/// The one token that `tokens` accepts: HS256 under this secret, good until 2033 on a clock that stands still.
pub const SECRET: &str = "the secret of the fuzzed verifier, and a long one";
pub const NOW_MS: i64 = 1_750_000_000_000;

/// Frames and their commands, on every endpoint.
pub fn frames(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let bounds = Bounds { text_chars_max: Some(8_000), attachments_max: Some(10) };
    for endpoint in [Endpoint::Chat, Endpoint::Notifications, Endpoint::User] {
        let (envelope, command) = parse(text, endpoint, bounds);
        let client_id = envelope.client_id.as_deref();
        assert!(client_id.is_none_or(|id| (1..=64).contains(&id.chars().count()) && is_storable(id)));
        assert!(envelope.conversation_id.is_none_or(is_id));
        match command {
            Ok(command) => check(&command, endpoint),
            Err(error) => assert!(!error.message.is_empty() && !error.message.contains('\0')),
        }
    }
}

fn check(command: &Command, endpoint: Endpoint) {
    let is_chat = !matches!(command, Command::MarkNotificationsRead { .. } | Command::Auth { .. } | Command::Ping);
    assert!(endpoint != Endpoint::Notifications || !is_chat, "a chat command on the notifications' socket");
    match command {
        Command::ChatMessage(new) => {
            assert!(is_storable(&new.message) && new.message.chars().count() <= 8_000);
            assert!(!new.message.trim().is_empty() || !new.attachment_ids.is_empty() && new.message.is_empty());
            assert!(new.attachment_ids.len() <= 10 && new.attachment_ids.iter().all(|id| is_id(*id)));
            assert!(new.reply_to.is_none_or(is_id));
            let data = new.data.as_ref().map(|data| data.get());
            assert!(data.is_none_or(|data| data.len() <= 4 * 1024 && data.starts_with('{')));
        }
        Command::EditMessage { message_id, message } => assert!(is_id(*message_id) && is_storable(message)),
        Command::AddReaction { message_id, reaction } | Command::RemoveReaction { message_id, reaction } => {
            assert!(is_id(*message_id) && is_storable(reaction));
        }
        Command::MarkRead { message_id } | Command::DeleteMessage { message_id } => assert!(is_id(*message_id)),
        Command::Auth { token } => assert!(!token.is_empty()),
        Command::Resume { cursors, notifications } => {
            assert!(endpoint == Endpoint::User && notifications.is_none_or(|event_id| event_id >= 0));
            assert!(cursors.iter().all(|(id, event_id)| is_id(*id) && *event_id >= 0));
        }
        Command::Typing { .. } | Command::MarkNotificationsRead { .. } | Command::Ping => {}
    }
}

fn is_id(id: i64) -> bool {
    (1..1 << 53).contains(&id)
}

/// PostgreSQL takes every text but one with U+0000.
fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}

/// Tokens: nothing but the genuine one is accepted.
pub fn tokens(data: &[u8]) {
    thread_local! {
        static VERIFIER: Verifier = verifier();
    }
    let Ok(token) = std::str::from_utf8(data) else { return };
    VERIFIER.with(|verifier| {
        let verified = verifier.verify(token).now_or_never().expect("a shared secret asks no network");
        assert!(verified.is_err() || token == genuine(), "a forged token was accepted");
    });
}

fn verifier() -> Verifier {
    let settings = AuthSettings {
        algorithms: vec![parse_algorithm("HS256").expect("an algorithm")],
        secrets: vec![SECRET.into()],
        public_key_pem: None,
        jwks_url: None,
        issuer: None,
        audience: None,
        user_claim: "user_id".to_owned(),
        leeway: std::time::Duration::ZERO,
    };
    Verifier::new(settings, Clock::manual(NOW_MS)).expect("a verifier")
}

/// Fails unless the genuine token is accepted.
pub fn check_genuine() {
    let verified = verifier().verify(genuine()).now_or_never().expect("a shared secret asks no network");
    assert_eq!(verified.expect("the genuine token is accepted").user_id, 7);
}

/// The genuine token, which is in the corpus.
pub fn genuine() -> &'static str {
    include_str!("corpus/tokens/genuine")
}

/// Where a request carries its token: three lines are query, header and offer.
pub fn sources(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (query, authorization) = (lines.next(), lines.next());
    let token = pick_token(query, authorization, lines);
    assert!(token.is_none_or(|token| !token.is_empty()));
}

/// The settings file: taken, or refused with reasons.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Some(SettingsFile { name: "tidings.toml".to_owned(), text: text.to_owned() });
    if let Err(problems) = (Sources { file, ..Sources::default() }).settings() {
        assert!(
            !problems.0.is_empty() && problems.0.iter().all(|problem| problem.contains("tidings.toml")),
            "{problems}"
        );
    }
}

/// A search's words in a text: the first line is what was searched for.
pub fn search(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, content) = text.split_once('\n').unwrap_or((text, text));
    let shown: String = snippet_of(content, query).into_iter().map(|piece| piece.text).collect();
    assert!(content.contains(&shown), "a snippet is a part of its text");
}
