//! Flows of length 10: each enters as a record of the inbox; each of its 20 calls passes the bus as JSON with its headers to the
//! simulator and back. Load generator, hub, workers and simulator share the machine with the broker.
//!
//! Read in this order: `load` (asks and measures), `setups` (what is measured), `bare` (the same records without an engine), `post` (the same flows over HTTP),
//! `cadence` (the same flows with snapshots at other cadences).

mod bare;
pub(crate) mod cadence;
pub(crate) mod load;
mod post;
mod setups;

use anyhow::Context;

use self::setups::Setup;
use crate::buses::{Kept, Places};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many flows for the row with the most; the others have fewer, in proportion
    #[arg(long, default_value_t = 10_000)]
    flows: usize,
    /// These buses alone
    #[arg(long, value_enum)]
    bus: Vec<Kept>,
    /// These numbers in flight alone
    #[arg(long)]
    in_flight: Vec<usize>,
    #[command(flatten)]
    places: Places,
}

/// Prints one table for all that was asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "| bus | effects | stages | in flight | flows/s | p50 | p99 | p99.9 | records a flow | processor a flow | broker a flow | memory | as a POST: flows/s, p50 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for setup in Setup::all().into_iter().filter(|setup| args.bus.is_empty() || args.bus.contains(&setup.kept)) {
        for in_flight in [1, 64, 1024] {
            if !args.in_flight.is_empty() && !args.in_flight.contains(&in_flight) {
                continue;
            }
            let row = setup
                .measure(&args.places, args.flows(setup.kept, in_flight), in_flight)
                .with_context(|| format!("{setup}, {in_flight} in flight"))?;
            let post = setup.measure_posts(args, in_flight).with_context(|| format!("{setup}, {in_flight} POSTs"))?;
            println!("{setup} {in_flight} {row} {post} |");
        }
    }
    println!("\nprocessor and memory are those of this process, which asks, runs and simulates");
    Ok(())
}

impl Args {
    /// So many flows are enough to see a rate, and few enough that a slow row ends.
    fn flows(&self, kept: Kept, in_flight: usize) -> usize {
        let share = match (kept, in_flight) {
            (Kept::Kafka, 1) => 40,
            (Kept::Kafka, 64) | (Kept::Memory | Kept::Disk, 1) => 4,
            _many => 1,
        };
        (self.flows / share).max(in_flight * 2).max(100)
    }
}
