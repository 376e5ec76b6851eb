//! A group: its members, the owner of each partition, and the committed offsets.
//!
//! Partitions move as in Kafka's cooperative protocol. The old owner receives [`Arrival::Revoking`]
//! and keeps the partition until it releases it; only then does the new owner receive
//! [`Arrival::Assigned`]. An owner that is silent for longer than its session loses all its
//! partitions; its next poll says so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::waker::Waker;
use crate::{Arrival, Committed, MonoTime};

/// The members of a group, and the partitions of its topic.
#[derive(Debug)]
pub(super) struct Group {
    /// The name.
    pub(super) name: String,
    /// The topic whose partitions are shared.
    pub(super) topic: usize,
    /// The members by number; later members have larger numbers.
    pub(super) members: BTreeMap<u64, GroupMember>,
    /// One entry for each partition of the topic.
    pub(super) shares: Vec<PartitionOwnership>,
}

/// A partition as the group sees it.
#[derive(Debug, Default)]
pub(super) struct PartitionOwnership {
    /// The member that may commit it now.
    owner: Option<u64>,
    /// The member that should own it.
    target: Option<u64>,
    /// True once the owner has to give it back.
    revoking: bool,
    /// The committed offset and its metadata.
    pub(super) committed: Option<Committed>,
}

/// A member.
#[derive(Debug)]
pub(super) struct GroupMember {
    session: Duration,
    seen: MonoTime,
    /// Arrivals that it has not polled yet. Bounded: a partition is assigned and revoked at most
    /// once between two polls.
    pub(super) news: VecDeque<Arrival>,
    /// Partitions whose assignment was delivered, with the next offset of each started one.
    pub(super) places: BTreeMap<u32, Option<u64>>,
    /// The waker of its polls.
    pub(super) waker: Waker,
    /// True while a poll waits, which is a sign of life.
    pub(super) waits: bool,
    expelled: bool,
    crashed: bool,
}

impl Group {
    /// Creates a group without members.
    pub(super) fn new(name: &str, topic: usize, partitions: usize) -> Self {
        Self {
            name: name.into(),
            topic,
            members: BTreeMap::new(),
            shares: (0..partitions).map(|_| PartitionOwnership::default()).collect(),
        }
    }

    /// Adds member `id`.
    pub(super) fn join(&mut self, id: u64, session: Duration, now: MonoTime) {
        let member = GroupMember {
            session,
            seen: now,
            news: VecDeque::new(),
            places: BTreeMap::new(),
            waker: Waker::default(),
            waits: false,
            expelled: false,
            crashed: false,
        };
        self.members.insert(id, member);
        self.settle();
    }

    /// Removes member `id`; its partitions are free at once.
    pub(super) fn leave(&mut self, id: u64) {
        self.members.remove(&id);
        self.free(id);
    }

    /// The handle of `id` was dropped without leaving. The group notices when the session expires.
    pub(super) fn crash(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.crashed = true;
            if member.expelled {
                self.members.remove(&id);
            }
        }
    }

    /// Takes all partitions from `id`; its next poll returns the loss.
    pub(super) fn expel(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.expelled = true;
        member.waker.wake();
        if member.crashed {
            self.members.remove(&id);
        }
        self.free(id);
    }

    /// Records a sign of life of `id`, and expels members whose session has expired. If `id` itself
    /// was expelled, removes it and returns its lost partitions.
    pub(super) fn alive(&mut self, id: u64, now: MonoTime) -> Result<(), Vec<u32>> {
        let member = self.members.get_mut(&id).expect("a member exists until it leaves");
        if member.expelled {
            let lost = member.places.keys().copied().collect();
            self.members.remove(&id);
            return Err(lost);
        }
        (member.seen, member.waits) = (now, false);
        while let Some(silent) = self.members.iter().find(|(_, member)| member.over(now)).map(|(id, _)| *id) {
            self.expel(silent);
        }
        Ok(())
    }

    /// Returns the time until the next session expires, unless its member gives a sign of life.
    pub(super) fn next_expiry(&self, now: MonoTime) -> Duration {
        let left =
            |member: &GroupMember| member.session.saturating_sub(now.since(member.seen)) + Duration::from_millis(1);
        self.members
            .values()
            .filter(|member| !member.waits && !member.expelled)
            .map(left)
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// True if `id` owns `partition` now.
    pub(super) fn owns(&self, id: u64, partition: u32) -> bool {
        self.share(partition).is_some_and(|share| share.owner == Some(id))
    }

    /// Returns the owner of `partition`.
    pub(super) fn owner_of(&mut self, partition: u32) -> Option<&mut GroupMember> {
        let owner = self.share(partition)?.owner?;
        self.members.get_mut(&owner)
    }

    /// Releases those of `partitions` that the group asked `id` for.
    pub(super) fn release(&mut self, id: u64, partitions: &[u32]) {
        for (partition, share) in (0..).zip(&mut self.shares) {
            if share.owner == Some(id) && share.revoking && partitions.contains(&partition) {
                (share.owner, share.revoking) = (None, false);
                if let Some(member) = self.members.get_mut(&id) {
                    member.places.remove(&partition);
                }
            }
        }
        self.settle();
    }

    /// Returns the state of `partition`, mutably.
    pub(super) fn share_mut(&mut self, partition: u32) -> Option<&mut PartitionOwnership> {
        self.shares.get_mut(usize::try_from(partition).ok()?)
    }

    /// Returns the state of `partition`.
    pub(super) fn share(&self, partition: u32) -> Option<&PartitionOwnership> {
        self.shares.get(usize::try_from(partition).ok()?)
    }

    fn free(&mut self, id: u64) {
        for share in self.shares.iter_mut().filter(|share| share.owner == Some(id)) {
            (share.owner, share.revoking) = (None, false);
        }
        self.settle();
    }

    /// Recomputes the assignment, and queues arrivals for the members that are affected.
    fn settle(&mut self) {
        self.aim();
        let mut revoking: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut assigned: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (partition, share) in (0..).zip(&mut self.shares) {
            match (share.owner, share.target) {
                (None, Some(target)) => {
                    share.owner = Some(target);
                    assigned.entry(target).or_default().push(partition);
                }
                (Some(owner), target) if target != Some(owner) && !share.revoking => {
                    share.revoking = true;
                    revoking.entry(owner).or_default().push(partition);
                }
                (Some(_) | None, _) => {}
            }
        }
        let revoking = revoking.into_iter().map(|(id, partitions)| (id, Arrival::Revoking(partitions)));
        let assigned = assigned.into_iter().map(|(id, partitions)| (id, Arrival::Assigned(partitions)));
        for (id, news) in revoking.chain(assigned) {
            let member = self.members.get_mut(&id).expect("owners are members");
            member.news.push_back(news);
            member.waker.wake();
        }
    }

    /// Computes the target owners: an even spread that moves as few partitions as possible.
    fn aim(&mut self) {
        let mut held: BTreeMap<u64, BTreeSet<u32>> =
            self.members.iter().filter(|(_, member)| !member.expelled).map(|(id, _)| (*id, BTreeSet::new())).collect();
        let mut free = BTreeSet::new();
        for (partition, share) in (0..).zip(&self.shares) {
            match share.target.and_then(|target| held.get_mut(&target)) {
                Some(partitions) => partitions.insert(partition),
                None => free.insert(partition),
            };
        }
        if held.is_empty() {
            self.shares.iter_mut().for_each(|share| share.target = None);
            return;
        }
        let (least, rest) = (self.shares.len() / held.len(), self.shares.len() % held.len());
        // Members with the most partitions get the remainder: that moves the fewest.
        let mut order: Vec<u64> = held.keys().copied().collect();
        order.sort_by_key(|id| (Reverse(held[id].len()), *id));
        let quota = |place: usize| least + usize::from(place < rest);
        for (place, id) in order.iter().enumerate() {
            let partitions = held.get_mut(id).expect("just listed");
            while partitions.len() > quota(place) {
                free.extend(partitions.pop_last());
            }
        }
        for (place, id) in order.iter().enumerate() {
            let partitions = held.get_mut(id).expect("just listed");
            while partitions.len() < quota(place) {
                partitions.insert(free.pop_first().expect("the quotas add up to the partitions"));
            }
        }
        for (id, partitions) in held {
            for partition in partitions {
                let index = usize::try_from(partition).expect("a partition is an index");
                self.shares[index].target = Some(id);
            }
        }
    }
}

impl GroupMember {
    fn over(&self, now: MonoTime) -> bool {
        !self.expelled && !self.waits && now.since(self.seen) > self.session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    fn news(group: &mut Group, id: u64) -> Vec<Arrival> {
        group.members.get_mut(&id).map(|member| member.news.drain(..).collect()).unwrap_or_default()
    }

    fn owned(group: &Group, id: u64) -> Vec<u32> {
        (0..).zip(&group.shares).filter(|(_, share)| share.owner == Some(id)).map(|(partition, _)| partition).collect()
    }

    #[test]
    fn a_third_member_takes_as_few_partitions_as_possible() {
        let mut group = Group::new("g", 0, 7);
        group.join(1, SESSION, MonoTime(0));
        assert_eq!(news(&mut group, 1), [Arrival::Assigned(vec![0, 1, 2, 3, 4, 5, 6])]);
        group.join(2, SESSION, MonoTime(0));
        assert_eq!(news(&mut group, 1), [Arrival::Revoking(vec![4, 5, 6])]);
        assert_eq!(news(&mut group, 2), []);
        group.release(1, &[4, 5, 6]);
        assert_eq!(news(&mut group, 2), [Arrival::Assigned(vec![4, 5, 6])]);
        group.join(3, SESSION, MonoTime(0));
        assert_eq!(news(&mut group, 1), [Arrival::Revoking(vec![3])]);
        assert_eq!(news(&mut group, 2), [Arrival::Revoking(vec![6])]);
        group.release(1, &[3]);
        group.release(2, &[6]);
        assert_eq!(news(&mut group, 3), [Arrival::Assigned(vec![3]), Arrival::Assigned(vec![6])]);
    }

    #[test]
    fn a_revoked_partition_moves_once_and_may_return_to_its_owner() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.join(2, SESSION, MonoTime(0));
        news(&mut group, 1);
        group.leave(2);
        assert_eq!(news(&mut group, 1), [], "a revocation is not withdrawn");
        group.release(1, &[1]);
        assert_eq!(news(&mut group, 1), [Arrival::Assigned(vec![1])]);
    }

    #[test]
    fn only_revoked_partitions_can_be_released() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.release(1, &[0, 1]);
        assert_eq!(owned(&group, 1), [0, 1]);
    }

    #[test]
    fn a_silent_member_loses_all_its_partitions() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.join(2, SESSION, MonoTime(0));
        assert_eq!(group.alive(2, MonoTime(0).plus_ms(6_000)), Ok(()));
        assert!(owned(&group, 2).is_empty(), "the session has not expired yet");
        assert_eq!(group.alive(2, MonoTime(0).plus_ms(6_001)), Ok(()));
        assert_eq!(owned(&group, 2), [0, 1]);
        assert_eq!(group.alive(1, MonoTime(0).plus_ms(6_002)), Err(vec![]));
    }

    #[test]
    fn with_too_many_members_the_latest_get_no_partition() {
        let mut group = Group::new("g", 0, 1);
        for id in 1..=3 {
            group.join(id, SESSION, MonoTime(0));
        }
        assert_eq!(owned(&group, 1), [0]);
        group.leave(1);
        assert_eq!(owned(&group, 2), [0]);
    }
}
