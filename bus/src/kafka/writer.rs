//! A writer outside all transactions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::cluster::Cluster;
use super::fault;
use super::health::Appending;
use super::options::{APPEND, KafkaOptions};
use super::sender::{Pace, Queues, Sender, WaitPolicy};
use crate::{BusError, Outgoing, Writer};

/// Maximum attempts of an append: two, so that a stuck client or a short broker outage is survived.
/// Each attempt lasts up to [`APPEND`], during which librdkafka itself repeats unanswered requests.
const TRIES: u32 = 2;

/// librdkafka checks for expired records once a second, and reports them.
const PATIENCE: Duration = APPEND.saturating_add(Duration::from_secs(2));

/// A writer with up to two idempotent producers, one for each pace.
pub(super) struct KafkaWriter {
    cluster: Arc<Cluster>,
    options: KafkaOptions,
    name: String,
    appending: Arc<Appending>,
    /// Sends at once. For appends with few records per partition. `None` after an error that it
    /// does not survive.
    single: Option<Sender>,
    /// Sends batches. `None` after an error that it does not survive.
    batches: Option<Sender>,
}

impl KafkaWriter {
    /// Creates the writer; sends nothing yet.
    pub(super) fn open(cluster: Arc<Cluster>, options: &KafkaOptions, name: &str) -> Result<Self, BusError> {
        let appending = cluster.health().writer(name);
        let (options, name) = (options.clone(), name.into());
        let mut writer = Self { cluster, options, name, appending, single: None, batches: None };
        // Reject an invalid property here, not at the first append. Both clients connect now:
        // connecting at the first append would add some 300 ms to it.
        writer.sender(Pace::Single)?;
        writer.sender(Pace::Batched)?;
        Ok(writer)
    }

    fn slot(&mut self, pace: Pace) -> &mut Option<Sender> {
        match pace {
            Pace::Single => &mut self.single,
            Pace::Batched => &mut self.batches,
        }
    }

    fn sender(&mut self, pace: Pace) -> Result<&Sender, BusError> {
        if self.slot(pace).is_none() {
            let made = Sender::open(&self.options.writer(&self.name, pace), pace)?;
            *self.slot(pace) = Some(made);
        }
        Ok(self.slot(pace).as_ref().expect("it was just made"))
    }

    /// Tries an append once. The outer error is from creating a client, the inner one from the
    /// append.
    fn try_once(&mut self, queues: &mut Queues<'_>, pace: Pace) -> Result<Result<(), KafkaError>, BusError> {
        let cluster = Arc::clone(&self.cluster);
        self.appending.begins(cluster.clock().mono());
        let sender = self.sender(pace)?;
        sender.begin(queues);
        let mut patience = WaitPolicy { limit: PATIENCE, meanwhile: &mut || true };
        let sent = sender.send(queues, cluster.clock(), &mut patience).and_then(|()| sender.settle(&mut patience));
        let Err(stopped) = sent else { return Ok(Ok(())) };
        queues.rewind(&sender.open_queues());
        // Records still in its queues must not be written later.
        *self.slot(pace) = None;
        Ok(Err(stopped.fault()))
    }

    fn try_twice(&mut self, records: &[Outgoing], partitions: &[i32]) -> Result<(), BusError> {
        let mut queues = Queues::of(records, partitions);
        let pace = queues.pace();
        for _ in 1..TRIES {
            match self.try_once(&mut queues, pace)? {
                Err(fault) if fault::code(&fault).is_some_and(fault::is_silence) => {
                    tracing::warn!(writer = self.name, %fault, "an append got no response; retrying");
                    self.cluster.health().retries();
                }
                sent => return sent.map_err(|fault| self.failed(&fault, records)),
            }
        }
        self.try_once(&mut queues, pace)?.map_err(|fault| self.failed(&fault, records))
    }

    fn failed(&self, fault: &KafkaError, records: &[Outgoing]) -> BusError {
        let deleted = self.cluster.deleted_topic(fault::code(fault), records);
        deleted.unwrap_or_else(|| fault::bus("cannot append", fault))
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
