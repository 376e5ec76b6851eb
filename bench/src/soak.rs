//! Operations in a row, for as long as one likes, and the memory that is in use: it has to be flat.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use bus::{Clock, Embedded, EmbeddedOptions, Part};
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{HUB, System, SystemOptions};
use topology::driver::Threads;

use crate::asking::{Asking, CreateAndRemove};
use crate::used::memory_bytes;

/// A row after so many of a hundred.
const STEP: usize = 5;
/// What is full after this is compared with the end: what is remembered of finished operations, and what is kept of topics.
const FULL: usize = 20;
/// Runs so many operations on the bus in memory, and prints the memory of this process every [`STEP`] of a hundred.
pub(crate) fn run(flows: usize, in_flight: usize) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = Embedded::open(Arc::clone(&clock), EmbeddedOptions::default());
    let system = Arc::new(System::new(Arc::new(bus.clone()), SystemOptions::default())?);
    let (names, topology) = (&system.options.topics, system.topology.name());
    let (inbox, egress) = (names.inbox(topology, HUB), names.egress(topology, HUB));
    let mut parts = Threads::default();
    let speaker = SpeakerPart::join(&bus, &system.speaker_topic(), "speaker-1", SpeakerHandle::new())?;
    parts.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Part>)))?;
    let of = Arc::clone(&system);
    let make = move || Ok(Box::new(of.shard(HUB, "hub-1")?) as Box<dyn Part>);
    parts.spawn("hub", Arc::clone(&clock), Box::new(make))?;

    let mut clients = CreateAndRemove::new(in_flight);
    let mut figures: BTreeMap<usize, u64> = BTreeMap::new();
    let mut begun = clock.mono();
    println!("| done | operations | operations/s since the last row | memory |\n|---|---|---|---|");
    let lanes = system.options.lanes;
    let asking = Asking {
        bus: &bus,
        inbox,
        egress,
        lanes,
        in_flight,
        per_s: None,
        may_repeat: false,
        has_failed: &|| parts.has_failed(),
    };
    asking.run(
        flows,
        |who| clients.next(who),
        |answered, _took| {
            let percent = answered * 100 / flows;
            if percent.is_multiple_of(STEP) && percent > 0 && !figures.contains_key(&percent) {
                let memory = memory_bytes()?;
                figures.insert(percent, memory);
                #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
                let rate = (flows * STEP / 100) as f64 / clock.mono().since(begun).as_secs_f64();
                begun = clock.mono();
                println!("| {percent} % | {answered} | {rate:.0} | {:.1} MB |", megabytes(memory));
            }
            Ok(())
        },
    )?;
    parts.stop();
    let at = |percent: usize| figures.get(&percent).copied().context("it has a row");
    let (full, end) = (megabytes(at(FULL)?), megabytes(at(100)?));
    println!("\nfrom {FULL} % to the end: {:+.1} MB", end - full);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a size of memory")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
