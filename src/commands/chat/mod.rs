//! `tidings chat`: a chat in the terminal, for debugging by hand. Shows what comes in, sends what is typed.

mod line;
mod render;

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use jiff::tz::TimeZone;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use self::line::{HELP, Line};
use super::client::{Endpoint, Socket};
use super::close_codes::explain;
use super::{http_answer, printable};
use crate::config::ChatTarget;

/// How long the answers to what was sent are waited for, once the input has ended.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a server has to answer a close frame.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Chats until the input, the user or the server ends it; whether it ended in good order.
pub async fn run(
    target: &ChatTarget,
    input: impl AsyncBufRead + Unpin,
    quit: impl Future<Output = ()>,
    out: &mut impl Write,
) -> Result<bool> {
    let endpoint = Endpoint::parse(target.url.expose(), Some(&target.token))
        .map_err(|problem| anyhow::anyhow!("--url: {problem}; give it like ws://127.0.0.1:8000/ws/chat/1/"))?;
    let (socket, _) = endpoint.connect(None).await.map_err(|error| {
        let (found, cure) = http_answer::explain(&error, None);
        anyhow::anyhow!("{} is not connected: {found}\nwhat to do: {cure}", endpoint.shown())
    })?;
    writeln!(out, "connected to {}; {HELP}", endpoint.shown())?;
    Chat::new(socket, out).converse(input, quit).await
}

struct Chat<'a, W> {
    socket: Socket,
    out: &'a mut W,
    zone: TimeZone,
    /// The message that `/read` is about when it names none.
    last_message_id: Option<i64>,
    /// What was sent and has not been answered.
    awaited: HashSet<String>,
}

impl<'a, W: Write> Chat<'a, W> {
    fn new(socket: Socket, out: &'a mut W) -> Self {
        Self { socket, out, zone: TimeZone::system(), last_message_id: None, awaited: HashSet::new() }
    }

    async fn converse(mut self, input: impl AsyncBufRead + Unpin, quit: impl Future<Output = ()>) -> Result<bool> {
        let mut lines = input.lines();
        let mut quit = std::pin::pin!(quit);
        let mut input_end: Option<Instant> = None;
        loop {
            if input_end.is_some() && self.awaited.is_empty() {
                return self.leave().await;
            }
            tokio::select! {
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Close(frame))) => return self.tell_close(frame),
                    Some(Ok(frame)) => self.show(&frame)?,
                    Some(Err(error)) => return self.tell_broken(&error.to_string()),
                    None => return self.tell_close(None),
                },
                line = lines.next_line(), if input_end.is_none() => match line? {
                    Some(line) => match Line::read(&line, self.last_message_id) {
                        Line::Quit => return self.leave().await,
                        Line::Nothing => {}
                        Line::Complaint(text) => writeln!(self.out, "* {text}")?,
                        Line::Send(frame) => {
                            if let Err(error) = self.send(frame).await {
                                return self.tell_broken(&error.to_string());
                            }
                        }
                    },
                    None => input_end = Some(Instant::now()),
                },
                () = &mut quit => return self.leave().await,
                () = sleep_until(input_end.unwrap_or_else(Instant::now) + ANSWER_TIME_MAX), if input_end.is_some() => {
                    return self.leave().await;
                }
            }
        }
    }

    async fn send(&mut self, frame: String) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        if let Some(client_id) = client_id(&frame) {
            self.awaited.insert(client_id);
        }
        self.socket.send(frame.into()).await
    }

    fn show(&mut self, frame: &Message) -> Result<()> {
        let Message::Text(text) = frame else { return Ok(()) };
        if let Some(client_id) = client_id(text) {
            self.awaited.remove(&client_id);
        }
        let line = match serde_json::from_str::<Value>(text) {
            Ok(event) => {
                if event["type"] == "chat_message" {
                    self.last_message_id = event["message"]["id"].as_i64().or(self.last_message_id);
                }
                render::event(&event, &self.zone)
            }
            Err(_) => printable(text),
        };
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Closes in good order, showing what still comes in.
    async fn leave(mut self) -> Result<bool> {
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let deadline = Instant::now() + CLOSE_TIME_MAX;
        if self.socket.close(Some(goodbye)).await.is_ok() {
            while let Ok(Some(Ok(frame))) = timeout_at(deadline, self.socket.next()).await {
                if let Message::Close(frame) = frame {
                    return self.tell_close(frame);
                }
                self.show(&frame)?;
            }
        }
        writeln!(self.out, "* closed; the server did not answer the close")?;
        Ok(true)
    }

    fn tell_close(self, frame: Option<CloseFrame>) -> Result<bool> {
        let code = frame.as_ref().map_or(1005, |frame| u16::from(frame.code));
        let reason = frame.map(|frame| printable(&frame.reason)).unwrap_or_default();
        let (meaning, cure) = explain(code);
        writeln!(self.out, "* closed: {code} {reason}\n* {meaning}")?;
        if code != 1000 {
            writeln!(self.out, "* what to do: {cure}")?;
        }
        Ok(code == 1000)
    }

    fn tell_broken(self, error: &str) -> Result<bool> {
        let (_, cure) = explain(1006);
        writeln!(self.out, "* the connection broke: {}\n* what to do: {cure}", printable(error))?;
        Ok(false)
    }
}

fn client_id(frame: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(frame).ok()?;
    frame["client_id"].as_str().map(String::from)
}

#[cfg(test)]
mod tests;
