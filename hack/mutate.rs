//! Fuzzing for a stable compiler, run by `hack/fuzz`: inputs of the corpora, changed at random, go
//! through their parsers for a time. Sees panics and nothing of coverage; cargo-fuzz sees both.
//!
//! `mutate SECONDS [PARSER…]`; `MUTATE_SEED` repeats a run. An input that makes a parser panic is
//! written to `fuzz/artifacts/PARSER/`.

#![allow(clippy::print_stdout, reason = "a program for developers")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use bowline::image::Digest;
use bowline::testing::parsers::{ALL, Parser};

/// The longest input.
const MAX_INPUT: usize = 64 << 10;

/// Pieces that parsers look for.
const WORDS: [&[u8]; 12] = [
    b"\0",
    b"\n",
    b"\xff\xff\xff\xff",
    b"{",
    b"\"",
    b":",
    b"/",
    b"-1",
    b"18446744073709551615",
    b"sha256:",
    b"\\u0000",
    b"[",
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = args.first().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds else {
        println!("usage: mutate SECONDS [PARSER...]");
        return ExitCode::from(2);
    };
    let chosen = |parser: &&Parser| args.len() == 1 || args[1..].iter().any(|a| a == parser.name);
    let bad = ALL
        .iter()
        .filter(chosen)
        .filter(|parser| !fuzz(parser, seconds));
    match bad.count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Feeds one parser for so many seconds; false if it panicked.
fn fuzz(parser: &Parser, seconds: u64) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let corpus = corpus(&root.join("corpus").join(parser.name));
    let seed = std::env::var("MUTATE_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(clock);
    let mut random = Random(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0u64;
    while Instant::now() < end {
        let input = mutated(&corpus, &mut random);
        runs += 1;
        if catch_unwind(|| (parser.run)(&input)).is_err() {
            let place = keep(&root, parser.name, &input);
            println!(
                "{}: PANIC after {runs} inputs (seed {seed}): {}",
                parser.name,
                place.display()
            );
            return false;
        }
    }
    println!("{}: {runs} inputs (seed {seed})", parser.name);
    true
}

fn clock() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
}

fn corpus(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.filter_map(|e| fs::read(e.path()).ok()).collect();
    all.sort();
    all.push(Vec::new());
    all
}

fn keep(root: &Path, name: &str, input: &[u8]) -> PathBuf {
    let dir = root.join("artifacts").join(name);
    let hex = Digest::of(input).to_string().replace("sha256:", "");
    let path = dir.join(&hex[..16]);
    let kept = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, input));
    kept.expect("a place for the input");
    path
}

/// An input of the corpus after one to eight changes.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 => input.truncate(at),
            3 => input.insert(at, random.byte()),
            4 => {
                let word = WORDS[random.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = at + random.below(input.len() - at + 1);
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        input.truncate(MAX_INPUT);
    }
    input
}

/// Marsaglia's xorshift: repeatable, and good enough to pick bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}
