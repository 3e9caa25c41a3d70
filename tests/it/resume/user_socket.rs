//! `/ws/user/`: every conversation of a user on one socket, resumed by cursors, alive to new ones.

use serde_json::{Value, json};

use super::{event_ids, send_numbers, start, types};
use crate::support::client::TestClient;
use crate::support::{Caller, Store, both_stores};

both_stores!(
    cursors_say_where_each_conversation_goes_on,
    what_is_not_named_is_live_only_and_what_is_foreign_is_passed_over,
    only_the_first_frame_may_resume,
    without_a_first_frame_events_are_held_back_for_five_seconds,
    a_new_conversation_is_heard_and_spoken_in_at_once,
    commands_name_their_conversation,
    leaving_is_told_and_then_nothing_more,
);

/// The frames that belong to a conversation's log.
fn events_of(frames: &[Value], conversation_id: i64) -> Vec<i64> {
    let of_it: Vec<Value> =
        frames.iter().filter(|frame| frame["conversation_id"] == conversation_id).cloned().collect();
    event_ids(&of_it)
}

async fn chat_of(server: &crate::support::TestServer, user_id: i64, conversation_id: i64) -> TestClient {
    let mut client = server.connect_as(user_id).chat(conversation_id).await;
    client.expect_live().await;
    client
}

async fn cursors_say_where_each_conversation_goes_on(store: Store) {
    let (server, first) = start(store).await;
    let second = server.conversation(&[1, 3]).await;
    send_numbers(&mut chat_of(&server, 1, first).await, 1..=4).await;
    send_numbers(&mut chat_of(&server, 3, second).await, 1..=2).await;
    let mut client = server.connect_as(1).user().await;
    let connected = client.expect("connected").await;
    assert_eq!(connected["cursors"], json!({ first.to_string(): 4, second.to_string(): 2 }));
    assert!(connected["notifications"].is_i64(), "{connected}");
    assert_eq!((connected.get("conversation_id"), connected.get("last_event_id")), (None, None));
    assert_eq!((&connected["unread_count"], &connected["user"]["id"]), (&json!(2), &json!(1)));
    client
        .send(json!({ "type": "resume", "cursors": { first.to_string(): 2, second.to_string(): 0 },
                        "notifications": 0, "client_id": "r" }))
        .await;
    let frames = client.collect_until("resumed").await;
    assert_eq!((events_of(&frames, first), events_of(&frames, second)), (vec![3, 4], vec![1, 2]));
    let resumed = frames.last().unwrap();
    assert_eq!(resumed["cursors"], json!({ first.to_string(): 4, second.to_string(): 2 }));
    assert!(resumed["notifications"].as_i64() >= connected["notifications"].as_i64(), "{resumed}");
    assert_eq!(resumed["client_id"], "r");
    // Presence once per person, without a conversation.
    let mut present: Vec<&Value> =
        frames.iter().filter(|frame| frame["type"] == "user_status").map(|frame| &frame["user_id"]).collect();
    present.sort_by_key(|id| id.as_i64());
    assert_eq!(present, [&json!(2), &json!(3)]);
    // What was said while nobody was there raises a notification, a moment later.
    client.ignore("notification");
    send_numbers(&mut chat_of(&server, 3, second).await, 3..=3).await;
    let live = client.expect("chat_message").await;
    assert_eq!((&live["conversation_id"], &live["event_id"]), (&json!(second), &json!(3)));
}

async fn what_is_not_named_is_live_only_and_what_is_foreign_is_passed_over(store: Store) {
    let (server, first) = start(store).await;
    let second = server.conversation(&[1, 3]).await;
    let foreign = server.conversation(&[2, 3]).await;
    let mut bob = chat_of(&server, 2, first).await;
    send_numbers(&mut bob, 1..=3).await;
    send_numbers(&mut chat_of(&server, 3, second).await, 1..=2).await;
    send_numbers(&mut chat_of(&server, 3, foreign).await, 1..=2).await;
    let mut client = server.connect_as(1).user().await;
    client.expect("connected").await;
    // Meanwhile held back, but not lost.
    send_numbers(&mut bob, 4..=4).await;
    let cursors = json!({ second.to_string(): 9, foreign.to_string(): 0, "987654": 0 });
    client.send(json!({ "type": "resume", "cursors": cursors })).await;
    let frames = client.collect_until("resumed").await;
    assert_eq!(events_of(&frames, first), [4]);
    assert_eq!(events_of(&frames, foreign), Vec::<i64>::new());
    let resync = frames.iter().find(|frame| frame["type"] == "resync").expect("a cursor that is ahead");
    assert_eq!((&resync["conversation_id"], &resync["last_event_id"]), (&json!(second), &json!(2)));
    assert_eq!(frames.iter().filter(|frame| frame["type"] == "resync").count(), 1);
    assert_eq!(frames.last().unwrap()["cursors"], json!({ first.to_string(): 4, second.to_string(): 2 }));
}

async fn only_the_first_frame_may_resume(store: Store) {
    let (server, conversation_id) = start(store).await;
    let resume = json!({ "type": "resume", "cursors": { conversation_id.to_string(): 0 }, "client_id": "r" });
    for first in [
        json!({ "type": "ping" }).to_string(),
        "nonsense".to_owned(),
        json!({ "type": "resume", "cursors": [] }).to_string(),
        json!({ "type": "resume", "cursors": { "x": 1 } }).to_string(),
        json!({ "type": "resume", "cursors": { "1": -1 } }).to_string(),
        json!({ "type": "resume", "cursors": { "1": "1" } }).to_string(),
        json!({ "type": "resume", "notifications": -1 }).to_string(),
        json!({ "type": "resume", "notifications": "1" }).to_string(),
        json!({ "type": "resume" }).to_string(),
    ] {
        let mut client = server.connect_as(1).query("since=abc").user().await;
        client.expect("connected").await;
        client.send_text(&first).await;
        client.send(resume.clone()).await;
        let refused = loop {
            let frame = client.expect_next().await;
            if frame["client_id"] == "r" {
                break frame;
            }
        };
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("invalid_field")), "{first}");
        client.expect_live().await;
    }
}

async fn without_a_first_frame_events_are_held_back_for_five_seconds(store: Store) {
    let (server, conversation_id) = start(store).await;
    let mut bob = chat_of(&server, 2, conversation_id).await;
    let mut client = server.connect_as(1).user().await;
    client.ignore("notification");
    let began = std::time::Instant::now();
    client.expect("connected").await;
    send_numbers(&mut bob, 1..=2).await;
    let frames = client.collect_until("chat_message").await;
    assert!(began.elapsed().as_secs() >= 4, "held back for only {:?}", began.elapsed());
    assert_eq!(event_ids(&frames), [1]);
    assert!(!types(&frames).contains(&"resumed"));
    assert_eq!(client.expect("chat_message").await["event_id"], 2);
    client.send(json!({ "type": "resume", "cursors": {} })).await;
    assert_eq!(client.expect("error").await["code"], "invalid_field");
    // Any first frame ends the waiting.
    let mut eager = server.connect_as(1).user().await;
    let began = std::time::Instant::now();
    eager.expect_live().await;
    assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
}

async fn a_new_conversation_is_heard_and_spoken_in_at_once(store: Store) {
    let (server, _) = start(store).await;
    let mut client = server.connect_as(1).user().await;
    client.expect_live().await;
    client.ignore("notification");
    for round in 0..5 {
        let conversation_id = server.conversation(&[1, 10 + round]).await;
        let said =
            client.command(json!({ "type": "chat_message", "message": "First!", "conversation_id": conversation_id }));
        let said = said.await;
        assert_eq!((&said["type"], &said["event_id"]), (&json!("chat_message"), &json!(1)), "{said}");
        let mut other = chat_of(&server, 10 + round, conversation_id).await;
        other.say("Second").await;
        let heard = client.expect("chat_message").await;
        assert_eq!((&heard["conversation_id"], &heard["event_id"]), (&json!(conversation_id), &json!(2)));
    }
}

async fn commands_name_their_conversation(store: Store) {
    let (server, conversation_id) = start(store).await;
    let foreign = server.conversation(&[2, 3]).await;
    let mut client = server.connect_as(1).user().await;
    client.expect_live().await;
    let commands = [
        json!({ "type": "chat_message", "message": "x" }),
        json!({ "type": "typing_indicator", "is_typing": true }),
        json!({ "type": "mark_read", "message_id": 1 }),
        json!({ "type": "edit_message", "message_id": 1, "message": "y" }),
        json!({ "type": "add_reaction", "message_id": 1, "reaction": "like" }),
        json!({ "type": "remove_reaction", "message_id": 1, "reaction": "like" }),
        json!({ "type": "delete_message", "message_id": 1 }),
    ];
    for command in &commands {
        let refused = client.command(command.clone()).await;
        assert_eq!(
            (&refused["code"], &refused["field"]),
            (&json!("invalid_field"), &json!("conversation_id")),
            "{command}"
        );
        for unknown in [foreign, 987_654] {
            let mut command = command.clone();
            command["conversation_id"] = json!(unknown);
            assert_eq!(client.command(command.clone()).await["code"], "not_found", "{command}");
        }
    }
    for command in commands.into_iter().filter(|command| command["type"] != "typing_indicator") {
        let mut command = command;
        command["conversation_id"] = json!(conversation_id);
        let event = client.command(command).await;
        assert_eq!(event["conversation_id"], conversation_id, "{event}");
    }
    for (command, answer) in
        [(json!({ "type": "ping" }), "pong"), (json!({ "type": "mark_read", "all": true }), "notification_read")]
    {
        assert_eq!(client.command(command).await["type"], answer);
    }
}

async fn leaving_is_told_and_then_nothing_more(store: Store) {
    let (server, _) = start(store).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let mut client = server.connect_as(1).user().await;
    client.expect_live().await;
    let mut chat = chat_of(&server, 1, conversation_id).await;
    client.ignore("notification");
    let mut bob = chat_of(&server, 2, conversation_id).await;
    let path = format!("/api/v1/conversations/{conversation_id}/participants");
    server.delete(&format!("{path}/1"), Caller::Platform).await.expect(204);
    let removed = client.expect("participant_removed").await;
    assert_eq!((&removed["user"]["id"], &removed["by"]), (&json!(1), &Value::Null));
    assert!(removed["event_id"].is_i64());
    assert_eq!(chat.expect_close(4004).await, "access_denied");
    bob.say("Now that she is gone").await;
    client.expect_nothing().await;
    let refused =
        client.command(json!({ "type": "chat_message", "message": "x", "conversation_id": conversation_id })).await;
    assert_eq!(refused["code"], "not_found");
    server.connect_as(1).chat(conversation_id).await.expect_close(4004).await;
    // And back again, from the joining on.
    server.post(&path, Caller::Platform, json!({ "user_ids": [1] })).await.success();
    let added = client.expect("participant_added").await;
    assert_eq!(added["user"]["id"], 1);
    chat_of(&server, 1, conversation_id).await;
    bob.ignore("participant_added");
    let said = bob.say("Welcome back").await;
    assert_eq!(client.expect("chat_message").await["event_id"], said["event_id"]);
}
