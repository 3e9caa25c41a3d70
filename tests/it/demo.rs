//! `tidings demo` as a newcomer meets it: it starts with nothing given, what it prints works, and it leaves nothing
//! behind. It brings its own store, so these run once.

use std::net::SocketAddr;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Connect, TestClient};
use crate::support::process::Process;
use crate::support::rest::{Answer, answer};

const BOT: i64 = 4;

#[tokio::test]
async fn the_bot_reads_types_and_answers() {
    let demo = Demo::on_free_ports().await;
    let mut ada = demo.connect("/ws/chat/1/").await;
    let sent = ada.say("What is Tidings?").await;
    assert_eq!(sent["message"]["sender"]["first_name"], "Ada");

    let mut before = vec![];
    let answer = loop {
        let frame = ada.expect_next().await;
        if frame["type"] == "chat_message" {
            break frame;
        }
        before.push(frame);
    };
    let typing = before.iter().find(|frame| frame["type"] == "typing_indicator").expect("typing before the answer");
    assert_eq!((&typing["user"]["id"], &typing["is_typing"]), (&json!(BOT), &json!(true)));
    let read = before.iter().find(|frame| frame["type"] == "message_read").expect("read before the answer");
    assert_eq!((&read["read_by"]["id"], &read["message_id"]), (&json!(BOT), &sent["message"]["id"]));
    assert_eq!(answer["message"]["sender"]["id"], BOT);
    assert!(answer["message"]["content"].as_str().is_some_and(|text| text.contains("Tidings is a server")), "{answer}");
}

#[tokio::test]
async fn the_bot_reacts_to_thanks_and_answers_an_edit() {
    let demo = Demo::on_free_ports().await;
    let mut ada = demo.connect("/ws/chat/1/").await;
    ada.ignore("message_read");
    let thanks = ada.say("Thank you!").await;
    let reaction = ada.expect("reaction_added").await;
    assert_eq!((&reaction["message_id"], &reaction["reaction"]["user"]["id"]), (&thanks["message"]["id"], &json!(BOT)));
    ada.expect("chat_message").await;

    let edit =
        json!({ "type": "edit_message", "message_id": thanks["message"]["id"], "message": "Thank you so much!" });
    assert_eq!(ada.command(edit).await["type"], "message_edited");
    ada.ignore("reaction_added");
    let answer = ada.expect("chat_message").await;
    assert_eq!(answer["message"]["reply_to"]["id"], thanks["message"]["id"]);
}

#[tokio::test]
async fn every_printed_line_works_as_it_stands() {
    let demo = Demo::on_free_ports().await;
    let mut notifications = demo.connect("/ws/notifications/1/").await;
    demo.connect("/ws/user/2/").await.expect("connected").await;

    let curls = demo.lines("curl ");
    assert_eq!(curls.len(), 3);
    for line in curls {
        let answer = curl(&line).await;
        assert!((200..300).contains(&answer.status), "{line}: {} {}", answer.status, answer.body);
        if line.contains("/conversations'") {
            let ids: Vec<_> = answer.body["data"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
            assert_eq!(ids.len(), 3, "Ada takes part in three conversations: {ids:?}");
        }
    }
    loop {
        let frame = notifications.expect("notification").await;
        if frame["notification"]["message"] == "Hello from the platform" {
            break;
        }
    }

    let lines = demo.lines(&format!("{} doctor", env!("CARGO_BIN_EXE_tidings")));
    let line = lines.first().expect("a line with doctor").clone();
    let run = move || Command::new("sh").args(["-c", &line]).output().expect("the shell runs");
    let doctor = tokio::task::spawn_blocking(run).await.expect("the thread lives");
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[tokio::test]
async fn the_page_is_for_this_machine_and_for_no_cache() {
    let demo = Demo::on_free_ports().await;
    let page = demo.page("localhost").await;
    assert_eq!(page.status, 200);
    assert!(page.body.as_str().is_some_and(|html| html.starts_with("<!doctype html>") && html.contains("Ada")));
    assert_eq!(page.headers["cache-control"], "no-store");
    let policy = page.headers["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_ne!(policy, demo.page("localhost").await.headers["content-security-policy"], "a nonce is for one answer");

    let foreign = demo.page("evil.example").await;
    assert_eq!(foreign.status, 403);
    assert!(!foreign.body.to_string().contains("eyJ"), "a token in {}", foreign.body);
}

#[tokio::test]
async fn the_samples_fit_whatever_is_allowed() {
    let listeners = [("TIDINGS_LISTEN", "127.0.0.1:0"), ("TIDINGS_ADMIN_LISTEN", "off")];
    for other in [("TIDINGS_REACTIONS", "*"), ("TIDINGS_REACTIONS", "up=👍"), ("TIDINGS_TEXT_CHARS_MAX", "10")] {
        let demo = Demo::start(&[listeners[0], listeners[1], other]).await;
        assert_eq!(demo.page("localhost").await.status, 200, "{other:?}");
    }
}

#[tokio::test]
async fn the_folder_goes_with_the_demo() {
    for signal in ["TERM", "INT"] {
        let mut demo = Demo::on_free_ports().await;
        assert_eq!(demo.folders(), 1, "the demo has no folder");
        let mut ada = demo.connect("/ws/chat/1/").await;
        demo.process.signal(signal);
        ada.ignore("message_read");
        ada.expect_close(1012).await;
        assert!(demo.process.ended().await.success());
        assert_eq!(demo.folders(), 0, "SIG{signal} left the folder behind");
    }
}

#[tokio::test]
async fn two_demos_side_by_side_take_free_ports_and_know_nothing_of_each_other() {
    let (one, other) = (Demo::start(&[]).await, Demo::start(&[]).await);
    assert_ne!(one.address(), other.address());
    assert_eq!(one.page("localhost").await.status, 200);
    assert_eq!(other.page("localhost").await.status, 200);
    let token = one.token("/ws/chat/1/");
    Connect::new(other.address(), 1).token(&token).chat(1).await.expect_close(4001).await;
}

/// A demo, what it printed, and the folder below which it makes its own.
struct Demo {
    // First, so that it is dropped first: the process must be gone before its folder is.
    process: Process,
    printed: String,
    temporary: TempDir,
}

impl Demo {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = ("TMPDIR", temporary.path().to_str().expect("UTF-8"));
        let settings: Vec<_> =
            settings.iter().chain([&folder]).map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let process = Process::start(&["demo"], temporary.path(), &settings);
        let printed = process.expect_output("listening on http://").await;
        Self { process, printed, temporary }
    }

    async fn on_free_ports() -> Self {
        Self::start(&[("TIDINGS_LISTEN", "127.0.0.1:0"), ("TIDINGS_ADMIN_LISTEN", "off")]).await
    }

    fn address(&self) -> SocketAddr {
        let (_, rest) = self.printed.split_once("listening on http://").expect("the ready line");
        rest.trim().parse().expect("the ready line ends with an address")
    }

    /// The printed lines that begin like this.
    fn lines(&self, start: &str) -> Vec<String> {
        self.printed.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    /// The token in the first `wscat` line for this socket.
    fn token(&self, path: &str) -> String {
        let start = format!("wscat -c 'ws://{}{path}?token=", self.address());
        let lines = self.lines(&start);
        lines.first().expect("a line for this socket")[start.len()..].trim_end_matches('\'').to_owned()
    }

    /// Connects as the first `wscat` line for this socket does.
    async fn connect(&self, path: &str) -> TestClient {
        Connect::new(self.address(), 1).token(&self.token(path)).path(path).await
    }

    async fn page(&self, host: &str) -> Answer {
        let request = reqwest::Client::new().get(format!("http://{}/", self.address()));
        answer(request.header("host", host)).await
    }

    /// How many folders the demo has at the moment.
    fn folders(&self) -> usize {
        std::fs::read_dir(self.temporary.path()).expect("the folder").count()
    }
}

/// Does what a `curl` line of those that are printed would do.
async fn curl(line: &str) -> Answer {
    let mut quoted = line.split('\'').skip(1).step_by(2);
    let url = quoted.next().expect("an address").to_owned();
    let mut headers = vec![];
    let mut body: Option<Value> = None;
    for text in quoted {
        match text.split_once(": ").filter(|_| !text.starts_with('{')) {
            Some(header) => headers.push(header),
            None => body = Some(serde_json::from_str(text).expect("a JSON body")),
        }
    }
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = reqwest::Client::new().request(method, url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    answer(request.body(body.map(|body| body.to_string()).unwrap_or_default())).await
}
