//! Conversations over REST, and what the sockets hear of them.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::{Answer, answer};
use crate::support::{Caller, Store, TestServer, both_stores};

const PATH: &str = "/api/v1/conversations";

both_stores!(
    a_1_to_1_is_opened_once_and_found_again,
    many_who_open_the_same_1_to_1_at_once_open_one,
    a_group_shows_all_that_the_contract_names,
    what_can_not_be_opened_is_refused,
    the_platform_chooses_ids_and_owners,
    where_the_platform_opens_conversations_users_may_not,
    a_repeated_request_gets_the_first_answer_and_changes_nothing,
    the_list_is_by_activity_and_its_pages_lead_through_all,
    with_a_public_url_every_next_page_is_below_it,
    flags_are_one_s_own_and_reach_one_s_own_sockets_alone,
    a_title_is_changed_by_those_who_may_and_told_to_all,
    a_cleared_1_to_1_is_hidden_until_the_next_message,
    a_deleted_group_closes_its_sockets_and_is_gone,
    a_member_who_deletes_a_group_leaves_it,
    strangers_and_ids_that_can_be_none_find_nothing,
    a_new_conversation_is_heard_on_the_user_s_socket_at_once,
);

async fn with_people(store: Store) -> TestServer {
    let server = TestServer::start(store).await;
    for (id, first_name) in [(1, "Ada"), (2, "Bob"), (3, "Cy"), (4, "Di")] {
        server.put_user(id, first_name, "Doe").await;
    }
    server
}

async fn open(server: &TestServer, caller: impl Into<Caller>, body: Value) -> Answer {
    server.post(PATH, caller, body).await
}

fn ids(page: &Value) -> Vec<i64> {
    page["data"].as_array().expect("a list").iter().map(|item| item["id"].as_i64().expect("an id")).collect()
}

fn person(id: i64, first_name: &str) -> Value {
    json!({ "id": id, "first_name": first_name, "last_name": "Doe", "username": null, "avatar_url": null })
}

fn person_in_role(id: i64, first_name: &str, role: &str) -> Value {
    let mut person = person(id, first_name);
    person["role"] = json!(role);
    person
}

async fn a_1_to_1_is_opened_once_and_found_again(store: Store) {
    let server = with_people(store).await;
    let first = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(201);
    assert_eq!((&first["kind"], &first["role"], &first["title"]), (&json!("direct"), &json!("member"), &Value::Null));
    for (caller, people) in [(1, json!([2, 1])), (2, json!([1])), (2, json!([1, 1, 2]))] {
        let again = open(&server, caller, json!({ "participant_ids": people })).await.expect(200);
        assert_eq!(again["id"], first["id"]);
    }
}

async fn many_who_open_the_same_1_to_1_at_once_open_one(store: Store) {
    let server = with_people(store).await;
    let asked = (0..30).map(|index| open(&server, 1 + index % 2, json!({ "participant_ids": [1, 2] })));
    let answers = join_all(asked).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(created, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.status < 300 && answer.body["id"] == answers[0].body["id"]));
}

async fn a_group_shows_all_that_the_contract_names(store: Store) {
    let server = with_people(store).await;
    let group = open(&server, 2, json!({ "participant_ids": [1, 3], "title": "Trip 🏔" })).await.expect(201);
    let expected = json!({
        "id": group["id"], "kind": "group", "title": "Trip 🏔",
        "participants": [
            person_in_role(1, "Ada", "member"), person_in_role(2, "Bob", "owner"), person_in_role(3, "Cy", "member"),
        ],
        "participant_count": 3, "last_message": null, "unread_count": 0, "last_event_id": 0, "archived": false,
        "muted": false, "role": "owner", "created_at": group["created_at"], "updated_at": group["updated_at"],
    });
    assert_eq!(group, expected);
    let path = format!("{PATH}/{}", group["id"]);
    let messages = format!("{path}/messages");
    let sent = server.post(&messages, 1, json!({ "message": "Hi" })).await.expect(201);
    let seen = server.get(&path, 3).await.expect(200);
    assert_eq!(
        (&seen["unread_count"], &seen["last_event_id"], &seen["role"]),
        (&json!(1), &json!(1), &json!("member"))
    );
    assert_eq!(seen["last_message"], sent);
    let of_platform = server.get(&path, Caller::Platform).await.expect(200);
    assert_eq!((&of_platform["role"], &of_platform["unread_count"]), (&Value::Null, &json!(0)));
    let read = server.post(&format!("{path}/read"), 3, json!({ "message_id": sent["id"] })).await.expect(200);
    assert_eq!(read["unread_count"], 0);
    assert_eq!(server.get(&path, 3).await.expect(200)["unread_count"], 0);
}

async fn what_can_not_be_opened_is_refused(store: Store) {
    let server = with_people(store).await;
    for (body, status, code) in [
        (json!({ "participant_ids": [1] }), 400, "invalid_field"),
        (json!({ "participant_ids": [] }), 400, "invalid_field"),
        (json!({ "participant_ids": null }), 400, "invalid_field"),
        (json!({ "participant_ids": "2" }), 400, "invalid_field"),
        (json!({ "participant_ids": [2, 0] }), 400, "invalid_field"),
        (json!({ "participant_ids": [2], "title": 5 }), 400, "invalid_field"),
        (json!({ "participant_ids": [2], "title": " " }), 400, "invalid_field"),
        (json!({ "participant_ids": [2], "title": "a\u{0}b" }), 400, "invalid_field"),
        (json!({ "participant_ids": [2], "title": "x".repeat(256) }), 413, "too_large"),
        (json!({ "participant_ids": [2, 404] }), 404, "not_found"),
        (json!([2]), 400, "invalid_json"),
    ] {
        open(&server, 1, body).await.refused(status, code);
    }
    open(&server, 1, json!({ "participant_ids": [2], "title": "x".repeat(255) })).await.expect(201);
    let text = server.request(Method::POST, PATH, 1).header("content-type", "text/plain").body("{}");
    answer(text).await.refused(415, "unsupported");
    open(&server, Caller::Nobody, json!({ "participant_ids": [2] })).await.refused(401, "missing_token");
    let small = TestServer::start_with(store, &[("TIDINGS_PARTICIPANTS_MAX", "3")]).await;
    open(&small, Caller::Platform, json!({ "participant_ids": [1, 2, 3] })).await.expect(201);
    open(&small, Caller::Platform, json!({ "participant_ids": [1, 2, 3, 4] })).await.refused(413, "too_large");
}

async fn the_platform_chooses_ids_and_owners(store: Store) {
    let server = TestServer::start(store).await;
    let group = json!({ "id": 1, "owner_id": 9, "participant_ids": [7, 8], "title": "Team" });
    let made = open(&server, Caller::Platform, group.clone()).await.expect(201);
    assert_eq!((&made["id"], &made["role"], &made["participant_count"]), (&json!(1), &Value::Null, &json!(3)));
    let owner = made["participants"].as_array().expect("people").iter().find(|person| person["role"] == "owner");
    assert_eq!(owner.expect("an owner")["id"], 9);
    open(&server, Caller::Platform, group).await.expect(200);
    let pair = json!({ "id": 2, "participant_ids": [7, 8] });
    open(&server, Caller::Platform, pair.clone()).await.expect(201);
    open(&server, Caller::Platform, pair).await.expect(200);
    for other in [json!({ "id": 3, "participant_ids": [7, 8] }), json!({ "id": 1, "participant_ids": [7, 8] })] {
        open(&server, Caller::Platform, other).await.refused(409, "conflict");
    }
    // The server's own ids go round those taken, and a user's `id` is but an unknown field.
    let own = open(&server, 7, json!({ "participant_ids": [9], "id": 500 })).await.expect(201);
    assert!(![1, 2, 500].contains(&own["id"].as_i64().expect("an id")), "{own}");
}

async fn where_the_platform_opens_conversations_users_may_not(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_CONVERSATIONS_BY", "platform")]).await;
    open(&server, Caller::Platform, json!({ "participant_ids": [1, 2] })).await.expect(201);
    open(&server, 1, json!({ "participant_ids": [2] })).await.refused(403, "forbidden");
}

async fn a_repeated_request_gets_the_first_answer_and_changes_nothing(store: Store) {
    let server = with_people(store).await;
    let send = |caller: i64, key: &str, body: Value| {
        answer(server.request(Method::POST, PATH, caller).header("idempotency-key", key).json(&body))
    };
    let body = json!({ "participant_ids": [2, 3], "title": "Once" });
    let answers = join_all((0..12).map(|_| send(1, "k1", body.clone()))).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body), "{answers:?}");
    assert_eq!(ids(&server.get(PATH, 1).await.expect(200)).len(), 1);
    send(1, "k1", json!({ "participant_ids": [2, 3], "title": "Twice" })).await.refused(409, "conflict");
    assert_ne!(send(2, "k1", json!({ "participant_ids": [1, 3] })).await.expect(201)["id"], answers[0].body["id"]);
    for bad in ["", &"x".repeat(65)] {
        send(1, bad, body.clone()).await.refused(400, "invalid_field");
    }
    send(1, &"x".repeat(64), body).await.expect(201);
}

async fn the_list_is_by_activity_and_its_pages_lead_through_all(store: Store) {
    let server = with_people(store).await;
    let mut opened = vec![];
    for title in ["a", "b", "c", "d", "e"] {
        let made = open(&server, 1, json!({ "participant_ids": [2], "title": title })).await.expect(201);
        opened.insert(0, made["id"].as_i64().expect("an id"));
    }
    assert_eq!(ids(&server.get(PATH, 2).await.expect(200)), opened);
    let oldest = opened.pop().expect("five");
    let messages = format!("{PATH}/{oldest}/messages");
    server.post(&messages, 2, json!({ "message": "up" })).await.expect(201);
    opened.insert(0, oldest);

    let (mut seen, mut next) = (vec![], Some(format!("{PATH}?limit=2")));
    while let Some(path) = next.take() {
        let page = server.get(&path, 1).await;
        let link = page.headers.get("link").map(|link| link.to_str().expect("text").to_owned());
        next = link.map(|link| link.trim_start_matches('<').replace(">; rel=\"next\"", ""));
        let page = page.expect(200);
        assert_eq!(page["has_more"], next.is_some());
        seen.extend(ids(&page));
        // What is opened meanwhile is newer than the page, and moves nothing.
        open(&server, 1, json!({ "participant_ids": [3], "title": "new" })).await.expect(201);
    }
    assert_eq!(seen, opened);
    for query in ["cursor=x", "cursor=MSwy%00", "limit=0", "limit=-1", "limit=ten", "archived=yes"] {
        server.get(&format!("{PATH}?{query}"), 1).await.refused(400, "invalid_field");
    }
    server.get(&format!("{PATH}?limit=1000"), 1).await.expect(200);
    server.get(PATH, Caller::Platform).await.refused(401, "invalid_token");
}

async fn with_a_public_url_every_next_page_is_below_it(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_PUBLIC_URL", "https://pub.example.org/base/")]).await;
    let id = server.conversation(&[1, 2]).await;
    server.conversation(&[1, 3]).await;
    for message in ["one", "two"] {
        server.post(&format!("{PATH}/{id}/messages"), 2, json!({ "message": message })).await.expect(201);
        let note = json!({ "user_id": 1, "title": "a", "message": message });
        server.post("/api/v1/notifications", Caller::Platform, note).await.expect(201);
    }
    let lists = [
        PATH.to_owned(),
        format!("{PATH}/{id}/messages"),
        format!("{PATH}/{id}/participants"),
        "/api/v1/notifications".to_owned(),
    ];
    for list in lists {
        let page = server.get(&format!("{list}?limit=1"), 1).await;
        let link = page.headers["link"].to_str().expect("text").to_owned();
        assert!(link.starts_with(&format!("<https://pub.example.org/base{list}?")), "{link}");
        assert_eq!(page.expect(200)["has_more"], true);
    }
}

async fn flags_are_one_s_own_and_reach_one_s_own_sockets_alone(store: Store) {
    let server = with_people(store).await;
    let id = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(201)["id"].clone();
    let path = format!("{PATH}/{id}");
    let mut own = server.connect_as(1).live_user().await;
    let mut others = server.connect_as(2).live_user().await;
    let kept = server.patch(&path, 1, json!({ "archived": true, "muted": true })).await.expect(200);
    assert_eq!((&kept["archived"], &kept["muted"]), (&json!(true), &json!(true)));
    let told = own.expect("conversation_updated").await;
    assert_eq!((&told["archived"], &told["muted"], &told["conversation_id"]), (&json!(true), &json!(true), &id));
    assert_eq!((&told["event_id"], &told["by"]), (&Value::Null, &person(1, "Ada")));
    others.expect_nothing().await;
    assert_eq!(ids(&server.get(PATH, 1).await.expect(200)), [0; 0]);
    assert_eq!(ids(&server.get(&format!("{PATH}?archived=true"), 1).await.expect(200)).len(), 1);
    assert_eq!(ids(&server.get(PATH, 2).await.expect(200)).len(), 1);

    for (muted, expected) in [
        (json!(false), false),
        (json!("2999-01-01T00:00:00Z"), true),
        (json!("2020-01-01T00:00:00+01:00"), false),
        (json!("9999-12-31T23:59:59Z"), true),
    ] {
        assert_eq!(server.patch(&path, 1, json!({ "muted": muted })).await.expect(200)["muted"], expected);
    }
    for bad in [json!({ "muted": "later" }), json!({ "muted": 5 }), json!({ "archived": "no" })] {
        server.patch(&path, 1, bad).await.refused(400, "invalid_field");
    }
    for (flag, named) in [
        (json!({ "archived": true }), "archived"),
        (json!({ "muted": true }), "muted"),
        (json!({ "muted": false, "title": "x" }), "muted"),
    ] {
        let refused = server.patch(&path, Caller::Platform, flag).await;
        assert_eq!(refused.body["field"], named);
        refused.refused(400, "invalid_field");
    }
    server.patch(&path, 3, json!({ "archived": true })).await.refused(404, "not_found");
}

async fn a_title_is_changed_by_those_who_may_and_told_to_all(store: Store) {
    let server = with_people(store).await;
    let group = open(&server, 1, json!({ "participant_ids": [2, 3], "title": "Old" })).await.expect(201);
    let id = group["id"].as_i64().expect("an id");
    let path = format!("{PATH}/{id}");
    let mut opted_in = server.connect_as(2).since(0).chat(id).await;
    opted_in.expect("connected").await;
    opted_in.expect("resumed").await;
    let mut guide_only = server.connect_as(3).chat(id).await;
    assert_eq!(server.patch(&path, 1, json!({ "title": "New" })).await.expect(200)["title"], "New");
    let told = opted_in.expect("conversation_updated").await;
    assert_eq!((&told["conversation"], &told["event_id"]), (&json!({ "id": id, "title": "New" }), &json!(1)));
    assert_eq!(told["by"], person(1, "Ada"));
    guide_only.expect_nothing().await;
    server.patch(&path, 2, json!({ "title": "Mine" })).await.refused(403, "forbidden");
    server.patch(&path, 4, json!({ "title": "Mine" })).await.refused(404, "not_found");
    assert_eq!(server.patch(&path, Caller::Platform, json!({ "title": "" })).await.expect(200)["title"], Value::Null);
    let direct = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(201);
    let direct = format!("{PATH}/{}", direct["id"]);
    server.patch(&direct, 1, json!({ "title": "Us" })).await.refused(403, "forbidden");
}

async fn a_cleared_1_to_1_is_hidden_until_the_next_message(store: Store) {
    let server = with_people(store).await;
    let id = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(201)["id"].as_i64().expect("an id");
    let (path, messages) = (format!("{PATH}/{id}"), format!("{PATH}/{id}/messages"));
    let old = server.post(&messages, 2, json!({ "message": "before" })).await.expect(201);
    let mut chat = server.connect_as(1).chat(id).await;
    chat.expect_nothing().await;
    let mut own = server.connect_as(1).live_user().await;
    server.delete(&path, 1).await.expect(204);
    let told = own.expect("participant_removed").await;
    assert_eq!((&told["user"], &told["by"], &told["event_id"]), (&person(1, "Ada"), &person(1, "Ada"), &Value::Null));
    assert_eq!(ids(&server.get(PATH, 1).await.expect(200)), [0; 0]);
    assert_eq!(ids(&server.get(PATH, 2).await.expect(200)), [id]);
    assert_eq!(ids(&server.get(&messages, 1).await.expect(200)), [0; 0]);
    server.get(&format!("/api/v1/messages/{}", old["id"]), 1).await.refused(404, "not_found");

    let again = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(200);
    assert_eq!((&again["id"], &again["last_message"]), (&json!(id), &Value::Null));
    assert_eq!(ids(&server.get(PATH, 1).await.expect(200)), [id]);

    server.delete(&path, 1).await.expect(204);
    let reply = json!({ "message": "after", "reply_to": old["id"] });
    let new = server.post(&messages, 2, reply).await.expect(201);
    // Clearing closes no socket; what was hidden stays hidden in replies.
    let live = chat.expect("chat_message").await;
    assert_eq!((&live["message"]["content"], &live["message"]["reply_to"]["content"]), (&json!("after"), &json!("")));
    let listed = server.get(PATH, 1).await.expect(200);
    assert_eq!((&listed["data"][0]["unread_count"], &listed["data"][0]["last_message"]["id"]), (&json!(1), &new["id"]));
    assert_eq!(ids(&server.get(&messages, 1).await.expect(200)).len(), 1);
    assert_eq!(ids(&server.get(&messages, 2).await.expect(200)).len(), 2);
}

async fn a_deleted_group_closes_its_sockets_and_is_gone(store: Store) {
    let server = with_people(store).await;
    let id = open(&server, 1, json!({ "participant_ids": [2, 3] })).await.expect(201)["id"].as_i64().expect("an id");
    let path = format!("{PATH}/{id}");
    server.post(&format!("{path}/messages"), 1, json!({ "message": "bye" })).await.expect(201);
    let mut chat = server.connect_as(2).chat(id).await;
    chat.expect_nothing().await;
    let mut own = server.connect_as(3).live_user().await;
    server.delete(&path, 1).await.expect(204);
    assert_eq!(chat.expect_close(4004).await, "access_denied");
    let told = own.expect("participant_removed").await;
    assert_eq!((&told["user"], &told["by"], &told["event_id"]), (&person(3, "Cy"), &person(1, "Ada"), &Value::Null));
    assert_eq!(told["conversation_id"], id);
    for caller in [Caller::User(1), Caller::User(2), Caller::Platform] {
        server.get(&path, caller).await.refused(404, "not_found");
    }
    server.connect_as(2).chat(id).await.expect_close(4004).await;
    server.delete(&path, Caller::Platform).await.refused(404, "not_found");
}

async fn a_member_who_deletes_a_group_leaves_it(store: Store) {
    let server = with_people(store).await;
    let id = open(&server, 1, json!({ "participant_ids": [2, 3] })).await.expect(201)["id"].as_i64().expect("an id");
    let path = format!("{PATH}/{id}");
    let mut stays = server.connect_as(1).since(0).chat(id).await;
    stays.expect("connected").await;
    stays.expect("resumed").await;
    server.delete(&path, 2).await.expect(204);
    let told = stays.expect("participant_removed").await;
    assert_eq!((&told["user"], &told["by"], &told["event_id"]), (&person(2, "Bob"), &person(2, "Bob"), &json!(1)));
    server.get(&path, 2).await.refused(404, "not_found");
    assert_eq!(server.get(&path, 1).await.expect(200)["participant_count"], 2);
}

async fn strangers_and_ids_that_can_be_none_find_nothing(store: Store) {
    let server = with_people(store).await;
    let id = open(&server, 1, json!({ "participant_ids": [2] })).await.expect(201)["id"].clone();
    for id in [id.to_string(), "0".into(), "x".into(), "9007199254740992".into(), "-1".into(), "987654".into()] {
        for below in ["", "/messages", "/participants"] {
            server.get(&format!("{PATH}/{id}{below}"), 3).await.refused(404, "not_found");
        }
        server.delete(&format!("{PATH}/{id}"), 3).await.refused(404, "not_found");
    }
    server.put(PATH, 1, json!({})).await.refused(405, "unsupported");
}

async fn a_new_conversation_is_heard_on_the_user_s_socket_at_once(store: Store) {
    let server = with_people(store).await;
    let mut bob = server.connect_as(2).live_user().await;
    let id = open(&server, 1, json!({ "participant_ids": [2, 3] })).await.expect(201)["id"].clone();
    server.post(&format!("{PATH}/{id}/messages"), 1, json!({ "message": "Hello" })).await.expect(201);
    let heard = bob.expect("chat_message").await;
    assert_eq!((&heard["conversation_id"], &heard["event_id"]), (&id, &json!(1)));
}
