//! What a typed line asks for. Knows no connection.

use serde_json::json;
use uuid::Uuid;

pub const HELP: &str = "type a message, or /typing [off], /read [message id], /raw {json}, /quit";

/// What a typed line asks for.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// A frame to send.
    Send(String),
    Quit,
    Nothing,
    /// The line makes no sense; this says why.
    Complaint(String),
}

impl Line {
    /// Reads a line; `last_message_id` is the message that `/read` is about when it names none.
    pub fn read(line: &str, last_message_id: Option<i64>) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else {
            let client_id = Uuid::new_v4().to_string();
            return Self::Send(json!({"type": "chat_message", "message": line, "client_id": client_id}).to_string());
        };
        let (command, argument) = command.split_once(' ').map_or((command, ""), |(name, rest)| (name, rest.trim()));
        match (command, argument) {
            ("quit", "") => Self::Quit,
            ("typing", "" | "on") => Self::Send(json!({"type": "typing_indicator", "is_typing": true}).to_string()),
            ("typing", "off") => Self::Send(json!({"type": "typing_indicator", "is_typing": false}).to_string()),
            ("read", _) => Self::mark_read(argument, last_message_id),
            ("raw", "") => Self::Complaint("give the frame after /raw".into()),
            // Sent as it is, also where it is no JSON: seeing the server's answer to that is what /raw is for.
            ("raw", frame) => Self::Send(frame.into()),
            _ => Self::Complaint(HELP.into()),
        }
    }

    fn mark_read(argument: &str, last_message_id: Option<i64>) -> Self {
        let id = if argument.is_empty() { last_message_id } else { crate::ids::parse_id(argument) };
        let client_id = Uuid::new_v4().to_string();
        match id {
            Some(id) => Self::Send(json!({"type": "mark_read", "message_id": id, "client_id": client_id}).to_string()),
            None => Self::Complaint("no message has come in yet; name one: /read 12".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sent(line: &str) -> Value {
        match Line::read(line, Some(5)) {
            Line::Send(frame) => serde_json::from_str(&frame).expect("JSON"),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn text_becomes_a_message_with_a_client_id_of_its_own() {
        let (first, second) = (sent("hello"), sent("hello"));
        assert_eq!((&first["type"], &first["message"]), (&json!("chat_message"), &json!("hello")));
        assert_ne!(first["client_id"], second["client_id"]);
    }

    #[test]
    fn commands_become_their_frames() {
        assert_eq!(sent("/typing")["is_typing"], true);
        assert_eq!(sent("/typing off")["is_typing"], false);
        assert_eq!(sent("/read")["message_id"], 5);
        assert_eq!(sent("/read 12")["message_id"], 12);
        assert_eq!(Line::read("/raw {\"type\":", None), Line::Send("{\"type\":".into()));
        assert_eq!(Line::read(" /quit ", None), Line::Quit);
        assert_eq!(Line::read("  ", None), Line::Nothing);
    }

    #[test]
    fn what_makes_no_sense_is_answered_here() {
        for line in ["/", "/quite", "/typing maybe", "/read x", "/read", "/raw", "/raw "] {
            assert!(matches!(Line::read(line, None), Line::Complaint(_)), "{line}");
        }
    }
}
