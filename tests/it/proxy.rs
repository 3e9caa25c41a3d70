//! A way to PostgreSQL that loses the answer to a COMMIT, as a failover or a killed connection does, or on which nothing
//! comes through any more, as where a cable is pulled.

#![expect(clippy::disallowed_methods, reason = "a test has no App to spawn on")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the next COMMIT of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Commit {
    Passes,
    /// The database carries it out, and the connection breaks before the answer is through.
    AnswerIsLost,
    /// The connection breaks before the database has it.
    IsLost,
}

/// Passes bytes on, both ways.
pub struct Proxy {
    url: String,
    state: Arc<State>,
}

struct State {
    target: String,
    next: AtomicU8,
    is_away: AtomicBool,
    goes_away: AtomicBool,
    is_stalled: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy before the database at a URL.
    pub async fn before(url: &str) -> Self {
        let (start, rest) = url.split_once('@').expect("a URL with a user");
        let (target, name) = rest.split_once('/').expect("a URL that names a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            target: target.to_owned(),
            next: AtomicU8::new(Commit::Passes as u8),
            is_away: AtomicBool::new(false),
            goes_away: AtomicBool::new(false),
            is_stalled: watch::Sender::new(false),
        });
        let passing = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !passing.is_away.load(Ordering::SeqCst) {
                    tokio::spawn(pass(client, passing.clone()));
                }
            }
        });
        Self { url: format!("{start}@{address}/{name}"), state }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Says what becomes of the next COMMIT of commands, and whether the database is out of reach after it.
    pub fn next(&self, commit: Commit, goes_away: bool) {
        self.state.goes_away.store(goes_away, Ordering::SeqCst);
        self.state.next.store(commit as u8, Ordering::SeqCst);
    }

    /// Whether the COMMIT has come of which that was said.
    pub fn has_struck(&self) -> bool {
        self.state.next.load(Ordering::SeqCst) == Commit::Passes as u8
    }

    /// From now on commands' statements, and all after them on their connections, are kept until [`Proxy::go_on`].
    pub fn stall(&self) {
        self.state.is_stalled.send_replace(true);
    }

    /// What was kept comes through.
    pub fn go_on(&self) {
        self.state.is_stalled.send_replace(false);
    }

    /// The database is in reach again.
    pub fn come_back(&self) {
        self.state.is_away.store(false, Ordering::SeqCst);
    }
}

async fn pass(mut client: TcpStream, state: Arc<State>) {
    let mut server = TcpStream::connect(&state.target).await.expect("the database answers");
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut commands = Commands::default();
    loop {
        tokio::select! {
            biased;
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                let asked = &asked[..count];
                let fate = if commands.are_committed(asked) { state.next.swap(Commit::Passes as u8, Ordering::SeqCst) } else { 0 };
                if commands.is_open {
                    let _ = state.is_stalled.subscribe().wait_for(|is_stalled| !is_stalled).await;
                }
                if fate != Commit::Passes as u8 && state.goes_away.load(Ordering::SeqCst) {
                    state.is_away.store(true, Ordering::SeqCst);
                }
                if fate == Commit::IsLost as u8 || server.write_all(asked).await.is_err() {
                    return;
                }
                if fate == Commit::AnswerIsLost as u8 {
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if state.is_away.load(Ordering::SeqCst) || client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Tells the transactions of commands from others, such as those of notifications: they ask for their number. A
/// statement has its text on the wire when it is prepared, and later only its name.
#[derive(Default)]
struct Commands {
    names: Vec<Vec<u8>>,
    is_open: bool,
}

impl Commands {
    /// Whether what is asked commits a transaction of commands.
    fn are_committed(&mut self, asked: &[u8]) -> bool {
        let find = |part: &[u8]| asked.windows(part.len()).position(|window| window == part);
        if let Some(at) = find(b"pg_current_xact_id") {
            let end = asked[..at].iter().rposition(|byte| *byte == 0).expect("the end of the statement's name");
            let begin = asked[..end].windows(5).rposition(|window| window == b"sqlx_").expect("the statement's name");
            self.names.push(asked[begin..=end].to_vec());
        }
        self.is_open |= self.names.iter().any(|name| find(name).is_some());
        find(b"COMMIT").is_some() && std::mem::take(&mut self.is_open)
    }
}
