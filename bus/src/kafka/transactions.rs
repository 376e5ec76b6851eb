//! Transactions.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::cluster::Cluster;
use super::fault;
use super::options::{ANSWER, KafkaOptions, REQUEST};
use super::sender::{Pace, Patience, Queues, SLICE, Sender, Stopped};
use crate::{BusError, CommitError, Outgoing};

/// A member's place in its group, which a commit is made from, and which it keeps while it waits.
pub(super) trait Place {
    /// Polls the group once, without waiting. False where a partition of the commit is not the member's any more.
    fn keep(&mut self) -> bool;

    /// Calls `send` with the place. None where there is none, and so no partition and no position.
    fn with(&self, send: &dyn Fn(&ConsumerGroupMetadata) -> Result<(), KafkaError>) -> Option<Result<(), KafkaError>>;
}

/// No member of any group.
pub(super) struct Nowhere;

impl Place for Nowhere {
    fn keep(&mut self) -> bool {
        true
    }

    fn with(&self, _: &dyn Fn(&ConsumerGroupMetadata) -> Result<(), KafkaError>) -> Option<Result<(), KafkaError>> {
        None
    }
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
    /// None after a fault that the producer may not survive: a request that timed out could still arrive and end a later
    /// transaction of the same instance. The next producer ends what it left open.
    sender: Option<Sender>,
    /// The last producer may have left a transaction open.
    left_open: bool,
}

impl Transactions {
    /// Nothing is connected yet.
    pub(super) fn new(options: &KafkaOptions, id: &str, session: Duration) -> Self {
        Self { options: options.clone(), id: id.into(), session, sender: None, left_open: false }
    }

    /// The id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes sure that a producer of this process holds the id. Any other holder is fenced, and its open transaction is aborted.
    pub(super) fn claim(&mut self, place: &mut dyn Place) -> Result<(), BusError> {
        if self.sender.is_none() {
            let sender = Sender::open(&self.options.transactional(&self.id, self.session), Pace::InBatches)?;
            // Fencing another takes up to a second.
            resume(REQUEST, place, |slice| sender.producer().init_transactions(slice))
                .map_err(|fault| fault::bus(&format!("cannot claim the transactional id `{}`", self.id), &fault))?;
            (self.sender, self.left_open) = (Some(sender), false);
        }
        Ok(())
    }

    /// The next commit has a new producer.
    pub(super) fn renew(&mut self) {
        self.sender = None;
    }

    /// Ends the transaction that may have been left open. Until then, or until its timeout, nobody can read past it in the partitions that
    /// it wrote to. The next commit ends it too; a member with nothing to commit does it here.
    pub(super) fn end_open(&mut self) {
        if std::mem::take(&mut self.left_open)
            && let Err(error) = self.claim(&mut Nowhere)
        {
            tracing::warn!(id = self.id, %error, "a transaction may stay open until its timeout");
        }
    }

    /// Commits records and offsets as one, from a place in a group.
    pub(super) fn commit(
        &mut self,
        cluster: &Cluster,
        records: &[Outgoing],
        offsets: &TopicPartitionList,
        place: &mut dyn Place,
    ) -> Result<(), Failure> {
        let partitions: Vec<i32> = records.iter().map(|record| cluster.route(record)).collect::<Result<_, _>>()?;
        let mut queues = Queues::of(records, &partitions);
        self.claim(place)?;
        let Some(sender) = self.sender.take() else { return Err(BusError::Unavailable("no producer".into()).into()) };
        if let Err(stopped) = fill(&sender, &mut queues, cluster, offsets, place) {
            return Err(self.give_up(sender, "cannot fill a transaction", stopped));
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
                // The process that fences a producer also ends its transaction, and not always by an abort: it may have been
                // past the point of no return.
                let error = CommitError::Unknown(fault::bus("cannot end a transaction", &fault));
                Err(Failure { code, error })
            }
        }
    }

    /// Nothing was committed: aborts, and says why.
    fn give_up(&mut self, sender: Sender, what: &str, stopped: Stopped) -> Failure {
        let is_abandoned = matches!(stopped, Stopped::Abandoned);
        let fault = stopped.fault();
        let code = fault::code(&fault);
        // A broker that does not answer is not asked to abort: the next producer ends the transaction.
        let is_aborted = !code.is_some_and(fault::is_silence)
            && resume(ANSWER, &mut Nowhere, |slice| sender.producer().abort_transaction(slice))
                .inspect_err(|fault| tracing::debug!(%fault, "a transaction is not aborted; the next producer ends it"))
                .is_ok();
        if is_aborted {
            self.sender = Some(sender);
        } else {
            self.left_open = true;
        }
        let error = match code {
            _ if is_abandoned => CommitError::Fenced("its partitions were lost while it waited for a commit".into()),
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
    place: &mut dyn Place,
) -> Result<(), Stopped> {
    let producer = sender.producer();
    producer.begin_transaction()?;
    sender.begin(queues);
    let mut patience = Patience { most: ANSWER, meanwhile: &mut || place.keep() };
    sender.send(queues, cluster.clock(), &mut patience)?;
    if offsets.count() > 0 {
        // While this is answered the last records are on their way. It cannot be resumed, so nobody polls meanwhile.
        let sent = place.with(&|place| producer.send_offsets_to_transaction(offsets, place, ANSWER));
        sent.unwrap_or(Ok(()))?;
    }
    let mut patience = Patience { most: ANSWER, meanwhile: &mut || place.keep() };
    sender.settle(&mut patience)
}

/// Repeats a call that resumes after a time-out, until it is answered or `most` is over. The member keeps its place meanwhile.
fn resume(
    most: Duration,
    place: &mut dyn Place,
    mut call: impl FnMut(Duration) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let mut waited = Duration::ZERO;
    loop {
        let answer = call(SLICE);
        waited += SLICE;
        match answer {
            // The request is under way. Whether it succeeds no longer depends on who owns the partitions.
            Err(KafkaError::Transaction(fault)) if fault.is_retriable() && waited < most => {
                place.keep();
            }
            answer => return answer,
        }
    }
}
