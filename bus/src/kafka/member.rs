//! A member of a Kafka consumer group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::cluster::Cluster;
use super::fault;
use super::membership::Membership;
use super::options::KafkaOptions;
use super::takeover::TakeoverReader;
use super::transactions::{Failure, GroupPlace, NoGroup, Transactions};
use crate::{Arrival, Batch, BusError, CommitError, Member, MemberSpec, Position, Takeover};

/// Maximum attempts of a commit per call, each with the group metadata of the latest decision.
const TRIES: u32 = 3;

/// A consumer in a group, and the producer that commits for it.
pub(super) struct KafkaMember {
    membership: Membership,
    transactions: Transactions,
    takeovers: TakeoverReader,
}

impl KafkaMember {
    /// Joins. Claims the transactional id first, which aborts an open transaction of an earlier
    /// owner.
    pub(super) fn join(cluster: Arc<Cluster>, options: &KafkaOptions, spec: &MemberSpec) -> Result<Self, BusError> {
        cluster.partitions(&spec.topic)?.ok_or_else(|| BusError::NoTopic(spec.topic.clone()))?;
        let mut transactions = Transactions::new(options, &spec.name, spec.session_timeout);
        transactions.claim(&mut NoGroup)?;
        let takeovers = TakeoverReader::open(options, spec)?;
        Ok(Self { membership: Membership::join(cluster, options, spec)?, transactions, takeovers })
    }

    /// Applies partition changes since the last call.
    fn apply_decisions(&mut self) {
        if self.membership.take_lost() {
            // The next owner may have fenced our producer.
            self.transactions.renew();
        }
        if self.membership.take_gained() {
            self.takeovers.forget();
        }
    }

    fn commit_once(&mut self, batch: &Batch) -> Result<(), Failure> {
        let offsets = self.membership.offsets(&batch.positions).map_err(|error| Failure { code: None, error })?;
        let cluster = Arc::clone(&self.membership.cluster);
        let mut place = CommitPlace { membership: &mut self.membership, positions: &batch.positions };
        self.transactions.commit(&cluster, &batch.records, &offsets, &mut place)
    }
}

/// The membership and positions of one commit.
struct CommitPlace<'a> {
    membership: &'a mut Membership,
    positions: &'a [Position],
}

impl GroupPlace for CommitPlace<'_> {
    fn poll_group(&mut self) -> bool {
        self.membership.poll_during_commit();
        // A partition that was lost and reassigned may have had another owner in between.
        !self.membership.has_lost() && self.positions.iter().all(|position| self.membership.owns(position.partition))
    }

    fn with(&self, send: &dyn Fn(&ConsumerGroupMetadata) -> Result<(), KafkaError>) -> Option<Result<(), KafkaError>> {
        self.membership.consumer.context().with_place(send)
    }
}

impl Member for KafkaMember {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        if self.membership.owns_nothing() {
            self.transactions.end_open();
        }
        let polled = self.membership.poll(max, wait, out);
        self.apply_decisions();
        polled
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        self.membership.check_owned(partition)?;
        self.takeovers.take_over(&self.membership.cluster, &mut self.transactions, partition)
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.membership.start(partition, from)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if batch.records.is_empty() && batch.positions.is_empty() {
            return Ok(());
        }
        self.apply_decisions();
        let mut result = self.commit_once(batch);
        for _ in 1..TRIES {
            // The generation changed but no partition was lost: retry with the group metadata of
            // the next decision.
            let moved_on = matches!(&result, Err(Failure { code: Some(RDKafkaErrorCode::IllegalGeneration), .. }));
            if !moved_on || !self.membership.still_owns(&batch.positions) {
                break;
            }
            self.apply_decisions();
            result = self.commit_once(batch);
        }
        self.apply_decisions();
        result.map_err(|failure| failure.error)
    }

    /// Commits through the consumer, outside transactions: sent with the next request; the result
    /// goes to librdkafka's callback.
    fn commit_async(&mut self, positions: &[Position]) -> Result<(), CommitError> {
        if positions.is_empty() {
            return Ok(());
        }
        let offsets = self.membership.offsets(positions)?;
        let sent = self.membership.consumer.commit(&offsets, CommitMode::Async);
        sent.map_err(|fault| CommitError::Failed(fault::bus("cannot send a commit of positions", &fault)))
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.membership.release(partitions);
        Ok(())
    }

    fn has_joined(&self) -> bool {
        self.membership.has_joined()
    }

    fn leave(self: Box<Self>) -> Result<(), BusError> {
        drop(self);
        Ok(())
    }
}
