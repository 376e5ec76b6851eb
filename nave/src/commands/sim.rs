//! `nave sim`: a topology in virtual time, with everything going wrong, seed by seed.

use std::fmt;

use bus::Clock;
use clap::Args;
use serde_json::{Value, json};

use super::told::{Told, Usage};
use crate::clock::SystemClock;
use crate::program::Program;

#[derive(Debug, Args)]
#[command(
    after_help = "A seed decides everything: how the topology is laid out, what is asked, what goes wrong and when. A seed \
                        that breaks is told as a story, and run again by --seeds 1 --from SEED. Every fault that is counted \
                        0 over many seeds is suspicious"
)]
pub(super) struct SimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Which topology, where several of this program have a scenario
    #[arg(long)]
    topology: Option<String>,
    /// On so many threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Tell the story of the first seed, whether or not it breaks
    #[arg(long)]
    story: bool,
}

/// A seed broke.
#[derive(Debug)]
pub(super) struct Broken {
    text: String,
    /// For programs.
    pub(super) json: Value,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Broken {}

pub(super) fn sim(args: &SimArgs, program: &Program) -> anyhow::Result<Told> {
    let simulated: Vec<&str> = program.simulated().collect();
    let name = match (&args.topology, &simulated[..]) {
        (Some(name), _) => name.clone(),
        (None, [one]) => (*one).to_owned(),
        (None, []) => {
            return Err(Usage("no topology of this program has a scenario: see Program::scenario".into()).into());
        }
        (None, several) => return Err(Usage(format!("say which --topology: {}", several.join(", "))).into()),
    };
    let Some(simulation) = program.simulation(&name) else {
        let known = simulated.join(", ");
        return Err(Usage(format!("topology `{name}` has no scenario; of these there is one: {known}")).into());
    };
    if args.story {
        let story = simulation.tell(args.from);
        let lines: Vec<&str> = story.lines().collect();
        return Ok(Told::Text { text: story.to_string(), json: json!({"seed": args.from, "story": lines}) });
    }
    let clock = SystemClock::default();
    let summary = simulation.run_many(args.from, args.seeds, args.jobs.max(1));
    let seconds = clock.mono().since(bus::MonoTime::default()).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 seeds")]
    let rate = summary.seeds as f64 / seconds;
    let mut body = summary.json();
    body["topology"] = name.clone().into();
    body["seeds_per_second"] = rate.into();
    let text = format!("{}{rate:.0} seeds/s\n", summary.text());
    let Some(ran) = &summary.broken else { return Ok(Told::Text { text, json: body }) };

    let (seed, broken) = (ran.seed, ran.broken.clone().unwrap_or_default());
    let story = simulation.tell(seed);
    let again = format!("{} sim --topology {name} --seeds 1 --from {seed}", invoked());
    let text = format!("seed {seed} of `{name}` broke:\n\n{story}\n{text}\nseed {seed}: {broken}\nonce more: {again}");
    let lines: Vec<&str> = story.lines().collect();
    body["broken"] = json!({"seed": seed, "what": broken, "story": lines, "again": again});
    Err(Broken { text, json: body }.into())
}

/// How this program was called, so that what it says can be typed as it stands.
fn invoked() -> String {
    std::env::args().next().unwrap_or_else(|| "nave".to_owned())
}
