//! Flows of length 10. Each starts with a record in the inbox. Each of its 20 calls goes over the
//! bus to the simulator and back, as JSON with headers. Load generator, hub, workers, simulator and
//! broker share the machine.
//!
//! Read in this order: `load` (sends and measures), `setups` (the measured setups), `bare` (the
//! same records without the engine), `post` (the same flows over HTTP), `cadence` (the same flows
//! with other snapshot intervals).

mod bare;
pub(crate) mod cadence;
pub(crate) mod load;
mod post;
mod setups;

use anyhow::Context;

use self::setups::Setup;
use crate::buses::{BusKind, Locations};

/// The options of this measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The number of flows in the largest row; other rows have proportionally fewer
    #[arg(long, default_value_t = 10_000)]
    flows: usize,
    /// Only these buses
    #[arg(long, value_enum)]
    bus: Vec<BusKind>,
    /// Only these numbers of flows in flight
    #[arg(long)]
    in_flight: Vec<usize>,
    #[command(flatten)]
    locations: Locations,
}

/// Prints one table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "| bus | effects | stages | in flight | flows/s | p50 | p99 | p99.9 | records a flow | processor a flow | broker a flow | memory | as a POST: flows/s, p50 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for setup in Setup::all().into_iter().filter(|setup| args.bus.is_empty() || args.bus.contains(&setup.bus_kind)) {
        for in_flight in [1, 64, 1024] {
            if !args.in_flight.is_empty() && !args.in_flight.contains(&in_flight) {
                continue;
            }
            let row = setup
                .measure(&args.locations, args.flows(setup.bus_kind, in_flight), in_flight)
                .with_context(|| format!("{setup}, {in_flight} in flight"))?;
            let post = setup.measure_posts(args, in_flight).with_context(|| format!("{setup}, {in_flight} POSTs"))?;
            println!("{setup} {in_flight} {row} {post} |");
        }
    }
    println!("\nprocessor and memory are of this process, which has load generator, lanes and simulator");
    Ok(())
}

impl Args {
    /// The number of flows of a row: enough for a rate, and few enough for a slow setup.
    fn flows(&self, bus_kind: BusKind, in_flight: usize) -> usize {
        let share = match (bus_kind, in_flight) {
            (BusKind::Kafka, 1) => 40,
            (BusKind::Kafka, 64) | (BusKind::Memory | BusKind::Disk, 1) => 4,
            _many => 1,
        };
        (self.flows / share).max(in_flight * 2).max(100)
    }
}
