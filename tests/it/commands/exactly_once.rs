//! `client_id`: who is shown it, and that a command takes effect once however often it is sent.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Pair, assert_refused, done, message_id};
use crate::support::{Store, both_stores};

both_stores!(
    the_issuing_sockets_copy_alone_carries_the_client_id,
    a_repeated_command_is_answered_with_the_first_event,
    a_repeat_is_rendered_as_it_stands_today,
    the_same_client_id_with_another_body_is_a_conflict,
    a_refused_command_is_not_remembered,
    a_hundred_retries_at_once_make_one_message_and_one_event,
    a_retry_after_a_restart_finds_the_first_event,
);

async fn the_issuing_sockets_copy_alone_carries_the_client_id(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let mut second_device = pair.server.connect_as(1).chat(pair.conversation_id).await;
    second_device.expect_live().await;
    let sent = pair.alice.say("Hello").await;
    assert!(sent["client_id"].is_string());
    let id = message_id(&sent);
    let commands = [
        (json!({ "type": "edit_message", "message_id": id, "message": "Hello!" }), "message_edited"),
        (json!({ "type": "add_reaction", "message_id": id, "reaction": "like" }), "reaction_added"),
        (json!({ "type": "remove_reaction", "message_id": id, "reaction": "like" }), "reaction_removed"),
        (json!({ "type": "delete_message", "message_id": id }), "message_deleted"),
    ];
    let mut expected = vec![(sent, "chat_message")];
    for (command, kind) in commands {
        let event = done(&mut pair.alice, command).await;
        assert_eq!(event["type"], kind);
        expected.push((event, kind));
    }
    for (index, (mut event, kind)) in expected.into_iter().enumerate() {
        assert_eq!(event["event_id"], index as i64 + 1);
        assert_eq!(event["conversation_id"], pair.conversation_id);
        event.as_object_mut().expect("an object").remove("client_id");
        for other in [&mut second_device, &mut pair.bob] {
            assert_eq!(other.expect(kind).await, event, "the same frame, but for the client_id");
        }
    }
    // Without a client_id none is made up.
    pair.alice.send(json!({ "type": "chat_message", "message": "Anonymous" })).await;
    assert_eq!(pair.alice.expect("chat_message").await.get("client_id"), None);
}

async fn a_repeated_command_is_answered_with_the_first_event(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let id = message_id(&pair.bob.say("From Bob").await);
    pair.alice.expect("chat_message").await;
    let commands = [
        json!({ "type": "chat_message", "message": "Once", "data": { "a": 1, "b": [2] }, "client_id": "c1" }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "love", "client_id": "c2" }),
        json!({ "type": "mark_read", "message_id": id, "client_id": "c3" }),
        json!({ "type": "remove_reaction", "message_id": id, "reaction": "love", "client_id": "c4" }),
    ];
    // The same bodies under other names and with defaults spelled out.
    let again = [
        json!({ "type": "chat_message", "text": "Once", "message_type": "text", "attachment_ids": [], "reply_to": null,
                "data": { "b": [2], "a": 1 }, "client_id": "c1" }),
        json!({ "client_id": "c2", "reaction": "love", "message_id": id, "type": "add_reaction" }),
        json!({ "type": "message_read", "message_ids": [id, 1], "client_id": "c3" }),
        json!({ "type": "remove_reaction", "message_id": id, "reaction": "love", "client_id": "c4", "x": 1 }),
    ];
    let mut first = vec![];
    for command in &commands {
        pair.alice.send(command.clone()).await;
        let event = next(&mut pair.alice).await;
        assert_eq!(event["client_id"], command["client_id"], "{event}");
        let heard = next(&mut pair.bob).await;
        assert_eq!(heard["event_id"], event["event_id"]);
        first.push(event);
    }
    let mut elsewhere = pair.server.connect_as(1).chat(pair.conversation_id).await;
    elsewhere.expect_live().await;
    for (command, first) in again.iter().zip(&first) {
        for socket in [&mut pair.alice, &mut elsewhere] {
            socket.send(command.clone()).await;
            let repeated = next(socket).await;
            assert_eq!(repeated["event_id"], first["event_id"], "{command}");
            assert_eq!((&repeated["type"], &repeated["client_id"]), (&first["type"], &first["client_id"]));
            assert_eq!(repeated["message"]["id"], first["message"]["id"]);
        }
    }
    pair.bob.expect_nothing().await;
    pair.alice.expect_nothing().await;
    assert_eq!(pair.server.database.number("SELECT COUNT(*) FROM messages").await, 2);
    assert_eq!(pair.server.database.number("SELECT COUNT(*) FROM events WHERE topic_kind = 'c'").await, 4);
    // Another user's client_id of the same name is another one.
    let event = {
        pair.bob.send(commands[0].clone()).await;
        pair.bob.expect("chat_message").await
    };
    assert_ne!(event["message"]["id"], first[0]["message"]["id"]);
}

/// The next frame that is not about presence or delivery.
async fn next(client: &mut crate::support::client::TestClient) -> Value {
    loop {
        let frame = client.expect_next().await;
        if frame["type"] != "user_status" {
            return frame;
        }
    }
}

async fn a_repeat_is_rendered_as_it_stands_today(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let send = json!({ "type": "chat_message", "message": "First thoughts", "client_id": "c1" });
    pair.alice.send(send.clone()).await;
    let first = pair.alice.expect("chat_message").await;
    let id = message_id(&first);
    done(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": "Second thoughts" })).await;
    pair.alice.send(send.clone()).await;
    let repeated = pair.alice.expect("chat_message").await;
    assert_eq!(repeated["event_id"], first["event_id"]);
    assert_eq!(repeated["message"]["content"], "Second thoughts");
    done(&mut pair.alice, json!({ "type": "delete_message", "message_id": id })).await;
    pair.alice.send(send).await;
    let repeated = pair.alice.expect("chat_message").await;
    assert_eq!(repeated["event_id"], first["event_id"]);
    assert_eq!((&repeated["message"]["content"], &repeated["message"]["is_deleted"]), (&json!(""), &json!(true)));
}

async fn the_same_client_id_with_another_body_is_a_conflict(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let id = message_id(&pair.bob.say("From Bob").await);
    pair.alice.expect("chat_message").await;
    let used = json!({ "type": "chat_message", "message": "One", "client_id": "c1" });
    pair.alice.send(used.clone()).await;
    let first = pair.alice.expect("chat_message").await;
    pair.alice.send(json!({ "type": "mark_read", "message_id": id, "client_id": "c2" })).await;
    pair.alice.expect("message_read").await;
    for other in [
        json!({ "type": "chat_message", "message": "Two", "client_id": "c1" }),
        json!({ "type": "chat_message", "message": "One", "message_type": "image", "client_id": "c1" }),
        json!({ "type": "chat_message", "message": "One", "reply_to": id, "client_id": "c1" }),
        json!({ "type": "chat_message", "message": "One", "data": {}, "client_id": "c1" }),
        json!({ "type": "mark_read", "message_id": id, "client_id": "c1" }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "like", "client_id": "c1" }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "like", "client_id": "c2" }),
        json!({ "type": "chat_message", "message": "One", "client_id": "c2" }),
    ] {
        pair.alice.send(other.clone()).await;
        let error = pair.alice.expect("error").await;
        assert_refused(&error, "conflict", None);
        assert_eq!(error["client_id"], other["client_id"], "{other}");
    }
    pair.alice.send(used).await;
    assert_eq!(pair.alice.expect("chat_message").await["event_id"], first["event_id"]);
}

async fn a_refused_command_is_not_remembered(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let mut send =
        json!({ "type": "chat_message", "message": "A reply to nothing", "reply_to": 99, "client_id": "c1" });
    pair.alice.send(send.clone()).await;
    assert_refused(&pair.alice.expect("error").await, "not_found", Some("reply_to"));
    send["reply_to"] = Value::Null;
    pair.alice.send(send).await;
    assert_eq!(pair.alice.expect("chat_message").await["client_id"], "c1");
}

async fn a_hundred_retries_at_once_make_one_message_and_one_event(store: Store) {
    let pair = Pair::start(store, &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "off")]).await;
    let mut bob = pair.bob;
    let mut sockets = vec![];
    for _ in 0..10 {
        sockets.push(pair.server.connect_as(1).chat(pair.conversation_id).await);
    }
    let retry = json!({ "type": "chat_message", "message": "Only once", "client_id": "the-one" });
    let answers = join_all(sockets.iter_mut().map(async |socket| {
        socket.expect_live().await;
        for _ in 0..10 {
            socket.send(retry.clone()).await;
        }
        let (mut answers, mut live) = (vec![], 0);
        while answers.len() < 10 {
            let frame = next(socket).await;
            assert_eq!(frame["type"], "chat_message", "{frame}");
            match frame.get("client_id") {
                Some(_) => answers.push((frame["event_id"].clone(), frame["message"]["id"].clone())),
                None => live += 1,
            }
        }
        assert!(live <= 1, "a live event is told once");
        answers
    }))
    .await;
    for answer in answers.iter().flatten() {
        assert_eq!(answer, &answers[0][0]);
    }
    assert_eq!(bob.expect("chat_message").await["message"]["content"], "Only once");
    bob.expect_nothing().await;
    assert_eq!(pair.server.database.number("SELECT COUNT(*) FROM messages").await, 1);
    assert_eq!(pair.server.database.number("SELECT COUNT(*) FROM events WHERE topic_kind = 'c'").await, 1);
}

async fn a_retry_after_a_restart_finds_the_first_event(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let send = json!({ "type": "chat_message", "message": "Once", "client_id": "c1" });
    pair.alice.send(send.clone()).await;
    let first = pair.alice.expect("chat_message").await;
    let reaction =
        json!({ "type": "add_reaction", "message_id": message_id(&first), "reaction": "wow", "client_id": "c2" });
    pair.alice.send(reaction.clone()).await;
    let reacted = pair.alice.expect("reaction_added").await;
    pair.server.kill().await;
    pair.server.start_again().await;
    let mut alice = pair.server.connect_as(1).chat(pair.conversation_id).await;
    alice.send(send).await;
    let repeated = alice.expect("chat_message").await;
    assert_eq!((&repeated["event_id"], &repeated["message"]["id"]), (&first["event_id"], &first["message"]["id"]));
    alice.send(reaction).await;
    assert_eq!(alice.expect("reaction_added").await["event_id"], reacted["event_id"]);
    alice.expect_nothing().await;
}
