//! The property that all clients stand on: a snapshot over REST, with the events after it folded in, equals a fresh
//! snapshot. Held for random traces of all commands, with the events read through reconnects and crashes.
//!
//! A trace is made of its seed alone. A failing test prints the seed; `TEST_SEED=<seed>` runs that trace and no other.

mod observer;
mod snapshot;
mod trace;

use crate::support::{Store, TestServer, both_stores};
use trace::Trace;

both_stores!(events_folded_over_a_snapshot_equal_a_fresh_snapshot);

/// How many traces a run tries.
const TRACES: u64 = 16;

/// What all clients together may do in a moment; here it is more than the limits let one user do.
const UNLIMITED: [(&str, &str); 4] = [
    ("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"),
    ("TIDINGS_REQUESTS_PER_SECOND_MAX", "off"),
    ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off"),
    ("TIDINGS_CONNECTIONS_PER_USER_MAX", "off"),
];

async fn events_folded_over_a_snapshot_equal_a_fresh_snapshot(store: Store) {
    let mut server = TestServer::start_with(store, &UNLIMITED).await;
    let seeds = match std::env::var("TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("TEST_SEED is a number")],
        Err(_) => (0..TRACES).map(|_| fastrand::u64(..)).collect(),
    };
    for seed in seeds {
        eprintln!("TEST_SEED={seed}");
        Trace::begin(&mut server, seed).await.run().await;
    }
}
