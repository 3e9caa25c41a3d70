//! Who is in a group: added, given roles, put out, over REST and with what the sockets hear.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    people_are_added_by_those_who_may_and_see_all_history_as_read,
    who_is_put_out_is_closed_out_and_leaves_no_access,
    who_is_put_out_hears_nothing_of_what_is_said_at_the_same_time,
    roles_are_given_by_those_who_may_and_a_group_keeps_an_owner,
    participants_are_paged_by_user_id,
    a_1_to_1_keeps_its_two_people,
    a_repeated_request_gets_the_first_answer_and_adds_nobody_again,
);

async fn group(server: &TestServer, owner_id: i64, others: &[i64]) -> i64 {
    for id in [owner_id].iter().chain(others) {
        server.put_user(*id, &format!("User{id}"), "").await;
    }
    let body = json!({ "owner_id": owner_id, "participant_ids": others, "title": "Group" });
    let made = server.post("/api/v1/conversations", Caller::Platform, body).await.expect(201);
    made["id"].as_i64().expect("an id")
}

fn path(id: i64) -> String {
    format!("/api/v1/conversations/{id}/participants")
}

fn user_ids(page: &Value) -> Vec<i64> {
    let participants = page["data"].as_array().expect("a list").iter();
    participants.map(|participant| participant["user"]["id"].as_i64().expect("an id")).collect()
}

async fn people_are_added_by_those_who_may_and_see_all_history_as_read(store: Store) {
    let server = TestServer::start(store).await;
    let id = group(&server, 1, &[2]).await;
    server.put_user(3, "Cy", "").await;
    let messages = format!("/api/v1/conversations/{id}/messages");
    let before = server.post(&messages, 1, json!({ "message": "before" })).await.expect(201);
    let mut chat = server.connect_as(2).since(0).chat(id).await;
    chat.expect("connected").await;
    chat.expect("chat_message").await;
    chat.expect("resumed").await;
    let mut own = server.connect_as(3).live_user().await;

    server.post(&path(id), 2, json!({ "user_ids": [3] })).await.refused(403, "forbidden");
    server.post(&path(id), 3, json!({ "user_ids": [3] })).await.refused(404, "not_found");
    server.post(&path(id), 1, json!({ "user_ids": [404] })).await.refused(404, "not_found");
    for bad in [json!({}), json!({ "user_ids": [] }), json!({ "user_ids": 3 }), json!({ "user_ids": ["3"] })] {
        server.post(&path(id), 1, bad).await.refused(400, "invalid_field");
    }
    let list = server.post(&path(id), 1, json!({ "user_ids": [3, 3, 2] })).await.expect(200);
    assert_eq!(user_ids(&list), [3, 2, 1]);
    let newcomer = &list["data"][0];
    assert_eq!((&newcomer["role"], &newcomer["read_up_to"]), (&json!("member"), &before["id"]));

    let told = chat.expect("participant_added").await;
    assert_eq!((&told["user"]["id"], &told["by"]["id"], &told["event_id"]), (&json!(3), &json!(1), &json!(2)));
    let joined = own.expect("participant_added").await;
    assert_eq!((&joined["user"]["id"], &joined["conversation_id"]), (&json!(3), &json!(id)));
    let seen = server.get(&format!("/api/v1/conversations/{id}"), 3).await.expect(200);
    assert_eq!((&seen["unread_count"], &seen["last_message"]["id"]), (&json!(0), &before["id"]));
    // Somebody the platform names is made, without names.
    let list = server.post(&path(id), Caller::Platform, json!({ "user_ids": [500] })).await.expect(200);
    assert_eq!((&list["data"][0]["user"]["id"], &list["data"][0]["user"]["first_name"]), (&json!(500), &json!("")));
}

async fn who_is_put_out_is_closed_out_and_leaves_no_access(store: Store) {
    let server = TestServer::start(store).await;
    let id = group(&server, 1, &[2, 3]).await;
    let mut chat = server.connect_as(2).chat(id).await;
    chat.expect_nothing().await;
    let mut own = server.connect_as(2).live_user().await;
    server.delete(&format!("{}/2", path(id)), 3).await.refused(403, "forbidden");
    server.delete(&format!("{}/2", path(id)), 1).await.expect(204);
    assert_eq!(chat.expect_close(4004).await, "access_denied");
    let told = own.expect("participant_removed").await;
    assert_eq!((&told["user"]["id"], &told["by"]["id"]), (&json!(2), &json!(1)));
    server.get(&path(id), 2).await.refused(404, "not_found");
    server.delete(&format!("{}/2", path(id)), 1).await.refused(404, "not_found");
    server.connect_as(2).chat(id).await.expect_close(4004).await;
    let send = json!({ "message": "unheard" });
    server.post(&format!("/api/v1/conversations/{id}/messages"), 1, send).await.expect(201);
    own.expect_nothing().await;
    // Leaving is everybody's right, the owner's too: the group passes to another.
    server.delete(&format!("{}/1", path(id)), 1).await.expect(204);
    let left = server.get(&path(id), 3).await.expect(200);
    assert_eq!((user_ids(&left), &left["data"][0]["role"]), (vec![3], &json!("owner")));
}

async fn who_is_put_out_hears_nothing_of_what_is_said_at_the_same_time(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_COMMANDS_PER_SECOND_MAX", "off")]).await;
    let id = group(&server, 1, &[2]).await;
    let mut speaker = server.connect_as(1).chat(id).await;
    speaker.expect_nothing().await;
    for _ in 0..5 {
        let mut own = server.connect_as(2).live_user().await;
        // They come in one batch with the putting out, before and after it.
        for number in 0..20 {
            speaker.send(json!({ "type": "chat_message", "message": format!("said {number}") })).await;
        }
        let second = format!("{}/2", path(id));
        let put_out = server.delete(&second, 1);
        let say = async {
            for number in 20..40 {
                speaker.send(json!({ "type": "chat_message", "message": format!("said {number}") })).await;
            }
        };
        let (answer, ()) = tokio::join!(put_out, say);
        answer.expect(204);
        while own.expect_next().await["type"] != "participant_removed" {}
        own.expect_nothing().await;
        server.post(&path(id), 1, json!({ "user_ids": [2] })).await.expect(200);
    }
}

async fn roles_are_given_by_those_who_may_and_a_group_keeps_an_owner(store: Store) {
    let server = TestServer::start(store).await;
    let id = group(&server, 1, &[2, 3]).await;
    let one = |user_id: i64| format!("{}/{user_id}", path(id));
    server.patch(&one(3), 2, json!({ "role": "admin" })).await.refused(403, "forbidden");
    let given = server.patch(&one(2), 1, json!({ "role": "admin" })).await.expect(200);
    assert_eq!((&given["role"], &given["user"]["id"]), (&json!("admin"), &json!(2)));
    server.patch(&one(3), 2, json!({ "role": "admin" })).await.expect(200);
    server.patch(&one(3), 2, json!({ "role": "owner" })).await.refused(403, "forbidden");
    server.delete(&one(1), 2).await.refused(403, "forbidden");
    server.patch(&one(1), 1, json!({ "role": "member" })).await.refused(409, "conflict");
    for bad in [json!({}), json!({ "role": "king" }), json!({ "role": 1 })] {
        server.patch(&one(3), 1, bad).await.refused(400, "invalid_field");
    }
    server.patch(&one(404), 1, json!({ "role": "admin" })).await.refused(404, "not_found");
    server.patch(&one(3), Caller::Platform, json!({ "role": "owner" })).await.expect(200);
    let list = server.get(&path(id), 1).await.expect(200);
    let roles: Vec<&str> =
        list["data"].as_array().expect("a list").iter().filter_map(|item| item["role"].as_str()).collect();
    assert_eq!(roles, ["owner", "admin", "admin"]);
}

async fn participants_are_paged_by_user_id(store: Store) {
    let server = TestServer::start(store).await;
    let id = group(&server, 5, &[1, 4, 2, 3]).await;
    let page = server.get(&format!("{}?limit=2", path(id)), 1).await;
    let link = page.headers["link"].to_str().expect("text").to_owned();
    let page = page.expect(200);
    assert_eq!((user_ids(&page), &page["has_more"]), (vec![5, 4], &json!(true)));
    let next = link.trim_start_matches('<').replace(">; rel=\"next\"", "");
    assert_eq!(user_ids(&server.get(&next, 1).await.expect(200)), [3, 2]);
    let up = server.get(&format!("{}?after=3&limit=100", path(id)), Caller::Platform).await.expect(200);
    assert_eq!((user_ids(&up), &up["has_more"]), (vec![4, 5], &json!(false)));
}

async fn a_1_to_1_keeps_its_two_people(store: Store) {
    let server = TestServer::start(store).await;
    let id = server.conversation(&[1, 2]).await;
    server.put_user(3, "Cy", "").await;
    server.post(&path(id), 1, json!({ "user_ids": [3] })).await.refused(403, "forbidden");
    server.post(&path(id), Caller::Platform, json!({ "user_ids": [3] })).await.refused(403, "forbidden");
    server.delete(&format!("{}/1", path(id)), 1).await.refused(403, "forbidden");
    server.patch(&format!("{}/1", path(id)), 1, json!({ "role": "admin" })).await.refused(403, "forbidden");
}

async fn a_repeated_request_gets_the_first_answer_and_adds_nobody_again(store: Store) {
    let server = TestServer::start(store).await;
    let id = group(&server, 1, &[2]).await;
    server.put_user(3, "Cy", "").await;
    let send = async || {
        let request = server.request(Method::POST, &path(id), 1).header("idempotency-key", "add");
        answer(request.json(&json!({ "user_ids": [3] }))).await.expect(200)
    };
    let first = send().await;
    server.delete(&format!("{}/3", path(id)), 1).await.expect(204);
    assert_eq!(send().await, first);
    assert_eq!(user_ids(&server.get(&path(id), 1).await.expect(200)), [2, 1]);
}
