//! The cost of snapshots: the same flows with several snapshot intervals.

use anyhow::Context;
use topology::RecoveryOptions;

use super::setups::Setup;
use crate::buses::{BusKind, Locations};

/// The number of flows in flight: enough for large commits.
const IN_FLIGHT: usize = 1_024;

/// The options of this measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The number of flows per row: enough seconds for the longest interval
    #[arg(long, default_value_t = 40_000)]
    flows: usize,
    /// Only these buses
    #[arg(long, value_enum, default_values = ["memory", "kafka"])]
    bus: Vec<BusKind>,
    /// The intervals between snapshots of a lane, in milliseconds; 0 for one per commit
    #[arg(long, default_values_t = [0, 100, 1_000, 10_000])]
    snapshot_ms: Vec<u64>,
    #[command(flatten)]
    locations: Locations,
}

/// Prints one table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "| bus | effects | stages | in flight | snapshot every | flows/s | p50 | p99 | p99.9 | records a flow | processor a flow | broker a flow | memory | snapshot records a flow | bytes a flow |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for setup in Setup::of_one_stage(&args.bus) {
        for snapshot_ms in args.snapshot_ms.iter().copied() {
            let recovery = RecoveryOptions { snapshot_ms, ..RecoveryOptions::default() };
            let measured = setup.measure_saving(&args.locations, args.flows, IN_FLIGHT, recovery);
            let (figures, written) = measured.with_context(|| format!("{setup}, a snapshot every {snapshot_ms} ms"))?;
            // Snapshots include the warm-up flows.
            #[expect(clippy::cast_precision_loss, reason = "counts of flows and records")]
            let of = |n: u64| n as f64 / (args.flows + (args.flows / 10).max(IN_FLIGHT)) as f64;
            let cadence = if snapshot_ms == 0 { "commit".to_owned() } else { format!("{snapshot_ms} ms") };
            let (records, bytes) = (of(written.records), of(written.bytes));
            println!("{setup} {IN_FLIGHT} | {cadence} {figures} {records:.2} | {bytes:.0} |");
        }
    }
    Ok(())
}
