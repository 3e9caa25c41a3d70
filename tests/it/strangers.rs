//! Every route with an object in its path, as the OpenAPI document lists them: to a stranger there is no such object.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(no_route_tells_a_stranger_of_an_object_from_there_being_none);

const OWNER: i64 = 1;
const MEMBER: i64 = 2;
const STRANGER: i64 = 3;
/// An id that nothing has.
const NOTHING: i64 = 1 << 40;

/// What a route needs for its owner to succeed: whose id stands in its path, and its body. A new route of a user's
/// that is not in this table fails the test.
fn example(method: &str, path: &str) -> (&'static str, Value) {
    let none = Value::Null;
    match (method, path) {
        ("get" | "delete", "/api/v1/conversations/{id}") => ("group", none),
        ("patch", "/api/v1/conversations/{id}") => ("group", json!({ "title": "Ours", "archived": true })),
        ("get", "/api/v1/conversations/{id}/messages" | "/api/v1/conversations/{id}/participants") => ("group", none),
        ("post", "/api/v1/conversations/{id}/messages") => ("group", json!({ "message": "Hello" })),
        ("post", "/api/v1/conversations/{id}/participants") => ("group", json!({ "user_ids": [STRANGER] })),
        ("patch", "/api/v1/conversations/{id}/participants/{user_id}") => ("group", json!({ "role": "admin" })),
        ("delete", "/api/v1/conversations/{id}/participants/{user_id}") => ("group", none),
        ("post", "/api/v1/conversations/{id}/read") => ("group", json!({ "message_id": 1 })),
        ("get" | "delete", "/api/v1/messages/{id}") => ("message", none),
        ("patch", "/api/v1/messages/{id}") => ("message", json!({ "message": "Better" })),
        ("get", "/api/v1/messages/{id}/history") => ("message", none),
        ("put" | "delete", "/api/v1/messages/{id}/reactions/{reaction}") => ("message", none),
        ("get", "/api/v1/attachments/{id}") => ("attachment", none),
        ("delete", "/api/v1/notifications/{id}") => ("notification", none),
        other => panic!("a new route: add an example of it, {other:?}"),
    }
}

/// Things of the owner's that a stranger has no part in.
struct Objects {
    group: i64,
    message: i64,
    attachment: i64,
    notification: i64,
}

impl Objects {
    async fn make(server: &TestServer) -> Self {
        let body = json!({ "participant_ids": [OWNER, MEMBER], "title": "Theirs" });
        let group = id(&server.post("/api/v1/conversations", OWNER, body).await.expect(201));
        let attachment = id(&server.upload(OWNER, "notes.txt", b"Notes").await.expect(201));
        let body = json!({ "message": "Between us", "attachment_ids": [attachment] });
        let message =
            id(&server.post(&format!("/api/v1/conversations/{group}/messages"), OWNER, body).await.expect(201));
        let body = json!({ "user_id": OWNER, "title": "News", "message": "For you" });
        server.post("/api/v1/notifications", Caller::Platform, body).await.expect(201);
        let notification = id(&server.get("/api/v1/notifications?limit=1", OWNER).await.expect(200)["data"][0]);
        Self { group, message, attachment, notification }
    }

    fn id(&self, of: &str) -> i64 {
        match of {
            "group" => self.group,
            "message" => self.message,
            "attachment" => self.attachment,
            _ => self.notification,
        }
    }
}

fn id(object: &Value) -> i64 {
    object["id"].as_i64().unwrap_or_else(|| panic!("an object with an id: {object}"))
}

/// A stranger who is known, knows the message, and is in conversations of their own.
async fn server_with_a_stranger(store: Store) -> TestServer {
    let server = TestServer::start_with(store, &[("TIDINGS_REQUESTS_PER_SECOND_MAX", "off")]).await;
    for user_id in [OWNER, MEMBER, STRANGER] {
        server.put_user(user_id, "Somebody", "").await;
    }
    server.conversation(&[STRANGER, MEMBER]).await;
    server
}

async fn no_route_tells_a_stranger_of_an_object_from_there_being_none(store: Store) {
    let server = server_with_a_stranger(store).await;
    let document = server.get("/api/v1/openapi.json", Caller::Nobody).await.expect(200);
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let is_for_users = operation["security"].as_array().expect("a list").contains(&json!({ "user": [] }));
            if !path.contains('{') || !is_for_users {
                continue;
            }
            let (of, body) = example(method, path);
            let objects = Objects::make(&server).await;
            let call = async |object: i64, caller: i64| {
                let path = path
                    .replace("{id}", &object.to_string())
                    .replace("{user_id}", &MEMBER.to_string())
                    .replace("{reaction}", "like");
                let method: Method = method.to_uppercase().parse().expect("a method");
                let mut request = server.request(method, &path, caller);
                if !body.is_null() {
                    let text =
                        body.to_string().replace("\"message_id\":1", &format!("\"message_id\":{}", objects.message));
                    request = request.header("Content-Type", "application/json").body(text);
                }
                answer(request).await
            };
            let (there, none) = (call(objects.id(of), STRANGER).await, call(NOTHING, STRANGER).await);
            assert_eq!((there.status, none.status), (404, 404), "{method} {path}: {} {}", there.body, none.body);
            assert_eq!(there.body, none.body, "{method} {path}: what is there and what is not are told apart");
            there.refused(404, "not_found");
            // The request itself is in order.
            let owners = call(objects.id(of), OWNER).await;
            assert!((200..300).contains(&owners.status), "{method} {path}: {} {}", owners.status, owners.body);
            tried += 1;
        }
    }
    assert!(tried > 10, "only {tried} routes were tried");
    // A file's address without a signature is no more than its id.
    let objects = Objects::make(&server).await;
    let file = format!("/api/v1/attachments/{}/notes.txt", objects.attachment);
    server.get(&file, STRANGER).await.refused(404, "not_found");
}
