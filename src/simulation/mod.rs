//! The server in a world where all chance and all time come from a seed: real sockets' code, committers, hubs, timers
//! and store, on SQLite in memory, with networks that break, servers that die, and a bus that loses, doubles, delays
//! and reorders. A seed that fails fails again: `SIMULATION_SEED=17 cargo test --lib simulation`.

mod book;
mod client;
mod fold;
mod session;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use book::Totals;

/// How many seeds one run tries, and how many of them twice.
const SEEDS: u64 = 2_000;
const TWICE: u64 = 10;

#[test]
fn sockets_of_many_servers_see_every_event_once_and_in_order_whatever_happens() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let outcome = world::run(seed);
        println!("{}", outcome.story.join("\n"));
        assert!(outcome.faults.is_empty(), "seed {seed}:\n{}", outcome.faults.join("\n"));
        return;
    }
    let seeds = variable("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let (next, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let totals = Arc::new(Mutex::new(Totals::default()));
    let failed = Arc::new(Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut cores = core_affinity::get_core_ids().unwrap_or_default().into_iter().cycle();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let core = cores.next();
            let (next, is_over, totals, failed) = (next.clone(), is_over.clone(), totals.clone(), failed.clone());
            std::thread::spawn(move || {
                // A worker and SQLite's thread, which it starts, wait for each other all the time: on one core that
                // costs a third less than waking another.
                core.map(core_affinity::set_for_current);
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = world::run(seed);
                    totals.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome.totals);
                    if !outcome.faults.is_empty() {
                        is_over.store(true, Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, outcome));
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker comes to its end");
    }
    if let Some((seed, outcome)) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        panic!("{}\n{}\nagain with: SIMULATION_SEED={seed}", outcome.end(), outcome.faults.join("\n"));
    }
    let totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(totals.have_seen_everything(), "something never happened: {totals:?}");
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..TWICE {
        let (first, second) = (world::run(seed), world::run(seed));
        let lines = first.story.iter().zip(&second.story).enumerate();
        if let Some((number, (first, second))) = lines.into_iter().find(|(_, (first, second))| first != second) {
            panic!("seed {seed} tells in line {number}\n{first}\nand then\n{second}");
        }
        assert_eq!(first.story.len(), second.story.len(), "seed {seed}");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a whole number"))
}
