//! `nave sim`: a topology in virtual time under random faults, one run per seed.

use std::fmt;

use bus::Clock;
use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, Usage};
use crate::clock::SystemClock;
use crate::program::Program;

#[derive(Debug, Args)]
#[command(
    after_help = "A seed determines the layout, the requests, the faults and their times. A failed seed is printed as an event log and \
                        repeated by --seeds 1 --from SEED. A fault with a count of 0 over many seeds points to a gap in the \
                        simulation"
)]
pub(super) struct SimArgs {
    /// Number of seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Topology, if several of this program have a scenario
    #[arg(long)]
    topology: Option<String>,
    /// Number of threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print the event log of the first seed, even if it passes
    #[arg(long)]
    story: bool,
}

/// A failed seed.
#[derive(Debug)]
pub(super) struct BrokenSeed {
    text: String,
    /// For programs.
    pub(super) json: Value,
}

impl fmt::Display for BrokenSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BrokenSeed {}

pub(super) fn sim(args: &SimArgs, program: &Program) -> anyhow::Result<Output> {
    let simulated: Vec<&str> = program.simulated().collect();
    let name = match (&args.topology, &simulated[..]) {
        (Some(name), _) => name.clone(),
        (None, [one]) => (*one).to_owned(),
        (None, []) => {
            return Err(Usage("no topology of this program has a scenario; see Program::scenario".into()).into());
        }
        (None, several) => {
            return Err(Usage(format!(
                "several topologies have a scenario: {}; choose one with --topology",
                several.join(", ")
            ))
            .into());
        }
    };
    let Some(simulation) = program.simulation(&name) else {
        let known = simulated.join(", ");
        return Err(Usage(format!("topology `{name}` has no scenario; topologies with one: {known}")).into());
    };
    if args.story {
        let story = simulation.story(args.from);
        let lines: Vec<&str> = story.lines().collect();
        return Ok(Output::Text { text: story.to_string(), json: json!({"seed": args.from, "story": lines}) });
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
    let Some(ran) = &summary.failed else { return Ok(Output::Text { text, json: body }) };

    let (seed, broken) = (ran.seed, ran.failure.clone().unwrap_or_default());
    let story = simulation.story(seed);
    let again = format!("{} sim --topology {name} --seeds 1 --from {seed}", invoked());
    let text = format!("seed {seed} of `{name}` failed:\n\n{story}\n{text}\nseed {seed}: {broken}\nto repeat: {again}");
    let lines: Vec<&str> = story.lines().collect();
    body["broken"] = json!({"seed": seed, "what": broken, "story": lines, "again": again});
    Err(BrokenSeed { text, json: body }.into())
}

/// Returns the name by which this program was called, so that the printed command can be pasted.
fn invoked() -> String {
    std::env::args().next().unwrap_or_else(|| "nave".to_owned())
}
