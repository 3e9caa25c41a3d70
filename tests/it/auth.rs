//! Who may come in: section 2 of the contract, and the close codes that belong to it.

mod keys;

use serde_json::json;

use crate::support::{Caller, Store, TestServer, both_stores, token};

both_stores!(
    each_refusal_has_its_code_and_reason,
    refusals_come_in_the_order_of_the_checks,
    a_revoked_token_is_refused_and_a_fresh_one_is_not,
    an_erased_user_stays_out_until_the_platform_knows_them_again,
    a_user_takes_the_names_of_the_last_token_that_had_them,
    names_from_the_platform_stand_against_those_of_tokens,
);

/// Claims that expired a minute ago.
fn expired(user_id: i64) -> String {
    let mut claims = token::claims(user_id);
    claims["exp"] = json!(token::now() - 60);
    token::mint(&claims, token::SECRET)
}

#[tokio::test]
async fn the_query_comes_before_the_header_and_the_header_before_the_subprotocol() {
    let server = TestServer::start(Store::Sqlite).await;
    let (good, wrong) = (token::for_user(7), token::for_user(8));
    let offer = |token: &str| format!("tidings.v1, bearer.{token}");
    let bare = || server.connect_as(7).without_token();
    let header = |token: &str| format!("Bearer {token}");

    // A token of another user would close with 4005, so each of these shows which one was taken.
    let all = bare().token(&good).header("authorization", &header(&wrong)).subprotocol(&offer(&wrong));
    all.notifications().await.expect_live().await;
    let two = bare().header("authorization", &header(&good)).subprotocol(&offer(&wrong));
    two.notifications().await.expect_live().await;
    let mut client = bare().subprotocol(&offer(&good)).notifications().await;
    assert_eq!(client.subprotocol.as_deref(), Some("tidings.v1"));
    client.expect_live().await;
    let wrong_query = bare().token(&wrong).header("authorization", &header(&good));
    assert_eq!(wrong_query.notifications().await.expect_close(4005).await, "user_mismatch");
    let wrong_header = bare().header("authorization", &header(&wrong)).subprotocol(&offer(&good));
    assert_eq!(wrong_header.notifications().await.expect_close(4005).await, "user_mismatch");
    // The first source that is there decides, good or not.
    let bad_query = bare().token("nonsense").header("authorization", &header(&good));
    assert_eq!(bad_query.notifications().await.expect_close(4001).await, "invalid_token");
}

#[tokio::test]
async fn an_empty_source_counts_as_not_there() {
    let server = TestServer::start(Store::Sqlite).await;
    let good = token::for_user(7);
    let bare = || server.connect_as(7).without_token();
    for query in ["token=", "token", "token=&x=1"] {
        let connect = bare().query(query).header("authorization", &format!("Bearer {good}"));
        connect.notifications().await.expect_live().await;
    }
    let connect = bare().query("token=").header("authorization", "Bearer ");
    let connect = connect.subprotocol(&format!("bearer., tidings.v1, bearer.{good}"));
    connect.notifications().await.expect_live().await;
    for connect in [
        bare(),
        bare().query("token="),
        bare().header("authorization", "Bearer "),
        bare().header("authorization", ""),
        bare().header("authorization", &format!("Basic {good}")),
        bare().subprotocol("tidings.v1, bearer."),
        bare().query(&format!("TOKEN={good}")),
    ] {
        assert_eq!(connect.notifications().await.expect_close(4003).await, "missing_token");
    }
}

async fn each_refusal_has_its_code_and_reason(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[7, 8]).await;
    let chat = format!("/ws/chat/{conversation_id}/");
    let refusal = async |connect: crate::support::client::Connect, path: &str, code: u16, reason: &str| {
        assert_eq!(connect.path(path).await.expect_close(code).await, reason, "{path}");
    };
    for path in [chat.as_str(), "/ws/notifications/7/", "/ws/user/7/"] {
        refusal(server.connect_as(7).without_token(), path, 4003, "missing_token").await;
        refusal(server.connect_as(7).token("a.b.c"), path, 4001, "invalid_token").await;
        refusal(server.connect_as(7).token(&expired(7)), path, 4002, "token_expired").await;
    }
    refusal(server.connect_as(9), &chat, 4004, "access_denied").await;
    refusal(server.connect_as(7), "/ws/chat/123456789/", 4004, "access_denied").await;
    refusal(server.connect_as(9), "/ws/notifications/7/", 4005, "user_mismatch").await;
    refusal(server.connect_as(9), "/ws/user/7/", 4005, "user_mismatch").await;
}

async fn refusals_come_in_the_order_of_the_checks(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_CONNECTIONS_PER_USER_MAX", "1")]).await;
    server.put_user(7, "Ada", "Lovelace").await;
    let closes = async |token: &str, path: &str, code: u16| {
        server.connect_as(7).token(token).path(path).await.expect_close(code).await;
    };
    // Invalid before expired, expired before access.
    let mut nobodys = token::claims(7);
    nobodys["exp"] = json!(token::now() - 60);
    let forged = token::mint(&nobodys, "another secret that is long enough for HS256");
    closes(&forged, "/ws/notifications/8/", 4001).await;
    closes(&expired(7), "/ws/notifications/8/", 4002).await;
    closes(&expired(7), "/ws/chat/123456789/", 4002).await;
    // Access before the number of connections.
    let mut first = server.connect_as(7).notifications().await;
    first.expect_live().await;
    closes(&token::for_user(7), "/ws/notifications/8/", 4005).await;
    closes(&token::for_user(7), "/ws/chat/123456789/", 4004).await;
    closes(&token::for_user(7), "/ws/notifications/7/", 4007).await;
    // Revoked before access; expired before revoked.
    server.delete("/api/v1/users/7/sessions", Caller::Platform).await.expect(204);
    assert_eq!(first.expect_close(4006).await, "session_revoked");
    let mut old = token::claims(7);
    old["iat"] = json!(token::now() - 10);
    let old = token::mint(&old, token::SECRET);
    closes(&old, "/ws/notifications/8/", 4006).await;
    closes(&old, "/ws/chat/123456789/", 4006).await;
    closes(&expired(7), "/ws/notifications/7/", 4002).await;
}

async fn a_revoked_token_is_refused_and_a_fresh_one_is_not(store: Store) {
    let server = TestServer::start(store).await;
    server.put_user(7, "Ada", "Lovelace").await;
    let conversation_id = server.conversation(&[7, 8]).await;
    let mut sockets = vec![
        server.connect_as(7).chat(conversation_id).await,
        server.connect_as(7).notifications().await,
        server.connect_as(7).user().await,
    ];
    for socket in &mut sockets {
        socket.expect_live().await;
    }
    let mut other = server.connect_as(8).chat(conversation_id).await;
    server.delete("/api/v1/users/7/sessions", Caller::Platform).await.expect(204);
    for socket in &mut sockets {
        assert_eq!(socket.expect_close(4006).await, "session_revoked");
    }
    other.expect_live().await;
    let issued_at = |iat: serde_json::Value| {
        let mut claims = token::claims(7);
        claims["iat"] = iat;
        token::mint(&claims, token::SECRET)
    };
    for iat in [json!(token::now() - 1), json!(null)] {
        server.connect_as(7).token(&issued_at(iat)).notifications().await.expect_close(4006).await;
    }
    let later = issued_at(json!(token::now() + 1));
    server.connect_as(7).token(&later).notifications().await.expect_live().await;
}

async fn an_erased_user_stays_out_until_the_platform_knows_them_again(store: Store) {
    let server = TestServer::start(store).await;
    server.put_user(7, "Ada", "Lovelace").await;
    let mut socket = server.connect_as(7).notifications().await;
    socket.expect_live().await;
    server.delete("/api/v1/users/7", Caller::Platform).await.expect(204);
    socket.expect_close(4006).await;
    let mut claims = token::claims(7);
    claims["iat"] = json!(token::now() + 5);
    let later = token::mint(&claims, token::SECRET);
    server.connect_as(7).token(&later).notifications().await.expect_close(4006).await;
    server.put_user(7, "Grace", "Hopper").await;
    server.connect_as(7).token(&later).notifications().await.expect_live().await;
}

async fn a_user_takes_the_names_of_the_last_token_that_had_them(store: Store) {
    let server = TestServer::start(store).await;
    let named = |first: &str, last: &str, username: &str| {
        let mut claims = token::claims(7);
        (claims["first_name"], claims["last_name"], claims["username"]) = (json!(first), json!(last), json!(username));
        token::mint(&claims, token::SECRET)
    };
    let names = async |token: &str| {
        let mut client = server.connect_as(7).token(token).subprotocol("tidings.v1").notifications().await;
        let user = client.expect("connected").await["user"].clone();
        assert_eq!(user["id"], 7);
        (user["first_name"].clone(), user["last_name"].clone(), user["username"].clone())
    };
    assert_eq!(names(&token::for_user(7)).await, (json!(""), json!(""), json!(null)), "nobody gave a name");
    assert_eq!(names(&named("Ada", "Lovelace", "ada")).await, (json!("Ada"), json!("Lovelace"), json!("ada")));
    assert_eq!(names(&token::for_user(7)).await, (json!("Ada"), json!("Lovelace"), json!("ada")));
    assert_eq!(names(&named("Augusta", "King", "aak")).await, (json!("Augusta"), json!("King"), json!("aak")));
}

async fn names_from_the_platform_stand_against_those_of_tokens(store: Store) {
    let server = TestServer::start(store).await;
    server.put_user(7, "Ada", "Lovelace").await;
    let mut claims = token::claims(7);
    claims["first_name"] = json!("Mallory");
    let token = token::mint(&claims, token::SECRET);
    let mut client = server.connect_as(7).token(&token).subprotocol("tidings.v1").notifications().await;
    let user = client.expect("connected").await["user"].clone();
    assert_eq!((&user["first_name"], &user["last_name"]), (&json!("Ada"), &json!("Lovelace")));
}

#[tokio::test]
async fn tokens_never_appear_in_the_log() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_LOG", "trace")]).await;
    let mut client = server.connect_as(7).token(&token::for_user(7)).notifications().await;
    client.expect_live().await;
    let (renewed, expired) = (token::for_user(7), expired(7));
    client.command(json!({ "type": "auth", "token": renewed })).await;
    server.connect_as(7).token(&expired).notifications().await.expect_close(4002).await;
    server.connect_as(7).token("not-even-a-token").notifications().await.expect_close(4001).await;
    client.close().await;
    server.expect_output("connection ended by the peer").await;
    let output = server.output();
    for secret in [renewed.rsplit_once('.').unwrap().1, expired.rsplit_once('.').unwrap().1, "not-even-a-token"] {
        assert!(!output.contains(secret), "{output}");
    }
}
