//! A producer, and the pace at which it receives records.
//!
//! librdkafka 2.12 limits an idempotent producer to five requests in flight per partition, but it
//! counts records. A partition with five records in flight and one more queued cannot send. The
//! broker's thread then calls `poll()` in a busy loop until the response arrives. That occupies a
//! whole core per producer; a machine with two cores has none left for the broker.
//! (`rd_kafka_toppar_producer_serve` compares `rktp_msgs_inflight` with
//! `RD_KAFKA_IDEMP_MAX_INFLIGHT`, after `rd_kafka_msgq_allow_wakeup_at` has set the next wake-up to
//! now.)
//!
//! So no record is passed to the producer while a batch of its partition is in flight. A batch is
//! what librdkafka sends as one request: it waits for [`LINGER`] after the first record, and all
//! others follow within half of that time. This costs nothing: with more than five records in
//! flight the next request had to wait for the response anyway.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use super::convert;
use super::deliveries::{Deliveries, WaitOutcome};
use super::fault;
use crate::{BusError, Clock, Outgoing};

/// How long a batching producer waits for more records after the first (`linger.ms`).
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// A batch ends this long after its first record, so that its last record arrives before librdkafka
/// sends it.
const WINDOW: Duration = Duration::from_micros(500);

/// Number of records per partition that never make librdkafka wait for a response (see the top of
/// this file).
pub(super) const FREE: usize = 5;

/// Maximum batch size: half of what librdkafka puts into a request (`batch.num.messages`,
/// `batch.size`).
const BATCH_RECORDS: usize = 5_000;
const BATCH_BYTES: usize = 500_000;

/// Protocol overhead of a record in a request: some 36 bytes, rounded up.
const OVERHEAD: usize = 64;

/// Duration of one wait. Between two waits a member polls its group.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// Duration of one poll of the polling thread, and so the longest wait when a producer is dropped.
/// The crate's `poll` never returns early and spins for the last fraction of a millisecond, so a
/// shorter time costs more.
const POLL: Duration = Duration::from_millis(100);

/// Interval between checks whether the client has freed the records it reported on.
const STEP: Duration = Duration::from_micros(50);
/// Maximum number of these checks: a tenth of a second.
const STEPS: u32 = 2_000;

/// How records are passed to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// For few records: each is sent at once. At most [`FREE`] per partition are in flight.
    Single,
    /// For many records: each partition waits for [`LINGER`] and sends a batch.
    Batched,
}

impl Pace {
    /// True if a batch with this many records and bytes is full.
    fn is_full(self, records: usize, bytes: usize, age: impl FnOnce() -> Duration) -> bool {
        match self {
            Self::Single => records >= FREE,
            Self::Batched => records >= BATCH_RECORDS || bytes > BATCH_BYTES || (records >= FREE && age() >= WINDOW),
        }
    }
}

/// The records of one append by partition, with the progress of each.
pub(super) struct Queues<'a>(Vec<Queue<'a>>);

struct Queue<'a> {
    partition: i32,
    records: Vec<&'a Outgoing>,
    /// Index of the first record of the last batch.
    batch: usize,
    /// Index of the first record that was not passed to the client.
    next: usize,
}

impl<'a> Queues<'a> {
    /// Groups records by their partitions.
    pub(super) fn of(records: &'a [Outgoing], partitions: &[i32]) -> Self {
        let (mut queues, mut places) = (Vec::new(), BTreeMap::new());
        for (record, partition) in records.iter().zip(partitions) {
            let place = match places.entry((&*record.topic, *partition)) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(place) => {
                    queues.push(Queue { partition: *partition, records: Vec::new(), batch: 0, next: 0 });
                    *place.insert(queues.len() - 1)
                }
            };
            queues[place].records.push(record);
        }
        Self(queues)
    }

    /// Returns the suitable pace.
    pub(super) fn pace(&self) -> Pace {
        let few = self.0.iter().all(|queue| queue.records.len() <= FREE);
        if few { Pace::Single } else { Pace::Batched }
    }

    /// Goes back to the start of the last batch in each partition for which `open` is true.
    pub(super) fn rewind(&mut self, open: &[bool]) {
        for (queue, _) in self.0.iter_mut().zip(open).filter(|(_, open)| **open) {
            queue.next = queue.batch;
        }
    }

    /// Returns the indices of the queues with records left to send.
    fn pending(&self) -> Vec<usize> {
        let pending = self.0.iter().enumerate().filter(|(_, queue)| queue.next < queue.records.len());
        pending.map(|(number, _)| number).collect()
    }
}

/// Why records were not sent, or may not be durable.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client reported an error.
    Failed(KafkaError),
    /// No report arrived within the time limit.
    Silent,
    /// The sender lost its group membership, so the records must not be committed.
    Abandoned,
}

impl From<KafkaError> for SendError {
    fn from(fault: KafkaError) -> Self {
        Self::Failed(fault)
    }
}

impl SendError {
    /// Converts to a client error.
    pub(super) fn fault(self) -> KafkaError {
        match self {
            Self::Failed(fault) => fault,
            Self::Silent => KafkaError::MessageProduction(Code::MessageTimedOut),
            Self::Abandoned => KafkaError::MessageProduction(Code::AssignmentLost),
        }
    }
}

/// How long to wait for reports, and what to do meanwhile.
pub(super) struct WaitPolicy<'a> {
    /// Time limit without any report.
    pub(super) limit: Duration,
    /// Called every [`SLICE`]. Waiting ends if it returns false.
    pub(super) meanwhile: &'a mut dyn FnMut() -> bool,
}

/// A producer, and the thread that receives its reports. The thread sleeps while nothing is in
/// flight.
pub(super) struct Sender {
    producer: Arc<BaseProducer<Deliveries>>,
    pace: Pace,
    polling: Option<JoinHandle<()>>,
}

impl Sender {
    /// Creates a client; its `linger.ms` must suit the pace.
    pub(super) fn open(config: &ClientConfig, pace: Pace) -> Result<Self, BusError> {
        let made = config.create_with_context(Deliveries::default());
        let producer: Arc<BaseProducer<Deliveries>> =
            Arc::new(made.map_err(|fault| fault::bus("cannot set up a client", &fault))?);
        let polled = Arc::clone(&producer);
        let poll = move || {
            while polled.context().wait_for_work() {
                polled.poll(POLL);
            }
        };
        let polling = thread::Builder::new().name("kafka-reports".into()).spawn(poll);
        let polling =
            polling.map_err(|fault| BusError::Unavailable(format!("cannot start a thread for a client: {fault}")))?;
        Ok(Self { producer, pace, polling: Some(polling) })
    }

    /// Returns the client.
    pub(super) fn producer(&self) -> &BaseProducer<Deliveries> {
        &self.producer
    }

    fn deliveries(&self) -> &Deliveries {
        self.producer.context()
    }

    /// Starts an append: nothing in flight, no error.
    pub(super) fn begin(&self, queues: &Queues<'_>) {
        self.deliveries().begin(queues.0.len());
    }

    /// Sends the records. The last batch of each partition may be in flight on return.
    pub(super) fn send(
        &self,
        queues: &mut Queues<'_>,
        clock: &dyn Clock,
        patience: &mut WaitPolicy<'_>,
    ) -> Result<(), SendError> {
        loop {
            let in_flight = self.deliveries().queues();
            let mut is_full = false;
            for number in queues.pending().into_iter().filter(|number| in_flight[*number] == 0) {
                is_full |= !self.send_batch(number, &mut queues.0[number], clock)?;
            }
            let pending = queues.pending();
            if pending.is_empty() {
                return Ok(());
            }
            match (is_full, self.deliveries().in_flight()) {
                (true, 0) => return Err(KafkaError::MessageProduction(Code::QueueFull).into()),
                // Each record that leaves the client makes room.
                (true, _) => self.settle(patience)?,
                (false, _) => self.wait(&pending, patience)?,
            }
        }
    }

    /// Passes the next batch of a partition to the client; nothing of the partition may be in
    /// flight. Returns false if the client's queue is full.
    fn send_batch(&self, number: usize, queue: &mut Queue<'_>, clock: &dyn Clock) -> Result<bool, KafkaError> {
        let begun = clock.mono();
        let mut bytes = 0;
        queue.batch = queue.next;
        while let Some(record) = queue.records.get(queue.next) {
            bytes += record.size() + OVERHEAD;
            let records = queue.next - queue.batch;
            if records > 0 && self.pace.is_full(records, bytes, || clock.mono().since(begun)) {
                break;
            }
            self.deliveries().sends(number);
            if let Err((fault, _)) = self.producer.send(convert::outgoing(record, queue.partition, number)) {
                self.deliveries().not_sent(number);
                return match fault {
                    KafkaError::MessageProduction(Code::QueueFull) => Ok(false),
                    fault => Err(fault),
                };
            }
            queue.next += 1;
        }
        Ok(true)
    }

    /// Waits until all passed records are durable. This ends, because librdkafka gives up on a
    /// record after `message.timeout.ms`.
    pub(super) fn settle(&self, patience: &mut WaitPolicy<'_>) -> Result<(), SendError> {
        self.wait(&[], patience)?;
        // The client reports on a record a moment before it frees it, and a commit that finds such
        // a record waits for 100 ms. Other events count as records in flight too, so this wait is
        // bounded.
        for _ in 0..STEPS {
            if self.producer.in_flight_count() == 0 {
                break;
            }
            self.deliveries().pause(STEP);
        }
        Ok(())
    }

    fn wait(&self, queues: &[usize], patience: &mut WaitPolicy<'_>) -> Result<(), SendError> {
        let mut silent = Duration::ZERO;
        loop {
            match self.deliveries().wait(SLICE, queues) {
                WaitOutcome::Settled => return Ok(()),
                WaitOutcome::Failed(code) => return Err(KafkaError::MessageProduction(code).into()),
                WaitOutcome::Progressed => silent = Duration::ZERO,
                WaitOutcome::Silent => silent += SLICE,
            }
            if silent >= patience.limit {
                return Err(SendError::Silent);
            }
            if !(patience.meanwhile)() {
                return Err(SendError::Abandoned);
            }
        }
    }

    /// Returns, for each partition of the append, whether a passed record may not be durable.
    pub(super) fn open_queues(&self) -> Vec<bool> {
        self.deliveries().open_queues()
    }
}

impl Drop for Sender {
    /// Drops the records in the client's queues, so that none is written later.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.deliveries().close();
        if let Some(polling) = self.polling.take()
            && polling.join().is_err()
        {
            tracing::error!("the thread that receives delivery reports panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn young() -> Duration {
        Duration::ZERO
    }

    #[test]
    fn few_records_are_sent_singly_and_many_in_batches() {
        let record = Outgoing::keyed("t", "k", "v");
        let records = vec![record; FREE * 2];
        let partitions: Vec<i32> = (0..2).cycle().take(records.len()).collect();
        assert_eq!(Queues::of(&records, &partitions).pace(), Pace::Single);
        assert_eq!(Queues::of(&records[1..], &vec![0; records.len() - 1]).pace(), Pace::Batched);
    }

    #[test]
    fn records_keep_their_order_within_a_partition_of_a_topic() {
        let records = ["a", "b", "a"].map(|topic| Outgoing::keyed(topic, "k", "v"));
        let queues = Queues::of(&records, &[1, 1, 1]);
        assert_eq!(queues.0.iter().map(|queue| queue.records.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(queues.pending(), [0, 1]);
    }

    #[test]
    fn a_retry_repeats_only_batches_that_may_not_be_durable() {
        let records = vec![Outgoing::keyed("t", "k", "v"); 4];
        let mut queues = Queues::of(&records, &[0, 0, 1, 1]);
        for queue in &mut queues.0 {
            (queue.batch, queue.next) = (1, 2);
        }
        queues.rewind(&[false, true]);
        assert_eq!(queues.0.iter().map(|queue| queue.next).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(queues.pending(), [1]);
    }

    #[test]
    fn a_batch_ends_before_the_client_sends_or_splits_it() {
        assert!(!Pace::Batched.is_full(BATCH_RECORDS - 1, BATCH_BYTES, young));
        assert!(Pace::Batched.is_full(BATCH_RECORDS, 0, young));
        assert!(Pace::Batched.is_full(1, BATCH_BYTES + 1, young));
        assert!(Pace::Batched.is_full(FREE, 0, || WINDOW) && WINDOW < LINGER);
        assert!(!Pace::Batched.is_full(FREE - 1, 0, || LINGER), "few records can always be sent");
        assert!(Pace::Single.is_full(FREE, 0, young) && !Pace::Single.is_full(FREE - 1, 0, young));
    }
}
