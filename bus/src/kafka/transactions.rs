//! Transactional commits.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::cluster::Cluster;
use super::fault;
use super::options::{ANSWER, KafkaOptions, REQUEST};
use super::sender::{Pace, Queues, SLICE, SendError, Sender, WaitPolicy};
use crate::{BusError, CommitError, Outgoing};

/// The group membership behind a commit.
pub(super) trait GroupPlace {
    /// Polls the group once, without waiting. Returns false if a partition of the commit is lost.
    fn poll_group(&mut self) -> bool;

    /// Calls `send` with the group metadata. `None` without metadata, and so without partitions and
    /// positions.
    fn with(&self, send: &dyn Fn(&ConsumerGroupMetadata) -> Result<(), KafkaError>) -> Option<Result<(), KafkaError>>;
}

/// A commit outside any group.
pub(super) struct NoGroup;

impl GroupPlace for NoGroup {
    fn poll_group(&mut self) -> bool {
        true
    }

    fn with(&self, _: &dyn Fn(&ConsumerGroupMetadata) -> Result<(), KafkaError>) -> Option<Result<(), KafkaError>> {
        None
    }
}

/// Why a commit failed, with the cluster's error code.
pub(super) struct Failure {
    pub(super) code: Option<Code>,
    pub(super) error: CommitError,
}

impl From<BusError> for Failure {
    fn from(fault: BusError) -> Self {
        Self { code: None, error: CommitError::Failed(fault) }
    }
}

/// A transactional id, and the producer that holds it.
pub(super) struct Transactions {
    options: KafkaOptions,
    id: String,
    session: Duration,
    /// `None` after an error that the producer may not survive: a request that timed out may still
    /// arrive and end a later transaction of the same instance. The next producer ends the open
    /// transaction.
    sender: Option<Sender>,
    /// The last producer may have left a transaction open.
    left_open: bool,
}

impl Transactions {
    /// Creates the state without connecting.
    pub(super) fn new(options: &KafkaOptions, id: &str, session: Duration) -> Self {
        Self { options: options.clone(), id: id.into(), session, sender: None, left_open: false }
    }

    /// Returns the id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Ensures that a producer of this process holds the id. Fences any other holder and aborts its
    /// open transaction.
    pub(super) fn claim(&mut self, place: &mut dyn GroupPlace) -> Result<(), BusError> {
        if self.sender.is_none() {
            let sender = Sender::open(&self.options.transactional(&self.id, self.session), Pace::Batched)?;
            // Fencing another producer takes up to a second.
            resume(REQUEST, place, |slice| sender.producer().init_transactions(slice))
                .map_err(|fault| fault::bus(&format!("cannot claim the transactional id `{}`", self.id), &fault))?;
            (self.sender, self.left_open) = (Some(sender), false);
        }
        Ok(())
    }

    /// Makes the next commit use a new producer.
    pub(super) fn renew(&mut self) {
        self.sender = None;
    }

    /// Ends a transaction that may be open. Until then, or until its timeout, readers cannot pass
    /// it in the partitions that it wrote to. The next commit also ends it; this is for a member
    /// with nothing to commit.
    pub(super) fn end_open(&mut self) {
        if std::mem::take(&mut self.left_open)
            && let Err(error) = self.claim(&mut NoGroup)
        {
            tracing::warn!(id = self.id, %error, "a transaction may stay open until its timeout");
        }
    }

    /// Commits records and offsets atomically, as a member of a group.
    pub(super) fn commit(
        &mut self,
        cluster: &Cluster,
        records: &[Outgoing],
        offsets: &TopicPartitionList,
        place: &mut dyn GroupPlace,
    ) -> Result<(), Failure> {
        let partitions: Vec<i32> = records.iter().map(|record| cluster.route(record)).collect::<Result<_, _>>()?;
        let mut queues = Queues::of(records, &partitions);
        self.claim(place)?;
        let Some(sender) = self.sender.take() else { return Err(BusError::Unavailable("no producer".into()).into()) };
        if let Err(stopped) = fill(&sender, &mut queues, cluster, offsets, place) {
            let mut failure = self.give_up(sender, "cannot fill a transaction", stopped);
            if let Some(deleted) = cluster.deleted_topic(failure.code, records) {
                failure.error = CommitError::Failed(deleted);
            }
            return Err(failure);
        }
        match resume(ANSWER, place, |slice| sender.producer().commit_transaction(slice)) {
            Ok(()) => {
                self.sender = Some(sender);
                Ok(())
            }
            Err(KafkaError::Transaction(fault)) if fault.txn_requires_abort() => {
                Err(self.give_up(sender, "cannot commit a transaction", KafkaError::Transaction(fault).into()))
            }
            Err(fault) => {
                self.left_open = true;
                let code = fault::code(&fault);
                // The process that fences a producer also ends its transaction, and not always with
                // an abort: the commit may have been decided already.
                let error = CommitError::Unknown(fault::bus("cannot end a transaction", &fault));
                Err(Failure { code, error })
            }
        }
    }

    /// Aborts a commit that did not happen, and returns the reason.
    fn give_up(&mut self, sender: Sender, what: &str, stopped: SendError) -> Failure {
        let is_abandoned = matches!(stopped, SendError::Abandoned);
        let fault = stopped.fault();
        let code = fault::code(&fault);
        // If the broker does not answer, skip the abort: the next producer ends the transaction.
        let is_aborted = !code.is_some_and(fault::is_silence)
            && resume(ANSWER, &mut NoGroup, |slice| sender.producer().abort_transaction(slice))
                .inspect_err(|fault| tracing::debug!(%fault, "transaction not aborted; the next producer ends it"))
                .is_ok();
        if is_aborted {
            self.sender = Some(sender);
        } else {
            self.left_open = true;
        }
        let error = match code {
            _ if is_abandoned => CommitError::Fenced("its partitions were lost during the commit".into()),
            Some(code) if fault::is_fencing(code) => CommitError::Fenced(format!("{what}: {fault}")),
            Some(_) | None => CommitError::Failed(fault::bus(what, &fault)),
        };
        Failure { code, error }
    }
}

fn fill(
    sender: &Sender,
    queues: &mut Queues<'_>,
    cluster: &Cluster,
    offsets: &TopicPartitionList,
    place: &mut dyn GroupPlace,
) -> Result<(), SendError> {
    let producer = sender.producer();
    producer.begin_transaction()?;
    sender.begin(queues);
    let mut patience = WaitPolicy { limit: ANSWER, meanwhile: &mut || place.poll_group() };
    sender.send(queues, cluster.clock(), &mut patience)?;
    if offsets.count() > 0 {
        // The last records are in flight during this request. It cannot be resumed, so nothing
        // polls the group meanwhile.
        let sent = place.with(&|place| producer.send_offsets_to_transaction(offsets, place, ANSWER));
        sent.unwrap_or(Ok(()))?;
    }
    let mut patience = WaitPolicy { limit: ANSWER, meanwhile: &mut || place.poll_group() };
    sender.settle(&mut patience)
}

/// Repeats a call that can be resumed after a timeout, until it is answered or `limit` is over.
/// Polls the group meanwhile.
fn resume(
    limit: Duration,
    place: &mut dyn GroupPlace,
    mut call: impl FnMut(Duration) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let mut waited = Duration::ZERO;
    loop {
        let answer = call(SLICE);
        waited += SLICE;
        match answer {
            // The request is under way. Its success no longer depends on the ownership of the
            // partitions.
            Err(KafkaError::Transaction(fault)) if fault.is_retriable() && waited < limit => {
                place.poll_group();
            }
            answer => return answer,
        }
    }
}
