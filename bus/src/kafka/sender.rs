//! A producer, and the pace at which records are handed to it.
//!
//! librdkafka 2.12 limits what an idempotent producer has in flight for a partition: to five requests, but it counts records. A
//! partition that has five records in flight and one more in its queue cannot send, and the thread that serves the broker then asks
//! `poll()` without a pause until the answer comes: a whole core for each producer, and on a machine of two cores none is left for a
//! broker that is to answer. (`rd_kafka_toppar_producer_serve`: `rktp_msgs_inflight` against `RD_KAFKA_IDEMP_MAX_INFLIGHT`, after
//! `rd_kafka_msgq_allow_wakeup_at` has set the next wake-up to now.)
//!
//! So no record is handed over for a partition while a batch of it is in flight. A batch is what librdkafka sends as one request: it
//! waits for [`LINGER`] after the first record, and all others are handed over within half of that. That costs nothing: with more than
//! five records in flight the next request had to wait for the answer anyway.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use super::convert;
use super::deliveries::{Deliveries, Waited};
use super::fault;
use crate::{BusError, Clock, Outgoing};

/// How long a producer of batches waits for more records after the first (`linger.ms`).
pub(super) const LINGER: Duration = Duration::from_millis(1);

/// A batch ends this long after its first record, so that the last one comes before librdkafka sends it.
const WINDOW: Duration = Duration::from_micros(500);

/// So few records of a partition never make librdkafka wait for an answer before it sends the rest (see the head of this file).
pub(super) const FREE: usize = 5;

/// The largest batch: half of what librdkafka puts into a request (`batch.num.messages`, `batch.size`).
const BATCH_RECORDS: usize = 5_000;
const BATCH_BYTES: usize = 500_000;

/// Bytes of a record in a request besides its key, headers and value: some 36 bytes by the protocol.
const OVERHEAD: usize = 64;

/// How long one wait lasts. Between two of them a member polls its group.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// How long the polling thread polls at a time, and so how long a producer that is dropped waits for it at most. The crate's `poll`
/// returns no sooner and spins for the last fraction of a millisecond, so a shorter time costs more.
const POLL: Duration = Duration::from_millis(100);

/// Between two looks at whether the client has let go of what it reported on.
const STEP: Duration = Duration::from_micros(50);
/// How many of them there are at most: one tenth of a second.
const STEPS: u32 = 2_000;

/// How records are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// For few records: each is sent at once. At most [`FREE`] of a partition are in flight.
    Singly,
    /// For many: each partition waits for [`LINGER`], and sends a batch.
    InBatches,
}

impl Pace {
    /// Whether a batch of so many records and bytes is full.
    fn is_full(self, records: usize, bytes: usize, age: impl FnOnce() -> Duration) -> bool {
        match self {
            Self::Singly => records >= FREE,
            Self::InBatches => records >= BATCH_RECORDS || bytes > BATCH_BYTES || (records >= FREE && age() >= WINDOW),
        }
    }
}

/// The records of one append, by partition, and how far each partition is.
pub(super) struct Queues<'a>(Vec<Queue<'a>>);

struct Queue<'a> {
    partition: i32,
    records: Vec<&'a Outgoing>,
    /// Where the batch begins that was handed over last.
    batch: usize,
    /// The first record that was not handed over.
    next: usize,
}

impl<'a> Queues<'a> {
    /// Records that were routed to these partitions.
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

    /// The pace that suits them.
    pub(super) fn pace(&self) -> Pace {
        let few = self.0.iter().all(|queue| queue.records.len() <= FREE);
        if few { Pace::Singly } else { Pace::InBatches }
    }

    /// Goes back to the start of the last batch of each partition for which `open` is true.
    pub(super) fn rewind(&mut self, open: &[bool]) {
        for (queue, _) in self.0.iter_mut().zip(open).filter(|(_, open)| **open) {
            queue.next = queue.batch;
        }
    }

    /// The numbers of those that have records left to hand over.
    fn pending(&self) -> Vec<usize> {
        let pending = self.0.iter().enumerate().filter(|(_, queue)| queue.next < queue.records.len());
        pending.map(|(number, _)| number).collect()
    }
}

/// Why records were not sent, or are not known to be durable.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client says so.
    Failed(KafkaError),
    /// No report came for as long as it was waited for.
    Silent,
    /// The sender has lost its place in the group, so the records must not be committed.
    Abandoned,
}

impl From<KafkaError> for Stopped {
    fn from(fault: KafkaError) -> Self {
        Self::Failed(fault)
    }
}

impl Stopped {
    /// The same as a fault of the client.
    pub(super) fn fault(self) -> KafkaError {
        match self {
            Self::Failed(fault) => fault,
            Self::Silent => KafkaError::MessageProduction(Code::MessageTimedOut),
            Self::Abandoned => KafkaError::MessageProduction(Code::AssignmentLost),
        }
    }
}

/// How long to wait for reports, and what to do meanwhile.
pub(super) struct Patience<'a> {
    /// Without any report for this long, waiting ends.
    pub(super) most: Duration,
    /// Called every [`SLICE`]. Where it gives false, waiting ends.
    pub(super) meanwhile: &'a mut dyn FnMut() -> bool,
}

/// A producer, and the thread that receives its reports. The thread sleeps while nothing is in flight.
pub(super) struct Sender {
    producer: Arc<BaseProducer<Deliveries>>,
    pace: Pace,
    polling: Option<JoinHandle<()>>,
}

impl Sender {
    /// Sets a client up, whose `linger.ms` suits the pace.
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
        let polling = polling.map_err(|fault| BusError::Unavailable(format!("no thread for a client: {fault}")))?;
        Ok(Self { producer, pace, polling: Some(polling) })
    }

    /// The client.
    pub(super) fn producer(&self) -> &BaseProducer<Deliveries> {
        &self.producer
    }

    fn deliveries(&self) -> &Deliveries {
        self.producer.context()
    }

    /// Nothing of an append is in flight, and nothing has failed.
    pub(super) fn begin(&self, queues: &Queues<'_>) {
        self.deliveries().begin(queues.0.len());
    }

    /// Hands records over. The last batch of each partition may be in flight when this returns.
    pub(super) fn send(
        &self,
        queues: &mut Queues<'_>,
        clock: &dyn Clock,
        patience: &mut Patience<'_>,
    ) -> Result<(), Stopped> {
        loop {
            let in_flight = self.deliveries().queues();
            let mut is_full = false;
            for number in queues.pending().into_iter().filter(|number| in_flight[*number] == 0) {
                is_full |= !self.hand_over(number, &mut queues.0[number], clock)?;
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

    /// Hands over the next batch of a partition of which nothing is in flight. False where the client has no room for all of it.
    fn hand_over(&self, number: usize, queue: &mut Queue<'_>, clock: &dyn Clock) -> Result<bool, KafkaError> {
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

    /// Waits until all that was handed over is durable. librdkafka gives up on a record after `message.timeout.ms`, so this ends.
    pub(super) fn settle(&self, patience: &mut Patience<'_>) -> Result<(), Stopped> {
        self.wait(&[], patience)?;
        // The client reports on a record a moment before it frees it, and a commit that still finds one waits for 100 ms. Other events
        // count as records in flight too, so this wait has a bound.
        for _ in 0..STEPS {
            if self.producer.in_flight_count() == 0 {
                break;
            }
            thread::park_timeout(STEP);
        }
        Ok(())
    }

    fn wait(&self, queues: &[usize], patience: &mut Patience<'_>) -> Result<(), Stopped> {
        let mut silent = Duration::ZERO;
        loop {
            match self.deliveries().wait(SLICE, queues) {
                Waited::Settled => return Ok(()),
                Waited::Failed(code) => return Err(KafkaError::MessageProduction(code).into()),
                Waited::Progressed => silent = Duration::ZERO,
                Waited::Silent => silent += SLICE,
            }
            if silent >= patience.most {
                return Err(Stopped::Silent);
            }
            if !(patience.meanwhile)() {
                return Err(Stopped::Abandoned);
            }
        }
    }

    /// For each partition of the append, whether a record of it is not known to be durable that was handed over.
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
            tracing::error!("the thread panicked that takes in the reports of a client");
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
        assert_eq!(Queues::of(&records, &partitions).pace(), Pace::Singly);
        assert_eq!(Queues::of(&records[1..], &vec![0; records.len() - 1]).pace(), Pace::InBatches);
    }

    #[test]
    fn records_keep_their_order_within_a_partition_of_a_topic() {
        let records = ["a", "b", "a"].map(|topic| Outgoing::keyed(topic, "k", "v"));
        let queues = Queues::of(&records, &[1, 1, 1]);
        assert_eq!(queues.0.iter().map(|queue| queue.records.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(queues.pending(), [0, 1]);
    }

    #[test]
    fn an_append_goes_on_with_the_batches_that_are_not_known_to_be_durable() {
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
    fn a_batch_ends_before_the_client_sends_it_or_cuts_it() {
        assert!(!Pace::InBatches.is_full(BATCH_RECORDS - 1, BATCH_BYTES, young));
        assert!(Pace::InBatches.is_full(BATCH_RECORDS, 0, young));
        assert!(Pace::InBatches.is_full(1, BATCH_BYTES + 1, young));
        assert!(Pace::InBatches.is_full(FREE, 0, || WINDOW) && WINDOW < LINGER);
        assert!(!Pace::InBatches.is_full(FREE - 1, 0, || LINGER), "so few can always be sent");
        assert!(Pace::Singly.is_full(FREE, 0, young) && !Pace::Singly.is_full(FREE - 1, 0, young));
    }
}
