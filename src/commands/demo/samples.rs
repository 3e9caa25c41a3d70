//! The people, conversations and messages that a demo begins with, made as a platform makes them: through the REST
//! API, with its key and with its users' tokens. Knows nothing of the inside of the server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::Tokens;
use crate::config::{Reactions, Secret, Settings};

/// Somebody whom the demo knows.
pub struct Person {
    pub id: i64,
    pub first_name: &'static str,
    pub last_name: &'static str,
    pub username: &'static str,
}

pub const ADA: Person = Person { id: 1, first_name: "Ada", last_name: "Lovelace", username: "ada" };
pub const GRACE: Person = Person { id: 2, first_name: "Grace", last_name: "Hopper", username: "grace" };
pub const ALAN: Person = Person { id: 3, first_name: "Alan", last_name: "Turing", username: "alan" };
pub const BOT: Person = Person { id: 4, first_name: "Tidings", last_name: "Bot", username: "tidings_bot" };

/// Everybody together, the bot included.
pub const WELCOME: i64 = 1;
const ADA_AND_BOT: i64 = 2;
const GRACE_AND_BOT: i64 = 3;
pub const ADA_AND_GRACE: i64 = 4;

const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// The platform that the sample users belong to.
pub struct Platform {
    http: Client,
    base: String,
    api_key: Secret,
    tokens: Tokens,
    text_chars_max: Option<u64>,
    reactions: Reactions,
}

impl Platform {
    /// Of the settings it takes what messages and reactions may be.
    pub fn new(address: SocketAddr, settings: &Settings, tokens: Tokens) -> Result<Self> {
        // Loopback needs no proxy, whatever the environment says about other addresses.
        let http = Client::builder().no_proxy().timeout(REQUEST_TIME_MAX).build()?;
        Ok(Self {
            http,
            base: format!("http://{address}/api/v1"),
            api_key: settings.api_key[0].clone(),
            tokens,
            text_chars_max: settings.text_chars_max,
            reactions: settings.reactions.clone(),
        })
    }

    /// Makes all there is.
    pub async fn fill(&self) -> Result<()> {
        let users: Vec<Value> = [ADA, GRACE, ALAN, BOT]
            .iter()
            .map(|person| {
                json!({
                    "id": person.id,
                    "first_name": person.first_name,
                    "last_name": person.last_name,
                    "username": person.username,
                })
            })
            .collect();
        self.post("users", json!(users)).await?;
        self.private_conversations().await?;
        self.welcome().await?;
        self.post(
            "notifications",
            json!({
                "user_ids": [ADA.id, GRACE.id],
                "title": "Welcome to Tidings",
                "message": "The platform sends notifications like this one with its API key",
                "data": { "conversation_id": WELCOME },
            }),
        )
        .await?;
        Ok(())
    }

    async fn private_conversations(&self) -> Result<()> {
        for (id, person) in [(GRACE_AND_BOT, &GRACE), (ADA_AND_BOT, &ADA)] {
            self.open(id, &[person, &BOT], None).await?;
            let text = format!(
                "Hello {}! Write me anything: I read it, type a little, and answer. Edit or react to a message, or go \
                 offline, write on, and come back. Say \"help\" for what I know.",
                person.first_name
            );
            self.say(id, &BOT, &text, None).await?;
        }
        self.open(ADA_AND_GRACE, &[&ADA, &GRACE], None).await?;
        let moth = self.say(ADA_AND_GRACE, &GRACE, "There was a moth in relay 70. I taped it into the logbook.", None);
        let moth = moth.await?;
        self.react(moth, &ADA, "wow").await?;
        let bug = self.say(ADA_AND_GRACE, &ADA, "First actual case of bug being found!", Some(moth)).await?;
        self.react(bug, &GRACE, "laugh").await?;
        self.say(ADA_AND_GRACE, &GRACE, "Shall we show the compiler on Friday?", None).await?;
        Ok(())
    }

    async fn welcome(&self) -> Result<()> {
        self.open(WELCOME, &[&ADA, &GRACE, &ALAN, &BOT], Some("Welcome")).await?;
        let text = "Welcome! Ada and Grace are yours to play. I answer whatever is said here.";
        let greeting = self.say(WELCOME, &BOT, text, None).await?;
        self.react(greeting, &GRACE, "love").await?;
        let question = self.say(WELCOME, &ALAN, "Can machines think?", None).await?;
        let reply = "This one answers within seconds, which will do for now.";
        let reply = self.say(WELCOME, &GRACE, reply, Some(question)).await?;
        self.react(reply, &ALAN, "laugh").await?;
        self.react(reply, &ADA, "like").await?;
        for person in [&ALAN, &GRACE, &ADA] {
            let path = format!("conversations/{WELCOME}/read");
            self.call(Method::POST, &path, Some(person), json!({ "message_id": reply })).await?;
        }
        Ok(())
    }

    async fn open(&self, id: i64, people: &[&Person], title: Option<&str>) -> Result<()> {
        let ids: Vec<i64> = people.iter().map(|person| person.id).collect();
        let owner_id = title.map(|_| ids[0]);
        let body = json!({ "id": id, "participant_ids": ids, "title": title, "owner_id": owner_id });
        self.post("conversations", body).await.map(drop)
    }

    /// A message's id.
    async fn say(&self, conversation_id: i64, sender: &Person, text: &str, reply_to: Option<i64>) -> Result<i64> {
        let most = self.text_chars_max.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let text: String = text.chars().take(most).collect();
        let body = json!({ "message": text, "reply_to": reply_to, "sender_id": sender.id });
        let message = self.post(&format!("conversations/{conversation_id}/messages"), body).await?;
        message["id"].as_i64().context("a message has an id")
    }

    /// A reaction, where there is such a one.
    async fn react(&self, message_id: i64, person: &Person, reaction: &str) -> Result<()> {
        let reaction = match &self.reactions {
            Reactions::Any => match reaction {
                "wow" => "😮",
                "laugh" => "😂",
                "love" => "❤",
                _ => "👍",
            },
            Reactions::Named(known) if known.iter().any(|known| known.name == reaction) => reaction,
            Reactions::Named(_) => return Ok(()),
        };
        let path = format!("messages/{message_id}/reactions/{reaction}");
        self.call(Method::PUT, &path, Some(person), json!({})).await.map(drop)
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.call(Method::POST, path, None, body).await
    }

    /// A call as somebody, or as the platform.
    async fn call(&self, method: Method, path: &str, person: Option<&Person>, body: Value) -> Result<Value> {
        let token = match person {
            Some(person) => self.tokens.of(person)?,
            None => self.api_key.expose().to_owned(),
        };
        let request = self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(token).json(&body);
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path} was answered with {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}
