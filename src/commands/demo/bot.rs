//! The demo's bot: an ordinary client on `/ws/user/`, so that it exercises the wire as everybody does. It remembers how
//! far it has read, and resumes from there when its socket drops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::Tokens;
use super::answers::{Answer, answer_to, answer_to_edit};
use super::samples::BOT;
use crate::commands::client::{Endpoint, Socket};
use crate::config::Secret;

/// How long the bot seems to think.
const THINKING_MS: std::ops::Range<u64> = 700..1_500;
/// How long after a lost connection the next is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a server may take to greet.
const GREETING_TIME_MAX: Duration = Duration::from_secs(10);
/// In how many conversations the bot owes an answer at most; it keeps silent in others.
const ANSWERS_MAX: usize = 100;

/// The bot, with what it remembers from one connection to the next.
pub struct Bot {
    url: String,
    tokens: Tokens,
    /// Up to which event each conversation is known. None before the first connection.
    cursors: Option<BTreeMap<i64, i64>>,
    /// The answer that each conversation waits for. What is said meanwhile is answered in one.
    owed: BTreeMap<i64, Owed>,
}

struct Owed {
    due: Instant,
    message_id: i64,
    answer: Answer,
    /// Answers to edits quote the message.
    is_reply: bool,
    client_id: String,
}

impl Bot {
    pub fn new(address: SocketAddr, tokens: Tokens) -> Self {
        Self { url: format!("ws://{address}/ws/user/{}/", BOT.id), tokens, cursors: None, owed: BTreeMap::new() }
    }

    /// A socket that is greeted and resumes from what is known; the first begins with what happens from now on.
    pub async fn connect(&mut self) -> Result<Socket> {
        let token = Secret::new(self.tokens.of(&BOT)?);
        let endpoint = Endpoint::parse(&self.url, Some(&token)).map_err(anyhow::Error::msg)?;
        let (mut socket, _) = endpoint.connect(None).await?;
        let greeting = timeout(GREETING_TIME_MAX, socket.next()).await?.context("no greeting came")??;
        let greeting: Value = serde_json::from_str(greeting.to_text()?)?;
        let heads: BTreeMap<i64, i64> =
            serde_json::from_value(greeting["cursors"].clone()).context("the greeting has no cursors")?;
        let cursors = match self.cursors.take() {
            None => heads,
            Some(mut known) => {
                // A conversation that began while there was no connection is read from its beginning.
                for conversation_id in heads.into_keys() {
                    known.entry(conversation_id).or_insert(0);
                }
                known
            }
        };
        send(&mut socket, json!({ "type": "resume", "cursors": cursors })).await?;
        self.cursors = Some(cursors);
        Ok(socket)
    }

    /// Answers for ever, on this socket and on those after it.
    pub async fn run(mut self, mut socket: Socket) -> Result<()> {
        loop {
            if let Err(error) = self.listen(&mut socket).await {
                tracing::debug!(%error, "the bot has lost its connection");
            }
            drop(socket);
            socket = loop {
                sleep(RETRY_PAUSE).await;
                match self.connect().await {
                    Ok(socket) => break socket,
                    Err(error) => tracing::debug!(%error, "the bot could not connect"),
                }
            };
        }
    }

    async fn listen(&mut self, socket: &mut Socket) -> Result<()> {
        loop {
            let due = self.owed.values().map(|owed| owed.due).min();
            tokio::select! {
                message = socket.next() => match message.context("the connection ended")?? {
                    Message::Text(text) => self.hear(socket, &serde_json::from_str(&text)?).await?,
                    Message::Close(frame) => bail!("closed with {:?}", frame.map(|frame| frame.code)),
                    _ => {}
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.answer(socket).await?,
            }
        }
    }

    /// Reads what others write or change, and shows that an answer is coming.
    async fn hear(&mut self, socket: &mut Socket, frame: &Value) -> Result<()> {
        let Some(conversation_id) = frame["conversation_id"].as_i64() else { return Ok(()) };
        if let (Some(cursors), Some(event_id)) = (&mut self.cursors, frame["event_id"].as_i64()) {
            cursors.insert(conversation_id, event_id);
        }
        let is_edit = match frame["type"].as_str() {
            Some("chat_message") => false,
            Some("message_edited") => true,
            _ => return Ok(()),
        };
        let message = &frame["message"];
        let (Some(message_id), Some(text)) = (message["id"].as_i64(), message["content"].as_str()) else {
            bail!("a message without id or content");
        };
        let is_own = message["sender"]["id"] == BOT.id;
        if is_own || message["is_deleted"] == true || self.owed.len() >= ANSWERS_MAX {
            return Ok(());
        }
        let first_name = message["sender"]["first_name"].as_str().filter(|name| !name.is_empty()).unwrap_or("there");
        let answer = if is_edit { answer_to_edit(text) } else { answer_to(text, first_name) };
        // Named after its cause: a cause that a resume shows again is not answered again.
        let client_id = match (is_edit, frame["event_id"].as_i64()) {
            (true, Some(event_id)) => format!("edit-{event_id}"),
            _ => format!("message-{message_id}"),
        };
        let owed = self.owed.get(&conversation_id).map(|owed| owed.due);
        let due = owed.unwrap_or_else(|| Instant::now() + Duration::from_millis(fastrand::u64(THINKING_MS)));
        self.owed.insert(conversation_id, Owed { due, message_id, answer, is_reply: is_edit, client_id });
        if owed.is_some() {
            // Busy with an answer already, which will be to this one. However much is said, the bot keeps its rate.
            return Ok(());
        }
        send(socket, read(conversation_id, message_id)).await?;
        send(socket, json!({ "type": "typing_indicator", "conversation_id": conversation_id, "is_typing": true })).await
    }

    /// Gives the answers that are due.
    async fn answer(&mut self, socket: &mut Socket) -> Result<()> {
        let now = Instant::now();
        let due: Vec<i64> = self.owed.iter().filter(|(_, owed)| owed.due <= now).map(|(id, _)| *id).collect();
        for conversation_id in due {
            let Some(owed) = self.owed.get(&conversation_id) else { continue };
            send(socket, read(conversation_id, owed.message_id)).await?;
            if let Some(reaction) = owed.answer.reaction {
                send(
                    socket,
                    json!({
                        "type": "add_reaction",
                        "conversation_id": conversation_id,
                        "message_id": owed.message_id,
                        "reaction": reaction,
                    }),
                )
                .await?;
            }
            send(
                socket,
                json!({
                    "type": "chat_message",
                    "conversation_id": conversation_id,
                    "message": owed.answer.text,
                    "reply_to": owed.is_reply.then_some(owed.message_id),
                    "client_id": owed.client_id,
                }),
            )
            .await?;
            // Only once it is on its way: a socket that breaks before leaves it owed.
            self.owed.remove(&conversation_id);
        }
        Ok(())
    }
}

fn read(conversation_id: i64, message_id: i64) -> Value {
    json!({ "type": "mark_read", "conversation_id": conversation_id, "message_id": message_id })
}

async fn send(socket: &mut Socket, frame: Value) -> Result<()> {
    Ok(socket.send(Message::text(frame.to_string())).await?)
}
