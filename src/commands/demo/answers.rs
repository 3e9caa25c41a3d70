//! What the demo's bot says: a handful of canned answers, and an echo for the rest. Pure: no socket, no time.

use crate::commands::close_codes;

/// What the bot does about a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    /// A reaction to the message itself, now and then.
    pub reaction: Option<&'static str>,
}

/// Of which any one has to be in the message, as a word (with a star: the beginning of one), and what is then answered.
const TOPICS: &[(&[&str], &str)] = &[
    (
        &["help"],
        "Ask me about: Tidings, tokens, resume, receipts, typing, presence, notifications, the REST API, or a close \
         code such as 4004. Anything else I repeat.",
    ),
    (
        &["resum*", "reconnect*", "offline", "lost", "since"],
        "Every change in a conversation has an event_id: 1, 2, 3 and so on. Remember the last one you saw and connect \
         with ?since=<event_id>: you get all that you missed, in order, then go on live. Try it with \"Go offline\".",
    ),
    (
        &["token*", "jwt", "auth*", "login"],
        "Your platform signs a JWT with the claim user_id; Tidings checks it. Send it as ?token=, as an Authorization \
         header, or in the subprotocol list. When it expires, the socket closes with 4002.",
    ),
    (
        &["notif*", "bell"],
        "Notifications have their own socket, /ws/notifications/<user id>/, and come on /ws/user/<user id>/ as well. \
         The platform sends them with POST /api/v1/notifications; one of the printed curl lines does just that.",
    ),
    (
        &["receipt*", "read", "tick*", "deliver*"],
        "One tick: stored. Two: delivered. Two in colour: read. Reading is a cursor that only moves forward: \
         mark_read with a message_id marks all up to it.",
    ),
    (
        &["typing", "type"],
        "Send typing_indicator with is_typing true while somebody types; it ends by itself after six seconds, or with \
         the message. You saw mine just now.",
    ),
    (
        &["presence", "online", "status"],
        "Whoever has a socket is online; who loses the last one is offline ten seconds later. user_status says so.",
    ),
    (
        &["rest", "api", "curl", "http", "openapi"],
        "All of it works over REST too, with the same rules and the same events: GET /api/v1/openapi.json describes \
         every route.",
    ),
    (
        &["edit*", "delet*", "react*", "repl*"],
        "Point at a message, or tab to it: react, reply, and on your own edit and delete. The others see it at once.",
    ),
    (
        &["tidings", "who are you", "what are you"],
        "Tidings is a server for chat and notifications over WebSocket. It stores before it tells, numbers what it \
         tells, and so nothing is lost, doubled or out of order, whatever the network does. I am only its demo's bot.",
    ),
];

/// What the bot answers to a message.
pub fn answer_to(text: &str, first_name: &str) -> Answer {
    let words = text.to_lowercase();
    let has_one = |of: &[&str]| of.iter().any(|wanted| has_word(&words, wanted));
    if let Some(code) = close_code(&words) {
        let (meaning, cure) = close_codes::explain(code);
        return plain(format!("{code}: {meaning}. What helps: {cure}."));
    }
    if let Some((_, answer)) = TOPICS.iter().find(|(wanted, _)| has_one(wanted)) {
        return plain((*answer).to_owned());
    }
    if has_one(&["thank*", "great", "nice", "cool", "love*", "awesome"]) {
        return Answer { text: format!("Glad you like it, {first_name}!"), reaction: Some("love") };
    }
    if has_one(&["hello", "hi", "hey", "good morning", "good evening"]) {
        return Answer {
            text: format!("Hello {first_name}! Say \"help\" to see what I know."),
            reaction: Some("like"),
        };
    }
    if text.is_empty() {
        return Answer { text: "Thank you, I keep it safe.".to_owned(), reaction: Some("wow") };
    }
    plain(format!("You said: {}", shortened(text)))
}

/// What the bot answers to a message that was changed.
pub fn answer_to_edit(text: &str) -> Answer {
    Answer { text: format!("I saw your edit. Now it says: {}", shortened(text)), reaction: Some("like") }
}

fn plain(text: String) -> Answer {
    Answer { text, reaction: None }
}

fn has_word(text: &str, wanted: &str) -> bool {
    let start = wanted.trim_end_matches('*');
    let ends = |rest: &str| start != wanted || !rest.starts_with(char::is_alphanumeric);
    text.match_indices(start)
        .any(|(at, _)| !text[..at].ends_with(char::is_alphanumeric) && ends(&text[at + start.len()..]))
}

/// A close code that the message names.
fn close_code(text: &str) -> Option<u16> {
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    numbers.into_iter().find(|code| matches!(code, 1000..=1013 | 4001..=4010))
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 500;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> String {
        answer_to(text, "Ada").text
    }

    #[test]
    fn known_topics_are_answered_and_the_rest_is_repeated() {
        assert!(says("What is Tidings?").starts_with("Tidings is a server"));
        assert!(says("how do I RESUME?").contains("?since="));
        assert!(says("why 4004?").starts_with("4004: access denied"));
        assert!(says("hi").starts_with("Hello Ada!"));
        assert_eq!(answer_to("Thanks!", "Ada").reaction, Some("love"));
        for text in ["My prototype has no history", "Ready for the restaurant", "👩‍💻 مرحبا"] {
            assert_eq!(says(text), format!("You said: {text}"));
        }
    }

    #[test]
    fn a_long_text_is_repeated_in_part_whatever_its_characters() {
        let answer = says(&"é".repeat(8_000));
        assert_eq!(answer, format!("You said: {}…", "é".repeat(500)));
    }
}
