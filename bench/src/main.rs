//! Every figure that we quote, with the command that reproduces it.
//!
//! ```text
//! cargo run --release -p bench -- flows      # flows on the embedded bus: flows/s, latency
//! cargo run --release -p bench -- timers     # the timing wheel: register, cancel, fire
//! ```
//!
//! Times are printed here and asserted nowhere. Machines are noisy: compare within one run.

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod flows;
mod timers;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Every figure that we quote")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Flows of length 10 through hub, worker, bus and simulator on the embedded bus
    Flows {
        /// How many flows for each row
        #[arg(long, default_value_t = 5_000)]
        flows: usize,
    },
    /// The timing wheel
    Timers {
        /// How many timers
        #[arg(long, default_value_t = 1_000_000)]
        timers: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().what {
        What::Flows { flows } => flows::run(flows),
        What::Timers { timers } => {
            timers::run(timers);
            Ok(())
        }
    }
}
