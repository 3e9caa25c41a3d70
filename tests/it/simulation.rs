//! Several servers' hubs in one simulated system: a store that is a list, a bus that loses, doubles, delays and
//! reorders, servers that crash, sockets that come, read slowly, fall behind and resume. All chance and all time come
//! from the seed, so that a seed that fails fails again: `SIMULATION_SEED=17 cargo test --test it simulation`.
//! The hub is the real one; committer, joining and repair are modelled step by step as `chat/` and `socket/` do them.

mod socket;
mod totals;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use totals::Totals;
use world::World;

/// How many seeds one run tries.
const SEEDS: u64 = 2_000;

#[test]
fn sockets_of_many_servers_see_every_event_once_and_in_order_whatever_happens() {
    let given = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().expect("a whole number"));
    let seeds = given.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut totals = Totals::default();
    for seed in seeds {
        let mut world = World::new(seed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
            eprintln!("{}\nseed {seed} fails; again with: SIMULATION_SEED={seed}", world.story());
            resume_unwind(panic);
        }
        totals.add(world.totals());
    }
    println!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(given.is_some() || totals.has_seen_everything(), "something never happened: {totals:?}");
}
