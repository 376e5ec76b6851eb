//! Every figure that we quote, with the command that reproduces it.
//!
//! ```text
//! tools/kafka start                          # for the rows on Kafka
//! cargo run --release -p bench -- flows      # flows on every bus: flows/s, latency, records, processor time, memory
//! cargo run --release -p bench -- flows --bus memory --in-flight 64          # some of it
//! cargo run --release -p bench -- store      # the bus on disk alone: a record in batches, a sync
//! cargo run --release -p bench -- timers     # the timing wheel: register, cancel, fire
//! ```
//!
//! Times are printed here and asserted nowhere. Machines are noisy: compare within one run.

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod flows;
mod store;
mod timers;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Every figure that we quote")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Flows of length 10 through hub, worker, bus and simulator: one table
    Flows(flows::Args),
    /// The embedded bus on disk alone
    Store {
        /// How many records for each row
        #[arg(long, default_value_t = 400_000)]
        records: usize,
        /// Where the disk is that is measured
        #[arg(long, default_value = "target/bench")]
        data: PathBuf,
    },
    /// The timing wheel
    Timers {
        /// How many timers
        #[arg(long, default_value_t = 1_000_000)]
        timers: u64,
    },
}

/// When records are synced.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Synced {
    Always,
    Interval,
    Never,
}

impl Synced {
    fn of(self) -> bus::Sync {
        match self {
            Self::Always => bus::Sync::Always,
            Self::Interval => bus::Sync::INTERVAL,
            Self::Never => bus::Sync::Never,
        }
    }
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Flows(args) => flows::run(&args),
        What::Store { records, data } => store::run(&data, records),
        What::Timers { timers } => {
            timers::run(timers);
            Ok(())
        }
    }
}
