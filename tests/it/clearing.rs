//! Clearing a 1:1: what came before stays hidden from who cleared it, whichever way they look (sections 5 and 7).

use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    no_command_names_a_message_that_its_issuer_has_cleared,
    a_command_accepted_before_the_clearing_is_still_answered_with_its_first_event,
    a_reply_to_what_is_hidden_shows_nothing_of_it_anywhere,
    an_answer_kept_for_a_repeated_request_shows_nothing_of_it_either,
    what_is_cleared_while_a_socket_is_coming_is_hidden_from_it,
);

/// A word that stands in one message alone, and is looked for in whatever is shown later.
const SECRET: &str = "watermelon";

/// A server with a 1:1 of the users 1 and 2, in which user 2 has said the secret. The conversation and the message.
async fn start(store: Store) -> (TestServer, i64, i64) {
    let server = TestServer::start(store).await;
    server.put_user(1, "Ada", "Lovelace").await;
    server.put_user(2, "Bob", "Builder").await;
    let id = server.conversation(&[1, 2]).await;
    let old = server.post(&messages(id), 2, json!({ "message": SECRET })).await.expect(201);
    (server, id, old["id"].as_i64().expect("an id"))
}

fn messages(id: i64) -> String {
    format!("/api/v1/conversations/{id}/messages")
}

async fn clear(server: &TestServer, id: i64) {
    server.delete(&format!("/api/v1/conversations/{id}"), 1).await.expect(204);
}

async fn no_command_names_a_message_that_its_issuer_has_cleared(store: Store) {
    let (server, id, old) = start(store).await;
    let mut ada = server.connect_as(1).chat(id).await;
    let own = ada.say("Mine").await["message"]["id"].clone();
    ada.command(json!({ "type": "add_reaction", "message_id": old, "reaction": "like" })).await;
    clear(&server, id).await;
    let mut bob = server.connect_as(2).chat(id).await;
    bob.expect_live().await;
    for command in [
        json!({ "type": "edit_message", "message_id": own, "message": "Edited" }),
        json!({ "type": "edit_message", "message_id": own, "message": "Mine" }),
        json!({ "type": "delete_message", "message_id": own }),
        json!({ "type": "add_reaction", "message_id": old, "reaction": "love" }),
        json!({ "type": "add_reaction", "message_id": old, "reaction": "like" }),
        json!({ "type": "remove_reaction", "message_id": old, "reaction": "like" }),
        json!({ "type": "mark_read", "message_id": old }),
        json!({ "type": "mark_read", "message_id": own }),
    ] {
        let refused = ada.command(command.clone()).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("not_found"), &json!("message_id")), "{command}");
    }
    let refused = ada.command(json!({ "type": "chat_message", "message": "Reply", "reply_to": old })).await;
    assert_eq!((&refused["code"], &refused["field"]), (&json!("not_found"), &json!("reply_to")));

    server.post(&messages(id), 1, json!({ "message": "Reply", "reply_to": old })).await.refused(404, "not_found");
    let read = format!("/api/v1/conversations/{id}/read");
    server.post(&read, 1, json!({ "message_id": old })).await.refused(404, "not_found");
    let path = format!("/api/v1/messages/{own}");
    server.patch(&path, 1, json!({ "message": "Edited" })).await.refused(404, "not_found");
    server.delete(&path, 1).await.refused(404, "not_found");
    server.put(&format!("/api/v1/messages/{old}/reactions/love"), 1, json!({})).await.refused(404, "not_found");
    server.delete(&format!("/api/v1/messages/{old}/reactions/like"), 1).await.refused(404, "not_found");

    // All is as it was for the other one, who has heard nothing and may do as before.
    bob.expect_nothing().await;
    let reply = bob.command(json!({ "type": "chat_message", "message": "Reply", "reply_to": old })).await;
    assert_eq!(reply["message"]["reply_to"]["content"], SECRET);
    let edited = bob.command(json!({ "type": "edit_message", "message_id": old, "message": "Edited" })).await;
    assert_eq!(edited["message"]["reactions"][0]["reaction"], "like");
    // And what comes after the clearing is there for everybody.
    ada.expect("chat_message").await;
    let read = ada.command(json!({ "type": "mark_read", "message_id": reply["message"]["id"] })).await;
    assert_eq!(read["type"], "message_read", "{read}");
}

async fn a_command_accepted_before_the_clearing_is_still_answered_with_its_first_event(store: Store) {
    let (server, id, old) = start(store).await;
    let mut ada = server.connect_as(1).chat(id).await;
    let reply = json!({ "type": "chat_message", "message": "Reply", "reply_to": old, "client_id": "reply" });
    ada.send(reply.clone()).await;
    let first = ada.expect("chat_message").await;
    assert_eq!(first["message"]["reply_to"]["content"], SECRET);
    let own = &first["message"]["id"];
    let edit = json!({ "type": "edit_message", "message_id": own, "message": "Edited", "client_id": "edit" });
    let like = json!({ "type": "add_reaction", "message_id": old, "reaction": "like", "client_id": "like" });
    ada.send(edit.clone()).await;
    let edited = ada.expect("message_edited").await;
    ada.send(like.clone()).await;
    let liked = ada.expect("reaction_added").await;
    clear(&server, id).await;
    for (command, first) in [(reply, first.clone()), (edit, edited), (like, liked)] {
        ada.send(command).await;
        let again = ada.expect_next().await;
        for field in ["type", "event_id", "client_id"] {
            assert_eq!(again[field], first[field], "{again}");
        }
        assert!(!again.to_string().contains(SECRET), "{again}");
    }
    let request = server.request(reqwest::Method::POST, &messages(id), 1).header("Idempotency-Key", "reply");
    let again = answer(request.json(&json!({ "message": "Reply", "reply_to": old }))).await.expect(200);
    assert_eq!((&again["id"], &again["reply_to"]["content"]), (own, &json!("")));
}

async fn a_reply_to_what_is_hidden_shows_nothing_of_it_anywhere(store: Store) {
    let (server, id, old) = start(store).await;
    let mut ada = server.connect_as(1).chat(id).await;
    ada.expect_live().await;
    clear(&server, id).await;
    let reply = json!({ "message": "Pineapple", "reply_to": old });
    let reply = server.post(&messages(id), 2, reply).await.expect(201)["id"].clone();
    let live = ada.expect("chat_message").await;
    let liked = ada.command(json!({ "type": "add_reaction", "message_id": reply, "reaction": "like" })).await;
    let liked_again = ada.command(json!({ "type": "add_reaction", "message_id": reply, "reaction": "like" })).await;
    let mut back = server.connect_as(1).since(0).chat(id).await;
    let replayed = json!(back.collect_until("resumed").await);
    let mut shown = vec![live, liked, liked_again, replayed];
    for path in [
        format!("/api/v1/messages/{reply}"),
        messages(id),
        "/api/v1/conversations".to_owned(),
        format!("/api/v1/conversations/{id}"),
        "/api/v1/search?q=pineapple".to_owned(),
        "/api/v1/notifications".to_owned(),
    ] {
        shown.push(server.get(&path, 1).await.expect(200));
    }
    let shown_reply = server.get(&format!("/api/v1/messages/{reply}"), 1).await.expect(200);
    assert_eq!((&shown_reply["reply_to"]["id"], &shown_reply["reply_to"]["content"]), (&json!(old), &json!("")));
    for value in shown {
        assert!(!value.to_string().contains(SECRET), "{value:#}");
    }
    let found = server.get(&format!("/api/v1/search?q={SECRET}"), 1).await.expect(200);
    assert_eq!(found["data"], json!([]));
    let whole = server.get(&format!("/api/v1/messages/{reply}"), 2).await.expect(200);
    assert_eq!(whole["reply_to"]["content"], SECRET);
}

async fn an_answer_kept_for_a_repeated_request_shows_nothing_of_it_either(store: Store) {
    let (server, id, _) = start(store).await;
    let open = async || {
        let request = server.request(reqwest::Method::POST, "/api/v1/conversations", 1).header("Idempotency-Key", "k");
        answer(request.json(&json!({ "participant_ids": [2] }))).await.expect(200)
    };
    assert_eq!(open().await["last_message"]["content"], SECRET);
    clear(&server, id).await;
    let again = open().await;
    assert_eq!((&again["id"], &again["last_message"]), (&json!(id), &Value::Null));
    let platform = server.get(&messages(id), Caller::Platform).await.expect(200);
    assert_eq!(platform["data"][0]["content"], SECRET, "hidden from nobody else");
}

async fn what_is_cleared_while_a_socket_is_coming_is_hidden_from_it(store: Store) {
    let (server, id, old) = start(store).await;
    // The socket has been checked and greeted, and waits for its first frame, when the conversation is cleared.
    let mut ada = server.connect_as(1).user().await;
    ada.expect("connected").await;
    clear(&server, id).await;
    ada.send(json!({ "type": "resume", "cursors": { id.to_string(): 0 } })).await;
    let frames = ada.collect_until("resumed").await;
    let events = frames.iter().filter(|frame| frame["conversation_id"] == id && frame["event_id"].is_i64());
    assert_eq!(events.count(), 0, "{frames:#?}");
    let reply = json!({ "message": "Pineapple", "reply_to": old });
    server.post(&messages(id), 2, reply).await.expect(201);
    for other in ["participant_removed", "notification", "notification_read"] {
        ada.ignore(other);
    }
    let live = ada.expect("chat_message").await;
    assert_eq!(
        (&live["message"]["content"], &live["message"]["reply_to"]["content"]),
        (&json!("Pineapple"), &json!(""))
    );
}
