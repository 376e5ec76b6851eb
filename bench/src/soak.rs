//! A long run of operations, and the memory usage, which must be constant.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use bus::{Clock, Embedded, EmbeddedOptions, Task};
use floodlight_sim::SpeakerHandle;
use nave::SystemClock;
use nave::testing::{HUB, SPEAKER, System, SystemOptions};
use topology::driver::Threads;

use crate::load_generator::{CreateAndRemove, LoadGenerator};
use crate::usage::memory_bytes;

/// The interval between rows, in percent.
const STEP_PERCENT: usize = 5;
/// The row to compare the end with, in percent. By then the memory of finished operations and the
/// topics have reached their limits.
const BASELINE_PERCENT: usize = 20;

/// Runs operations on the bus in memory, and prints the memory usage every [`STEP_PERCENT`]
/// percent.
pub(crate) fn run(flows: usize, in_flight: usize) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = Embedded::open(Arc::clone(&clock), EmbeddedOptions::default());
    let system = Arc::new(System::new(Arc::new(bus.clone()), SystemOptions::default())?);
    let (names, topology) = (&system.options.topics, system.topology.name());
    let (inbox, egress) = (names.inbox(topology, HUB), names.egress(topology, HUB));
    let mut tasks = Threads::default();
    let speaker = SpeakerHandle::new().join(&bus, names, SPEAKER, "speaker-1")?;
    tasks.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Task>)))?;
    let of = Arc::clone(&system);
    let make = move || Ok(Box::new(of.shard(HUB, "hub-1")?) as Box<dyn Task>);
    tasks.spawn("hub", Arc::clone(&clock), Box::new(make))?;

    let mut clients = CreateAndRemove::new(in_flight);
    let mut figures: BTreeMap<usize, u64> = BTreeMap::new();
    let mut begun = clock.mono();
    println!("| done | operations | operations/s since the last row | memory |\n|---|---|---|---|");
    let lanes = system.options.lanes;
    let load = LoadGenerator {
        bus: &bus,
        inbox,
        egress,
        lanes,
        in_flight,
        per_s: None,
        may_repeat: false,
        has_failed: &|| tasks.has_failed(),
    };
    load.run(
        flows,
        |client| clients.next(client),
        |answered, _took| {
            let percent = answered * 100 / flows;
            if percent.is_multiple_of(STEP_PERCENT) && percent > 0 && !figures.contains_key(&percent) {
                let memory = memory_bytes()?;
                figures.insert(percent, memory);
                #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
                let rate = (flows * STEP_PERCENT / 100) as f64 / clock.mono().since(begun).as_secs_f64();
                begun = clock.mono();
                println!("| {percent} % | {answered} | {rate:.0} | {:.1} MB |", megabytes(memory));
            }
            Ok(())
        },
    )?;
    tasks.stop();
    let at = |percent: usize| figures.get(&percent).copied().context("a row of this percentage");
    let (baseline, end) = (megabytes(at(BASELINE_PERCENT)?), megabytes(at(100)?));
    println!("\nfrom {BASELINE_PERCENT} % to the end: {:+.1} MB", end - baseline);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a size of memory")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
