//! The examples `word_count` and `rate_limiter` are killed in the middle and started again: no count
//! doubles, and no posted request is lost.

mod process;

use std::collections::{BTreeMap, BTreeSet};

use process::{Up, brokers, example};
use serde_json::json;

/// The printed counts by word.
type Counts = BTreeMap<String, BTreeSet<u64>>;

const KILLS: u64 = 3;

fn counts(output: &str) -> Counts {
    let mut counts = Counts::new();
    for line in output.lines() {
        if let Some((count, word)) = line.trim().split_once(' ')
            && let Ok(count) = count.parse()
        {
            counts.entry(word.to_owned()).or_default().insert(count);
        }
    }
    counts
}

/// Each word of the three sentences 10,000 times, "the" twice as often.
fn expected() -> Counts {
    let words = "the cow jumped over moon an apple a day four score and seven years ago".split(' ');
    let of = |word: &str| (1..=if word == "the" { 20 } else { 10 }).map(|thousands| thousands * 1_000).collect();
    words.map(|word| (word.to_owned(), of(word))).collect()
}

fn assert_exact_after_kills(args: &[&str]) {
    let start = || Up::spawn(example("word_count", args));
    let mut printed = String::new();
    for kill in 1..=KILLS {
        let up = start();
        up.wait_for_output(|output| counts(output).values().flatten().any(|count| *count >= 3_000 * kill));
        up.kill();
        printed.push_str(&up.output());
    }
    let last = start().wait_for_output(|output| {
        let all = counts(&format!("{printed}{output}"));
        all.len() == expected().len() && all.iter().all(|(word, counts)| counts.last() >= expected()[word].last())
    });
    assert_eq!(counts(&format!("{printed}{last}")), expected());
}

#[test]
fn counts_are_exact_after_kills_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    assert_exact_after_kills(&["up", "--rest", "127.0.0.1:0", "--data", dir.path().to_str().unwrap()]);
}

#[test]
fn counts_are_exact_after_kills_on_kafka() {
    let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
    let at = ["up", "--rest", "127.0.0.1:0", "--bus", "kafka"];
    assert_exact_after_kills(&[&at[..], &["--brokers", &brokers(), "--prefix", &prefix]].concat());
}

#[test]
fn posted_requests_pass_the_rate_limiter_in_spite_of_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let start = || Up::spawn(example("rate_limiter", &["up", "--rest", "127.0.0.1:0", "--data", data]));
    let passed = |output: &str| -> BTreeSet<u64> {
        output.lines().filter_map(|line| line.strip_suffix(" passed")?.parse().ok()).collect()
    };
    let up = start();
    for request in 0..15_u64 {
        let (status, body) = up.post("/v1/topologies/rate-limiter/sources/requests", &json!(request), &[]);
        assert_eq!(status, 202, "{body}");
    }
    up.kill();
    let before = up.output();
    let last = start().wait_for_output(|output| passed(&format!("{before}{output}")).len() == 15);
    assert_eq!(passed(&format!("{before}{last}")), (0..15).collect());
}
