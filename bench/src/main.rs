//! Reproduces every figure that the docs quote.
//!
//! ```text
//! tools/kafka start                          # for the Kafka rows
//! cargo run --release -p bench -- flows      # flows on every bus: flows/s, latency, records, processor time, memory
//! cargo run --release -p bench -- flows --bus memory --in-flight 64          # only some rows
//! cargo run --release -p bench -- engine     # the engine without workflows: tuples/s, beside a bare queue
//! cargo run --release -p bench -- cadence    # flows with snapshots at every commit, every 100 ms, 1 s and 10 s
//! cargo run --release -p bench -- recovery   # takeover times: 100,000 live workflows, a replay, a warm standby
//! cargo run --release -p bench -- placement  # lanes that move among two to eight processes, and the pauses
//! cargo run --release -p bench -- soak       # a million operations: memory
//! cargo run --release -p bench -- store      # the bus on disk: the cost of a record and of a sync
//! cargo run --release -p bench -- timers     # the timing wheel, and the lateness of deadlines
//! ```
//!
//! It only prints the times. Machines are noisy: compare within one run.

/// The same allocator as in the binary `nave`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod buses;
mod child;
mod engine;
mod flows;
mod instrumented;
mod load_generator;
mod placement;
mod process;
mod recovery;
mod soak;
mod store;
mod timers;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Reproduces every quoted figure")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Flows of length 10 through hub, worker, bus and simulator: one table
    Flows(flows::Args),
    /// The engine without workflows: tuples in a lane, a word count, the first tuple
    Engine {
        /// The number of tuples in the lane
        #[arg(long, default_value_t = 50_000_000)]
        tuples: u32,
        /// The number of sentences of the word count
        #[arg(long, default_value_t = 300_000)]
        sentences: u32,
    },
    /// Flows of length 10, 1,024 in flight, with snapshots at several cadences
    Cadence(flows::cadence::Args),
    /// Takeovers: of 100,000 live workflows, with a replay, by a warm standby
    Recovery(recovery::Args),
    /// Processes on Kafka that start, stop and crash: the lanes that move, and the pauses
    Placement(placement::Args),
    /// A million operations, and the memory usage
    Soak {
        /// The number of operations: flows that are created and removed
        #[arg(long, default_value_t = 1_000_000)]
        flows: usize,
        /// The number of operations in flight
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
    },
    /// The embedded bus on disk
    Store {
        /// The number of records per row
        #[arg(long, default_value_t = 400_000)]
        records: usize,
        /// The directory on the measured disk
        #[arg(long, default_value = "target/bench")]
        data: PathBuf,
    },
    /// `nave up`, for rows that need a separate process; `nave` parses the command line itself
    #[command(hide = true)]
    Up(NaveArgs),
    /// `nave run`, likewise
    #[command(hide = true)]
    Run(NaveArgs),
    /// `nave submit`, likewise
    #[command(hide = true)]
    Submit(NaveArgs),
    /// The timing wheel, and the deadlines of a lane
    Timers {
        /// The number of timers in the wheel
        #[arg(long, default_value_t = 10_000_000)]
        timers: u64,
        /// The number of deadlines in the lane
        #[arg(long, default_value_t = 10_000)]
        deadlines: u64,
    },
}

/// Arguments that `nave` parses.
#[derive(Debug, clap::Args)]
struct NaveArgs {
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
    match Cli::parse().command {
        Command::Up(_) | Command::Run(_) | Command::Submit(_) => return Ok(nave::run(nave::program::Program::flows())),
        Command::Flows(args) => flows::run(&args)?,
        Command::Engine { tuples, sentences } => engine::run(tuples, sentences)?,
        Command::Cadence(args) => flows::cadence::run(&args)?,
        Command::Recovery(args) => recovery::run(&args)?,
        Command::Placement(args) => placement::run(&args)?,
        Command::Soak { flows, in_flight } => soak::run(flows, in_flight)?,
        Command::Store { records, data } => store::run(&data, records)?,
        Command::Timers { timers, deadlines } => timers::run(timers, deadlines)?,
    }
    Ok(ExitCode::SUCCESS)
}
