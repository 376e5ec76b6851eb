//! A writer outside all transactions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::cluster::Cluster;
use super::fault;
use super::health::Appending;
use super::options::{APPEND, KafkaOptions};
use super::sender::{Pace, Patience, Queues, Sender};
use crate::{BusError, Outgoing, Writer};

/// How often an append is tried: twice, so that a client that is stuck or a broker that was away ends nothing. Each try lasts for
/// [`APPEND`], during which librdkafka itself repeats requests without an answer.
const TRIES: u32 = 2;

/// librdkafka looks once a second for records whose time is over, and reports on them.
const PATIENCE: Duration = APPEND.saturating_add(Duration::from_secs(2));

/// Idempotent producers.
pub(super) struct KafkaWriter {
    cluster: Arc<Cluster>,
    options: KafkaOptions,
    name: String,
    appending: Arc<Appending>,
    /// Sends at once. It serves appends with at most a few records for each partition. None after a fault that it does not survive.
    single: Option<Sender>,
    /// Sends batches. None after a fault likewise.
    batches: Option<Sender>,
}

impl KafkaWriter {
    /// Nothing is sent yet.
    pub(super) fn open(cluster: Arc<Cluster>, options: &KafkaOptions, name: &str) -> Result<Self, BusError> {
        let appending = cluster.health().writer(name);
        let (options, name) = (options.clone(), name.into());
        let mut writer = Self { cluster, options, name, appending, single: None, batches: None };
        // A wrong property is refused here, not with the first append. Both clients connect now: one that began with the first append
        // would add some 300 ms to it.
        writer.sender(Pace::Singly)?;
        writer.sender(Pace::InBatches)?;
        Ok(writer)
    }

    fn slot(&mut self, pace: Pace) -> &mut Option<Sender> {
        match pace {
            Pace::Singly => &mut self.single,
            Pace::InBatches => &mut self.batches,
        }
    }

    fn sender(&mut self, pace: Pace) -> Result<&Sender, BusError> {
        if self.slot(pace).is_none() {
            let made = Sender::open(&self.options.writer(&self.name, pace), pace)?;
            *self.slot(pace) = Some(made);
        }
        Ok(self.slot(pace).as_ref().expect("it was just made"))
    }

    /// The outer fault is of setting a client up, the inner one of the append.
    fn try_once(&mut self, queues: &mut Queues<'_>, pace: Pace) -> Result<Result<(), KafkaError>, BusError> {
        let cluster = Arc::clone(&self.cluster);
        self.appending.begins(cluster.clock().mono());
        let sender = self.sender(pace)?;
        sender.begin(queues);
        let mut patience = Patience { most: PATIENCE, meanwhile: &mut || true };
        let sent = sender.send(queues, cluster.clock(), &mut patience).and_then(|()| sender.settle(&mut patience));
        let Err(stopped) = sent else { return Ok(Ok(())) };
        queues.rewind(&sender.open_queues());
        // Records still in its queues must not be written later, unasked.
        *self.slot(pace) = None;
        Ok(Err(stopped.fault()))
    }

    fn try_twice(&mut self, records: &[Outgoing], partitions: &[i32]) -> Result<(), BusError> {
        let mut queues = Queues::of(records, partitions);
        let pace = queues.pace();
        for _ in 1..TRIES {
            match self.try_once(&mut queues, pace)? {
                Err(fault) if fault::code(&fault).is_some_and(fault::is_silence) => {
                    tracing::warn!(writer = self.name, %fault, "an append got no answer, and is tried again");
                    self.cluster.health().retries();
                }
                sent => return sent.map_err(|fault| fault::bus("cannot append", &fault)),
            }
        }
        self.try_once(&mut queues, pace)?.map_err(|fault| fault::bus("cannot append", &fault))
    }
}

impl Writer for KafkaWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let partitions: Vec<i32> = records.iter().map(|record| self.cluster.route(record)).collect::<Result<_, _>>()?;
        if records.is_empty() {
            return Ok(());
        }
        let appended = self.try_twice(records, &partitions);
        self.appending.ends();
        appended
    }
}
