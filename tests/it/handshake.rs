//! What a handshake is answered over HTTP, before any upgrade: section 1 of the contract.

use reqwest::Method;
use serde_json::Value;
use tokio_tungstenite::tungstenite::http::Response;

use crate::support::client::{Connect, TestClient};
use crate::support::rest::answer;
use crate::support::{Caller, Store, TestServer, both_stores, until};

/// Checks that an answer is a problem document of this status and code.
#[track_caller]
fn assert_problem(response: &Response<Option<Vec<u8>>>, status: u16, code: &str) {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = response.body().as_deref().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).expect("a JSON body");
    assert_eq!((body["code"].as_str(), body["status"].as_u64()), (Some(code), Some(status.into())), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
}

#[track_caller]
fn assert_says_when_to_come_back(response: &Response<Option<Vec<u8>>>) {
    let seconds = response.headers()["retry-after"].to_str().expect("text").parse::<u64>();
    assert!(seconds.is_ok_and(|seconds| (1..60).contains(&seconds)), "{:?}", response.headers());
}

#[tokio::test]
async fn a_path_that_names_no_socket_is_not_found() {
    let server = TestServer::start(Store::Sqlite).await;
    for path in [
        "/ws",
        "/ws/",
        "/ws/chat",
        "/ws/chat/",
        "/ws/chat/0/",
        "/ws/chat/-1/",
        "/ws/chat/+1/",
        "/ws/chat/1.5/",
        "/ws/chat/1e3/",
        "/ws/chat/abc/",
        "/ws/chat/9007199254740992/",
        "/ws/chat/99999999999999999999999/",
        "/ws/chat/1/2/",
        "/ws/chat/1//",
        "/ws/chat//1/",
        "/ws/Chat/1/",
        "/ws/room/1/",
        "/ws/notifications/0/",
        "/ws/notifications/x",
        "/ws/user/9007199254740992",
        "/WS/chat/1/",
        "/chat/1/",
    ] {
        assert_problem(&server.connect_as(1).refused(path).await, 404, "not_found");
    }
    // Not found comes before the missing upgrade.
    server.get("/ws/chat/0/", Caller::Nobody).await.refused(404, "not_found");
}

#[tokio::test]
async fn the_last_slash_is_optional_and_there_is_no_redirect() {
    let server = TestServer::start(Store::Sqlite).await;
    for path in ["/ws/notifications/7/", "/ws/notifications/7", "/ws/user/7/", "/ws/user/7"] {
        server.connect_as(7).path(path).await.expect_live().await;
    }
    // The greatest id there is: it exists nowhere, and that is told by a close code.
    for path in ["/ws/chat/9007199254740991/", "/ws/chat/9007199254740991"] {
        server.connect_as(7).path(path).await.expect_close(4004).await;
    }
}

#[tokio::test]
async fn a_request_without_an_upgrade_is_told_to_use_websocket() {
    let server = TestServer::start(Store::Sqlite).await;
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let got = answer(server.request(method, "/ws/chat/1/", Caller::Nobody)).await;
        assert_eq!(got.headers["upgrade"], "websocket");
        assert!(got.body["detail"].as_str().is_some_and(|detail| detail.contains("WebSocket")), "{}", got.body);
        got.refused(426, "unsupported");
    }
    let old = server
        .request(Method::GET, "/ws/chat/1/", Caller::Nobody)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "8")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let old = answer(old).await;
    assert_eq!(old.headers["sec-websocket-version"], "13");
    old.refused(426, "unsupported");
}

#[tokio::test]
async fn only_allowed_origins_may_connect() {
    let settings = [
        ("TIDINGS_ALLOWED_ORIGINS", "https://app.example.com,http://other.example:8080"),
        ("TIDINGS_PUBLIC_URL", "https://chat.example.com"),
    ];
    let server = TestServer::start_with(Store::Sqlite, &settings).await;
    let host = server.address().ip();
    let own = [
        &format!("http://{host}"),
        &format!("https://{host}:9999"),
        "http://chat.example.com:3000",
        "https://chat.example.com",
        "https://app.example.com",
        "http://other.example:8080",
        "https://app.example.com:443",
    ];
    for origin in own {
        server.connect_as(7).header("origin", origin).notifications().await.expect_live().await;
    }
    server.connect_as(7).notifications().await.expect_live().await;
    for origin in [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:444",
        "http://other.example",
        "https://app.example.com.evil.example",
        &format!("http://{host}.evil.example"),
        "http://localhost",
        "null",
        &host.to_string(),
    ] {
        let refused = server.connect_as(7).header("origin", origin).refused("/ws/notifications/7/").await;
        assert_problem(&refused, 403, "forbidden");
    }
}

#[tokio::test]
async fn a_star_allows_any_origin() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_ALLOWED_ORIGINS", "*")]).await;
    for origin in ["https://evil.example", "null"] {
        server.connect_as(7).header("origin", origin).notifications().await.expect_live().await;
    }
}

#[tokio::test]
async fn an_address_that_knocks_too_often_is_told_when_to_come_back() {
    let settings = [("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "2"), ("TIDINGS_TRUSTED_PROXIES", "127.0.0.0/8")];
    let server = TestServer::start_with(Store::Sqlite, &settings).await;
    let from = |address: &str| server.connect_as(7).header("x-forwarded-for", address);
    knock_until_refused(|| from("203.0.113.9"), 429, "rate_limited").await;
    // Another client behind the same proxy has a limit of its own; who is named before it makes no difference.
    from("203.0.113.9, 198.51.100.1:4711").notifications().await.expect_live().await;
    server.connect_as(7).header("forwarded", "for=198.51.100.2").notifications().await.expect_live().await;
}

#[tokio::test]
async fn an_address_that_nobody_vouches_for_is_not_believed() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "2")]).await;
    let mut last = 0;
    let from_a_new_address = || {
        last += 1;
        server.connect_as(7).header("x-forwarded-for", &format!("203.0.113.{last}"))
    };
    knock_until_refused(from_a_new_address, 429, "rate_limited").await;
}

#[tokio::test]
async fn a_server_that_is_knocked_at_too_often_is_busy() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_HANDSHAKES_PER_SECOND_MAX", "2")]).await;
    knock_until_refused(|| server.connect_as(7), 503, "unavailable").await;
}

/// Connects again and again, within the limit's second, until that is too often.
async fn knock_until_refused(mut connect: impl FnMut() -> Connect, status: u16, code: &str) {
    let mut open: Vec<TestClient> = vec![];
    for _ in 0..50 {
        match connect().try_path("/ws/notifications/7/").await {
            Ok(client) => open.push(client),
            Err(refused) => {
                assert_problem(&refused, status, code);
                assert_says_when_to_come_back(&refused);
                assert!(open.len() >= 2, "the limit itself must be allowed");
                return;
            }
        }
    }
    panic!("50 handshakes at once were not too many");
}

#[tokio::test]
async fn a_full_server_is_busy_until_somebody_leaves() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_CONNECTIONS_MAX", "2")]).await;
    let first = server.connect_as(7).notifications().await;
    let mut second = server.connect_as(8).notifications().await;
    let refused = server.connect_as(9).refused("/ws/notifications/9/").await;
    assert_problem(&refused, 503, "unavailable");
    assert_says_when_to_come_back(&refused);
    first.close().await;
    second.expect_live().await;
    until("there is room again", async || server.connect_as(9).try_path("/ws/notifications/9/").await.is_ok()).await;
}

#[tokio::test]
async fn a_token_or_access_is_never_judged_before_the_upgrade() {
    let server = TestServer::start(Store::Sqlite).await;
    server.connect_as(7).without_token().path("/ws/chat/1/").await.expect_close(4003).await;
    server.connect_as(7).token("nonsense").path("/ws/chat/1/").await.expect_close(4001).await;
    server.connect_as(7).path("/ws/chat/1/").await.expect_close(4004).await;
    server.connect_as(7).path("/ws/notifications/8/").await.expect_close(4005).await;
}

both_stores!(what_follows_the_upgrade_is_not_missed, the_newest_socket_is_the_one_too_many);

async fn what_follows_the_upgrade_is_not_missed(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off")]).await;
    let round = async |round: i64| {
        let (sender, listener) = (2 * round + 1, 2 * round + 2);
        let conversation_id = server.conversation(&[sender, listener]).await;
        let mut alice = server.connect_as(sender).chat(conversation_id).await;
        alice.expect_live().await;
        for index in 0..5 {
            let mut bob = server.connect_as(listener).chat(conversation_id).await;
            let told = alice.say("Sent after the upgrade").await;
            let heard = bob.next_of("chat_message").await;
            assert_eq!(heard["event_id"], told["event_id"], "round {round}, {index}");
        }
    };
    futures_util::future::join_all((0..12).map(round)).await;
}

async fn the_newest_socket_is_the_one_too_many(store: Store) {
    let settings = [("TIDINGS_CONNECTIONS_PER_USER_MAX", "2"), ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off")];
    let server = TestServer::start_with(store, &settings).await;
    let round = async |user_id: i64| {
        let mut first = server.connect_as(user_id).notifications().await;
        let mut second = server.connect_as(user_id).notifications().await;
        let mut third = server.connect_as(user_id).notifications().await;
        assert_eq!(third.is_live().await, Err(4007), "user {user_id}");
        assert_eq!((first.is_live().await, second.is_live().await), (Ok(()), Ok(())), "user {user_id}");
    };
    for batch in 0..10 {
        futures_util::future::join_all((1..=8).map(|index| round(8 * batch + index))).await;
    }
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused() {
    let server = TestServer::start(Store::Sqlite).await;
    for key in ["abc", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSBsb25nZXI=", "!!!!!!!!!!!!!!!!!!!!!!=="] {
        let request = server
            .request(Method::GET, "/ws/notifications/7/", Caller::Nobody)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", key);
        answer(request).await.refused(400, "invalid_field");
    }
}
