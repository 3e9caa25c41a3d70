//! A client that writes bytes as a test says, right or wrong, and reads frames by their opcode. For what a proper
//! WebSocket library refuses to do.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{DEADLINE, token};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// The bit of the first byte that ends a message.
pub const FIN: u8 = 0x80;

/// An upgraded connection.
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects a user to a path, which may have a query of its own.
    pub async fn connect(address: SocketAddr, user_id: i64, path: &str) -> Self {
        Self::connect_with_buffer(address, user_id, path, None).await
    }

    /// The same with a receive buffer of so many bytes.
    pub async fn connect_with_buffer(address: SocketAddr, user_id: i64, path: &str, bytes: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = bytes {
            socket.set_recv_buffer_size(bytes).expect("a buffer size");
        }
        let mut stream = socket.connect(address).await.expect("the server listens");
        let separator = if path.contains('?') { '&' } else { '?' };
        let request = format!(
            "GET {path}{separator}token={} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token::for_user(user_id)
        );
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(DEADLINE, stream.read_u8()).await.expect("an answer in time");
            head.push(byte.expect("a whole answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self { stream }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the bytes are sent");
    }

    /// Sends one masked frame with this first byte.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    /// The next frame: its opcode and payload; nothing at the end of the connection.
    pub async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(DEADLINE, self.read_frame()).await.expect("a frame in time")
    }

    async fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = match head[1] {
            126 => self.stream.read_u16().await.ok()? as usize,
            127 => self.stream.read_u64().await.ok()? as usize,
            short => short as usize,
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[0] & 0x0f, payload))
    }

    /// The next text frame that is not about presence.
    pub async fn expect_json(&mut self) -> Value {
        loop {
            match self.read().await {
                Some((TEXT, payload)) => {
                    let value: Value = serde_json::from_slice(&payload).expect("a JSON frame");
                    if value["type"] != "user_status" {
                        return value;
                    }
                }
                Some((PING, _)) => {}
                other => panic!("expected a text frame, got {other:?}"),
            }
        }
    }

    /// The server closes with this code, after whatever else it sends, and then ends the connection; gives the reason.
    pub async fn expect_close(&mut self, code: u16) -> String {
        loop {
            match self.read().await {
                Some((CLOSE, payload)) => {
                    assert_eq!(payload.get(..2), Some(&code.to_be_bytes()[..]), "{payload:?}");
                    return String::from_utf8(payload[2..].to_vec()).expect("a reason in UTF-8");
                }
                Some(_) => {}
                None => panic!("the connection ended without a close frame; wanted {code}"),
            }
        }
    }
}

/// One masked frame, whose mask is all zeros so that the payload can be read in a trace.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
