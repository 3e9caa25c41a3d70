//! The WebSocket itself, behind one small type: frames in and out within bounds, and a proper end. The
//! only place that knows which library it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::hub::{Hub, Outbox};
use crate::protocol::Close;

/// How long the peer may take to take in the end of a connection.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// The same for a peer that is closed for reading too slowly, so that it still learns why.
const CLOSING_SLOW_MAX: Duration = Duration::from_secs(30);
/// Most bytes that are read and thrown away so that the peer gets to see the close frame.
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is read at once. Larger frames grow the buffer for as long as they last.
const READ_BUFFER: usize = 1024;
/// What is gathered before it is written to the system.
const WRITE_BUFFER: usize = 4 * 1024;
/// The largest frame when no limit is set: even then something must be the limit.
const FRAME_CEILING: u64 = 16 * 1024 * 1024;

/// A connection after its upgrade.
pub struct WebSocket(WebSocketStream<Transport>);

/// Whose signs of life are taken note of, and where.
pub struct Life {
    pub outbox: Arc<Outbox>,
    pub hub: Arc<Hub>,
}

/// Bytes in and out. All that comes in is a sign of life, in the middle of a frame as well.
struct Transport {
    stream: TokioIo<Upgraded>,
    life: Option<Life>,
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(life) = &self.life
            && buffer.filled().len() > before
        {
            life.outbox.hear(life.hub.heartbeat.tick());
        }
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What the peer sent.
#[derive(Debug)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping: a sign of life.
    Alive,
    /// The answer to a ping. All that the peer sent before it had read up to that ping has been received.
    Pong,
    /// The peer closes, or has gone.
    Closed,
    /// The peer broke the protocol; the connection is to be closed with this.
    Broken(Close),
}

impl WebSocket {
    pub async fn new(upgraded: Upgraded, frame_bytes_max: Option<u64>, life: Option<Life>) -> Self {
        let most = usize::try_from(frame_bytes_max.unwrap_or(FRAME_CEILING)).unwrap_or(usize::MAX);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let transport = Transport { stream: TokioIo::new(upgraded), life };
        Self(WebSocketStream::from_raw_socket(transport, Role::Server, Some(config)).await)
    }

    /// The next thing that the peer sends. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Incoming {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Pong(_))) => Incoming::Pong,
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Incoming::Alive,
            Some(Ok(Message::Close(_))) | None => Incoming::Closed,
            Some(Err(error)) => match broken(&error) {
                Some(close) => Incoming::Broken(close),
                None => Incoming::Closed,
            },
        }
    }

    /// What the peer has sent already, without waiting for it.
    pub fn received(&mut self) -> Option<Incoming> {
        self.receive().now_or_never()
    }

    /// Adds a text frame to what is to be written; writes when enough has gathered.
    pub async fn feed(&mut self, frame: Bytes) -> Result<(), Gone> {
        // Everything the server encodes is UTF-8.
        let text = Utf8Bytes::try_from(frame).map_err(|_| Gone)?;
        self.0.feed(Message::Text(text)).await.map_err(|_| Gone)
    }

    pub async fn flush(&mut self) -> Result<(), Gone> {
        self.0.flush().await.map_err(|_| Gone)
    }

    pub async fn ping(&mut self) -> Result<(), Gone> {
        self.0.send(Message::Ping(Bytes::new())).await.map_err(|_| Gone)
    }

    /// Sends the close frame and waits, for a bounded time, until the peer has taken it in: what it still
    /// sends is read and dropped, for unread bytes would turn the end into a reset that hides the code.
    pub async fn close(mut self, close: Close) {
        let frame = CloseFrame { code: CloseCode::from(close.code()), reason: close.reason().into() };
        let end = async {
            if self.0.send(Message::Close(Some(frame))).await.is_err() {
                let _ = self.0.flush().await;
            }
            while let Some(Ok(_)) = self.0.next().await {}
            let stream = self.0.get_mut();
            let _ = stream.shutdown().await;
            let mut scrap = [0_u8; 4096];
            let mut left = LINGER_BYTES_MAX;
            while let Ok(count @ 1..) = stream.read(&mut scrap).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        let patience = if close == Close::SlowConsumer { CLOSING_SLOW_MAX } else { CLOSING_MAX };
        let _ = tokio::time::timeout(patience, end).await;
    }

    /// Answers the peer's close frame.
    pub async fn finish(mut self) {
        let end = async {
            let _ = self.0.flush().await;
            while let Some(Ok(_)) = self.0.next().await {}
            let _ = self.0.get_mut().shutdown().await;
        };
        let _ = tokio::time::timeout(CLOSING_MAX, end).await;
    }
}

/// The peer has gone.
#[derive(Debug)]
pub struct Gone;

/// How a peer that broke the protocol is to be told; nothing where there is nobody left to tell.
fn broken(error: &Error) -> Option<Close> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(Close::FrameTooLarge),
        Error::Utf8(_) => Some(Close::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) | Error::Capacity(_) => Some(Close::BrokenFrame),
        _ => None,
    }
}
