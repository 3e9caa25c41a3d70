//! A Tidings server as its operator has it: the real binary, settings from the environment, one store.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Connect;
use super::process::Process;
use super::rest::Caller;
use super::store::{Database, Store};
use super::token;

/// The platform's key at test servers.
pub const API_KEY: &str = "the-api-key-of-the-test-servers";

/// A server process on a store of its own. Dropping it ends the process and deletes the store.
pub struct TestServer {
    // First, so that it is dropped first: the process must be gone before its store is.
    process: Option<Process>,
    earlier_output: String,
    address: Option<SocketAddr>,
    settings: Vec<(String, String)>,
    folder: TempDir,
    pub database: Database,
    pub(super) http: reqwest::Client,
}

impl TestServer {
    /// Starts a server on a new store, with the default settings.
    pub async fn start(store: Store) -> Self {
        Self::start_with(store, &[]).await
    }

    /// Starts a server on a new store, with settings of the test's own.
    pub async fn start_with(store: Store, settings: &[(&str, &str)]) -> Self {
        let database = Database::create(store).await;
        let defaults = [
            ("TIDINGS_ADMIN_LISTEN", "off"),
            ("TIDINGS_JWT_SECRET", token::SECRET),
            ("TIDINGS_API_KEY", API_KEY),
            ("TIDINGS_DATA_DIR", "data"),
            ("TIDINGS_DATABASE_URL", database.url()),
            ("TIDINGS_DRAIN_TIME", "1s"),
        ];
        let mut server = Self {
            process: None,
            earlier_output: String::new(),
            address: None,
            settings: defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            database,
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client"),
        };
        for (name, value) in settings {
            server.set(name, value);
        }
        server.start_again().await;
        server
    }

    /// Changes a setting; the next start has it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the stopped server again, on the same store and the same port.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        let listen = self.address.unwrap_or_else(loopback_address);
        self.set("TIDINGS_LISTEN", &listen.to_string());
        let process = Process::start(&["serve"], self.folder.path(), &self.settings);
        const READY: &str = "listening on http://";
        let output = process.expect_output(READY).await;
        let (_, rest) = output.split_once(READY).expect("the ready line");
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        self.address = Some(rest[..end].parse().expect("the ready line names an address"));
        self.process = Some(process);
    }

    /// Asks the server to end (SIGTERM) and waits for it; it must end well.
    pub async fn stop(&mut self) {
        self.terminate();
        self.expect_end().await;
    }

    /// Asks the server to end (SIGTERM) and does not wait.
    pub fn terminate(&self) {
        self.process.as_ref().expect("a running server").signal("TERM");
    }

    /// Waits for the end of a server that was asked to; it must be a good one.
    pub async fn expect_end(&mut self) {
        let status = self.ended().await;
        assert!(status.success(), "the server ended with {status}; it printed:\n{}", self.output());
    }

    /// Ends the server as a crash would (SIGKILL).
    pub async fn kill(&mut self) {
        self.process.as_ref().expect("a running server").signal("KILL");
        self.ended().await;
    }

    /// Stops the server well and starts it again.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        let mut process = self.process.take().expect("a running server");
        let status = process.ended().await;
        self.earlier_output += &process.output();
        status
    }

    /// How many KiB of memory the server holds (its resident set).
    pub fn memory_kib(&self) -> u64 {
        let id = self.process.as_ref().expect("a running server").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux tells about the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident set");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// All that the server has printed, over all its starts.
    pub fn output(&self) -> String {
        let now = self.process.as_ref().map(Process::output).unwrap_or_default();
        format!("{}{now}", self.earlier_output)
    }

    /// Waits until the running server has printed `text`.
    pub async fn expect_output(&self, text: &str) {
        self.process.as_ref().expect("a running server").expect_output(text).await;
    }

    /// The store's address, for a look past the server.
    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    /// The public listener, as `127.83.7.120:41234`.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("a server that has started")
    }

    /// Begins a connection of this user: `server.connect_as(7).chat(12).await`.
    pub fn connect_as(&self, user_id: i64) -> Connect {
        Connect::new(self.address(), user_id)
    }

    /// Makes a user known to the server, as the platform does.
    pub async fn put_user(&self, user_id: i64, first_name: &str, last_name: &str) -> Value {
        let body = json!({ "first_name": first_name, "last_name": last_name });
        self.put(&format!("/api/v1/users/{user_id}"), Caller::Platform, body).await.success()
    }

    /// Opens a conversation, as the platform does, and gives its id.
    pub async fn conversation(&self, participant_ids: &[i64]) -> i64 {
        let body = json!({ "participant_ids": participant_ids });
        let conversation = self.post("/api/v1/conversations", Caller::Platform, body).await.success();
        conversation["id"].as_i64().expect("a conversation has an id")
    }
}

/// A loopback address of the server's own, and any free port. While a server of 127.0.0.1 is down, its port may go to
/// any client that connects to anything, for clients connect from 127.0.0.1.
fn loopback_address() -> SocketAddr {
    let [a, b] = [fastrand::u8(..), fastrand::u8(..)];
    SocketAddr::from(([127, fastrand::u8(1..255), a, b], 0))
}
