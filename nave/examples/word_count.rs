//! A custom topology with the whole command line: `cargo run -p nave --example word_count -- up`.
//!
//! It splits sentences into words and counts each word in one lane. It prints every 100th count.

use std::process::ExitCode;

use topology::{Bolt, BuildErrors, Emitter, SavedState, Spout, StateMap, Topology};

const SENTENCES: [&str; 3] = ["the cow jumped over the moon", "an apple a day", "four score and seven years ago"];

#[derive(Default)]
struct Sentences {
    emitted: usize,
}

impl Spout for Sentences {
    type Out = String;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<String>) -> bool {
        let Some(sentence) = SENTENCES.iter().cycle().nth(self.emitted).filter(|_| self.emitted < 300) else {
            return false;
        };
        self.emitted += 1;
        out.emit((*sentence).to_owned());
        true
    }
}

struct Split;

impl Bolt for Split {
    type In = String;
    type Out = String;
    fn execute(&mut self, line: String, out: &mut Emitter<String>) {
        for word in line.split_whitespace() {
            out.emit(word.to_owned());
        }
    }
}

#[derive(Default)]
struct Count(StateMap<String, u64>);

impl Bolt for Count {
    type In = String;
    type Out = (String, u64);
    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.map("counts", &mut self.0);
    }
    fn execute(&mut self, word: String, out: &mut Emitter<(String, u64)>) {
        let count = self.0.get_or_default(&word);
        *count += 1;
        out.emit((word, *count));
    }
}

struct Print;

impl Bolt for Print {
    type In = (String, u64);
    type Out = ();
    fn execute(&mut self, (word, count): (String, u64), _: &mut Emitter<()>) {
        if count.is_multiple_of(100) {
            println!("{count:>5} {word}");
        }
    }
}

fn word_count() -> Result<Topology, BuildErrors> {
    let t = Topology::named("word-count");
    let lines = t.spout("sentences", Sentences::default);
    let words = t.bolt("split", || Split).reads(lines.shuffle());
    let counts = t.bolt("count", Count::default).lanes(4).reads(words.fields(String::clone));
    t.bolt("print", || Print).reads(counts.global());
    t.build()
}

fn main() -> ExitCode {
    nave::main(nave::about!(), [word_count])
}
