//! What only clients that ask for more than the guide are told, and that those of the guide never are.

use serde_json::{Value, json};

use super::{Pair, ask, chat_message, done, message_id};
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    a_client_of_the_guide_hears_only_what_the_guide_has,
    the_sender_is_told_what_has_been_delivered_to_whom,
    a_sender_is_told_of_what_was_handed_after_a_later_message,
    in_a_large_conversation_only_those_who_are_there_are_told,
    texts_never_appear_in_the_log,
);

/// All that the guide's feature list calls for.
const OF_THE_GUIDE: [&str; 10] = [
    "chat_message",
    "typing_indicator",
    "user_status",
    "message_read",
    "message_edited",
    "message_deleted",
    "reaction_added",
    "reaction_removed",
    "error",
    "pong",
];

async fn a_client_of_the_guide_hears_only_what_the_guide_has(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2, 3]).await;
    let mut of_the_guide = server.connect_as(1).chat(conversation_id).await;
    let mut asks_for_more = server.connect_as(1).subprotocol("tidings.v1").chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    for client in [&mut of_the_guide, &mut asks_for_more, &mut bob] {
        client.expect_live().await;
    }
    let path = format!("/api/v1/conversations/{conversation_id}");
    server.patch(&path, Caller::Platform, json!({ "title": "Renamed" })).await.expect(200);
    let people = format!("{path}/participants");
    server.post(&people, Caller::Platform, json!({ "user_ids": [4, 5] })).await.success();
    server.delete(&format!("{people}/4"), Caller::Platform).await.expect(204);
    let id = message_id(&done(&mut of_the_guide, chat_message("Hello")).await);
    for command in [
        json!({ "type": "mark_read", "message_id": id }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "like" }),
        json!({ "type": "remove_reaction", "message_id": id, "reaction": "like" }),
    ] {
        done(&mut bob, command).await;
    }
    bob.send(json!({ "type": "typing_indicator", "is_typing": true })).await;
    done(&mut of_the_guide, json!({ "type": "edit_message", "message_id": id, "message": "Hello!" })).await;
    let last = done(&mut bob, chat_message("The last one")).await;
    let until_the_last = async |client: &mut crate::support::client::TestClient| {
        let mut frames: Vec<Value> = vec![];
        while frames.last().is_none_or(|frame| frame["event_id"] != last["event_id"]) {
            frames.push(client.expect_next().await);
        }
        frames
    };
    for frame in until_the_last(&mut of_the_guide).await {
        assert!(OF_THE_GUIDE.contains(&frame["type"].as_str().unwrap()), "{frame}");
    }
    let more = until_the_last(&mut asks_for_more).await;
    for kind in ["conversation_updated", "participant_added", "participant_removed"] {
        let frame = more.iter().find(|frame| frame["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {more:#?}"));
        assert_eq!((frame["event_id"].is_i64(), &frame["by"]), (true, &Value::Null), "{frame}");
    }
    assert_eq!(more.iter().filter(|frame| frame["type"] == "participant_added").count(), 2, "one event per person");
    let ids: Vec<i64> = more.iter().filter_map(|frame| frame["event_id"].as_i64()).collect();
    assert_eq!(ids, (1..=last["event_id"].as_i64().unwrap()).collect::<Vec<_>>(), "no gap for those who asked");
}

async fn the_sender_is_told_what_has_been_delivered_to_whom(store: Store) {
    let pair = Pair::start(store, &[]).await;
    let mut alice = pair.server.connect_as(1).subprotocol("tidings.v1").chat(pair.conversation_id).await;
    let mut bob = pair.bob;
    let mut more = pair.server.connect_as(2).subprotocol("tidings.v1").chat(pair.conversation_id).await;
    more.expect_live().await;
    let id = message_id(&done(&mut alice, chat_message("Did it arrive?")).await);
    let status = loop {
        let frame = alice.expect_next().await;
        if frame["type"] == "message_status" {
            break frame;
        }
    };
    assert_eq!((&status["message_id"], &status["status"]), (&json!(id), &json!("delivered")));
    assert_eq!((&status["user_id"], &status["conversation_id"]), (&json!(2), &json!(pair.conversation_id)));
    assert!(status["timestamp"].is_string() && status.get("event_id").is_none(), "{status}");
    // Nobody but the sender is told.
    done(&mut bob, json!({ "type": "ping" })).await;
    more.send(json!({ "type": "ping" })).await;
    assert!(more.collect_until("pong").await.iter().all(|frame| frame["type"] != "message_status"));
    // It is state: whoever resumes is told again.
    let mut back = pair.server.connect_as(1).since(1).chat(pair.conversation_id).await;
    let frames = back.collect_until("resumed").await;
    let again = frames.iter().find(|frame| frame["type"] == "message_status").expect("one's own status");
    assert_eq!((&again["message_id"], &again["user_id"]), (&json!(id), &json!(2)));
}

async fn a_sender_is_told_of_what_was_handed_after_a_later_message(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2, 3]).await;
    let mut alice = server.connect_as(1).subprotocol("tidings.v1").chat(id).await;
    let mut carol = server.connect_as(3).subprotocol("tidings.v1").chat(id).await;
    let earlier = message_id(&done(&mut alice, chat_message("Before Bob came")).await);
    let mut bob = server.connect_as(2).chat(id).await;
    bob.expect_live().await;
    let later = message_id(&done(&mut carol, chat_message("Since Bob came")).await);
    let status_of_bob = async |client: &mut crate::support::client::TestClient| loop {
        let frame = client.expect_next().await;
        if frame["type"] == "message_status" && frame["user_id"] == 2 {
            return frame["message_id"].clone();
        }
    };
    assert_eq!(status_of_bob(&mut carol).await, later);
    let mut bobs_other = server.connect_as(2).since(0).chat(id).await;
    bobs_other.collect_until("resumed").await;
    assert_eq!(status_of_bob(&mut alice).await, earlier);
}

async fn in_a_large_conversation_only_those_who_are_there_are_told(store: Store) {
    let server = TestServer::start(store).await;
    let everybody: Vec<i64> = (1..=101).collect();
    let conversation_id = server.conversation(&everybody).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    bob.expect_live().await;
    let mut alice = server.connect_as(1).subprotocol("tidings.v1").chat(conversation_id).await;
    alice.send(json!({ "type": "ping" })).await;
    let frames = alice.collect_until("pong").await;
    let mut told: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "user_status").collect();
    told.dedup();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["user_id"], &told[0]["status"]), (&json!(2), &json!("online")));
    // No delivered marks there either.
    done(&mut alice, chat_message("Hello, all")).await;
    bob.expect("chat_message").await;
    let mut back = server.connect_as(1).since(0).chat(conversation_id).await;
    let frames = back.collect_until("resumed").await;
    assert!(frames.iter().all(|frame| frame["type"] != "message_status"), "{frames:#?}");
}

async fn texts_never_appear_in_the_log(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_LOG", "trace")]).await;
    let secret = "a-text-that-is-nobody-elses-business";
    let id = message_id(&done(&mut pair.alice, chat_message(secret)).await);
    done(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": format!("{secret}!") })).await;
    for command in [
        json!({ "type": secret }),
        json!({ "type": "chat_message", "message": secret, "reply_to": 99 }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": secret }),
        json!({ "type": "chat_message", "message": secret, "data": { "k": format!("{secret}\u{0}") } }),
    ] {
        assert_eq!(ask(&mut pair.alice, command).await["type"], "error");
    }
    pair.alice.send_text(&format!("{{{secret}")).await;
    done(&mut pair.alice, json!({ "type": "ping" })).await;
    let output = pair.server.output();
    assert!(output.contains("chat_message in") && output.contains("chat_message out"), "{output}");
    assert!(!output.contains(secret), "{output}");
}
