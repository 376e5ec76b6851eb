//! Prints the three most frequent words, and each change of them:
//! `cargo run -p nave --example top_n -- up`.

use std::process::ExitCode;

use nave::prelude::stream::*;

const SENTENCES: [&str; 4] = ["to be or not to be", "that is the question", "to sleep", "to dream"];
const TOP: usize = 3;

/// The words with the highest counts, the highest first.
type Ranking = Vec<(String, u64)>;

#[derive(Default)]
struct Rank(StateValue<Ranking>);

impl Bolt for Rank {
    type In = (String, u64);
    type Out = Ranking;

    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.value("ranking", &mut self.0);
    }

    fn execute(&mut self, (word, count): (String, u64), out: &mut Emitter<Ranking>) {
        let mut ranking = self.0.clone();
        ranking.retain(|(ranked, _)| *ranked != word);
        let place = ranking.partition_point(|(_, higher)| *higher >= count);
        ranking.insert(place, (word, count));
        ranking.truncate(TOP);
        if ranking != *self.0 {
            out.emit(ranking.clone());
            *self.0 = ranking;
        }
    }
}

pub(crate) fn top_n(show: impl Fn(Ranking) + Send + Sync + 'static) -> Result<Topology, BuildErrors> {
    let t = Topology::named("top-n");
    let counts = t
        .items("sentences", || SENTENCES)
        .flat_map("split", |sentence| sentence.split(' ').map(str::to_owned).collect())
        .fields(|word| word.as_str())
        .fold("count", 0_u64, |count, _word| *count += 1)
        .lanes(2);
    t.bolt("rank", Rank::default).reads(counts.global()).for_each("show", show);
    t.build()
}

fn main() -> ExitCode {
    nave::main(nave::about!(), [|| top_n(|ranking| println!("{ranking:?}"))])
}
