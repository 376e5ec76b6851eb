//! Flows of length 10: each enters as a record of the inbox; each of its 20 calls passes the bus as JSON with its headers to the
//! simulator and back. Load generator, hub, workers and simulator share the machine with the broker.
//!
//! Read in this order: `load` (asks and measures), `setups` (what is measured), `bare` (the same records without an engine), `post` (the same flows over HTTP).

mod bare;
mod load;
mod post;
mod setups;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use self::setups::Setup;

/// Where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    /// In the process, in memory
    Memory,
    /// In the process, on disk
    Disk,
    /// An Apache Kafka broker
    Kafka,
}

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
    /// The broker [default: the one that `tools/kafka start` left]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Where the disk is that is measured
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// When it is synced
    #[arg(long, value_enum, default_value_t = crate::Synced::Always)]
    sync: crate::Synced,
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
            let row = setup.measure(args, in_flight).with_context(|| format!("{setup}, {in_flight} in flight"))?;
            let post = setup.measure_posts(args, in_flight).with_context(|| format!("{setup}, {in_flight} POSTs"))?;
            println!("{setup} {in_flight} {row} {post} |");
        }
    }
    println!("\nprocessor and memory are those of this process, which asks, runs and simulates");
    Ok(())
}

impl Args {
    fn brokers(&self) -> anyhow::Result<String> {
        if let Some(brokers) = &self.brokers {
            return Ok(brokers.clone());
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let address = std::fs::read_to_string(&file);
        Ok(address
            .with_context(|| {
                format!("no broker: give --brokers, or start one: tools/kafka start ({})", file.display())
            })?
            .trim()
            .to_owned())
    }

    /// The process of the broker that `tools/kafka start` left, where that is the one.
    fn broker(&self) -> Option<u32> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/1/pid");
        let process = self.brokers.is_none().then(|| std::fs::read_to_string(file).ok()).flatten()?;
        process.trim().parse().ok()
    }

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
