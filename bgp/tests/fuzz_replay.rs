//! The fuzz targets on a stable compiler: the corpus as it is, and seeded mutations of it.
//!
//! `fuzz/src/lib.rs` is the same code that `cargo fuzz run TARGET` calls from `bgp/fuzz`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of a test stops the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the file is a library of its own in the fuzz package")]
mod targets;

/// Mutations of each corpus file: a few seconds in all in a debug build.
const MUTATIONS: usize = 2000;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "{} has too little in it", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_target_stands_its_corpus() {
    for (target, run) in targets::TARGETS {
        for (path, data) in corpus(target) {
            println!("{}", path.display());
            run(&data);
        }
    }
}

#[test]
fn every_target_stands_every_truncation_of_its_corpus() {
    for (target, run) in targets::TARGETS {
        for (path, data) in corpus(target) {
            println!("{}", path.display());
            (0..data.len()).for_each(|length| run(&data[..length]));
        }
    }
}

#[test]
fn every_target_stands_seeded_mutations_of_its_corpus() {
    for (target, run) in targets::TARGETS {
        let corpus = corpus(target);
        for (number, (path, data)) in corpus.iter().enumerate() {
            let mut random = Rng::with_seed(number as u64);
            for _ in 0..MUTATIONS {
                let (_, other) = &corpus[random.usize(..corpus.len())];
                let mutated = mutate(data, other, &mut random);
                // Shown only where the test fails: the input to add to the corpus.
                println!("{} {}", path.display(), hex(&mutated));
                run(&mutated);
            }
        }
    }
}

/// One to four changes of the kinds that find faults in length fields.
fn mutate(data: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=data.len());
        let end = (at + random.usize(..=8)).min(data.len());
        match random.u8(..6) {
            0 => data[at..end].fill_with(|| random.u8(..)),
            1 => data[at..end].iter_mut().for_each(|octet| *octet ^= 1 << random.u8(..8)),
            2 => data[at..end].fill([0, 1, 0x7f, 0x80, 0xff][random.usize(..5)]),
            3 => drop(data.drain(at..end)),
            4 => drop(data.splice(at..at, (0..random.u8(..9)).collect::<Vec<_>>())),
            _ => {
                let from = random.usize(..=other.len());
                drop(data.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    data
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|octet| format!("{octet:02x}")).collect()
}
