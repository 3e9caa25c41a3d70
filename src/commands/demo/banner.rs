//! What the demo prints: where the page is, tokens, and lines to copy, each whole and self-contained.

use std::fmt;
use std::net::SocketAddr;

use super::samples::{ADA, ADA_AND_GRACE, GRACE, WELCOME};
use crate::config::Secret;

/// All that a newcomer needs, as text.
pub struct Banner<'a> {
    pub address: SocketAddr,
    pub api_key: &'a Secret,
    pub ada: &'a str,
    pub grace: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, api_key, ada, grace } = self;
        let api_key = api_key.expose();
        let program = program();
        let (ada_id, grace_id) = (ADA.id, GRACE.id);
        write!(
            f,
            "\
Tidings demo. Everything is in a temporary folder, which goes when you press ctrl-c.

Chat in the browser, as Ada and Grace side by side:
  http://{address}/

Tokens, good for a day
  Ada Lovelace, user {ada_id}:
    {ada}
  Grace Hopper, user {grace_id}:
    {grace}
  The platform's API key:
    {api_key}

Conversations: {WELCOME} is Ada, Grace, Alan and the bot; {ADA_AND_GRACE} is Ada and Grace. The lines below can be
copied whole. wscat comes with `npm install --global wscat`; `tidings chat` needs nothing.

# Chat as Ada: type (or paste) {{\"type\":\"chat_message\",\"message\":\"Hello there!\"}}, and the bot answers
wscat -c 'ws://{address}/ws/chat/{WELCOME}/?token={ada}'

# The same as Grace, in another terminal
wscat -c 'ws://{address}/ws/chat/{WELCOME}/?token={grace}'

# Ada's notifications
wscat -c 'ws://{address}/ws/notifications/{ada_id}/?token={ada}'

# Everything of Grace's on one socket
wscat -c 'ws://{address}/ws/user/{grace_id}/?token={grace}'

# Ada's conversations
curl 'http://{address}/api/v1/conversations' -H 'Authorization: Bearer {ada}'

# Say something as Ada
curl 'http://{address}/api/v1/conversations/{WELCOME}/messages' -H 'Content-Type: application/json' -d '{{\"message\":\"Hello from curl\"}}' -H 'Authorization: Bearer {ada}'

# Notify Ada, as the platform
curl 'http://{address}/api/v1/notifications' -H 'Content-Type: application/json' -H 'Authorization: Bearer {api_key}' -d '{{\"user_id\":{ada_id},\"title\":\"News\",\"message\":\"Hello from the platform\"}}'

# Chat in the terminal, without wscat
{program} chat --url ws://{address}/ws/chat/{WELCOME}/ --token {ada}

# Why would a connection be accepted, or refused?
{program} doctor --url ws://{address}/ws/chat/{ADA_AND_GRACE}/ --token {grace}"
        )
    }
}

/// How this program was called, fit for a shell.
fn program() -> String {
    let path = std::env::args_os().next().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match path.as_str() {
        "" => "tidings".to_owned(),
        path if path.chars().all(is_plain) => path.to_owned(),
        path => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_into_100_columns_but_for_those_with_tokens() {
        let key = Secret::new("KEY");
        let address = "127.0.0.1:65535".parse().expect("valid");
        let text = Banner { address, api_key: &key, ada: "ADA", grace: "GRACE" }.to_string();
        for line in text.lines().filter(|line| !["ADA", "GRACE", "KEY"].iter().any(|token| line.contains(token))) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn every_line_to_copy_is_whole() {
        let key = Secret::new("KEY");
        let address = "127.0.0.1:8000".parse().expect("valid");
        let text = Banner { address, api_key: &key, ada: "ADA", grace: "GRACE" }.to_string();
        for start in ["wscat -c", "curl "] {
            let found: Vec<_> = text.lines().filter(|line| line.starts_with(start)).collect();
            assert!(found.len() > 1, "{start}");
            for line in found {
                assert!(line.contains("127.0.0.1:8000"), "{line}");
                assert!(["ADA", "GRACE", "KEY"].iter().any(|token| line.contains(token)), "{line}");
                assert_eq!(line.matches('\'').count() % 2, 0, "{line}");
            }
        }
    }
}
