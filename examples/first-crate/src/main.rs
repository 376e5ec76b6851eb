//! Counts words inside this program.

use std::error::Error;
use std::sync::mpsc::{SyncSender, sync_channel};

use nave::prelude::stream::*;

const LINES: [&str; 3] = ["the cow jumped over the moon", "an apple a day", "four score and seven years ago"];

/// Sends each word with its number so far to `counts`.
fn word_count(counts: SyncSender<(String, u64)>) -> Result<Topology, BuildErrors> {
    let t = Topology::named("word-count");
    t.items("lines", || LINES)
        .flat_map("split", |line| line.split_whitespace().map(str::to_owned).collect())
        .fields(|word| word.as_str())
        .fold("count", 0_u64, |count, _word| *count += 1)
        .for_each("send", move |counted| counts.send(counted).expect("the program reads them"));
    t.build()
}

fn main() -> Result<(), Box<dyn Error>> {
    let (counts, results) = sync_channel(100);
    let running = nave::embed(&word_count(counts)?)?;
    let words = LINES.join(" ").split(' ').count();
    for (word, count) in results.iter().take(words) {
        println!("{count:>3} {word}");
    }
    running.stop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nave::testing::Lanes;

    use super::*;

    #[test]
    fn each_word_is_counted_in_spite_of_a_crash() -> Result<(), BuildErrors> {
        let (counts, results) = sync_channel(100);
        let mut lanes = Lanes::of(word_count(counts)?, 7); // in virtual time, from seed 7
        lanes.join();
        lanes.run_polls(&mut [], 5);
        lanes.kill("count");
        lanes.start("count");
        assert!(lanes.run_ms(60_000), "nothing is left to do");
        let last: BTreeMap<String, u64> = results.try_iter().collect();
        assert_eq!((last.len(), last["the"], last["moon"]), (15, 2, 1));
        Ok(())
    }
}
