//! Search as clients see it; what is found by which words is tested beside the store.

use serde_json::{Value, json};

use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    messages_are_found_with_where_they_match,
    only_own_conversations_are_searched,
    pages_go_on_in_their_direction,
    a_bad_question_is_refused_and_an_empty_one_finds_nothing,
);

async fn found(server: &TestServer, user_id: i64, query: &str) -> Value {
    server.get(&format!("/api/v1/search?{query}"), user_id).await.expect(200)
}

fn contents(page: &Value) -> Vec<&str> {
    let hits = page["data"].as_array().expect("a list");
    hits.iter().map(|hit| hit["message"]["content"].as_str().expect("a text")).collect()
}

async fn messages_are_found_with_where_they_match(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let sent = alice.say("<b>Lunch</b> at 東京駅?").await;
    alice.say("later").await;
    let page = found(&server, 2, "q=LUN%20%E6%9D%B1%E4%BA%AC").await;
    let snippet = json!([
        { "text": "<b>", "match": false },
        { "text": "Lunch", "match": true },
        { "text": "</b> at ", "match": false },
        { "text": "東京", "match": true },
        { "text": "駅?", "match": false },
    ]);
    let hit = json!({ "conversation_id": conversation_id, "message": sent["message"], "snippet": snippet });
    assert_eq!(page, json!({ "data": [hit], "has_more": false }));
    let edit = json!({ "type": "edit_message", "message_id": sent["message"]["id"], "message": "Dinner" });
    alice.send(edit).await;
    alice.expect("message_edited").await;
    assert_eq!(contents(&found(&server, 2, "q=lunch").await), [""; 0]);
    assert_eq!(contents(&found(&server, 2, "q=dinner").await), ["Dinner"]);
}

async fn only_own_conversations_are_searched(store: Store) {
    let server = TestServer::start(store).await;
    let ours = server.conversation(&[1, 2]).await;
    let theirs = server.conversation(&[2, 3]).await;
    server.connect_as(2).chat(ours).await.say("needle for one").await;
    server.connect_as(2).chat(theirs).await.say("needle for three").await;
    assert_eq!(contents(&found(&server, 1, "q=needle").await), ["needle for one"]);
    assert_eq!(contents(&found(&server, 2, "q=needle").await), ["needle for three", "needle for one"]);
    assert_eq!(contents(&found(&server, 4, "q=needle").await), [""; 0]);
}

async fn pages_go_on_in_their_direction(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut ids = vec![];
    for number in 0..5 {
        ids.push(alice.say(&format!("a & b {number}")).await["message"]["id"].clone());
    }
    for (start, expected) in [
        ("/api/v1/search?q=a+%26+b&limit=2".to_owned(), vec![4, 3, 2, 1, 0]),
        (format!("/api/v1/search?limit=2&after={}&q=a+%26+b", ids[0]), vec![1, 2, 3, 4]),
    ] {
        let (mut next, mut seen) = (Some(start), vec![]);
        while let Some(path) = next {
            let answer = server.get(&path, 2).await;
            let link = answer.headers.get("link").map(|link| link.to_str().expect("a text").to_owned());
            next = link.map(|link| link.trim_start_matches('<').trim_end_matches(">; rel=\"next\"").to_owned());
            let page = answer.expect(200);
            assert_eq!(page["has_more"], next.is_some());
            seen.extend(page["data"].as_array().expect("a list").iter().map(|hit| hit["message"]["id"].clone()));
        }
        assert_eq!(seen, expected.into_iter().map(|index: usize| ids[index].clone()).collect::<Vec<_>>());
    }
}

async fn a_bad_question_is_refused_and_an_empty_one_finds_nothing(store: Store) {
    let server = TestServer::start(store).await;
    let long = |count: usize| format!("q={}", "%C3%A9".repeat(count));
    for (query, field) in [
        ("", "q"),
        ("q=", "q"),
        (&long(201), "q"),
        ("q=a%00b", "q"),
        ("q=a&limit=0", "limit"),
        ("q=a&limit=x", "limit"),
        ("q=a&before=0", "before"),
        ("q=a&after=x", "after"),
        ("q=a&before=1&after=1", "after"),
    ] {
        let refused = server.get(&format!("/api/v1/search?{query}"), 1).await;
        assert_eq!(refused.body["field"], field, "{query}");
        refused.refused(400, "invalid_field");
    }
    for query in [&long(200), "q=%F0%9F%91%8D", "q=%22*%25", "q=a&limit=1000"] {
        assert_eq!(found(&server, 1, query).await, json!({ "data": [], "has_more": false }), "{query}");
    }
    server.get("/api/v1/search?q=a", Caller::Nobody).await.refused(401, "missing_token");
    server.get("/api/v1/search?q=a", Caller::Platform).await.refused(401, "invalid_token");
}
