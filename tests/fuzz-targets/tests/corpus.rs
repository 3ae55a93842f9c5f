//! The corpus, as it is and with random changes, goes through each target: what a fuzzer has found stays found, and a change of ours that
//! breaks a target is noticed without one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, Target};

/// Changed inputs for each target. More would find more: that is what `cargo xtask fuzz` is for.
const CHANGED: u64 = 5_000;
/// The same for expressions, whose parser takes milliseconds for each.
const CHANGED_EXPRESSIONS: u64 = 300;

/// xorshift64*: small, and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// One of: a byte changed, taken away or repeated, a part taken away, a part of another input put in.
fn change(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1);
    match random.below(5) {
        0 => input
            .get_mut(at)
            .into_iter()
            .for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => drop(input.drain(at..end.min(at + 1))),
        2 => input.extend_from_within(at..end),
        3 => drop(input.drain(at..end)),
        _ => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from + 1);
            drop(input.splice(at..at, other[from..to].iter().copied()));
        }
    }
}

fn play(name: &str) {
    let (_, target): &(&str, Target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let corpus = corpus(name);
    for input in &corpus {
        target(input);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let changed = if name == "cel" {
        CHANGED_EXPRESSIONS
    } else {
        CHANGED
    };
    for _ in 0..changed {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            let other = &corpus[random.below(corpus.len())];
            change(&mut random, &mut input, other);
        }
        target(&input);
    }
}

#[test]
fn admission() {
    play("admission");
}

#[test]
fn cel() {
    play("cel");
}

#[test]
fn config() {
    play("config");
}

#[test]
fn filter() {
    play("filter");
}

#[test]
fn form() {
    play("form");
}

#[test]
fn jwks() {
    play("jwks");
}

#[test]
fn path() {
    play("path");
}

#[test]
fn token() {
    play("token");
}
