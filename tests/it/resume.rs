//! Coming back: `?since=` on a chat socket, from the greeting to live, without a gap or a repeat (section 5).

mod user_socket;

use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::raw::{self, RawClient};
use crate::support::{Caller, Store, TestServer, both_stores, until};

both_stores!(
    a_resume_goes_from_the_greeting_over_the_events_and_the_state_to_live,
    nothing_is_missing_or_doubled_while_messages_arrive,
    a_replay_shows_todays_content_and_ones_own_client_ids,
    where_events_are_gone_or_were_never_there_the_client_is_told_to_reload,
    retention_deletes_old_events_and_no_messages,
    whoever_has_missed_nothing_is_told_so,
    a_command_sent_before_the_resume_is_done_is_answered_once,
    a_retry_counts_as_sent_before_the_resume_until_the_client_has_read_the_replay,
    a_message_that_a_replay_hides_is_answered_when_it_is_repeated,
    a_client_that_pings_is_answered_while_a_long_replay_is_written,
    listeners_come_back_where_retention_has_deleted_what_they_were_to_be_told,
    what_somebody_has_cleared_stays_hidden_from_them,
    fifty_thousand_messages_while_away_arrive_in_order_after_a_restart,
);

/// A server with one conversation of the users 1 and 2, both with names.
async fn start(store: Store) -> (TestServer, i64) {
    let settings = [("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"), ("TIDINGS_LOG", "warn")];
    let server = TestServer::start_with(store, &settings).await;
    server.put_user(1, "Ada", "Lovelace").await;
    server.put_user(2, "Bob", "Builder").await;
    let conversation_id = server.conversation(&[1, 2]).await;
    (server, conversation_id)
}

/// The `event_id`s of frames, in order.
fn event_ids(frames: &[Value]) -> Vec<i64> {
    frames.iter().filter_map(|frame| frame["event_id"].as_i64()).collect()
}

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect()
}

/// Sends so many messages, each the next number as its text, and waits for all answers.
async fn send_numbers(client: &mut TestClient, numbers: std::ops::RangeInclusive<i64>) {
    for number in numbers.clone() {
        let client_id = format!("n{number}");
        client.send(json!({ "type": "chat_message", "message": number.to_string(), "client_id": client_id })).await;
    }
    let mut next = *numbers.start();
    while next <= *numbers.end() {
        let frame = client.expect_next().await;
        if let Some(client_id) = frame["client_id"].as_str() {
            assert_eq!((frame["type"].as_str(), client_id), (Some("chat_message"), format!("n{next}").as_str()));
            next += 1;
        }
    }
}

async fn a_resume_goes_from_the_greeting_over_the_events_and_the_state_to_live(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    bob.expect_live().await;
    send_numbers(&mut alice, 1..=3).await;
    let last = alice.command(json!({ "type": "add_reaction", "message_id": 1, "reaction": "like" })).await;
    assert_eq!(last["event_id"], 4);
    bob.ignore("chat_message");
    bob.ignore("reaction_added");
    bob.command(json!({ "type": "mark_read", "message_id": 2 })).await;
    bob.send(json!({ "type": "typing_indicator", "is_typing": true })).await;
    bob.expect_live().await;

    let mut back = server.connect_as(1).since(1).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    let connected = &frames[0];
    for (name, value) in [
        ("type", json!("connected")),
        ("conversation_id", json!(conversation_id)),
        ("last_event_id", json!(4)),
        ("heartbeat_interval_ms", json!(25_000)),
        ("unread_count", json!(0)),
        (
            "user",
            json!({ "id": 1, "first_name": "Ada", "last_name": "Lovelace", "username": null, "avatar_url": null }),
        ),
        (
            "limits",
            json!({ "frame_bytes_max": 65536, "text_chars_max": 8000, "attachments_per_message_max": 10,
                    "attachment_bytes_max": 26_214_400, "commands_per_second_max": null }),
        ),
    ] {
        assert_eq!(connected[name], value, "{name} of {connected}");
    }
    assert!(connected["connection_id"].is_string() && connected["server_time"].is_string(), "{connected}");
    assert!(connected["token_expires_at"].is_string(), "{connected}");
    assert_eq!(event_ids(&frames), [2, 3, 4]);
    // The state comes after the events: receipts of all, delivered marks, presence, typing.
    let state = &frames[4..frames.len() - 1];
    assert!(types(&frames[1..4]).iter().all(|kind| ["chat_message", "reaction_added"].contains(kind)));
    assert_eq!(types(&state[..1]), ["message_read"]);
    assert_eq!((&state[0]["message_id"], &state[0]["read_by"]["first_name"]), (&json!(2), &json!("Bob")));
    let of = |kind: &str| state.iter().find(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("{state:#?}"));
    assert_eq!((&of("user_status")["user_id"], &of("user_status")["status"]), (&json!(2), &json!("online")));
    assert_eq!(of("typing_indicator")["user"]["id"], 2);
    assert_eq!(frames.last().unwrap()["last_event_id"], 4);
    assert_eq!(back.say("Live").await["event_id"], 5);

    // `tidings.v1` alone greets and replays nothing; a client of the guide is not greeted at all.
    let mut greeted = server.connect_as(1).subprotocol("tidings.v1").chat(conversation_id).await;
    assert_eq!(greeted.expect_next().await["type"], "connected");
    greeted.send(json!({ "type": "ping" })).await;
    assert_eq!(event_ids(&greeted.collect_until("pong").await), Vec::<i64>::new());
    let mut of_the_guide = server.connect_as(1).query("since=").chat(conversation_id).await;
    of_the_guide.send(json!({ "type": "ping" })).await;
    let frames = of_the_guide.collect_until("pong").await;
    assert!(
        types(&frames).iter().all(|kind| ["user_status", "typing_indicator", "pong"].contains(kind)),
        "{frames:#?}"
    );
}

async fn nothing_is_missing_or_doubled_while_messages_arrive(store: Store) {
    const MESSAGES: i64 = 400;
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=20).await;
    let sending = async {
        for first in (21..=MESSAGES).step_by(20) {
            send_numbers(&mut alice, first..=first + 19).await;
        }
    };
    let joining = async |since: i64| {
        let mut client = server.connect_as(2).since(since).chat(conversation_id).await;
        let mut seen = vec![];
        let mut resumed = None;
        while seen.last() != Some(&MESSAGES) || resumed.is_none() {
            let frame = client.expect_next().await;
            if frame["type"] == "resumed" {
                assert_eq!(frame["last_event_id"].as_i64(), seen.last().copied().or(Some(since)));
                resumed = Some(seen.len());
            }
            seen.extend(frame["event_id"].as_i64());
        }
        assert_eq!(seen, (since + 1..=MESSAGES).collect::<Vec<_>>());
    };
    let later = async {
        for since in 0..15 {
            joining(since).await;
        }
    };
    tokio::join!(sending, joining(0), joining(7), joining(20), later);
}

async fn a_replay_shows_todays_content_and_ones_own_client_ids(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=2).await;
    bob.ignore("chat_message");
    let of_bob = bob.say("From Bob").await;
    alice.ignore("chat_message");
    alice.command(json!({ "type": "edit_message", "message_id": 1, "message": "Edited" })).await;
    alice.command(json!({ "type": "delete_message", "message_id": 2 })).await;
    let mut back = server.connect_as(1).since(0).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    let events: Vec<&Value> = frames.iter().filter(|frame| frame["event_id"].is_i64()).collect();
    assert_eq!((&events[0]["message"]["content"], &events[0]["client_id"]), (&json!("Edited"), &json!("n1")));
    assert_eq!((&events[1]["message"]["is_deleted"], &events[1]["client_id"]), (&json!(true), &json!("n2")));
    assert_eq!((&events[2]["message"], events[2].get("client_id")), (&of_bob["message"], None));
    assert_eq!((&events[3]["type"], &events[3]["message"]["content"]), (&json!("message_edited"), &json!("Edited")));
    assert_eq!((&events[4]["type"], &events[4]["message_id"]), (&json!("message_deleted"), &json!(2)));
    let mut of_bob = server.connect_as(2).since(0).chat(conversation_id).await;
    let frames = of_bob.collect_until("resumed").await;
    assert_eq!(frames.iter().filter(|frame| frame.get("client_id").is_some()).count(), 1);
}

async fn where_events_are_gone_or_were_never_there_the_client_is_told_to_reload(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=6).await;
    // What retention does after its time.
    server.database.execute("DELETE FROM events WHERE topic_kind = 'c' AND event_id <= 3").await;
    for (since, expected) in [
        ("0", None),
        ("2", None),
        ("3", Some(vec![4, 5, 6])),
        ("6", Some(vec![])),
        ("7", None),
        ("9223372036854775807", None),
        ("99999999999999999999999", None),
    ] {
        let mut back = server.connect_as(2).query(&format!("since={since}")).chat(conversation_id).await;
        let frames = back.collect_until("resumed").await;
        assert_eq!(frames[0]["type"], "connected");
        let resync = frames.iter().find(|frame| frame["type"] == "resync");
        assert_eq!(resync.is_none(), expected.is_some(), "since={since}: {frames:#?}");
        if let Some(resync) = resync {
            assert_eq!((&frames[1], &resync["last_event_id"]), (resync, &json!(6)));
        }
        assert_eq!(event_ids(&frames), expected.unwrap_or_default());
        assert_eq!(frames.last().unwrap()["last_event_id"], 6);
        back.expect_live().await;
    }
    for since in ["-1", "abc", "1.5", "1e3", "0x1", "%20", "1%20", "null", "+1"] {
        let mut back = server.connect_as(2).query(&format!("since={since}")).chat(conversation_id).await;
        assert_eq!(back.expect_next().await["type"], "connected", "since={since}");
        let error = back.expect_next().await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!("since")), "since={since}");
        back.send(json!({ "type": "ping" })).await;
        let frames = back.collect_until("pong").await;
        assert!(!types(&frames).contains(&"resumed") && event_ids(&frames).is_empty(), "since={since}");
    }
    let mut back = server.connect_as(2).since(0).chat(conversation_id).await;
    back.collect_until("resumed").await;
    send_numbers(&mut alice, 7..=7).await;
    assert_eq!(back.expect("chat_message").await["event_id"], 7, "live from the next one on");
}

async fn retention_deletes_old_events_and_no_messages(store: Store) {
    let (mut server, conversation_id) = start(store).await;
    send_numbers(&mut server.connect_as(1).chat(conversation_id).await, 1..=3).await;
    server.database.execute("UPDATE events SET created_at = created_at - 7200000 WHERE event_id <= 2").await;
    server.set("TIDINGS_EVENTS_RETENTION", "1h");
    // A server sweeps when it starts, and every minute from then on.
    server.restart().await;
    let of_conversations = "SELECT COUNT(*) FROM events WHERE topic_kind = 'c'";
    until("old events are deleted", async || server.database.number(of_conversations).await == 1).await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM messages").await, 3);
    let mut back = server.connect_as(2).since(1).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    assert!(types(&frames).contains(&"resync") && event_ids(&frames).is_empty(), "{frames:#?}");
    let mut back = server.connect_as(2).since(2).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    assert!(!types(&frames).contains(&"resync"), "{frames:#?}");
    assert_eq!(event_ids(&frames), [3]);
}

async fn whoever_has_missed_nothing_is_told_so(store: Store) {
    let (mut server, conversation_id) = start(store).await;
    let mut empty = server.connect_as(2).since(0).chat(conversation_id).await;
    let frames = empty.collect_until("resumed").await;
    assert_eq!((event_ids(&frames), &frames.last().unwrap()["last_event_id"]), (vec![], &json!(0)));
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=3).await;
    server.database.execute("DELETE FROM events").await;
    server.restart().await;
    let mut idle = server.connect_as(2).since(3).chat(conversation_id).await;
    let frames = idle.collect_until("resumed").await;
    assert!(!types(&frames).contains(&"resync"), "{frames:#?}");
    assert_eq!((event_ids(&frames), &frames.last().unwrap()["last_event_id"]), (vec![], &json!(3)));
    assert_eq!(frames[0]["unread_count"], 3);
}

async fn a_command_sent_before_the_resume_is_done_is_answered_once(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=600).await;
    let mut back = server.connect_as(1).since(0).chat(conversation_id).await;
    let send = |client_id: &str, text: &str| json!({ "type": "chat_message", "message": text, "client_id": client_id });
    back.send(send("early", "Too early?")).await;
    back.send(send("n600", "600")).await;
    back.send(send("n599", "Not 599")).await;
    // More than are taken in before the replay is done.
    for number in 0..200 {
        back.send(json!({ "type": "ping", "client_id": format!("p{number}") })).await;
    }
    let mut frames = back.collect_until("resumed").await;
    // Another message of one's own shows that all commands before it have been answered.
    back.send(send("mark", "Mark")).await;
    while frames.last().is_none_or(|frame| frame["client_id"] != "mark") {
        frames.push(back.expect_next().await);
    }
    let with = |client_id: &str| frames.iter().filter(|frame| frame["client_id"] == client_id).collect::<Vec<_>>();
    assert_eq!(with("early").len(), 1);
    assert_eq!(with("early")[0]["event_id"], 601);
    for number in 0..200 {
        assert_eq!(with(&format!("p{number}")).len(), 1);
    }
    let repeated = with("n600");
    assert_eq!((repeated.len(), &repeated[0]["event_id"]), (1, &json!(600)), "in the replay, and not once more");
    let conflict = with("n599");
    assert_eq!((conflict.len(), &conflict[1]["code"]), (2, &json!("conflict")), "the replay is no answer to that");
    // A retry after the resume is one like any other.
    back.send(send("n600", "600")).await;
    let again = back.expect("chat_message").await;
    assert_eq!((&again["event_id"], &again["client_id"]), (&json!(600), &json!("n600")));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM messages").await, 602);
}

async fn a_retry_counts_as_sent_before_the_resume_until_the_client_has_read_the_replay(store: Store) {
    let (server, conversation_id) = start(store).await;
    send_numbers(&mut server.connect_as(1).chat(conversation_id).await, 1..=3).await;
    let retry = |number: i64| {
        let client_id = format!("n{number}");
        json!({ "type": "chat_message", "message": number.to_string(), "client_id": client_id,
                "conversation_id": conversation_id })
    };
    for path in [format!("/ws/chat/{conversation_id}/?since=1"), "/ws/user/1/".to_owned()] {
        // The server cannot know how far the client has read but by its pong, which this one sends when told to.
        let mut back = RawClient::connect(server.address(), 1, &path).await;
        if path.starts_with("/ws/user") {
            let resume = json!({ "type": "resume", "cursors": { conversation_id.to_string(): 1 } });
            back.frame(raw::FIN | raw::TEXT, resume.to_string().as_bytes()).await;
        }
        let mut frames = vec![];
        while frames.last().is_none_or(|frame: &Value| frame["type"] != "resumed") {
            frames.push(back.expect_json().await);
        }
        assert_eq!(event_ids(&frames), [2, 3], "{path}");
        // The first event lies before the cursor: it has not been shown.
        back.frame(raw::FIN | raw::TEXT, retry(1).to_string().as_bytes()).await;
        back.frame(raw::FIN | raw::TEXT, retry(2).to_string().as_bytes()).await;
        back.frame(raw::FIN | raw::PONG, b"").await;
        back.frame(raw::FIN | raw::TEXT, retry(3).to_string().as_bytes()).await;
        for event_id in [1, 3] {
            let answer = back.expect_json().await;
            assert_eq!((&answer["event_id"], answer["client_id"].is_string()), (&json!(event_id), true), "{answer}");
        }
    }
}

async fn a_message_that_a_replay_hides_is_answered_when_it_is_repeated(store: Store) {
    let (server, conversation_id) = start(store).await;
    send_numbers(&mut server.connect_as(1).chat(conversation_id).await, 1..=2).await;
    server.delete(&format!("/api/v1/conversations/{conversation_id}"), 1).await.expect(204);
    let mut back = server.connect_as(1).since(0).chat(conversation_id).await;
    back.send(json!({ "type": "chat_message", "message": "2", "client_id": "n2" })).await;
    assert_eq!(event_ids(&back.collect_until("resumed").await), [0; 0]);
    assert_eq!(back.expect("chat_message").await["client_id"], "n2");
}

async fn a_client_that_pings_is_answered_while_a_long_replay_is_written(store: Store) {
    const MESSAGES: i64 = 2_000;
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    // More than fits between the two.
    let text = "x".repeat(8_000);
    for _ in 0..MESSAGES / 50 {
        for _ in 0..50 {
            alice.send(json!({ "type": "chat_message", "message": text })).await;
        }
        for _ in 0..50 {
            alice.expect("chat_message").await;
        }
        alice.forget();
    }
    let path = format!("/ws/chat/{conversation_id}/?since=0");
    let mut back = RawClient::connect_with_buffer(server.address(), 2, &path, Some(65_536)).await;
    back.frame(raw::FIN | raw::PING, b"there?").await;
    let mut events = 0;
    loop {
        match back.read().await.expect("a frame") {
            (raw::PONG, payload) => {
                assert_eq!(payload, b"there?");
                break;
            }
            (_, payload) => events += i64::from(payload.starts_with(br#"{"type":"chat_message""#)),
        }
    }
    assert!(events < MESSAGES, "it was answered after the replay");
}

async fn listeners_come_back_where_retention_has_deleted_what_they_were_to_be_told(store: Store) {
    let settings = [("TIDINGS_EVENTS_RETENTION", "1h")];
    let server = TestServer::start_with(store, &settings).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).since(0).chat(conversation_id).await;
    bob.collect_until("resumed").await;
    let mut everything = server.connect_as(2).live_user().await;
    alice.say("1").await;
    bob.expect("chat_message").await;
    // Events that this server was not told of, and that were deleted before it found out.
    server.database.execute("UPDATE conversations SET last_event_id = last_event_id + 5").await;
    alice.send(json!({ "type": "chat_message", "message": "7", "client_id": "seven" })).await;
    for socket in [&mut alice, &mut bob, &mut everything] {
        assert_eq!(socket.expect_close(1013).await, "try_again_later");
    }
    let mut bob = server.connect_as(2).since(1).chat(conversation_id).await;
    let frames = bob.collect_until("resumed").await;
    let resync = frames.iter().find(|frame| frame["type"] == "resync").unwrap_or_else(|| panic!("{frames:#?}"));
    assert_eq!((&resync["last_event_id"], event_ids(&frames)), (&json!(7), vec![]));
    // All goes on from there; the command that found no answer had been carried out.
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    alice.send(json!({ "type": "chat_message", "message": "7", "client_id": "seven" })).await;
    assert_eq!(alice.expect("chat_message").await["event_id"], 7);
    assert_eq!(alice.say("8").await["event_id"], 8);
    assert_eq!(bob.expect("chat_message").await["event_id"], 8);
}

async fn what_somebody_has_cleared_stays_hidden_from_them(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    send_numbers(&mut alice, 1..=2).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    bob.expect_live().await;
    server.delete(&format!("/api/v1/conversations/{conversation_id}"), Caller::User(2)).await.expect(204);
    bob.expect_live().await;
    // Later events about what is hidden are hidden as well; a reply to it shows nothing of it.
    alice.command(json!({ "type": "add_reaction", "message_id": 2, "reaction": "like" })).await;
    let reply = alice.command(json!({ "type": "chat_message", "message": "Reply", "reply_to": 1 })).await;
    assert_eq!(reply["message"]["reply_to"]["content"], "1");
    let heard = bob.expect_next().await;
    assert_eq!(heard["event_id"], reply["event_id"], "{heard}");
    assert_eq!(heard["message"]["reply_to"]["content"], "");
    let mut back = server.connect_as(2).since(0).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    let shown: Vec<&Value> = frames.iter().filter(|frame| frame["event_id"].is_i64()).collect();
    assert_eq!((shown.len(), &shown[0]["event_id"]), (1, &reply["event_id"]), "{frames:#?}");
    assert_eq!(shown[0]["message"]["reply_to"]["content"], "");
    assert_eq!(frames.last().unwrap()["last_event_id"], reply["event_id"]);
}

async fn fifty_thousand_messages_while_away_arrive_in_order_after_a_restart(store: Store) {
    const MESSAGES: i64 = 50_000;
    let (mut server, conversation_id) = start(store).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    for first in (1..=MESSAGES).step_by(500) {
        send_numbers(&mut alice, first..=first + 499).await;
        alice.forget();
    }
    server.restart().await;
    let mut bob = server.connect_as(2).since(0).chat(conversation_id).await;
    assert_eq!(bob.expect("connected").await["last_event_id"], MESSAGES);
    for number in 1..=MESSAGES {
        let event = bob.expect_next().await;
        assert_eq!(
            (event["event_id"].as_i64(), event["message"]["content"].as_str()),
            (Some(number), Some(&*number.to_string()))
        );
        if number % 1_000 == 0 {
            bob.forget();
        }
    }
    assert_eq!(bob.collect_until("resumed").await.last().unwrap()["last_event_id"], MESSAGES);
}
