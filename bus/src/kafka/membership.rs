//! A member's side of its group: what it is given, what it reads, what it gives back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::cluster::Cluster;
use super::context::{GroupNews, News, give_up};
use super::options::{KafkaOptions, REQUEST};
use super::{convert, fault, options, reader};
use crate::{Arrival, BusError, CommitError, MemberSpec, Position};

/// How long one look at the group takes while a commit waits for its next decision, and how many there are at most: a
/// rebalance takes a second or two.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 300;

/// After this many looks at a partition that is not being read, its reading is begun anew. A partition that was just assigned is read
/// after some milliseconds.
const LOOKS_BEFORE_ANEW: u32 = 50;

/// A consumer in a group.
pub(super) struct Membership {
    pub(super) spec: MemberSpec,
    topic: Arc<str>,
    pub(super) cluster: Arc<Cluster>,
    options: KafkaOptions,
    pub(super) consumer: BaseConsumer<GroupNews>,
    /// The partitions that are ours, and where each reads on that was started.
    places: BTreeMap<u32, Option<u64>>,
    /// The partitions that librdkafka waits for, and those of them that were not released yet.
    revoking: Option<(Vec<u32>, BTreeSet<u32>)>,
    /// Arrivals that no poll has delivered yet: a few decisions of the group, and at most one record for each poll during a commit.
    waiting: VecDeque<Arrival>,
    /// The partitions of which nothing is fetched while the member polls for no records.
    held_back: BTreeSet<u32>,
    /// librdkafka has stopped reading some partition, and it is not known yet which.
    stopped: bool,
    /// A fault of a poll during a commit, which the next poll returns.
    fault: Option<BusError>,
    /// Partitions were lost, or assigned, since this was last asked.
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
            held_back: BTreeSet::new(),
            stopped: false,
            fault: None,
            has_lost: false,
            has_gained: false,
        })
    }

    /// Fails where a partition is not ours.
    pub(super) fn check_owned(&self, partition: u32) -> Result<(), BusError> {
        if self.owns(partition) { Ok(()) } else { Err(BusError::NotOwned(partition)) }
    }

    /// Whether a partition is ours.
    pub(super) fn owns(&self, partition: u32) -> bool {
        self.places.contains_key(&partition)
    }

    /// Whether none is.
    pub(super) fn owns_nothing(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether partitions were lost since [`Membership::take_lost`].
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Whether partitions were lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }

    /// Whether partitions were assigned since this was last asked.
    pub(super) fn take_gained(&mut self) -> bool {
        std::mem::take(&mut self.has_gained)
    }

    /// See [`crate::Member::poll`].
    pub(super) fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.consumer.context().brokers.are_lost() {
            self.begin_anew()?;
        }
        let wait = wait.min(options::POLL);
        if max == 0 {
            return self.poll_decisions(wait, out);
        }
        self.fetch_again()?;
        let full = out.len() + max;
        let mut wait = if self.waiting.is_empty() { wait } else { Duration::ZERO };
        loop {
            while out.len() < full {
                let Some(arrival) = self.waiting.pop_front() else { break };
                // It may have been moved, asked back or lost since it arrived.
                if let Arrival::Record(record) = &arrival
                    && !self.places.get(&record.partition).is_some_and(Option::is_some)
                {
                    continue;
                }
                out.push(arrival);
                wait = Duration::ZERO;
            }
            if out.len() >= full || !self.look(std::mem::take(&mut wait))? {
                return Ok(());
            }
        }
    }

    /// Whether the group has decided once, and its decision was delivered.
    pub(super) fn has_joined(&self) -> bool {
        self.consumer.context().decisions() > 0 && self.waiting.is_empty()
    }

    /// Brings what the group decided, and no records: what was fetched before stays, and nothing more is fetched.
    fn poll_decisions(&mut self, mut wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        let started = self.places.iter().filter(|(_, next)| next.is_some()).map(|(partition, _)| *partition);
        let more: Vec<u32> = started.filter(|partition| !self.held_back.contains(partition)).collect();
        if !more.is_empty() {
            let list = self.list_of(&more);
            self.consumer.pause(&list).map_err(|fault| fault::bus("cannot hold back partitions", &fault))?;
            self.held_back.extend(more);
        }
        // Take in records that were on their way: a few at most.
        for _ in 0..LOOKS {
            if !self.look(std::mem::take(&mut wait))? {
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

    /// Fetches again what was held back.
    fn fetch_again(&mut self) -> Result<(), BusError> {
        let held = std::mem::take(&mut self.held_back);
        let held: Vec<u32> = held.into_iter().filter(|partition| self.owns(*partition)).collect();
        if held.is_empty() {
            return Ok(());
        }
        let resumed = self.consumer.resume(&self.list_of(&held));
        resumed.map_err(|fault| fault::bus("cannot go on with partitions", &fault))
    }

    fn list_of(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, convert::raw_partition(*partition));
        }
        list
    }

    /// Polls once while a commit waits. The next poll delivers what came of it.
    pub(super) fn keep(&mut self) {
        // The next poll also looks for what is gone: that asks the broker questions, which the commit would have to wait for.
        if let Err(fault) = self.look_once(Duration::ZERO) {
            self.fault.get_or_insert(fault);
        }
    }

    /// Polls librdkafka once. False if there was nothing.
    fn look(&mut self, wait: Duration) -> Result<bool, BusError> {
        let any = self.look_once(wait)?;
        if self.stopped {
            self.find_gone()?;
        }
        Ok(any)
    }

    fn look_once(&mut self, wait: Duration) -> Result<bool, BusError> {
        let found = match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => {
                let (partition, offset) = (convert::partition(message.partition()), convert::offset(message.offset()));
                // Records fetched before a partition was started, moved or asked back are not delivered.
                let next = self.places.get_mut(&partition).and_then(Option::as_mut).filter(|next| offset >= **next);
                Ok(Some(next.map(|next| {
                    *next = offset + 1;
                    convert::record(&self.topic, &message)
                })))
            }
            Some(Err(fault)) => Err(fault),
        };
        let news = self.follow();
        let any = match found {
            Ok(None) => news,
            Ok(Some(record)) => {
                self.waiting.extend(record.map(Arrival::Record));
                true
            }
            Err(fault) if reader::stopped(&fault) => {
                self.stopped = true;
                true
            }
            Err(fault) => reader::passing(&fault).map(|()| true)?,
        };
        Ok(any)
    }

    /// Follows what the group has decided during the last poll.
    fn follow(&mut self) -> bool {
        let decisions = self.consumer.context().take();
        let any = !decisions.is_empty();
        for decision in decisions {
            match decision {
                News::Assigned(partitions) => {
                    self.has_gained = true;
                    self.places.extend(partitions.iter().map(|partition| (*partition, None)));
                    self.waiting.push_back(Arrival::Assigned(partitions));
                }
                News::Revoking(asked) => {
                    for partition in &asked {
                        self.places.entry(*partition).and_modify(|next| *next = None);
                    }
                    let held: Vec<u32> = asked.iter().copied().filter(|p| self.places.contains_key(p)).collect();
                    self.revoking = Some((asked, held.iter().copied().collect()));
                    if held.is_empty() {
                        // All of it was lost before.
                        self.give_back();
                    } else {
                        self.waiting.push_back(Arrival::Revoking(held));
                    }
                }
                News::Lost(partitions) => self.lose(&partitions),
            }
        }
        // While librdkafka waits for a partition to be given up it may find out that all were lost, and then it says
        // so only here.
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

    /// Joins once more, since the client knows no broker any more. Without one it has been silent for some time: its partitions are
    /// others', or will be its own again.
    fn begin_anew(&mut self) -> Result<(), BusError> {
        tracing::warn!(member = self.spec.name, "a member knows no broker any more, and joins anew");
        let fresh = connect(&self.cluster, &self.options, &self.spec)?;
        self.consumer.context().close();
        self.give_back();
        follow_all(&self.consumer);
        self.consumer = fresh;
        self.held_back.clear();
        let all: Vec<u32> = self.places.keys().copied().collect();
        self.lose(&all);
        Ok(())
    }

    /// Gives up what librdkafka waits for.
    fn give_back(&mut self) {
        let Some((partitions, _)) = self.revoking.take() else { return };
        let list = self.list_of(&partitions);
        if let Err(fault) = give_up(&self.consumer, &list) {
            tracing::warn!(%fault, member = self.spec.name, "partitions could not be given back");
        }
    }

    /// librdkafka cannot read on somewhere, and does not say where. It says so once: until each place was looked at it is looked again.
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

    /// See [`crate::Member::start`].
    pub(super) fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.check_owned(partition)?;
        self.cluster.check_start(&self.topic, partition, from)?;
        self.waiting.retain(|arrival| !matches!(arrival, Arrival::Record(record) if record.partition == partition));
        self.places.insert(partition, None);
        self.seek(partition, from)?;
        self.places.insert(partition, Some(from));
        Ok(())
    }

    /// Moves a partition. It is paused meanwhile, which drops what was fetched of it.
    fn seek(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        let what = || format!("cannot start `{}` {partition} at {from}", self.spec.topic);
        let list = convert::listed(&self.topic, convert::raw_partition(partition), None);
        self.consumer.pause(&list).map_err(|fault| fault::bus(&what(), &fault))?;
        let mut target = list.clone();
        let offset = Offset::Offset(convert::raw_offset(from));
        target.set_all_offsets(offset).map_err(|fault| fault::bus(&what(), &fault))?;
        for look in 1..=LOOKS {
            if look == LOOKS_BEFORE_ANEW {
                self.read_anew(&list, &target).map_err(|fault| fault::bus(&what(), &fault))?;
            }
            let moved = self.consumer.seek_partitions(target.clone(), REQUEST);
            let moved = moved.and_then(|list| list.elements().first().map_or(Ok(()), TopicPartitionListElem::error));
            match moved {
                Ok(()) => {
                    self.held_back.remove(&partition);
                    return self.consumer.resume(&list).map_err(|fault| fault::bus(&what(), &fault));
                }
                // It was assigned a moment ago, and its reading has not begun.
                Err(fault) if is_too_early(&fault) => self.cluster.pause(),
                Err(fault) => return Err(fault::bus(&what(), &fault)),
            }
        }
        Err(BusError::Unavailable(format!("{}: it is not being read yet", what())))
    }

    /// Takes a partition out of what is read and puts it back. librdkafka stops the reading of a partition whose next offset does not
    /// exist, as in a topic that was made anew, and refuses every seek from then on (2.12.1). The group does not notice.
    fn read_anew(&self, partition: &TopicPartitionList, target: &TopicPartitionList) -> Result<(), KafkaError> {
        self.consumer.incremental_unassign(partition)?;
        self.consumer.incremental_assign(target)
    }

    /// Gives partitions back.
    pub(super) fn release(&mut self, partitions: &[u32]) {
        let Some((_, left)) = &mut self.revoking else { return };
        for partition in partitions {
            if left.remove(partition) {
                self.places.remove(partition);
            }
        }
        // librdkafka takes all of it back at once.
        if left.is_empty() {
            self.give_back();
        }
    }

    /// Positions as librdkafka takes them, where their partitions are ours.
    pub(super) fn offsets(&self, positions: &[Position]) -> Result<TopicPartitionList, CommitError> {
        let MemberSpec { name, topic, .. } = &self.spec;
        if let Some(position) = positions.iter().find(|position| !self.owns(position.partition)) {
            return Err(CommitError::Fenced(format!("`{name}` does not own `{topic}` {}", position.partition)));
        }
        if self.consumer.assignment_lost() && !positions.is_empty() {
            return Err(CommitError::Fenced(format!("`{name}` lost its place in the group")));
        }
        let mut offsets = TopicPartitionList::new();
        for position in positions {
            position.check().map_err(CommitError::Failed)?;
            let at = Some((position.next, &*position.note));
            convert::add(&mut offsets, &self.topic, convert::raw_partition(position.partition), at);
        }
        Ok(offsets)
    }

    /// Waits for the group's next decision. True where there was one, and these partitions are still ours.
    pub(super) fn still_owns(&mut self, positions: &[Position]) -> bool {
        let heard = self.consumer.context().decisions();
        for _ in 0..LOOKS {
            if self.look(LOOK).is_err() {
                return false;
            }
            if self.consumer.context().decisions() > heard {
                return !self.has_lost && positions.iter().all(|position| self.owns(position.partition));
            }
        }
        false
    }
}

/// A consumer that joins the group with its first poll.
fn connect(
    cluster: &Arc<Cluster>,
    options: &KafkaOptions,
    spec: &MemberSpec,
) -> Result<BaseConsumer<GroupNews>, BusError> {
    let what = || format!("`{}` cannot join group `{}`", spec.name, spec.group);
    let consumer: BaseConsumer<GroupNews> = options
        .member(spec)
        .create_with_context(GroupNews::of(cluster, &spec.topic))
        .map_err(|fault| fault::bus(&what(), &fault))?;
    consumer.subscribe(&[&spec.topic]).map_err(|fault| fault::bus(&what(), &fault))?;
    Ok(consumer)
}

impl Drop for Membership {
    /// Leaves the group: librdkafka says goodbye whenever a client ends in an orderly way, so that even a lane that
    /// panicked is taken over at once. Only a process that dies is waited for.
    fn drop(&mut self) {
        self.consumer.context().close();
        self.give_back();
        follow_all(&self.consumer);
    }
}

/// Decisions that nobody has polled for are followed first: a client that ends with one of them open may wait for ever. The rest
/// happens as the consumer is dropped.
fn follow_all(consumer: &BaseConsumer<GroupNews>) {
    for _ in 0..LOOKS {
        let heard = consumer.context().decisions();
        if consumer.poll(Duration::ZERO).is_none() && consumer.context().decisions() == heard {
            break;
        }
    }
}

fn is_too_early(fault: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(fault::code(fault), Some(Code::State | Code::PreviousInProgress | Code::UnknownPartition))
}
