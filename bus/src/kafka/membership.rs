//! Group membership: assignments, reads and releases.

mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::cluster::Cluster;
use super::context::{GroupContext, GroupDecision, give_up};
use super::options::KafkaOptions;
use super::{convert, fault, options, reader};
use crate::{Arrival, BusError, CommitError, MemberSpec, Position};

/// Duration of one poll while a commit waits for the next decision of the group, and the maximum
/// number of such polls: a rebalance takes a second or two.
const WAIT: Duration = Duration::from_millis(10);
const POLLS: u32 = 300;

/// A consumer in a group.
pub(super) struct Membership {
    pub(super) spec: MemberSpec,
    topic: Arc<str>,
    pub(super) cluster: Arc<Cluster>,
    options: KafkaOptions,
    pub(super) consumer: BaseConsumer<GroupContext>,
    /// The owned partitions, with the next offset of each started one.
    places: BTreeMap<u32, Option<u64>>,
    /// The partitions that librdkafka waits for, and those that are not released yet.
    revoking: Option<(Vec<u32>, BTreeSet<u32>)>,
    /// Arrivals that no poll has delivered yet: a few group decisions, and at most one record per
    /// poll during a commit.
    waiting: VecDeque<Arrival>,
    /// Partitions that are paused while the member polls with `max` = 0.
    paused: BTreeSet<u32>,
    /// librdkafka stopped reading a partition; which one is not known yet.
    stopped: bool,
    /// An error of a poll during a commit, which the next poll returns.
    fault: Option<BusError>,
    /// Partitions were lost, or assigned, since the flag was last taken.
    has_lost: bool,
    has_gained: bool,
}

impl Membership {
    /// Joins the group.
    pub(super) fn join(cluster: Arc<Cluster>, options: &KafkaOptions, spec: &MemberSpec) -> Result<Self, BusError> {
        Ok(Self {
            consumer: connect(&cluster, options, spec)?,
            options: options.clone(),
            topic: spec.topic.as_str().into(),
            spec: spec.clone(),
            cluster,
            places: BTreeMap::new(),
            revoking: None,
            waiting: VecDeque::new(),
            paused: BTreeSet::new(),
            stopped: false,
            fault: None,
            has_lost: false,
            has_gained: false,
        })
    }

    /// Fails if the member does not own the partition.
    pub(super) fn check_owned(&self, partition: u32) -> Result<(), BusError> {
        if self.owns(partition) { Ok(()) } else { Err(BusError::NotOwned(partition)) }
    }

    /// True if the member owns the partition.
    pub(super) fn owns(&self, partition: u32) -> bool {
        self.places.contains_key(&partition)
    }

    /// True if the member owns no partition.
    pub(super) fn owns_nothing(&self) -> bool {
        self.places.is_empty()
    }

    /// True if partitions were lost since [`Membership::take_lost`].
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Returns and clears the flag for lost partitions.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }

    /// Returns and clears the flag for assigned partitions.
    pub(super) fn take_gained(&mut self) -> bool {
        std::mem::take(&mut self.has_gained)
    }

    /// See [`crate::Member::poll`].
    pub(super) fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.consumer.context().brokers.are_lost() {
            self.rejoin()?;
        }
        self.consumer.context().wakeup.register();
        let before = out.len();
        self.collect(max, out)?;
        if out.len() == before && !wait.is_zero() {
            thread::park_timeout(wait.min(options::POLL));
            self.collect(max, out)?;
        }
        Ok(())
    }

    /// Collects what is available. If that is nothing, librdkafka's queue is empty afterwards.
    fn collect(&mut self, max: usize, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        if max == 0 {
            return self.collect_decisions(out);
        }
        self.resume_paused()?;
        let full = out.len() + max;
        loop {
            while out.len() < full {
                let Some(arrival) = self.waiting.pop_front() else { break };
                // The partition may have been moved, revoked or lost since the record arrived.
                if let Arrival::Record(record) = &arrival
                    && !self.places.get(&record.partition).is_some_and(Option::is_some)
                {
                    continue;
                }
                out.push(arrival);
            }
            if out.len() >= full || !self.poll_client(Duration::ZERO)? {
                return Ok(());
            }
        }
    }

    /// True if the group has decided once, and that decision was delivered.
    pub(super) fn has_joined(&self) -> bool {
        self.consumer.context().decisions() > 0 && self.waiting.is_empty()
    }

    /// Collects group decisions only. Keeps records that were fetched before, and pauses fetching.
    fn collect_decisions(&mut self, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let started = self.places.iter().filter(|(_, next)| next.is_some()).map(|(partition, _)| *partition);
        let more: Vec<u32> = started.filter(|partition| !self.paused.contains(partition)).collect();
        if !more.is_empty() {
            let list = self.list_of(&more);
            self.consumer.pause(&list).map_err(|fault| fault::bus("cannot pause partitions", &fault))?;
            self.paused.extend(more);
        }
        // Collects records that are already on their way: a few at most.
        for _ in 0..POLLS {
            if !self.poll_client(Duration::ZERO)? {
                break;
            }
        }
        let is_record = |arrival: &Arrival| matches!(arrival, Arrival::Record(_));
        let (records, decisions): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_record);
        self.waiting = records;
        out.extend(decisions);
        Ok(())
    }

    /// Resumes the partitions that were paused.
    fn resume_paused(&mut self) -> Result<(), BusError> {
        let held = std::mem::take(&mut self.paused);
        let held: Vec<u32> = held.into_iter().filter(|partition| self.owns(*partition)).collect();
        if held.is_empty() {
            return Ok(());
        }
        let resumed = self.consumer.resume(&self.list_of(&held));
        resumed.map_err(|fault| fault::bus("cannot resume partitions", &fault))
    }

    fn list_of(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, convert::raw_partition(*partition));
        }
        list
    }

    /// Polls once during a commit. The next poll delivers the results.
    pub(super) fn poll_during_commit(&mut self) {
        // `find_gone` sends requests to the broker, for which the commit must not wait. The next
        // poll calls it.
        if let Err(fault) = self.poll_client_once(Duration::ZERO) {
            self.fault.get_or_insert(fault);
        }
    }

    /// Polls librdkafka once. Returns false if its queue is empty.
    fn poll_client(&mut self, wait: Duration) -> Result<bool, BusError> {
        let any = self.poll_client_once(wait)?;
        if self.stopped {
            self.find_gone()?;
        }
        Ok(any)
    }

    fn poll_client_once(&mut self, wait: Duration) -> Result<bool, BusError> {
        let found = match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => {
                let (partition, offset) = (convert::partition(message.partition()), convert::offset(message.offset()));
                // Skip records that were fetched before the partition was started, moved or
                // revoked.
                let next = self.places.get_mut(&partition).and_then(Option::as_mut).filter(|next| offset >= **next);
                Ok(Some(next.map(|next| {
                    *next = offset + 1;
                    convert::record(&self.topic, &message)
                })))
            }
            Some(Err(fault)) => Err(fault),
        };
        let decided = self.apply_decisions();
        let any = match found {
            Ok(None) => decided || self.consumer.context().wakeup.take_handled(),
            Ok(Some(record)) => {
                self.waiting.extend(record.map(Arrival::Record));
                true
            }
            Err(fault) if reader::stopped(&fault) => {
                self.stopped = true;
                true
            }
            Err(fault) => reader::check_read_error(&fault).map(|()| true)?,
        };
        Ok(any)
    }

    /// Applies the group's decisions of the last poll.
    fn apply_decisions(&mut self) -> bool {
        let decisions = self.consumer.context().take();
        let any = !decisions.is_empty();
        for decision in decisions {
            match decision {
                GroupDecision::Assigned(partitions) => {
                    self.has_gained = true;
                    self.places.extend(partitions.iter().map(|partition| (*partition, None)));
                    self.waiting.push_back(Arrival::Assigned(partitions));
                }
                GroupDecision::Revoking(requested) => {
                    for partition in &requested {
                        self.places.entry(*partition).and_modify(|next| *next = None);
                    }
                    let held: Vec<u32> = requested.iter().copied().filter(|p| self.places.contains_key(p)).collect();
                    self.revoking = Some((requested, held.iter().copied().collect()));
                    if held.is_empty() {
                        // All of them were lost before.
                        self.give_back();
                    } else {
                        self.waiting.push_back(Arrival::Revoking(held));
                    }
                }
                GroupDecision::Lost(partitions) => self.lose(&partitions),
            }
        }
        // While librdkafka waits for an unassignment it may find that all partitions were lost. It
        // reports that only here.
        if self.revoking.is_some() && self.consumer.assignment_lost() {
            let all: Vec<u32> = self.places.keys().copied().collect();
            self.lose(&all);
            self.give_back();
        }
        any
    }

    fn lose(&mut self, partitions: &[u32]) {
        let lost: Vec<u32> = partitions.iter().copied().filter(|p| self.places.remove(p).is_some()).collect();
        if !lost.is_empty() {
            self.has_lost = true;
            self.waiting.push_back(Arrival::Lost(lost));
        }
    }

    /// Rejoins after the client has lost all brokers. It was silent for some time, so its
    /// partitions belong to others or will be reassigned to it.
    fn rejoin(&mut self) -> Result<(), BusError> {
        tracing::warn!(member = self.spec.name, "member has lost all brokers; rejoining with a new client");
        let fresh = connect(&self.cluster, &self.options, &self.spec)?;
        self.consumer.context().close();
        self.give_back();
        drain_decisions(&self.consumer);
        self.consumer = fresh;
        self.paused.clear();
        let all: Vec<u32> = self.places.keys().copied().collect();
        self.lose(&all);
        Ok(())
    }

    /// Unassigns the partitions that librdkafka waits for.
    fn give_back(&mut self) {
        let Some((partitions, _)) = self.revoking.take() else { return };
        let list = self.list_of(&partitions);
        if let Err(fault) = give_up(&self.consumer, &list) {
            tracing::warn!(%fault, member = self.spec.name, "cannot release partitions");
        }
    }

    /// Finds the partition where librdkafka cannot continue; librdkafka does not say which. It
    /// reports this only once, so the search repeats until every partition was checked.
    fn find_gone(&mut self) -> Result<(), BusError> {
        let started: Vec<(u32, u64)> = self.places.iter().filter_map(|(p, next)| Some((*p, (*next)?))).collect();
        for (partition, next) in started {
            if let Err(fault) = self.cluster.check_next(&self.topic, partition, next) {
                if matches!(fault, BusError::Gone { .. }) {
                    self.places.insert(partition, None);
                }
                return Err(fault);
            }
            self.seek(partition, next)?;
        }
        self.stopped = false;
        Ok(())
    }

    /// Gives partitions back.
    pub(super) fn release(&mut self, partitions: &[u32]) {
        let Some((_, left)) = &mut self.revoking else { return };
        for partition in partitions {
            if left.remove(partition) {
                self.places.remove(partition);
            }
        }
        // librdkafka takes all of them back at once.
        if left.is_empty() {
            self.give_back();
        }
    }

    /// Converts positions for librdkafka. Fails if the member does not own their partitions.
    pub(super) fn offsets(&self, positions: &[Position]) -> Result<TopicPartitionList, CommitError> {
        let MemberSpec { name, topic, .. } = &self.spec;
        if let Some(position) = positions.iter().find(|position| !self.owns(position.partition)) {
            return Err(CommitError::Fenced(format!("`{name}` does not own `{topic}` {}", position.partition)));
        }
        if self.consumer.assignment_lost() && !positions.is_empty() {
            return Err(CommitError::Fenced(format!("`{name}` is no longer a member of the group")));
        }
        let mut offsets = TopicPartitionList::new();
        for position in positions {
            position.check().map_err(CommitError::Failed)?;
            let at = Some((position.next, &*position.metadata));
            convert::add(&mut offsets, &self.topic, convert::raw_partition(position.partition), at);
        }
        Ok(offsets)
    }

    /// Waits for the group's next decision. True if there was one and the member still owns these
    /// partitions.
    pub(super) fn still_owns(&mut self, positions: &[Position]) -> bool {
        let before = self.consumer.context().decisions();
        for _ in 0..POLLS {
            if self.poll_client(WAIT).is_err() {
                return false;
            }
            if self.consumer.context().decisions() > before {
                return !self.has_lost && positions.iter().all(|position| self.owns(position.partition));
            }
        }
        false
    }
}

/// Creates a consumer that joins the group with its first poll.
fn connect(
    cluster: &Arc<Cluster>,
    options: &KafkaOptions,
    spec: &MemberSpec,
) -> Result<BaseConsumer<GroupContext>, BusError> {
    let what = || format!("`{}` cannot join group `{}`", spec.name, spec.group);
    let mut consumer: BaseConsumer<GroupContext> = options
        .member(spec)
        .create_with_context(GroupContext::of(cluster, &spec.topic))
        .map_err(|fault| fault::bus(&what(), &fault))?;
    Arc::clone(&consumer.context().wakeup).attach(&mut consumer);
    consumer.subscribe(&[&spec.topic]).map_err(|fault| fault::bus(&what(), &fault))?;
    Ok(consumer)
}

impl Drop for Membership {
    /// Leaves the group. librdkafka leaves when a client is closed, so that even the lanes of a
    /// panicked thread are taken over at once. Only a crashed process has to time out.
    fn drop(&mut self) {
        self.consumer.context().close();
        self.give_back();
        drain_decisions(&self.consumer);
    }
}

/// Processes the pending decisions of a consumer that is about to be dropped. A client that closes
/// with an open decision may wait forever.
fn drain_decisions(consumer: &BaseConsumer<GroupContext>) {
    for _ in 0..POLLS {
        if consumer.poll(Duration::ZERO).is_none() && !consumer.context().wakeup.take_handled() {
            break;
        }
    }
}
