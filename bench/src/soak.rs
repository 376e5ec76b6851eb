//! Operations in a row, for as long as one likes, and the memory that is in use: it has to be flat.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock, Embedded, EmbeddedOptions, Part, Record};
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{HUB, System, SystemOptions};
use topology::driver::Threads;
use wire::OperationId;

use crate::flows::load::{create, request};
use crate::used::memory_bytes;

/// Each of those that ask has so many flows of its own, one after the other: so the registry is bounded.
const FLOWS: usize = 16;
/// A row after so many of a hundred.
const STEP: usize = 5;
/// What is full after this is compared with the end: what is remembered of finished operations, and what is kept of topics.
const FULL: usize = 20;
/// Without any answer for so long, something is broken.
const PATIENCE_MS: u64 = 20_000;

/// One of those that ask: it creates a flow, removes it when that stands, and goes on with the next.
struct Client {
    number: usize,
    asked: usize,
}

impl Client {
    /// What it asks next: the flow, and the body.
    fn next(&mut self) -> (String, serde_json::Value) {
        let (pair, is_create) = (self.asked / 2, self.asked.is_multiple_of(2));
        let flow = format!("flow-{}-{}", self.number, pair % FLOWS);
        self.asked += 1;
        if is_create {
            let length = u32::try_from(pair % 3).unwrap_or(0) + 1;
            let body = create(&flow, length);
            return (flow, body);
        }
        let body = serde_json::json!({"workflow": "remove-flow", "request": {"flowid": flow}});
        (flow, body)
    }
}

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

    let (mut writer, mut reader) = (bus.writer("soak")?, bus.reader()?);
    for lane in 0..system.options.lanes {
        reader.assign(&egress, lane, 0)?;
    }
    let mut waiting: BTreeMap<OperationId, Client> = BTreeMap::new();
    let mut free: Vec<Client> = (0..in_flight).map(|number| Client { number, asked: 0 }).collect();
    let mut answers: Vec<Record> = Vec::new();
    let mut figures: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut asked, mut answered) = (0, 0);
    let (mut begun, mut until) = (clock.mono(), clock.mono().plus_ms(PATIENCE_MS));
    println!("| done | operations | operations/s since the last row | memory |\n|---|---|---|---|");
    while answered < flows {
        let mut batch = Vec::new();
        while asked < flows
            && let Some(mut client) = free.pop()
        {
            let (flow, body) = client.next();
            let (id, request) = request(&inbox, asked, &flow, &body)?;
            waiting.insert(id, client);
            batch.push(request);
            asked += 1;
        }
        writer.append(&batch)?;
        answers.clear();
        reader.poll(10_000, Duration::from_secs(1), &mut answers)?;
        let now = clock.mono();
        if !answers.is_empty() {
            until = now.plus_ms(PATIENCE_MS);
        }
        anyhow::ensure!(now < until, "no answer for {PATIENCE_MS} ms; {answered} came");
        for answer in &answers {
            let operation = answer.headers.envelope()?.operation.context("an answer names its operation")?;
            free.push(waiting.remove(&operation).context("an answer to something that was asked, and one")?);
            let text = String::from_utf8_lossy(&answer.value);
            anyhow::ensure!(text.contains("\"done\""), "an operation failed: {text}");
            answered += 1;
            let percent = answered * 100 / flows;
            if percent.is_multiple_of(STEP) && percent > 0 && !figures.contains_key(&percent) {
                let memory = memory_bytes()?;
                figures.insert(percent, memory);
                #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
                let rate = (flows * STEP / 100) as f64 / clock.mono().since(begun).as_secs_f64();
                begun = clock.mono();
                println!("| {percent} % | {answered} | {rate:.0} | {:.1} MB |", megabytes(memory));
            }
        }
    }
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
