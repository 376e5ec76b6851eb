//! Counts words in four lanes: `cargo run -p nave --example word_count -- up --data counts`.
//!
//! Stop it in the middle and start it again: no count doubles, and none is lost.

use std::process::ExitCode;

use nave::prelude::stream::*;

const SENTENCES: [&str; 3] = ["the cow jumped over the moon", "an apple a day", "four score and seven years ago"];

fn word_count() -> Result<Topology, BuildErrors> {
    let t = Topology::named("word-count");
    t.items("sentences", || SENTENCES.into_iter().cycle().take(30_000))
        .flat_map("split", |sentence| sentence.split_whitespace().map(str::to_owned).collect())
        .fields(|word| word.as_str())
        .fold("count", 0_u64, |count, _word| *count += 1)
        .lanes(4)
        .filter("thousands", |(_word, count)| count.is_multiple_of(1_000))
        .for_each("print", |(word, count)| println!("{count:>6} {word}"));
    t.build()
}

fn main() -> ExitCode {
    nave::main(nave::about!(), [word_count])
}
