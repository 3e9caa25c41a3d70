//! What the tests speak in: a real server process, clients on real sockets, tokens made without the code under test.
//! Knows the wire contract only; nothing here looks inside the server.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a vocabulary: a word stays when the last test that used it goes"
)]

pub mod client;
pub mod process;
pub mod raw;
pub mod rest;
pub mod server;
pub mod store;
pub mod token;

pub use rest::Caller;
pub use server::TestServer;
pub use store::Store;

use std::time::Duration;

/// How long an answer may take before a test gives up on it; long, because it is only waited out on failure.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Makes two tests of each function named, `sqlite::…` and `postgres::…`; each takes the [`Store`] to run on.
macro_rules! both_stores {
    ($($(#[$attribute:meta])* $scenario:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] $(#[$attribute])* async fn $scenario() {
                super::$scenario($crate::support::Store::Sqlite).await
            })+
        }
        mod postgres {
            $(#[tokio::test] $(#[$attribute])* async fn $scenario() {
                super::$scenario($crate::support::Store::Postgres).await
            })+
        }
    };
}
pub(crate) use both_stores;

/// Tries until something is so; that it never becomes so fails the test.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + DEADLINE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < patience, "it did not come about in {DEADLINE:?} that {what}");
        tokio::task::yield_now().await;
    }
}
