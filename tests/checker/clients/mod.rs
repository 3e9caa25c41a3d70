//! The clients of a run, a file per kind. Each acts by its own part of the seed and writes what it sees into the book.

pub mod clearer;
pub mod device;
pub mod http;
pub mod opener;
pub mod platform;
pub mod sender;
pub mod steward;
mod thinking;
pub mod visitor;
pub mod watcher;
pub mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::history::Shared;
use http::Http;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Everything happens, crashes included.
    Storm,
    /// The server stays up; what is unanswered is retried, nothing new is begun.
    Settle,
    /// Everything is answered: each socket shows that it has caught up, and the client ends.
    End,
}

/// What every client has of the run.
pub struct Part {
    pub index: usize,
    pub rng: fastrand::Rng,
    pub address: SocketAddr,
    pub book: Shared,
    pub phase: watch::Receiver<Phase>,
    /// Part of the names of its commands.
    pub run: String,
    pub http: Http,
}

impl Part {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.rng.u64(milliseconds))).await;
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    pub fn fault(&self, text: String) {
        self.book.lock().faults.push(text);
    }
}
