//! A group: who shares a topic, who owns which partition, and what was committed.
//!
//! A partition moves as in Kafka's cooperative protocol. Its old owner is told [`Arrival::Revoking`] and keeps it until it
//! releases it; only then is the new one told [`Arrival::Assigned`]. Where the old owner falls silent for longer than its
//! session, it loses all it had, and hears of it when it comes back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::waker::Waker;
use crate::{Arrival, Committed, MonoTime};

/// The members of a group, and their shares of one topic.
#[derive(Debug)]
pub(super) struct Group {
    /// Its name.
    pub(super) name: String,
    /// The topic that is shared.
    pub(super) topic: usize,
    /// Who sits at the table, by number; a later member has a larger one.
    pub(super) seats: BTreeMap<u64, Seat>,
    /// One for each partition of the topic.
    pub(super) shares: Vec<Share>,
}

/// One partition, as the group sees it.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Who may commit it now.
    owner: Option<u64>,
    /// Who should have it.
    target: Option<u64>,
    /// True from the moment that the owner is asked to give it back.
    revoking: bool,
    /// The committed offset and its note.
    pub(super) committed: Option<Committed>,
}

/// One member.
#[derive(Debug)]
pub(super) struct Seat {
    session: Duration,
    seen: MonoTime,
    /// What it has not been told yet; bounded, since each partition is at most assigned and asked back between two polls.
    pub(super) news: VecDeque<Arrival>,
    /// The partitions that it was told are its own, and where it reads on in those that it started.
    pub(super) places: BTreeMap<u32, Option<u64>>,
    /// Where it waits.
    pub(super) waker: Waker,
    expelled: bool,
    crashed: bool,
}

impl Group {
    /// A group without members.
    pub(super) fn new(name: &str, topic: usize, partitions: usize) -> Self {
        Self {
            name: name.into(),
            topic,
            seats: BTreeMap::new(),
            shares: (0..partitions).map(|_| Share::default()).collect(),
        }
    }

    /// Sits down as `id`.
    pub(super) fn join(&mut self, id: u64, session: Duration, now: MonoTime) {
        let seat = Seat {
            session,
            seen: now,
            news: VecDeque::new(),
            places: BTreeMap::new(),
            waker: Waker::default(),
            expelled: false,
            crashed: false,
        };
        self.seats.insert(id, seat);
        self.settle();
    }

    /// Stands up: everything of `id` is free at once.
    pub(super) fn leave(&mut self, id: u64) {
        self.seats.remove(&id);
        self.free(id);
    }

    /// The handle of `id` is gone without a word; the group notices when the session is over.
    pub(super) fn crash(&mut self, id: u64) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.crashed = true;
            if seat.expelled {
                self.seats.remove(&id);
            }
        }
    }

    /// Takes everything from `id`, who hears of it at its next poll.
    pub(super) fn expel(&mut self, id: u64) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.expelled = true;
        seat.waker.wake();
        if seat.crashed {
            self.seats.remove(&id);
        }
        self.free(id);
    }

    /// Notes a sign of life of `id`, and expels those who gave none for too long. None where `id` itself was expelled: what
    /// it had is said, and its seat is free.
    pub(super) fn alive(&mut self, id: u64, now: MonoTime) -> Result<(), Vec<u32>> {
        let seat = self.seats.get_mut(&id).expect("a member has a seat until it leaves");
        if seat.expelled {
            let lost = seat.places.keys().copied().collect();
            self.seats.remove(&id);
            return Err(lost);
        }
        seat.seen = now;
        while let Some(silent) = self.seats.iter().find(|(_, seat)| seat.over(now)).map(|(id, _)| *id) {
            self.expel(silent);
        }
        Ok(())
    }

    /// How long until the next session is over, unless its member gives a sign of life.
    pub(super) fn next_expiry(&self, now: MonoTime) -> Duration {
        let left = |seat: &Seat| seat.session.saturating_sub(now.since(seat.seen)) + Duration::from_millis(1);
        self.seats
            .values()
            .filter(|seat| !seat.waker.asleep() && !seat.expelled)
            .map(left)
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// Whether `id` owns `partition` now.
    pub(super) fn owns(&self, id: u64, partition: u32) -> bool {
        self.share(partition).is_some_and(|share| share.owner == Some(id))
    }

    /// The seat of the owner of `partition`.
    pub(super) fn owner_of(&mut self, partition: u32) -> Option<&mut Seat> {
        let owner = self.share(partition)?.owner?;
        self.seats.get_mut(&owner)
    }

    /// Gives back those of `partitions` that `id` was asked for.
    pub(super) fn release(&mut self, id: u64, partitions: &[u32]) {
        for (partition, share) in (0..).zip(&mut self.shares) {
            if share.owner == Some(id) && share.revoking && partitions.contains(&partition) {
                (share.owner, share.revoking) = (None, false);
                if let Some(seat) = self.seats.get_mut(&id) {
                    seat.places.remove(&partition);
                }
            }
        }
        self.settle();
    }

    /// The share of `partition`, to be changed.
    pub(super) fn share_mut(&mut self, partition: u32) -> Option<&mut Share> {
        self.shares.get_mut(usize::try_from(partition).ok()?)
    }

    /// The share of `partition`.
    pub(super) fn share(&self, partition: u32) -> Option<&Share> {
        self.shares.get(usize::try_from(partition).ok()?)
    }

    fn free(&mut self, id: u64) {
        for share in self.shares.iter_mut().filter(|share| share.owner == Some(id)) {
            (share.owner, share.revoking) = (None, false);
        }
        self.settle();
    }

    /// Decides who should have what, and tells those who have to do something about it.
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
            let seat = self.seats.get_mut(&id).expect("only those at the table own something");
            seat.news.push_back(news);
            seat.waker.wake();
        }
    }

    /// Spreads the partitions evenly, and lets everybody keep as much as is theirs to keep.
    fn aim(&mut self) {
        let mut held: BTreeMap<u64, BTreeSet<u32>> =
            self.seats.iter().filter(|(_, seat)| !seat.expelled).map(|(id, _)| (*id, BTreeSet::new())).collect();
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
        // Who holds most keeps one more than the others, where they cannot all have the same: that moves the fewest.
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

impl Seat {
    fn over(&self, now: MonoTime) -> bool {
        !self.expelled && !self.waker.asleep() && now.since(self.seen) > self.session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    fn news(group: &mut Group, id: u64) -> Vec<Arrival> {
        group.seats.get_mut(&id).map(|seat| seat.news.drain(..).collect()).unwrap_or_default()
    }

    fn owned(group: &Group, id: u64) -> Vec<u32> {
        (0..).zip(&group.shares).filter(|(_, share)| share.owner == Some(id)).map(|(partition, _)| partition).collect()
    }

    #[test]
    fn a_third_member_takes_from_both_only_what_it_must() {
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
    fn a_partition_asked_back_twice_moves_once_and_may_return_to_its_owner() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.join(2, SESSION, MonoTime(0));
        news(&mut group, 1);
        group.leave(2);
        assert_eq!(news(&mut group, 1), [], "what was asked back stays asked back");
        group.release(1, &[1]);
        assert_eq!(news(&mut group, 1), [Arrival::Assigned(vec![1])]);
    }

    #[test]
    fn nothing_is_released_that_was_not_asked_back() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.release(1, &[0, 1]);
        assert_eq!(owned(&group, 1), [0, 1]);
    }

    #[test]
    fn a_silent_member_loses_all_and_a_sleeping_one_does_not() {
        let mut group = Group::new("g", 0, 2);
        group.join(1, SESSION, MonoTime(0));
        group.join(2, SESSION, MonoTime(0));
        assert_eq!(group.alive(2, MonoTime(0).plus_ms(6_000)), Ok(()));
        assert!(owned(&group, 2).is_empty(), "the session is not over before its end");
        assert_eq!(group.alive(2, MonoTime(0).plus_ms(6_001)), Ok(()));
        assert_eq!(owned(&group, 2), [0, 1]);
        assert_eq!(group.alive(1, MonoTime(0).plus_ms(6_002)), Err(vec![]));
    }

    #[test]
    fn more_members_than_partitions_leaves_the_latest_without() {
        let mut group = Group::new("g", 0, 1);
        for id in 1..=3 {
            group.join(id, SESSION, MonoTime(0));
        }
        assert_eq!(owned(&group, 1), [0]);
        group.leave(1);
        assert_eq!(owned(&group, 2), [0]);
    }
}
