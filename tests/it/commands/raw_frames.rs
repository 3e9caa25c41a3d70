//! Frames byte by byte: fragments, control frames, and what breaks RFC 6455 or the size.

use serde_json::{Value, json};

use crate::support::raw::{BINARY, CLOSE, FIN, PING, PONG, RawClient, TEXT, frame};
use crate::support::{Store, TestServer};

const FRAME_BYTES_MAX: usize = 64 * 1024;

async fn connect(server: &TestServer) -> RawClient {
    RawClient::connect(server.address(), 7, "/ws/notifications/7/").await
}

async fn expect_pong(client: &mut RawClient, client_id: &str) {
    let answer = client.expect_json().await;
    assert_eq!((&answer["type"], &answer["client_id"]), (&json!("pong"), &json!(client_id)), "{answer}");
}

/// A ping of exactly so many bytes.
fn ping_of(bytes: usize) -> String {
    let bare = r#"{"type":"ping","client_id":"p","pad":""}"#;
    format!(r#"{{"type":"ping","client_id":"p","pad":"{}"}}"#, "x".repeat(bytes - bare.len()))
}

#[tokio::test]
async fn a_frame_at_the_bound_is_taken_and_one_past_it_closes() {
    let server = TestServer::start(Store::Sqlite).await;
    let mut client = connect(&server).await;
    client.frame(FIN | TEXT, ping_of(FRAME_BYTES_MAX).as_bytes()).await;
    expect_pong(&mut client, "p").await;
    client.frame(FIN | TEXT, ping_of(FRAME_BYTES_MAX + 1).as_bytes()).await;
    assert_eq!(client.expect_close(1009).await, "frame_too_large");

    // It is not read: the head of the frame is enough.
    for claimed in [FRAME_BYTES_MAX as u64 + 1, 1 << 40, (1 << 63) - 1] {
        let mut client = connect(&server).await;
        client.write(&[FIN | TEXT, 0x80 | 127]).await;
        client.write(&claimed.to_be_bytes()).await;
        client.write(&[0; 4]).await;
        client.expect_close(1009).await;
    }
    // Nor do fragments help.
    let mut client = connect(&server).await;
    let (first, second) = (vec![b'x'; 40_000], vec![b'x'; 40_000]);
    client.frame(TEXT, &first).await;
    client.frame(FIN, &second).await;
    client.expect_close(1009).await;
    let mut client = connect(&server).await;
    client.frame(FIN | BINARY, &vec![0; FRAME_BYTES_MAX + 1]).await;
    client.expect_close(1009).await;
}

#[tokio::test]
async fn another_bound_may_be_set_and_none_is_a_bound_too() {
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_FRAME_BYTES_MAX", "1KiB")]).await;
    let mut client = connect(&server).await;
    client.frame(FIN | TEXT, ping_of(1024).as_bytes()).await;
    expect_pong(&mut client, "p").await;
    client.frame(FIN | TEXT, ping_of(1025).as_bytes()).await;
    client.expect_close(1009).await;
    let server = TestServer::start_with(Store::Sqlite, &[("TIDINGS_FRAME_BYTES_MAX", "off")]).await;
    let mut client = connect(&server).await;
    client.frame(FIN | TEXT, ping_of(1_000_000).as_bytes()).await;
    expect_pong(&mut client, "p").await;
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_pings_between() {
    let server = TestServer::start(Store::Sqlite).await;
    let mut client = connect(&server).await;
    let text = r#"{"type":"ping","client_id":"é😀"}"#.as_bytes();
    client.frame(TEXT, &text[..5]).await;
    client.frame(FIN | PING, b"between").await;
    for byte in &text[5..text.len() - 1] {
        client.frame(0, &[*byte]).await;
    }
    client.frame(FIN, &text[text.len() - 1..]).await;
    assert_eq!(client.read().await, Some((PONG, b"between".to_vec())));
    expect_pong(&mut client, "é😀").await;
    // Empty fragments, and a frame whose bytes come one at a time.
    client.frame(TEXT, b"").await;
    client.frame(0, br#"{"type":"ping","client_id":"x"}"#).await;
    client.frame(FIN, b"").await;
    expect_pong(&mut client, "x").await;
    for byte in frame(FIN | TEXT, br#"{"type":"ping","client_id":"slow"}"#) {
        client.write(&[byte]).await;
    }
    expect_pong(&mut client, "slow").await;
    // Several in one write are several.
    let mut together = frame(FIN | TEXT, br#"{"type":"ping","client_id":"1"}"#);
    together.extend(frame(FIN | PONG, b"unasked"));
    together.extend(frame(FIN | TEXT, br#"{"type":"ping","client_id":"2"}"#));
    client.write(&together).await;
    expect_pong(&mut client, "1").await;
    expect_pong(&mut client, "2").await;
}

#[tokio::test]
async fn pings_are_answered_with_what_they_carry() {
    let server = TestServer::start(Store::Sqlite).await;
    let mut client = connect(&server).await;
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        client.frame(FIN | PING, payload).await;
        assert_eq!(client.read().await, Some((PONG, payload.to_vec())));
    }
}

#[tokio::test]
async fn what_is_not_utf8_closes_with_1007() {
    let server = TestServer::start(Store::Sqlite).await;
    for bytes in
        [&b"\xff"[..], b"{\"type\":\"\xc3\x28\"}", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x82"]
    {
        let mut client = connect(&server).await;
        client.frame(FIN | TEXT, bytes).await;
        client.expect_close(1007).await;
    }
    // Whole in both fragments together, broken in the one alone.
    let mut client = connect(&server).await;
    client.frame(TEXT, b"{\"type\":\"ping\",\"client_id\":\"\xc3").await;
    client.frame(FIN, b"\xa9\"}").await;
    expect_pong(&mut client, "é").await;
    client.frame(TEXT, b"\xc3").await;
    client.frame(FIN, b"\x28").await;
    client.expect_close(1007).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_with_1002() {
    let server = TestServer::start(Store::Sqlite).await;
    let text = br#"{"type":"ping"}"#;
    let mut unmasked = vec![FIN | TEXT, text.len() as u8];
    unmasked.extend(text);
    for (what, bytes) in [
        ("not masked", unmasked),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, text)),
        ("all reserved bits", frame(FIN | 0x70 | TEXT, text)),
        ("a reserved data opcode", frame(FIN | 3, text)),
        ("a reserved control opcode", frame(FIN | 0xb, b"")),
        ("a continuation of nothing", frame(FIN, text)),
        ("a new message inside another", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat()),
        ("a ping in fragments", frame(PING, b"x")),
        ("a ping that is too long", frame(FIN | PING, &[0; 126])),
        ("a close of one byte", frame(FIN | CLOSE, &[3])),
        ("a close with a reserved code", frame(FIN | CLOSE, &1005_u16.to_be_bytes())),
        ("a close with code 0", frame(FIN | CLOSE, &0_u16.to_be_bytes())),
    ] {
        eprintln!("{what}");
        let mut client = connect(&server).await;
        client.write(&bytes).await;
        client.expect_close(1002).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_and_ends_the_connection() {
    let server = TestServer::start(Store::Sqlite).await;
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut client = connect(&server).await;
        client.frame(FIN | CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat()).await;
        client.expect_close(code).await;
        assert_eq!(client.read().await, None, "the server ends the connection after its close frame");
    }
    let mut client = connect(&server).await;
    client.frame(FIN | CLOSE, b"").await;
    assert_eq!(client.read().await, Some((CLOSE, vec![])));
    assert_eq!(client.read().await, None);
}

#[tokio::test]
async fn what_was_answered_before_a_broken_frame_still_arrives() {
    let server = TestServer::start(Store::Sqlite).await;
    let mut client = connect(&server).await;
    let mut bytes = frame(FIN | TEXT, br#"{"type":"ping","client_id":"first"}"#);
    bytes.extend(frame(FIN | TEXT, br#"{"type":"nope","client_id":"second"}"#));
    bytes.extend(frame(FIN | TEXT, b"\xff"));
    client.write(&bytes).await;
    let answers: [Value; 2] = [client.expect_json().await, client.expect_json().await];
    assert_eq!((&answers[0]["client_id"], &answers[1]["client_id"]), (&json!("first"), &json!("second")));
    client.expect_close(1007).await;
}
