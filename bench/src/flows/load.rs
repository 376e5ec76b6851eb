//! Requests flows and measures their latency and their resource usage.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock};

use crate::load_generator::{LoadGenerator, Operation};
use crate::usage::{memory_bytes, processor_ms};

/// The system under load.
pub(crate) struct Load<'a> {
    pub(crate) bus: &'a dyn Bus,
    pub(crate) inbox: String,
    pub(crate) egress: String,
    pub(crate) lanes: u32,
    /// All topics, to count the records of a flow.
    pub(crate) topics: Vec<String>,
    /// The process id of the broker, if it is on this machine.
    pub(crate) broker: Option<u32>,
    /// See [`LoadGenerator::may_repeat`].
    pub(crate) may_repeat: bool,
    /// See [`LoadGenerator::has_failed`].
    pub(crate) has_failed: &'a dyn Fn() -> bool,
}

/// The latencies of all flows, and the total time.
pub(crate) struct Latencies {
    /// Sorted.
    each: Vec<Duration>,
    took: Duration,
}

impl Latencies {
    pub(crate) fn new(mut each: Vec<Duration>, took: Duration) -> Self {
        each.sort_unstable();
        Self { each, took }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of flows")]
    pub(crate) fn rate(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency at this rank of a thousand, such as 990 for p99.
    pub(crate) fn at(&self, per_mille: usize) -> String {
        let index = (self.each.len() - 1) * per_mille / 1_000;
        format!("{:.2} ms", self.each[index].as_secs_f64() * 1_000.0)
    }
}

/// The results, per flow.
pub(crate) struct Figures {
    latencies: Latencies,
    records: f64,
    processor_ms: f64,
    /// Processor time of the broker, if it is on this machine.
    broker_ms: Option<f64>,
    memory_mb: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { latencies, records, processor_ms, broker_ms, memory_mb } = self;
        let (rate, p50, p99, p999) = (latencies.rate(), latencies.at(500), latencies.at(990), latencies.at(999));
        let broker = broker_ms.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"));
        write!(
            f,
            "| {rate:.0} | {p50} | {p99} | {p999} | {records:.1} | {processor_ms:.2} ms | {broker} | {memory_mb} MB |"
        )
    }
}

impl Load<'_> {
    /// Keeps `in_flight` flows in flight until `flows` are answered, after a warm-up of a tenth
    /// whose latencies do not count.
    ///
    /// Records, processor time and memory include the warm-up. Counting records needs hundreds of
    /// requests to the broker, so it happens before the first flow and after the last.
    pub(crate) fn run(&self, flows: usize, in_flight: usize) -> anyhow::Result<Figures> {
        let clock: Arc<dyn Clock> = self.bus.clock();
        let warm = (flows / 10).max(in_flight.min(flows));
        let mut latencies = Vec::with_capacity(flows);
        let before = self.used()?;
        let mut begun = clock.mono();
        let (inbox, egress) = (self.inbox.clone(), self.egress.clone());
        let load = LoadGenerator {
            bus: self.bus,
            inbox,
            egress,
            lanes: self.lanes,
            in_flight,
            per_s: None,
            may_repeat: self.may_repeat,
            has_failed: self.has_failed,
        };
        let mut numbers = 0..;
        let request = |_client| {
            let n = numbers.next().unwrap_or(0);
            Operation::create(format!("op-{n}"), format!("flow-{n}"), 10)
        };
        load.run(flows + warm, request, |answered, took| {
            if answered == warm {
                begun = clock.mono();
            } else if answered > warm {
                latencies.push(took);
            }
            Ok(())
        })?;
        let took = clock.mono().since(begun);
        let after = self.used()?;
        #[expect(clippy::cast_precision_loss, reason = "counts of flows and records")]
        let of = |n: u64| n as f64 / (flows + warm) as f64;
        Ok(Figures {
            latencies: Latencies::new(latencies, took),
            records: of(after.records - before.records),
            processor_ms: of(after.processor_ms - before.processor_ms),
            broker_ms: after.broker_ms.zip(before.broker_ms).map(|(after, before)| of(after - before)),
            memory_mb: after.memory_mb,
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
        let broker_ms = self.broker.map(|process| processor_ms(&process.to_string())).transpose()?;
        Ok(Used { records, processor_ms: processor_ms("self")?, broker_ms, memory_mb: memory_bytes()? >> 20 })
    }
}

struct Used {
    records: u64,
    processor_ms: u64,
    broker_ms: Option<u64>,
    memory_mb: u64,
}
