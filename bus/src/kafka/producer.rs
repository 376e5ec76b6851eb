//! Sending, and transactions.

use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::context::Deliveries;
use super::fault;
use super::options::{KafkaOptions, REQUEST};
use crate::{BusError, CommitError, Outgoing};

/// The grain of waiting for delivery reports. The client's own flush waits in steps of 100 ms; and its poll turns a wait into
/// whole milliseconds, so that the last of them is none, and it asks again and again until its time is over: a core for as
/// long as a commit takes. Such a look takes some 5 microseconds.
const STEP: Duration = Duration::from_micros(100);

/// Takes in what the client has to report, and gives it a moment for more.
fn look(producer: &BaseProducer<Deliveries>) {
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() > 0 {
        std::thread::park_timeout(STEP);
    }
}

/// Sends records that were routed, and says when all of them are durable.
pub(super) fn send(
    producer: &BaseProducer<Deliveries>,
    records: &[Outgoing],
    partitions: &[i32],
) -> Result<(), KafkaError> {
    for (record, partition) in records.iter().zip(partitions) {
        let mut sent = super::convert::outgoing(record, *partition);
        let mut rounds = rounds(REQUEST);
        while let Err((fault, unsent)) = producer.send(sent) {
            // The local queue is full: let some of it leave.
            rounds = match fault {
                KafkaError::MessageProduction(Code::QueueFull) if rounds > 0 => rounds - 1,
                fault => return Err(fault),
            };
            look(producer);
            sent = unsent;
        }
    }
    Ok(())
}

/// Waits until all that was sent is durable. librdkafka gives up on a record after `message.timeout.ms`, so this ends.
pub(super) fn delivered(producer: &BaseProducer<Deliveries>, patience: Duration) -> Result<(), KafkaError> {
    for _ in 0..rounds(patience) {
        look(producer);
        if producer.in_flight_count() == 0 {
            break;
        }
    }
    match take_fault(producer) {
        Some(code) => Err(KafkaError::MessageProduction(code)),
        None if producer.in_flight_count() > 0 => Err(KafkaError::MessageProduction(Code::MessageTimedOut)),
        None => Ok(()),
    }
}

fn rounds(patience: Duration) -> u128 {
    patience.as_micros() / STEP.as_micros()
}

fn take_fault(producer: &BaseProducer<Deliveries>) -> Option<Code> {
    producer.client().context().take_fault()
}

/// Why a commit did not happen, with the code that the cluster gave for it.
pub(super) struct Failure {
    pub(super) code: Option<Code>,
    pub(super) error: CommitError,
}

impl From<BusError> for Failure {
    fn from(fault: BusError) -> Self {
        Self { code: None, error: CommitError::Failed(fault) }
    }
}

/// A transactional id, and the producer that holds it at the moment.
pub(super) struct Transactions {
    options: KafkaOptions,
    id: String,
    session: Duration,
    /// None where the last one met a fault that it may not outlive: a request of its that timed out could still arrive,
    /// and end a later transaction of the same instance. The next one's beginning ends whatever it left open.
    producer: Option<BaseProducer<Deliveries>>,
    /// The last one may have left a transaction open.
    left_open: bool,
}

impl Transactions {
    /// Nothing is connected yet.
    pub(super) fn new(options: &KafkaOptions, id: &str, session: Duration) -> Self {
        Self { options: options.clone(), id: id.into(), session, producer: None, left_open: false }
    }

    /// The id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes sure that no transaction of this id is open but what this process may begin: whoever else holds the id is
    /// fenced, and what it left open is aborted.
    pub(super) fn claim(&mut self) -> Result<&BaseProducer<Deliveries>, BusError> {
        if self.producer.is_none() {
            let what = format!("cannot claim the transactional id `{}`", self.id);
            let config = self.options.transactional(&self.id, self.session);
            let producer: BaseProducer<Deliveries> =
                config.create_with_context(Deliveries::default()).map_err(|fault| fault::bus(&what, &fault))?;
            // Fencing another takes up to a second.
            producer.init_transactions(REQUEST).map_err(|fault| fault::bus(&what, &fault))?;
            (self.producer, self.left_open) = (Some(producer), false);
        }
        Ok(self.producer.as_ref().expect("it was just made"))
    }

    /// The next commit has a new producer.
    pub(super) fn renew(&mut self) {
        self.producer = None;
    }

    /// Ends what may have been left open. Until then, or until its timeout, nothing after it can be read in the partitions that it wrote to,
    /// by anybody; whoever commits next ends it too, and one that has nothing to commit does it here.
    pub(super) fn end_open(&mut self) {
        if std::mem::take(&mut self.left_open)
            && let Err(error) = self.claim()
        {
            tracing::warn!(id = self.id, %error, "a transaction may stay open until its timeout");
        }
    }

    /// Commits records and offsets as one, in the name of a member of a group.
    pub(super) fn commit(
        &mut self,
        cluster: &Cluster,
        records: &[Outgoing],
        offsets: &TopicPartitionList,
        place: Option<&ConsumerGroupMetadata>,
    ) -> Result<(), Failure> {
        let partitions: Vec<i32> = records.iter().map(|record| cluster.route(record)).collect::<Result<_, _>>()?;
        let producer = self.claim()?;
        if let Err(fault) = fill(producer, records, &partitions, offsets, place) {
            return Err(self.give_up("cannot fill a transaction", &fault));
        }
        match producer.commit_transaction(REQUEST) {
            Ok(()) => Ok(()),
            Err(KafkaError::Transaction(fault)) if fault.txn_requires_abort() => {
                Err(self.give_up("cannot commit a transaction", &KafkaError::Transaction(fault)))
            }
            Err(fault) => {
                (self.producer, self.left_open) = (None, true);
                let code = fault::code(&fault);
                // Whoever fences a producer ends its transaction too, and not always by an abort: it may have been past
                // the point of return.
                let error = CommitError::Unknown(fault::bus("cannot end a transaction", &fault));
                Err(Failure { code, error })
            }
        }
    }

    /// Nothing was committed: aborts, and says why.
    fn give_up(&mut self, what: &str, fault: &KafkaError) -> Failure {
        if let Some(producer) = &self.producer {
            // What was sent must be reported on before an abort comes to its end, and only a poll takes the reports in.
            producer.purge(PurgeConfig::default().queue());
            let reported = delivered(producer, REQUEST);
            tracing::debug!(?reported, "aborts a transaction");
            if let Err(fault) = producer.abort_transaction(REQUEST) {
                tracing::debug!(%fault, "a transaction is not aborted; the next producer ends it");
                (self.producer, self.left_open) = (None, true);
            }
        }
        let code = fault::code(fault);
        let error = match code {
            Some(code) if fault::is_fencing(code) => CommitError::Fenced(format!("{what}: {fault}")),
            Some(_) | None => CommitError::Failed(fault::bus(what, fault)),
        };
        Failure { code, error }
    }
}

fn fill(
    producer: &BaseProducer<Deliveries>,
    records: &[Outgoing],
    partitions: &[i32],
    offsets: &TopicPartitionList,
    place: Option<&ConsumerGroupMetadata>,
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    send(producer, records, partitions)?;
    if let (true, Some(place)) = (offsets.count() > 0, place) {
        // While this is answered the records are on their way.
        producer.send_offsets_to_transaction(offsets, place, REQUEST)?;
    }
    delivered(producer, REQUEST)
}

/// A list with one partition and, where it is given, an offset with a note.
pub(super) fn listed(topic: &str, partition: i32, at: Option<(u64, &str)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    add(&mut list, topic, partition, at);
    list
}

/// The same for a list that there is.
pub(super) fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, at: Option<(u64, &str)>) {
    let mut element = list.add_partition(topic, partition);
    if let Some((offset, note)) = at {
        element.set_offset(Offset::Offset(super::convert::raw_offset(offset))).expect("an absolute offset can be set");
        element.set_metadata(note);
    }
}
