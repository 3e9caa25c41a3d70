//! Frames that are whole but wrong: each is refused with exactly one error that names its `client_id`, and the socket
//! lives on.

use serde_json::{Value, json};

use super::{Pair, assert_refused, message_id};
use crate::support::{Store, both_stores};

both_stores!(every_wrong_field_is_refused_by_itself, frames_broken_at_random_are_answered_once_each);

const UNLIMITED: &[(&str, &str)] = &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"), ("TIDINGS_LOG", "warn")];

/// What is no id, as JSON text.
const NO_IDS: &[&str] = &[
    r#""1""#,
    "0",
    "-1",
    "1.5",
    "1e2",
    "9007199254740992",
    "18446744073709551616",
    "1e400",
    "true",
    "false",
    "[]",
    "[1]",
    "{}",
    r#"{"id":1}"#,
    r#""""#,
];
/// What is no string of any use, as JSON text.
const NO_STRINGS: &[&str] =
    &["0", "7", "-1.5", "true", "false", "[]", r#"["x"]"#, "{}", r#"{"text":"x"}"#, r#""a\u0000b""#, r#""\ud800""#];

/// Each wrong frame with the code and field of its refusal. `CLIENT_ID` stands for the frame's own.
fn wrong_frames(own_message: i64) -> Vec<(String, &'static str, Option<&'static str>)> {
    let mut table = vec![];
    let mut add = |fields: String, code, field| {
        table.push((
            format!(r#"{{"client_id":"CLIENT_ID",{fields}}}"#),
            code,
            Some(field).filter(|field: &&str| !field.is_empty()),
        ))
    };
    let invalid = "invalid_field";
    for value in NO_STRINGS.iter().chain(&["null", r#""""#, r#"" ""#, r#""\t\n\u3000""#]) {
        add(format!(r#""type":"chat_message","message":{value}"#), invalid, "message");
        add(format!(r#""type":"edit_message","message_id":{own_message},"message":{value}"#), invalid, "message");
    }
    for value in NO_STRINGS {
        add(format!(r#""type":"chat_message","text":{value}"#), invalid, "text");
        add(format!(r#""type":"chat_message","message":"x","text":{value}"#), invalid, "text");
        add(format!(r#""type":"chat_message","message":"x","message_type":{value}"#), invalid, "message_type");
        add(format!(r#""type":{value}"#), invalid, "type");
        add(format!(r#""type":"auth","token":{value}"#), invalid, "token");
        for command in ["add_reaction", "remove_reaction"] {
            add(format!(r#""type":"{command}","message_id":{own_message},"reaction":{value}"#), invalid, "reaction");
        }
    }
    for value in [r#""video""#, r#""TEXT""#, r#""""#, r#""text ""#] {
        add(format!(r#""type":"chat_message","message":"x","message_type":{value}"#), invalid, "message_type");
    }
    for value in NO_IDS {
        add(format!(r#""type":"chat_message","message":"x","reply_to":{value}"#), invalid, "reply_to");
        add(format!(r#""type":"chat_message","message":"x","reply_to_id":{value}"#), invalid, "reply_to_id");
        let both = format!(r#""reply_to":{own_message},"reply_to_id":{value}"#);
        add(format!(r#""type":"chat_message","message":"x",{both}"#), invalid, "reply_to_id");
        add(format!(r#""type":"chat_message","message":"x","attachment_ids":[{value}]"#), invalid, "attachment_ids");
        add(format!(r#""type":"chat_message","message":"x","conversation_id":{value}"#), invalid, "conversation_id");
        add(format!(r#""type":"mark_read","message_id":{value}"#), invalid, "message_id");
        add(format!(r#""type":"message_read","message_ids":[{value}]"#), invalid, "message_ids");
        add(format!(r#""type":"edit_message","message":"x","message_id":{value}"#), invalid, "message_id");
        add(format!(r#""type":"delete_message","message_id":{value}"#), invalid, "message_id");
        for command in ["add_reaction", "remove_reaction"] {
            add(format!(r#""type":"{command}","reaction":"like","message_id":{value}"#), invalid, "message_id");
        }
    }
    for value in ["1", r#""1""#, "{}", "true", "[null]", "[[1]]", "[1,1]"] {
        add(format!(r#""type":"chat_message","message":"x","attachment_ids":{value}"#), invalid, "attachment_ids");
    }
    for value in ["1", r#""1""#, "{}", "true", "[null]", "[[1]]"] {
        add(format!(r#""type":"mark_read","message_ids":{value}"#), invalid, "message_ids");
    }
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(1500), "]".repeat(1500));
    for value in ["1", r#""x""#, "[]", "true", r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":"\udc00"}"#, &deep] {
        add(format!(r#""type":"chat_message","message":"x","data":{value}"#), invalid, "data");
    }
    for value in ["0", "1", r#""true""#, "[]", "{}", "null"] {
        add(format!(r#""type":"typing_indicator","is_typing":{value}"#), invalid, "is_typing");
    }
    for (fields, field) in [
        (r#""type":"chat_message""#, "message"),
        (r#""type":"typing_indicator""#, "is_typing"),
        (r#""type":"mark_read""#, "message_id"),
        (r#""type":"mark_read","message_ids":[]"#, "message_ids"),
        (r#""type":"edit_message","message_id":1"#, "message"),
        (r#""type":"edit_message","message":"x""#, "message_id"),
        (r#""type":"delete_message""#, "message_id"),
        (r#""type":"add_reaction","message_id":1"#, "reaction"),
        (r#""type":"remove_reaction","reaction":"like""#, "message_id"),
        (r#""type":"auth""#, "token"),
        (r#""type":"auth","token":"""#, "token"),
        (r#""type":null"#, "type"),
        (r#""message":"x""#, "type"),
        (r#""type":"chat_message","message":"x","conversation_id":999"#, "conversation_id"),
        (r#""type":"ping","conversation_id":999"#, "conversation_id"),
        (r#""type":"add_reaction","message_id":1,"reaction":"nope""#, "reaction"),
        (r#""type":"add_reaction","message_id":1,"reaction":"👍""#, "reaction"),
    ] {
        add(fields.to_owned(), invalid, field);
    }
    for kind in ["nope", "", "Ping", "ping ", "resume", "connected", "message_edited", "pong"] {
        add(format!(r#""type":"{kind}""#), "unknown_type", "");
    }
    for fields in [
        r#""type":"mark_read","message_id":9007199254740991"#,
        r#""type":"edit_message","message_id":9007199254740991,"message":"x""#,
        r#""type":"delete_message","message_id":9007199254740991"#,
        r#""type":"add_reaction","message_id":9007199254740991,"reaction":"like""#,
        r#""type":"remove_reaction","message_id":9007199254740991,"reaction":"like""#,
        r#""type":"chat_message","message":"x","reply_to":9007199254740991"#,
        r#""type":"chat_message","message":"x","attachment_ids":[9007199254740991]"#,
    ] {
        add(fields.to_owned(), "not_found", "");
    }
    let long = "x".repeat(8001);
    add(format!(r#""type":"chat_message","message":"{long}""#), "too_large", "message");
    add(format!(r#""type":"edit_message","message_id":{own_message},"message":"{long}""#), "too_large", "message");
    let eleven = "1,2,3,4,5,6,7,8,9,10,11";
    add(format!(r#""type":"chat_message","message":"x","attachment_ids":[{eleven}]"#), "too_large", "attachment_ids");
    let data = "x".repeat(4096);
    add(format!(r#""type":"chat_message","message":"x","data":{{"a":"{data}"}}"#), "too_large", "data");
    table
}

/// What is no JSON object.
fn no_objects() -> Vec<String> {
    let texts = [
        "",
        " ",
        "{",
        "}",
        "[]",
        "[{}]",
        "null",
        "true",
        "1",
        "NaN",
        "Infinity",
        "\"ping\"",
        "ping",
        "{}{}",
        "{,}",
        "{'type':'ping'}",
        "{type:\"ping\"}",
        "{\"type\":\"ping\",}",
        "{\"type\":\"ping\"} x",
        "{\"type\":}",
        "{\"type\":\"ping\",\"x\":NaN}",
        "{\"type\":\"ping\",\"x\":01}",
        "{\"type\":\"ping\",\"x\":+1}",
        "{\"type\":\"ping\",\"x\":.5}",
        "{\"type\":\"ping\" \"x\":1}",
        "{\"type\":\"pi\nng\"}",
        "{\"type\":\"\\x\"}",
        "\u{feff}{\"type\":\"ping\"}",
        "{\"type\":\"ping\"}\0",
        "\0",
        "<type>ping</type>",
        "type=ping",
        "{\"\\ud800\":1,\"type\":\"ping\"}",
        "// {}\n{}",
        "{\"type\":\"ping\"",
    ]; // What a careless client sends.
    let mut texts: Vec<String> = texts.map(str::to_owned).into();
    texts.push("[".repeat(60_000));
    texts.push(r#"{"a":"#.repeat(10_000));
    texts
}

async fn every_wrong_field_is_refused_by_itself(store: Store) {
    let mut pair = Pair::start(store, UNLIMITED).await;
    let own_message = message_id(&pair.alice.say("Here to be edited").await);
    pair.bob.expect("chat_message").await;

    let table = wrong_frames(own_message);
    assert!(table.len() > 250, "{}", table.len());
    for (index, (frame, code, field)) in table.into_iter().enumerate() {
        let client_id = format!("wrong-{index}");
        pair.alice.send_text(&frame.replace("CLIENT_ID", &client_id)).await;
        let error = pair.alice.expect("error").await;
        assert_eq!(error["client_id"], client_id.as_str(), "{frame} → {error}");
        eprintln!("{}", frame.chars().take(120).collect::<String>());
        assert_refused(&error, code, field);
    }
    for frame in no_objects() {
        pair.alice.send_text(&frame).await;
        let error = pair.alice.expect("error").await;
        eprintln!("{}", frame.chars().take(120).collect::<String>());
        assert_refused(&error, "invalid_json", None);
        assert_eq!(error["client_id"], Value::Null);
    }
    for client_id in ["5", "\"\"", "[]", "{}", "true", "\"a\\u0000\"", &format!("\"{}\"", "é".repeat(65))] {
        for fields in [r#""type":"ping""#, r#""type":"chat_message","message":"x""#] {
            pair.alice.send_text(&format!(r#"{{{fields},"client_id":{client_id}}}"#)).await;
            let error = pair.alice.expect("error").await;
            assert_refused(&error, "invalid_field", Some("client_id"));
            assert_eq!(error["client_id"], Value::Null);
        }
    }
    pair.alice.send_binary(br#"{"type":"ping"}"#).await;
    assert_refused(&pair.alice.expect("error").await, "unsupported", None);

    pair.alice.expect_nothing().await;
    pair.bob.expect_nothing().await;
    let event = pair.alice.say("Still here").await;
    assert_eq!(event["event_id"], 2, "what was refused has left no event");
    assert_eq!(pair.server.database.number("SELECT COUNT(*) FROM messages").await, 2);
}

#[tokio::test]
async fn what_is_odd_but_in_order_is_taken() {
    let mut pair = Pair::start(Store::Sqlite, UNLIMITED).await;
    for frame in [
        r#"  { "type" : "ping" , "client_id" : "CLIENT_ID" }  "#.to_owned(),
        r#"{"client_id":"CLIENT_ID","type":"ping","token":5,"message":[],"unknown":{"deep":[1,{"x":null}]}}"#
            .to_owned(),
        r#"{"type":"nope","client_id":"CLIENT_ID","type":"ping"}"#.to_owned(),
        r#"{"type":"ping","client_id":"CLIENT_ID","conversation_id":null}"#.to_owned(),
        r#"{"type":"ping","client_id":"CLIENT_ID"}"#.to_owned(),
        r#"{"type":"ping","client_id":"CLIENT_ID","x":1e999}"#.to_owned(),
        format!(r#"{{"type":"ping","client_id":"CLIENT_ID","conversation_id":{}}}"#, pair.conversation_id),
        format!(r#"{{"type":"ping","client_id":"CLIENT_ID","x":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000)),
    ] {
        let client_id = uuid::Uuid::new_v4().to_string();
        pair.alice.send_text(&frame.replace("CLIENT_ID", &client_id)).await;
        let answer = pair.alice.expect("pong").await;
        assert_eq!((&answer["type"], &answer["client_id"]), (&json!("pong"), &json!(client_id)), "{frame}");
    }
    // A `client_id` is counted in characters, and any of them may be used.
    for client_id in ["é".repeat(64), "\"\\/\n\u{1}<b>".to_owned(), " ".to_owned(), "👩‍👩‍👧".to_owned()] {
        pair.alice.send(json!({ "type": "chat_message", "message": "x", "client_id": client_id })).await;
        assert_eq!(pair.alice.expect("chat_message").await["client_id"], client_id.as_str());
    }
    let text = r#"{"type":"chat_message","text":"By its alias","message":null,"message_type":null,"reply_to":null,
        "attachment_ids":null,"data":null,"client_id":null}"#;
    pair.alice.send_text(text).await;
    let event = pair.alice.expect("chat_message").await;
    assert_eq!(event["message"]["content"], "By its alias");
    assert_eq!(event["message"]["message_type"], "text");
    assert_eq!((&event["message"]["data"], event.get("client_id")), (&Value::Null, None));
}

/// Breaks good frames in random places: whatever comes of it, each is answered exactly once.
async fn frames_broken_at_random_are_answered_once_each(store: Store) {
    let seed = fastrand::u64(..);
    eprintln!("the seed is {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pair = Pair::start(store, UNLIMITED).await;
    let id = message_id(&pair.alice.say("Here to be changed").await);
    pair.bob.expect("chat_message").await;
    let good = [
        json!({ "type": "ping", "client_id": "a" }),
        json!({ "type": "chat_message", "message": "Hé😀", "message_type": "file", "data": { "k": [1, "v"] } }),
        json!({ "type": "chat_message", "text": "x", "reply_to": id, "client_id": "b" }),
        json!({ "type": "mark_read", "message_ids": [id, id] }),
        json!({ "type": "edit_message", "message_id": id, "message": "edited" }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "like", "client_id": "c" }),
        json!({ "type": "remove_reaction", "message_id": id, "reaction": "like" }),
    ];
    let pieces: Vec<char> = "{}[]\",:\\/u0019eE-+.ntfx\u{0}\u{7f}é😀\u{feff} \n".chars().collect();
    for round in 0..40 {
        let mut sent = vec![];
        for _ in 0..20 {
            let mut frame: Vec<char> = random.choice(&good).expect("one").to_string().chars().collect();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..frame.len());
                match random.u8(..3) {
                    0 => _ = frame.remove(at),
                    1 => frame.insert(at, pieces[random.usize(..pieces.len())]),
                    _ => frame[at] = pieces[random.usize(..pieces.len())],
                }
            }
            let frame: String = frame.into_iter().collect();
            pair.alice.send_text(&frame).await;
            sent.push(frame);
        }
        let mark = format!("mark-{round}");
        // Sent as a command that is stored, so that the answers of all those before have come when its own comes.
        pair.alice.send(json!({ "type": "chat_message", "message": "mark", "client_id": mark })).await;
        let mut answers = vec![];
        loop {
            let answer = pair.alice.expect_next().await;
            if answer["client_id"] == mark.as_str() {
                break;
            }
            if answer["type"] != "user_status" {
                answers.push(answer);
            }
        }
        assert_eq!(answers.len(), sent.len(), "seed {seed}: {sent:#?} were answered with {answers:#?}");
    }
    let events = pair.server.database.number("SELECT COUNT(*) FROM events WHERE topic_kind = 'c'").await;
    let last = pair.server.database.number("SELECT MAX(event_id) FROM events WHERE topic_kind = 'c'").await;
    assert_eq!(events, last, "the log has a gap");
}
