//! The fuzz targets without a fuzzer: on their corpora, and for some seconds on seeded random changes to them. This
//! looks for no new paths, which cargo-fuzz does (docs/testing.md); it keeps the targets and the corpora alive.
//! `FUZZ_SECONDS=60 FUZZ_SEED=7 cargo test --test it fuzz`.

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the inputs are made of, for changes that a fuzzer would learn.
const DICTIONARY: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "9007199254740992",
    "\"type\"",
    "\"client_id\"",
    "é",
    "👩‍👩‍👧",
    "\u{301}",
    "=",
    ".",
    "\n",
];
const INPUT_BYTES_MAX: usize = 16 * 1024;

#[test]
fn frames_are_taken_or_refused_with_a_reason() {
    fuzz("frames", targets::frames);
}

#[test]
fn no_token_is_accepted_but_the_genuine_one() {
    fuzz("tokens", targets::tokens);
}

#[test]
fn a_token_is_found_where_it_may_be() {
    fuzz("sources", targets::sources);
}

#[test]
fn settings_files_are_taken_or_refused_with_a_reason() {
    fuzz("settings", targets::settings);
}

#[test]
fn a_snippet_is_always_a_part_of_its_text() {
    fuzz("search", targets::search);
}

#[test]
fn the_genuine_token_is_accepted_so_that_the_others_are_refused_for_a_reason() {
    targets::check_genuine();
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a whole number"))
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> =
        std::fs::read_dir(corpus).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let inputs: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect();
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    for input in &inputs {
        try_one(name, target, input, 0);
    }
    let seed = variable("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("{name}: seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(2));
    while Instant::now() < end {
        for _ in 0..64 {
            let input = changed(&mut rng, &inputs);
            try_one(name, target, &input, seed);
        }
    }
}

fn try_one(name: &str, target: fn(&[u8]), input: &[u8], seed: u64) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{name} fails (seed {seed}) on: {}", input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One of the inputs with a few random changes.
fn changed(rng: &mut fastrand::Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = inputs[rng.usize(..inputs.len())].clone();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=input.len());
        let end = (at + rng.usize(0..24)).min(input.len());
        match rng.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let to = rng.usize(..=input.len());
                input.splice(to..to, part.repeat(rng.usize(1..40)));
            }
            4 => {
                let other = &inputs[rng.usize(..inputs.len())];
                let from = rng.usize(..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let word = DICTIONARY[rng.usize(..DICTIONARY.len())];
                input.splice(at..end, word.bytes());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}
