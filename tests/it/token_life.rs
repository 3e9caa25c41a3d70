//! A socket does not outlive its token: expiry, renewal in place, the warning before (section 2).

use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::{Caller, Store, TestServer, both_stores, token};

both_stores!(
    a_socket_is_closed_when_its_token_expires,
    a_renewed_token_takes_the_place_of_the_old_one,
    those_who_opted_in_are_warned_and_again_after_each_renewal,
    a_bad_renewal_closes_and_one_without_a_token_does_not,
);

/// A token that is good for so many seconds.
fn good_for(user_id: i64, seconds: i64) -> String {
    let mut claims = token::claims(user_id);
    claims["exp"] = json!(token::now() + seconds);
    token::mint(&claims, token::SECRET)
}

fn auth(token: &str) -> Value {
    json!({ "type": "auth", "token": token, "client_id": "a" })
}

async fn expect_auth_ok(client: &mut TestClient) -> Value {
    let answer = client.expect("auth_ok").await;
    assert_eq!(answer["client_id"], "a");
    answer
}

async fn a_socket_is_closed_when_its_token_expires(store: Store) {
    let mut server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let expires = token::now() + 2;
    let short = good_for(1, 2);
    let mut sockets = [
        server.connect_as(1).token(&short).chat(conversation_id).await,
        server.connect_as(1).token(&short).notifications().await,
        server.connect_as(1).token(&short).user().await,
        server.connect_as(1).token(&short).since(0).chat(conversation_id).await,
    ];
    for socket in &mut sockets {
        assert_eq!(socket.expect_close(4002).await, "token_expired");
        assert!(token::now() >= expires, "closed too early");
    }
    assert!(token::now() <= expires + 5, "closed too late");
    server.stop().await;
    server.set("TIDINGS_JWT_LEEWAY", "3s");
    server.start_again().await;
    let expires = token::now() - 1;
    let mut socket = server.connect_as(1).token(&good_for(1, -1)).notifications().await;
    socket.expect_live().await;
    socket.expect_close(4002).await;
    assert!(token::now() >= expires + 3, "closed before the leeway had passed");
}

async fn a_renewed_token_takes_the_place_of_the_old_one(store: Store) {
    let server = TestServer::start(store).await;
    let short = good_for(1, 2);
    let mut left_alone = server.connect_as(1).token(&short).notifications().await;
    let mut renewed = server.connect_as(1).token(&short).notifications().await;
    let mut shortened = server.connect_as(1).notifications().await;
    renewed.send(auth(&good_for(1, 3600))).await;
    let expires_at = expect_auth_ok(&mut renewed).await["expires_at"].clone();
    let expires_at: jiff::Timestamp = expires_at.as_str().expect("a time").parse().expect("RFC 3339");
    assert!((3590..=3601).contains(&(expires_at.as_second() - token::now())), "{expires_at}");
    shortened.send(auth(&short)).await;
    expect_auth_ok(&mut shortened).await;
    left_alone.expect_close(4002).await;
    renewed.expect_live().await;
    shortened.expect_close(4002).await;
}

async fn those_who_opted_in_are_warned_and_again_after_each_renewal(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let expires_in = |frame: &Value| {
        let at: jiff::Timestamp = frame["expires_at"].as_str().expect("a time").parse().expect("RFC 3339");
        at.as_second() - token::now()
    };
    for connect in [
        server.connect_as(1).token(&good_for(1, 40)).since(0),
        server.connect_as(1).token(&good_for(1, 40)).subprotocol("tidings.v1"),
    ] {
        let mut client = connect.chat(conversation_id).await;
        client.ignore("connected");
        client.ignore("resumed");
        let warning = client.expect("token_expiring").await;
        assert!((30..=40).contains(&expires_in(&warning)), "{warning}");
        client.send(auth(&good_for(1, 50))).await;
        expect_auth_ok(&mut client).await;
        let warning = client.expect("token_expiring").await;
        assert!((41..=50).contains(&expires_in(&warning)), "{warning}");
        client.send(auth(&good_for(1, 3600))).await;
        expect_auth_ok(&mut client).await;
        client.expect_nothing().await;
    }
    // The warning comes when there are 60 seconds left.
    let mut later = server.connect_as(1).token(&good_for(1, 62)).since(0).chat(conversation_id).await;
    later.ignore("connected");
    later.ignore("resumed");
    let warning = later.expect("token_expiring").await;
    assert!((55..=60).contains(&expires_in(&warning)), "{warning}");
    let mut of_the_guide = server.connect_as(1).token(&good_for(1, 40)).chat(conversation_id).await;
    of_the_guide.expect_nothing().await;
}

async fn a_bad_renewal_closes_and_one_without_a_token_does_not(store: Store) {
    let server = TestServer::start(store).await;
    server.put_user(1, "Ada", "Lovelace").await;
    let mut client = server.connect_as(1).notifications().await;
    for token in [json!(null), json!(""), json!(5), json!([]), json!({}), json!("a\u{0}b")] {
        let refused = client.command(json!({ "type": "auth", "token": token })).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("invalid_field"), &json!("token")), "{token}");
    }
    assert_eq!(client.command(json!({ "type": "auth" })).await["code"], "invalid_field");
    client.expect_nothing().await;
    for (bad, code, reason) in [
        ("nonsense".to_owned(), 4001, "invalid_token"),
        (token::mint(&token::claims(1), "another secret, long enough for HS256 to be content"), 4001, "invalid_token"),
        (good_for(1, -5), 4002, "token_expired"),
        (token::for_user(2), 4005, "user_mismatch"),
    ] {
        let mut client = server.connect_as(1).user().await;
        // What was asked before is still answered.
        client.send(json!({ "type": "ping", "client_id": "before" })).await;
        client.send(auth(&bad)).await;
        let frames = client.collect_until("pong").await;
        assert_eq!(frames.last().unwrap()["client_id"], "before");
        assert_eq!(client.expect_close(code).await, reason);
    }
    server.delete("/api/v1/users/1/sessions", Caller::Platform).await.expect(204);
    client.expect_close(4006).await;
    let mut claims = token::claims(1);
    claims["iat"] = json!(token::now() + 5);
    let fresh = token::mint(&claims, token::SECRET);
    let mut client = server.connect_as(1).token(&fresh).notifications().await;
    client.expect_live().await;
    claims["iat"] = json!(token::now() - 100);
    client.send(auth(&token::mint(&claims, token::SECRET))).await;
    assert_eq!(client.expect_close(4006).await, "session_revoked");
}
