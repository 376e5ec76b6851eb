//! What snapshots cost: the same flows with snapshots at every commit, and every so often.

use anyhow::Context;
use topology::Upkeep;

use super::setups::Setup;
use crate::buses::{Kept, Places};

/// So many are in flight: as many as make commits large.
const IN_FLIGHT: usize = 1_024;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many flows for each row: seconds of work, so that the longest cadence comes round
    #[arg(long, default_value_t = 40_000)]
    flows: usize,
    /// These buses
    #[arg(long, value_enum, default_values = ["memory", "kafka"])]
    bus: Vec<Kept>,
    /// Between two snapshots of a lane, in milliseconds; 0 for one with every commit
    #[arg(long, default_values_t = [0, 100, 1_000, 10_000])]
    snapshot_ms: Vec<u64>,
    #[command(flatten)]
    places: Places,
}

/// Prints one table for all that was asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "| bus | effects | stages | in flight | snapshot every | flows/s | p50 | p99 | p99.9 | records a flow | processor a flow | broker a flow | memory | snapshot records a flow | bytes a flow |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for setup in Setup::of_one_stage(&args.bus) {
        for snapshot_ms in args.snapshot_ms.iter().copied() {
            let upkeep = Upkeep { snapshot_ms, ..Upkeep::default() };
            let measured = setup.measure_saving(&args.places, args.flows, IN_FLIGHT, upkeep);
            let (figures, written) = measured.with_context(|| format!("{setup}, a snapshot every {snapshot_ms} ms"))?;
            // Those that come first to warm up are saved too.
            #[expect(clippy::cast_precision_loss, reason = "counts of flows and records")]
            let of = |n: u64| n as f64 / (args.flows + (args.flows / 10).max(IN_FLIGHT)) as f64;
            let cadence = if snapshot_ms == 0 { "commit".to_owned() } else { format!("{snapshot_ms} ms") };
            let (records, bytes) = (of(written.records), of(written.bytes));
            println!("{setup} {IN_FLIGHT} | {cadence} {figures} {records:.2} | {bytes:.0} |");
        }
    }
    Ok(())
}
