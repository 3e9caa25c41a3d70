//! An event as a line of text for a person. What is not known is shown as it came.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::commands::printable;

/// One event, on one line.
pub fn event(event: &Value, zone: &TimeZone) -> String {
    let text = |field: &str| printable(event[field].as_str().unwrap_or_default());
    let message_id = &event["message_id"];
    match event["type"].as_str().unwrap_or_default() {
        "chat_message" => message(&event["message"], zone),
        "message_edited" => format!("{} (edited)", message(&event["message"], zone)),
        "message_deleted" => format!("* {} deleted message {message_id}", person(&event["deleted_by"])),
        "message_read" => format!("* {} has read up to message {message_id}", person(&event["read_by"])),
        "message_status" => format!("* message {message_id} is {} to user {}", text("status"), event["user_id"]),
        "reaction_added" => reaction(event, "reacted with"),
        "reaction_removed" => reaction(event, "took back"),
        "typing_indicator" if event["is_typing"] == true => format!("* {} is typing", person(&event["user"])),
        "typing_indicator" => format!("* {} has stopped typing", person(&event["user"])),
        "user_status" => format!("* user {} is {}", event["user_id"], text("status")),
        "participant_added" => format!("* {} was added", person(&event["user"])),
        "participant_removed" => format!("* {} is gone", person(&event["user"])),
        "notification" => {
            let notification = &event["notification"];
            let text = |field: &str| printable(notification[field].as_str().unwrap_or_default());
            format!("{} [{}] {}", time(&notification["timestamp"], zone), text("title"), text("message"))
        }
        "error" => format!("* refused: {}: {}", text("code"), text("message")),
        "connected" => format!("* connected as {}", person(&event["user"])),
        "resumed" => "* up to date".into(),
        "pong" => "* pong".into(),
        _ => printable(&event.to_string()),
    }
}

fn message(message: &Value, zone: &TimeZone) -> String {
    let mut line = format!("{} {}: ", time(&message["timestamp"], zone), person(&message["sender"]));
    if message["is_deleted"] == true {
        return line + "(deleted)";
    }
    line += &printable(message["content"].as_str().unwrap_or_default());
    for attachment in message["attachments"].as_array().into_iter().flatten() {
        line += &format!(" [{}]", printable(attachment["filename"].as_str().unwrap_or("attachment")));
    }
    line
}

fn reaction(event: &Value, verb: &str) -> String {
    let reaction = &event["reaction"];
    let emoji = reaction["emoji"].as_str().or_else(|| reaction["reaction"].as_str()).unwrap_or_default();
    format!("* {} {verb} {} on message {}", person(&reaction["user"]), printable(emoji), event["message_id"])
}

/// First and last name as far as given, else the username, else the id.
fn person(person: &Value) -> String {
    let field = |name: &str| person[name].as_str().unwrap_or_default();
    let full = format!("{} {}", field("first_name"), field("last_name"));
    match (full.trim(), field("username")) {
        ("", "") => format!("user {}", person["id"]),
        ("", username) => printable(username),
        (full, _) => printable(full),
    }
}

fn time(timestamp: &Value, zone: &TimeZone) -> String {
    let timestamp: Option<Timestamp> = timestamp.as_str().and_then(|text| text.parse().ok());
    timestamp.map_or("--:--:--".into(), |time| time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_guides_events_become_lines() {
        let john = json!({"id": 456, "first_name": "John", "last_name": "Doe"});
        let message = json!({"id": 123, "content": "Hello there!", "sender": john,
            "timestamp": "2025-09-24T10:30:00Z", "message_type": "text"});
        for (frame, line) in [
            (json!({"type": "chat_message", "message": message}), "10:30:00 John Doe: Hello there!"),
            (json!({"type": "typing_indicator", "user": john, "is_typing": true}), "* John Doe is typing"),
            (json!({"type": "user_status", "user_id": 456, "status": "online"}), "* user 456 is online"),
            (
                json!({"type": "message_read", "message_id": 123, "read_by": john}),
                "* John Doe has read up to message 123",
            ),
            (json!({"type": "error", "code": "not_found", "message": "no such"}), "* refused: not_found: no such"),
            (json!({"type": "else", "a": 1}), r#"{"a":1,"type":"else"}"#),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(event(&frame, &TimeZone::UTC), line);
        }
    }

    #[test]
    fn a_message_shows_deletion_and_attachments_and_cannot_steer_the_terminal() {
        let mut message = json!({"content": "a\u{1b}[2Jb", "sender": {"id": 4}, "timestamp": "x",
            "attachments": [{"filename": "cv.pdf"}]});
        let frame = |message: &Value| json!({"type": "chat_message", "message": message});
        assert_eq!(event(&frame(&message), &TimeZone::UTC), r"--:--:-- user 4: a\u{1b}[2Jb [cv.pdf]");
        message["is_deleted"] = json!(true);
        assert_eq!(event(&frame(&message), &TimeZone::UTC), "--:--:-- user 4: (deleted)");
    }
}
