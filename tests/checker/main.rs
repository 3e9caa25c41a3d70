//! The checker: random clients against a real server process that is killed and started again at random, then every
//! client's history against the store. `cargo test --test checker -- --seed 7 --minutes 60 --store postgres`.
//! The seed decides what every client does and when the server dies; real time decides how these meet.

mod database;
mod device;
mod expected;
mod fold;
mod history;
mod judge;
mod rest;
#[path = "../it/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use device::{Device, Kind, Phase};
use fold::Fold;
use history::Shared;
use judge::Judge;
use rest::RestDevice;
use support::{Caller, Store, TestServer};

/// How long one round lasts: clients and conversations of its own, judged at its end.
const ROUND: Duration = Duration::from_secs(40);
/// How long the clients may take to have everything answered once the server stays up.
const SETTLING_MAX: Duration = Duration::from_secs(60);
const USERS: i64 = 5;

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
    let (mut seed, mut time, mut clients) = (None, ROUND, 14);
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
        ("TIDINGS_OUTBOX_FRAMES_MAX", "64"),
        ("TIDINGS_OUTBOX_BYTES_MAX", "96KiB"),
        ("TIDINGS_LOG", "warn"),
    ];
    let mut server = TestServer::start_with(store, &settings).await;
    for user_id in 1..=USERS {
        server.put_user(user_id, "Client", &user_id.to_string()).await;
    }
    let begin = Instant::now();
    let mut round = 0;
    while round == 0 || begin.elapsed() + ROUND <= time {
        let round_seed = seed + round;
        let book = play(&mut server, round_seed, ROUND.min(time), clients).await;
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
    let seen: Vec<&str> = book.seen.iter().copied().collect();
    format!(
        "{}, seed {seed}: {} commands and {retries} retries, {events} events, {frames} frames on {} sockets, {} kills, {}",
        name(store),
        book.commands.len(),
        book.sessions.len(),
        book.kills,
        seen.join(", ")
    )
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    format!("the server's last lines:\n  {}", lines[lines.len().saturating_sub(15)..].join("\n  "))
}

/// One round: clients of its own on conversations of its own, and a server that dies again and again.
async fn play(server: &mut TestServer, seed: u64, time: Duration, clients: usize) -> Shared {
    let mut rng = fastrand::Rng::with_seed(seed);
    let everybody: Vec<i64> = (1..=USERS).collect();
    let conversations = [
        (server.conversation(&everybody).await, everybody.clone()),
        (server.conversation(&[1, 2, 3]).await, vec![1, 2, 3]),
    ];
    let book = Shared::default();
    let (phase, watched) = watch::channel(Phase::Storm);
    let mut devices = JoinSet::new();
    for index in 0..clients {
        let user_id = index as i64 % USERS + 1;
        let mut own: Vec<i64> =
            conversations.iter().filter(|(_, users)| users.contains(&user_id)).map(|(id, _)| *id).collect();
        let kind = [Kind::Resuming, Kind::User, Kind::Resuming, Kind::Passing][rng.usize(..4)];
        if kind != Kind::User {
            let only = own[rng.usize(..own.len())];
            own = vec![only];
        }
        let device = Device {
            index,
            user_id,
            kind,
            conversations: own,
            is_slow: index % 5 == 4,
            rng: fastrand::Rng::with_seed(rng.u64(..)),
            address: server.address(),
            book: book.clone(),
            phase: watched.clone(),
            shown: HashMap::new(),
            messages: Vec::new(),
            pending: Vec::new(),
            commands: 0,
            run: format!("{seed}"),
        };
        devices.spawn(device.run());
    }
    let http = reqwest::Client::new();
    for (index, user_id) in [2, 5].into_iter().enumerate() {
        let own = conversations.iter().filter(|(_, users)| users.contains(&user_id)).map(|(id, _)| *id).collect();
        let device = RestDevice {
            index,
            user_id,
            conversations: own,
            rng: fastrand::Rng::with_seed(rng.u64(..)),
            address: server.address(),
            book: book.clone(),
            phase: watched.clone(),
            run: format!("{seed}"),
            http: http.clone(),
        };
        devices.spawn(device.run());
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        // At times long enough for slow readers to fall behind.
        let up = if rng.u8(..4) == 0 { rng.u64(8_000..12_000) } else { rng.u64(300..4_000) };
        sleep(Duration::from_millis(up)).await;
        if rng.u8(..5) == 0 {
            server.stop().await;
        } else {
            server.kill().await;
            book.lock().kills += 1;
        }
        sleep(Duration::from_millis(rng.u64(1..400))).await;
        server.start_again().await;
    }
    phase.send_replace(Phase::Settle);
    let settled = tokio::time::timeout(SETTLING_MAX, async {
        while book.lock().commands.iter().any(|command| !command.is_answered()) {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let _ = settled.await;
    phase.send_replace(Phase::End);
    if tokio::time::timeout(SETTLING_MAX, devices.join_all()).await.is_err() {
        book.lock().faults.push("some clients did not come to their end".to_owned());
    }
    book
}

/// Reads what there is in the end, and judges.
async fn check(server: &TestServer, book: &Shared) -> Vec<String> {
    let conversations: BTreeSet<i64> = book.lock().commands.iter().map(|command| command.conversation_id).collect();
    let (mut rows, mut fresh, mut rest) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for id in conversations {
        rows.insert(id, database::read(server.database_url(), id).await.expect("the database can be read"));
        fresh.insert(id, newcomer(server, id).await);
        rest.insert(id, by_rest(server, id).await);
    }
    let book = book.lock();
    let mut judge = Judge { book: &book, rows: &rows, fresh: &fresh, rest: &rest, violations: Vec::new() };
    judge.judge();
    judge.violations
}

/// What a client that has seen nothing is shown of a conversation.
async fn newcomer(server: &TestServer, conversation_id: i64) -> Vec<Value> {
    let mut client = server.connect_as(1).since(0).chat(conversation_id).await;
    let mut frames = Vec::new();
    loop {
        let frame = client.expect_next().await;
        if frame["type"] == "resumed" {
            return frames;
        }
        frames.push(frame);
    }
}

/// What REST says of a conversation.
async fn by_rest(server: &TestServer, conversation_id: i64) -> Fold {
    let mut fold = Fold::default();
    let path = format!("/api/v1/conversations/{conversation_id}");
    let mut before = String::new();
    loop {
        let page = server.get(&format!("{path}/messages?limit=100{before}"), 1).await.expect(200);
        let messages = page["data"].as_array().expect("a list");
        messages.iter().for_each(|message| fold.take_message(message));
        if page["has_more"] != true {
            break;
        }
        before = format!("&before={}", messages[messages.len() - 1]["id"]);
    }
    let participants = server.get(&format!("{path}/participants?limit=100"), Caller::Platform).await.expect(200);
    participants["data"].as_array().expect("a list").iter().for_each(|participant| fold.take_participant(participant));
    fold
}
