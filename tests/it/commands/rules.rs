//! The rules of each command: texts, replies, edits, deletion, reactions, reading.

use serde_json::{Value, json};

use super::{Pair, ask, assert_refused, chat_message, done, message_id};
use crate::support::{Store, both_stores};

both_stores!(
    a_message_has_the_guides_shape_and_more,
    a_text_is_bounded_in_characters,
    texts_are_returned_as_they_were_sent,
    a_reply_names_a_message_of_the_same_conversation,
    a_reply_quotes_its_message_as_it_stands_when_it_is_sent,
    only_the_sender_edits_and_deletes,
    an_edit_keeps_the_id_and_marks_the_time,
    a_deleted_message_leaves_a_tombstone,
    a_new_reaction_replaces_the_old_one,
    what_changes_nothing_is_answered_to_its_issuer_alone,
    reading_moves_a_cursor_forward_over_the_messages_of_others,
    any_single_emoji_is_a_reaction_where_the_settings_say_so,
);

const UNLIMITED: &[(&str, &str)] = &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "off")];

async fn a_message_has_the_guides_shape_and_more(store: Store) {
    let pair = Pair::start(store, &[]).await;
    pair.server.put_user(1, "John", "Doe").await;
    let mut alice = pair.server.connect_as(1).chat(pair.conversation_id).await;
    let event = alice.say("Hello there!").await;
    let message = &event["message"];
    assert_eq!(
        message["sender"],
        json!({ "id": 1, "first_name": "John", "last_name": "Doe", "username": null, "avatar_url": null })
    );
    let empty = json!([]);
    for (name, value) in [
        ("content", &json!("Hello there!")),
        ("message_type", &json!("text")),
        ("reply_to", &Value::Null),
        ("attachments", &empty),
        ("reactions", &empty),
        ("data", &Value::Null),
        ("edited_at", &Value::Null),
        ("is_deleted", &json!(false)),
    ] {
        assert_eq!(message.get(name), Some(value), "{name} of {message}");
    }
    let timestamp = message["timestamp"].as_str().expect("a time");
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z') && timestamp.as_bytes()[19] == b'.', "{timestamp}");
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
    for kind in ["text", "image", "file"] {
        let event = done(&mut alice, json!({ "type": "chat_message", "message": "x", "message_type": kind })).await;
        assert_eq!(event["message"]["message_type"], kind);
    }
}

async fn a_text_is_bounded_in_characters(store: Store) {
    let mut pair = Pair::start(store, UNLIMITED).await;
    for character in ["x", "é", "😀"] {
        let most = character.repeat(8000);
        let event = done(&mut pair.alice, chat_message(&most)).await;
        assert_eq!(event["message"]["content"], most.as_str());
        let id = message_id(&event);
        let edited = format!("{}y", character.repeat(7999));
        done(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": edited })).await;
        let past = character.repeat(8001);
        let error = ask(&mut pair.alice, chat_message(&past)).await;
        assert_refused(&error, "too_large", Some("message"));
        let error = ask(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": past })).await;
        assert_refused(&error, "too_large", Some("message"));
    }
    // A family is one to the eye and five characters here.
    let families = "👩‍👩‍👧".repeat(1600);
    done(&mut pair.alice, chat_message(&families)).await;
    let error = ask(&mut pair.alice, chat_message(&format!("{families}x"))).await;
    assert_refused(&error, "too_large", Some("message"));
    // `data` is bounded in bytes, as it was sent.
    let data = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    pair.alice.ignore("chat_message");
    for (bytes, answer) in [(4096, "chat_message"), (4097, "error")] {
        let text = format!(r#"{{"type":"chat_message","message":"x","client_id":"d{bytes}","data":{}}}"#, data(bytes));
        pair.alice.send_text(&text).await;
        let frame = pair.alice.expect_next().await;
        assert_eq!((&frame["type"], &frame["client_id"]), (&json!(answer), &json!(format!("d{bytes}"))));
    }
}

async fn texts_are_returned_as_they_were_sent(store: Store) {
    let mut pair = Pair::start(store, UNLIMITED).await;
    let mut contents = vec![];
    for text in [
        "  kept \t as it is \r\n",
        "<script>alert('x')</script> & &amp; \"quoted\" \\ /",
        "עברית שלום \u{202e}rtl\u{202c} العربية",
        "e\u{301} is not é; ﬁ is not fi; Å is not Å",
        "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪",
        "\u{1}\u{7f}\u{80}\u{85}\u{2028}\u{feff}\u{fffd}\u{fffe}\u{10ffff}",
        "'; DROP TABLE messages; -- $1 ? % _ {} ${x} %s",
        "null",
        "0",
        "漢字かな交じり文",
    ] {
        let data = json!({ "t": text, "n": [1, 2.5, -0.0, 1e20, 9007199254740993_u64], text: null });
        let event = done(&mut pair.alice, json!({ "type": "chat_message", "message": text, "data": data })).await;
        assert_eq!(event["message"]["content"], text);
        assert_eq!(event["message"]["data"], data);
        let heard = pair.bob.expect("chat_message").await;
        assert_eq!(heard["message"], event["message"]);
        contents.push(event["message"].clone());
    }
    // As they come from the store, too.
    let mut later = pair.server.connect_as(2).since(0).chat(pair.conversation_id).await;
    let replayed = later.collect_until("resumed").await;
    let replayed: Vec<_> = replayed.iter().filter(|frame| frame["type"] == "chat_message").collect();
    assert_eq!(replayed.iter().map(|frame| frame["message"].clone()).collect::<Vec<_>>(), contents);
}

async fn a_reply_names_a_message_of_the_same_conversation(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let first = message_id(&done(&mut pair.alice, chat_message("A question")).await);
    let reply = done(&mut pair.alice, json!({ "type": "chat_message", "message": "Itself", "reply_to": first })).await;
    assert_eq!(reply["message"]["reply_to"]["id"], first);
    assert_eq!(reply["message"]["reply_to"]["content"], "A question");
    assert_eq!(reply["message"]["reply_to"]["sender"]["id"], 1);
    let aliased = json!({ "type": "chat_message", "message": "By alias", "reply_to_id": first });
    assert_eq!(done(&mut pair.alice, aliased).await["message"]["reply_to"]["id"], first);

    let elsewhere = pair.server.conversation(&[1, 3]).await;
    let mut there = pair.server.connect_as(1).chat(elsewhere).await;
    for command in [
        json!({ "type": "chat_message", "message": "x", "reply_to": first }),
        json!({ "type": "edit_message", "message": "x", "message_id": first }),
        json!({ "type": "delete_message", "message_id": first }),
        json!({ "type": "add_reaction", "reaction": "like", "message_id": first }),
        json!({ "type": "mark_read", "message_id": first }),
    ] {
        assert_refused(&ask(&mut there, command).await, "not_found", None);
    }
    done(&mut pair.alice, json!({ "type": "delete_message", "message_id": first })).await;
    let late = done(&mut pair.alice, json!({ "type": "chat_message", "message": "Late", "reply_to": first })).await;
    assert_eq!(late["message"]["reply_to"]["content"], "", "a tombstone may be replied to, and says nothing");
}

async fn a_reply_quotes_its_message_as_it_stands_when_it_is_sent(store: Store) {
    let mut pair = Pair::start(store, UNLIMITED).await;
    let id = message_id(&done(&mut pair.alice, chat_message("First")).await);
    // Sent in one go, so that the server may take them together.
    for round in 0..10 {
        for command in [
            chat_message("Something else"),
            json!({ "type": "edit_message", "message_id": id, "message": format!("Edit {round}") }),
            json!({ "type": "chat_message", "message": "Reply", "reply_to": id, "client_id": format!("r{round}") }),
        ] {
            pair.alice.send(command).await;
        }
    }
    pair.alice.send(json!({ "type": "delete_message", "message_id": id })).await;
    pair.alice.send(json!({ "type": "chat_message", "message": "Late", "reply_to": id, "client_id": "late" })).await;
    let mut quoted = vec![];
    while quoted.len() < 11 {
        let frame = pair.alice.expect_next().await;
        if frame["message"]["reply_to"].is_object() {
            quoted.push(frame["message"]["reply_to"]["content"].as_str().expect("a text").to_owned());
        }
    }
    let expected: Vec<String> = (0..10).map(|round| format!("Edit {round}")).chain([String::new()]).collect();
    assert_eq!(quoted, expected);
}

async fn only_the_sender_edits_and_deletes(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let id = message_id(&done(&mut pair.alice, chat_message("Mine")).await);
    pair.bob.expect("chat_message").await;
    for command in [
        json!({ "type": "edit_message", "message_id": id, "message": "Theirs" }),
        json!({ "type": "delete_message", "message_id": id }),
    ] {
        assert_refused(&ask(&mut pair.bob, command).await, "forbidden", None);
    }
    pair.alice.expect_nothing().await;
    done(&mut pair.bob, json!({ "type": "add_reaction", "message_id": id, "reaction": "like" })).await;
}

async fn an_edit_keeps_the_id_and_marks_the_time(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let sent = done(&mut pair.alice, chat_message("Tpyo")).await;
    pair.bob.expect("chat_message").await;
    let id = message_id(&sent);
    let edited = done(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": "Typo" })).await;
    assert_eq!((&edited["type"], &edited["event_id"]), (&json!("message_edited"), &json!(2)));
    let heard = pair.bob.expect("message_edited").await;
    assert_eq!(heard["message"], edited["message"]);
    let mut expected = sent["message"].clone();
    expected["content"] = json!("Typo");
    assert!(edited["message"]["edited_at"].is_string());
    expected["edited_at"] = edited["message"]["edited_at"].clone();
    assert_eq!(edited["message"], expected);
}

async fn a_deleted_message_leaves_a_tombstone(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let data = json!({ "type": "chat_message", "message": "Regretted", "data": { "k": 1 } });
    let id = message_id(&done(&mut pair.alice, data).await);
    done(&mut pair.bob, json!({ "type": "add_reaction", "message_id": id, "reaction": "angry" })).await;
    done(&mut pair.bob, json!({ "type": "chat_message", "message": "Why?", "reply_to": id })).await;
    let deleted = done(&mut pair.alice, json!({ "type": "delete_message", "message_id": id })).await;
    assert_eq!(deleted["type"], "message_deleted");
    assert_eq!((&deleted["message_id"], &deleted["deleted_by"]["id"]), (&json!(id), &json!(1)));
    assert!(deleted["deleted_at"].is_string());
    for command in [
        json!({ "type": "edit_message", "message_id": id, "message": "x" }),
        json!({ "type": "add_reaction", "message_id": id, "reaction": "like" }),
        json!({ "type": "remove_reaction", "message_id": id, "reaction": "like" }),
    ] {
        assert_refused(&ask(&mut pair.alice, command).await, "not_found", None);
    }
    let again = done(&mut pair.alice, json!({ "type": "delete_message", "message_id": id })).await;
    assert_eq!((&again["unchanged"], again.get("event_id")), (&json!(true), None));
    assert_eq!(again["deleted_at"], deleted["deleted_at"]);
    // It may be read.
    assert_eq!(done(&mut pair.bob, json!({ "type": "mark_read", "message_id": id })).await["message_id"], id);

    let mut later = pair.server.connect_as(2).since(0).chat(pair.conversation_id).await;
    let replayed = later.collect_until("resumed").await;
    let messages: Vec<_> = replayed.iter().filter(|frame| frame["type"] == "chat_message").collect();
    let tombstone = &messages[0]["message"];
    assert_eq!((&tombstone["id"], &tombstone["content"]), (&json!(id), &json!("")));
    assert_eq!((&tombstone["is_deleted"], &tombstone["data"]), (&json!(true), &Value::Null));
    assert_eq!((&tombstone["reactions"], &tombstone["attachments"]), (&json!([]), &json!([])));
    assert_eq!(messages[1]["message"]["content"], "Why?");
    assert_eq!(messages[1]["message"]["reply_to"]["content"], "");
    let kinds: Vec<_> =
        replayed.iter().filter(|frame| frame["event_id"].is_i64()).map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["chat_message", "reaction_added", "chat_message", "message_deleted"], "each is what it was");
}

async fn a_new_reaction_replaces_the_old_one(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let id = message_id(&done(&mut pair.alice, chat_message("Nice?")).await);
    pair.bob.expect("chat_message").await;
    let react = |reaction: &str| json!({ "type": "add_reaction", "message_id": id, "reaction": reaction });
    for (index, (name, emoji)) in
        [("like", "👍"), ("love", "❤️"), ("laugh", "😂"), ("wow", "😮"), ("sad", "😢"), ("angry", "😠")]
            .iter()
            .enumerate()
    {
        let added = done(&mut pair.bob, react(name)).await;
        assert_eq!((&added["type"], &added["event_id"]), (&json!("reaction_added"), &json!(index + 2)), "one event");
        assert_eq!((&added["message_id"], &added["reaction"]["reaction"]), (&json!(id), &json!(name)));
        assert_eq!((&added["reaction"]["emoji"], &added["reaction"]["user"]["id"]), (&json!(emoji), &json!(2)));
        assert_eq!(pair.alice.expect("reaction_added").await["reaction"], added["reaction"]);
    }
    done(&mut pair.alice, react("like")).await;
    // The message shows one of each user.
    let edited = done(&mut pair.alice, json!({ "type": "edit_message", "message_id": id, "message": "Nice!" })).await;
    let mut shown: Vec<_> = edited["message"]["reactions"].as_array().expect("a list").iter().collect();
    shown.sort_by_key(|reaction| reaction["user"]["id"].as_i64());
    assert_eq!(shown.len(), 2);
    assert_eq!((&shown[0]["reaction"], &shown[1]["reaction"]), (&json!("like"), &json!("angry")));
    let remove = |reaction: &str| json!({ "type": "remove_reaction", "message_id": id, "reaction": reaction });
    let removed = done(&mut pair.bob, remove("angry")).await;
    assert_eq!((&removed["type"], &removed["reaction"]["reaction"]), (&json!("reaction_removed"), &json!("angry")));
}

async fn what_changes_nothing_is_answered_to_its_issuer_alone(store: Store) {
    let mut pair = Pair::start(store, &[]).await;
    let id = message_id(&done(&mut pair.alice, chat_message("Same")).await);
    pair.bob.expect("chat_message").await;
    let command = |fields: Value| {
        let mut command = fields;
        command["message_id"] = json!(id);
        command
    };
    let like = command(json!({ "type": "add_reaction", "reaction": "like" }));
    done(&mut pair.bob, like.clone()).await;
    pair.alice.expect("reaction_added").await;
    let read = command(json!({ "type": "mark_read" }));
    let mut first_read = read.clone();
    first_read["client_id"] = json!("first");
    pair.bob.send(first_read.clone()).await;
    let first = pair.bob.expect("message_read").await;
    assert_eq!(first.get("unchanged"), None);
    pair.bob.send(first_read).await;
    assert_eq!(pair.bob.expect("message_read").await, first, "it took effect once, and says so again");
    pair.alice.expect("message_read").await;
    for (command, kind) in [
        (like, "reaction_added"),
        (command(json!({ "type": "remove_reaction", "reaction": "love" })), "reaction_removed"),
        (read, "message_read"),
    ] {
        // Repeated it is no more of an event.
        let mut command = command;
        command["client_id"] = json!(kind);
        for _ in 0..2 {
            pair.bob.send(command.clone()).await;
            let answer = pair.bob.expect(kind).await;
            assert_eq!((&answer["client_id"], &answer["unchanged"]), (&json!(kind), &json!(true)), "{answer}");
            assert_eq!((answer.get("event_id"), &answer["message_id"]), (None, &json!(id)));
            assert_eq!(answer["conversation_id"], pair.conversation_id);
        }
    }
    pair.alice.expect_nothing().await;
    assert_eq!(done(&mut pair.alice, chat_message("Next")).await["event_id"], 3);
}

async fn reading_moves_a_cursor_forward_over_the_messages_of_others(store: Store) {
    let mut pair = Pair::start(store, UNLIMITED).await;
    let own_first = message_id(&done(&mut pair.bob, chat_message("Bob's own")).await);
    let mut ids = vec![];
    for text in ["One", "Two", "Three"] {
        ids.push(message_id(&done(&mut pair.alice, chat_message(text)).await));
    }
    let own_last = message_id(&done(&mut pair.bob, chat_message("Bob's own, too")).await);
    let read = |id: i64| json!({ "type": "mark_read", "message_id": id });

    // Before the own first message there is nobody else's.
    let nothing = done(&mut pair.bob, read(own_first)).await;
    assert_eq!((&nothing["message_id"], &nothing["unchanged"]), (&json!(own_first), &json!(true)));
    assert!(nothing["read_at"].is_string());
    pair.alice.ignore("chat_message");
    let two = done(&mut pair.bob, read(ids[1])).await;
    assert_eq!((&two["message_id"], &two["read_by"]["id"]), (&json!(ids[1]), &json!(2)));
    assert_eq!(two.get("event_id"), None, "a receipt is state, not log");
    let heard = pair.alice.expect("message_read").await;
    assert_eq!((&heard["message_id"], &heard["read_at"]), (&two["message_id"], &two["read_at"]));
    assert_eq!(heard["conversation_id"], pair.conversation_id);
    // Never back.
    let back = done(&mut pair.bob, read(ids[0])).await;
    assert_eq!((&back["message_id"], &back["read_at"]), (&json!(ids[1]), &two["read_at"]));
    assert_eq!(back["unchanged"], true);
    // Naming an own message reads up to the last one of somebody else before it; the greatest named counts.
    let all = json!({ "type": "message_read", "message_ids": [ids[0], own_last, ids[1]] });
    assert_eq!(done(&mut pair.bob, all).await["message_id"], ids[2]);
    assert_eq!(pair.alice.expect("message_read").await["message_id"], ids[2]);
    pair.alice.expect_nothing().await;
}

async fn any_single_emoji_is_a_reaction_where_the_settings_say_so(store: Store) {
    let mut pair = Pair::start(store, &[("TIDINGS_REACTIONS", "*")]).await;
    let id = message_id(&done(&mut pair.alice, chat_message("Nice?")).await);
    pair.bob.expect("chat_message").await;
    let react = |kind: &str, reaction: &str| json!({ "type": kind, "message_id": id, "reaction": reaction });
    let heart = done(&mut pair.alice, react("add_reaction", "❤\u{fe0f}")).await;
    assert_eq!((&heart["reaction"]["reaction"], &heart["reaction"]["emoji"]), (&json!("❤"), &json!("❤\u{fe0f}")));
    let same = done(&mut pair.bob, react("add_reaction", "❤")).await;
    assert_eq!((&same["reaction"]["reaction"], &same["reaction"]["emoji"]), (&json!("❤"), &json!("❤\u{fe0f}")));
    let unchanged = done(&mut pair.alice, react("add_reaction", "❤")).await;
    assert_eq!(unchanged["unchanged"], true);
    for emoji in ["👩‍👩‍👧", "🇩🇪", "👍🏽"] {
        assert_eq!(done(&mut pair.alice, react("add_reaction", emoji)).await["reaction"]["emoji"], emoji);
    }
    for outside in ["like", "👍👍", "a", "", " ", "👍 "] {
        let error = ask(&mut pair.alice, react("add_reaction", outside)).await;
        assert_refused(&error, "invalid_field", Some("reaction"));
    }
}
