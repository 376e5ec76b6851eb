//! Asks for flows, so many at once, and measures until the answers come.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock, MonoTime, Outgoing, Record};
use wire::{Envelope, Kind, OperationId};

/// What is asked over which topics.
pub(super) struct Load<'a> {
    pub(super) bus: &'a dyn Bus,
    pub(super) inbox: String,
    pub(super) egress: String,
    pub(super) lanes: u32,
    /// All topics, to count what a flow writes.
    pub(super) topics: Vec<String>,
}

/// What came of it.
pub(super) struct Figures {
    rate: f64,
    /// Sorted.
    latencies: Vec<Duration>,
    records: f64,
    processor_ms: f64,
    memory_mb: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |per_mille: usize| {
            let index = (self.latencies.len() - 1) * per_mille / 1_000;
            format!("{:.2} ms", self.latencies[index].as_secs_f64() * 1_000.0)
        };
        write!(
            f,
            "| {:.0} | {} | {} | {} | {:.1} | {:.2} ms | {} MB |",
            self.rate,
            at(500),
            at(990),
            at(999),
            self.records,
            self.processor_ms,
            self.memory_mb
        )
    }
}

impl Load<'_> {
    /// Keeps `in_flight` flows in flight until `flows` are answered; a tenth more comes before them, and is not counted.
    pub(super) fn run(&self, flows: usize, in_flight: usize) -> anyhow::Result<Figures> {
        let clock: Arc<dyn Clock> = self.bus.clock();
        let mut writer = self.bus.writer("load")?;
        let mut reader = self.bus.reader()?;
        for lane in 0..self.lanes {
            reader.assign(&self.egress, lane, self.bus.bounds(&self.egress, lane)?.end)?;
        }
        let warm = (flows / 10).max(in_flight.min(flows));
        let mut sent: BTreeMap<OperationId, MonoTime> = BTreeMap::new();
        let mut latencies = Vec::with_capacity(flows);
        let mut answers: Vec<Record> = Vec::new();
        let (mut next, mut answered) = (0, 0);
        let (mut begun, mut before) = (clock.mono(), self.used()?);
        while answered < flows + warm {
            let mut batch = Vec::new();
            while sent.len() < in_flight && next < flows + warm {
                let (id, request) = request(&self.inbox, next)?;
                sent.insert(id, clock.mono());
                batch.push(request);
                next += 1;
            }
            writer.append(&batch)?;
            answers.clear();
            reader.poll(10_000, Duration::from_secs(20), &mut answers)?;
            anyhow::ensure!(!answers.is_empty(), "no answer for 20 s; {answered} came");
            let now = clock.mono();
            for answer in &answers {
                let operation = answer.headers.envelope()?.operation.context("an answer names its operation")?;
                let at = sent.remove(&operation).context("an answer to something that was asked, and one")?;
                anyhow::ensure!(answer.value.windows(6).any(|w| w == b"\"done\""), "a flow failed");
                answered += 1;
                if answered == warm {
                    (begun, before) = (now, self.used()?);
                } else if answered > warm {
                    latencies.push(now.since(at));
                }
            }
        }
        let took = clock.mono().since(begun);
        let after = self.used()?;
        latencies.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "counts of flows and records")]
        let of = |n: u64| n as f64 / flows as f64;
        Ok(Figures {
            rate: rate(latencies.len(), took),
            records: of(after.records - before.records),
            processor_ms: of(after.processor_ms - before.processor_ms),
            memory_mb: after.memory_mb,
            latencies,
        })
    }

    fn used(&self) -> anyhow::Result<Used> {
        let mut records = 0;
        for topic in &self.topics {
            let partitions = self.bus.topic(topic)?.map_or(0, |topic| topic.partitions);
            for partition in 0..partitions {
                records += self.bus.bounds(topic, partition)?.end;
            }
        }
        Ok(Used { records, processor_ms: processor_ms()?, memory_mb: memory_mb()? })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of flows")]
fn rate(flows: usize, took: Duration) -> f64 {
    flows as f64 / took.as_secs_f64()
}

struct Used {
    records: u64,
    processor_ms: u64,
    memory_mb: u64,
}

/// User and system time of this process so far, as Linux counts it: in hundredths of a second.
fn processor_ms() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in the second field may hold blanks; it ends with the last bracket.
    let fields = stat.rsplit_once(')').context("a bracket")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * 10)
}

/// The memory of this process that is in use now.
fn memory_mb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line for the memory")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1024)
}

fn request(inbox: &str, n: usize) -> anyhow::Result<(OperationId, Outgoing)> {
    let flow = format!("flow-{n}");
    let id = OperationId::new(&format!("op-{n}"))?;
    let mut envelope = Envelope::new(Kind::Request, id.as_str(), "/bench");
    envelope.operation = Some(id.clone());
    let body = serde_json::json!({"workflow": "create-flow", "request": {"flowid": flow, "length": 10, "error": null}});
    Ok((id, Outgoing::keyed(inbox, flow, body.to_string()).with(&envelope)))
}
