//! Every figure that we quote, with the command that reproduces it.
//!
//! ```text
//! tools/kafka start                          # for the rows on Kafka
//! cargo run --release -p bench -- flows      # flows on every bus: flows/s, latency, records, processor time, memory
//! cargo run --release -p bench -- flows --bus memory --in-flight 64          # some of it
//! cargo run --release -p bench -- cadence    # flows with snapshots at every commit, every 100 ms, every second, every ten
//! cargo run --release -p bench -- recovery   # how long takeovers take: 100,000 live workflows, a replay, a warm heir
//! cargo run --release -p bench -- placement  # how lanes move among two to eight processes, and the pauses of it
//! cargo run --release -p bench -- soak       # a million operations: memory
//! cargo run --release -p bench -- store      # the bus on disk alone: a record in batches, a sync
//! cargo run --release -p bench -- timers     # the timing wheel, and how late the deadlines of a lane are
//! ```
//!
//! Times are printed here and asserted nowhere. Machines are noisy: compare within one run.

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod asking;
mod buses;
mod child;
mod flows;
mod placement;
mod process;
mod recovery;
mod soak;
mod store;
mod timers;
mod used;
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Flows of length 10, 1,024 in flight, with snapshots at several cadences
    Cadence(flows::cadence::Args),
    /// Takeovers: of 100,000 live workflows, with a replay, by a warm heir
    Recovery(recovery::Args),
    /// Processes on Kafka that come, stop and are killed: the lanes that move, and the pauses
    Placement(placement::Args),
    /// A million operations in a row, and the memory that is in use
    Soak {
        /// How many operations: flows that are created and removed
        #[arg(long, default_value_t = 1_000_000)]
        flows: usize,
        /// So many at once
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
    },
    /// The embedded bus on disk alone
    Store {
        /// How many records for each row
        #[arg(long, default_value_t = 400_000)]
        records: usize,
        /// Where the disk is that is measured
        #[arg(long, default_value = "target/bench")]
        data: PathBuf,
    },
    /// `nave up`, for the rows that are measured from outside: it reads the command line of this process by itself
    #[command(hide = true)]
    Up(OfNave),
    /// `nave run`, likewise
    #[command(hide = true)]
    Run(OfNave),
    /// `nave submit`, likewise
    #[command(hide = true)]
    Submit(OfNave),
    /// The timing wheel, and the deadlines of a lane
    Timers {
        /// How many timers in the wheel
        #[arg(long, default_value_t = 10_000_000)]
        timers: u64,
        /// How many deadlines in the lane
        #[arg(long, default_value_t = 10_000)]
        deadlines: u64,
    },
}

/// What `nave` itself reads.
#[derive(Debug, clap::Args)]
struct OfNave {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _options: Vec<String>,
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

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().what {
        What::Up(_) | What::Run(_) | What::Submit(_) => return Ok(nave::run(nave::program::Program::flows())),
        What::Flows(args) => flows::run(&args)?,
        What::Cadence(args) => flows::cadence::run(&args)?,
        What::Recovery(args) => recovery::run(&args)?,
        What::Placement(args) => placement::run(&args)?,
        What::Soak { flows, in_flight } => soak::run(flows, in_flight)?,
        What::Store { records, data } => store::run(&data, records)?,
        What::Timers { timers, deadlines } => timers::run(timers, deadlines)?,
    }
    Ok(ExitCode::SUCCESS)
}
