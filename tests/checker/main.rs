//! The checker: random clients against a real server process that is killed and started again at random, then every
//! client's history against the store. `cargo test --test checker -- --seed 7 --minutes 60 --store postgres`.
//! The seed decides what every client does and when the server dies; real time decides how these meet.

mod clients;
mod database;
mod evidence;
mod expected;
mod fold;
mod history;
mod judge;
mod round;
#[path = "../it/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use evidence::Evidence;
use history::{Shared, listed};
use judge::Judge;
use support::{Store, TestServer};

/// How long one round lasts: clients and conversations of its own, judged at its end.
const ROUND: Duration = Duration::from_secs(40);
/// How long rounds are begun on each store where nothing else is asked for.
const TIME: Duration = Duration::from_secs(180);

struct Options {
    seed: u64,
    time: Duration,
    stores: Vec<Store>,
    clients: usize,
}

fn main() -> ExitCode {
    let Some(options) = options() else { return ExitCode::SUCCESS };
    println!("checker: seed {}", options.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let failed = runtime.block_on(async {
        let mut runs = JoinSet::new();
        for store in options.stores.clone() {
            runs.spawn(run(store, options.seed, options.time, options.clients));
        }
        runs.join_all().await.contains(&false)
    });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the command line asks for; nothing where the test runner asks for other tests.
fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1);
    let (mut seed, mut time, mut clients) = (None, TIME, 16);
    let mut stores = vec![Store::Sqlite, Store::Postgres];
    while let Some(argument) = arguments.next() {
        let mut number = || -> u64 {
            let value = arguments.next().and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("{argument} needs a whole number"))
        };
        match argument.as_str() {
            "--seed" => seed = Some(number()),
            "--seconds" => time = Duration::from_secs(number()),
            "--minutes" => time = Duration::from_secs(60 * number()),
            "--clients" => clients = number() as usize,
            "--store" => match arguments.next().as_deref() {
                Some("sqlite") => stores = vec![Store::Sqlite],
                Some("postgres") => stores = vec![Store::Postgres],
                other => panic!("--store is sqlite or postgres, not {other:?}"),
            },
            "--list" => {
                println!("checker: test");
                return None;
            }
            filter if !filter.starts_with('-') && !"checker".contains(filter) => return None,
            _ => {}
        }
    }
    Some(Options { seed: seed.unwrap_or_else(|| fastrand::u64(..1 << 32)), time, stores, clients })
}

/// Plays round after round on one store until the time is over or something is wrong.
async fn run(store: Store, seed: u64, time: Duration, clients: usize) -> bool {
    let settings = [
        ("TIDINGS_COMMANDS_PER_SECOND_MAX", "off"),
        ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off"),
        ("TIDINGS_REQUESTS_PER_SECOND_MAX", "off"),
        ("TIDINGS_PRESENCE_GRACE", "1s"),
        ("TIDINGS_OUTBOX_FRAMES_MAX", "64"),
        ("TIDINGS_OUTBOX_BYTES_MAX", "96KiB"),
        ("TIDINGS_LOG", "warn"),
    ];
    let mut server = TestServer::start_with(store, &settings).await;
    let begin = Instant::now();
    let mut round = 0;
    while round == 0 || begin.elapsed() + ROUND <= time {
        let round_seed = seed + round;
        let book = round::play(&mut server, (round_seed, round), ROUND.min(time), clients).await;
        let violations = check(&server, &book).await;
        let text = report(store, round_seed, &book);
        if violations.is_empty() {
            println!("{text}: all as it should be");
        } else {
            println!("{text}: WRONG\n  {}\n{}", violations.join("\n  "), tail(&server.output()));
            println!("checker: again with --seed {round_seed} --store {}", name(store));
            return false;
        }
        round += 1;
    }
    true
}

fn name(store: Store) -> &'static str {
    if store == Store::Sqlite { "sqlite" } else { "postgres" }
}

fn report(store: Store, seed: u64, book: &Shared) -> String {
    let book = book.lock();
    let retries: usize = book.commands.iter().map(|command| command.attempts - 1).sum();
    let frames: usize = book.sessions.iter().map(|session| session.frames.len()).sum();
    let events: i64 = book.heads.values().sum();
    format!(
        "{}, seed {seed}: {} commands and {retries} retries, {events} events, {frames} frames on {} sockets, {} kills, {}",
        name(store),
        book.commands.len(),
        book.sessions.len(),
        book.kills,
        listed(&book.seen)
    )
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    format!("the server's last lines:\n  {}", lines[lines.len().saturating_sub(15)..].join("\n  "))
}

/// Reads what there is in the end, and judges.
async fn check(server: &TestServer, book: &Shared) -> Vec<String> {
    let evidence = Evidence::gather(server, book).await;
    let book = book.lock();
    let mut judge = Judge::new(&book, &evidence);
    judge.judge();
    judge.violations
}
