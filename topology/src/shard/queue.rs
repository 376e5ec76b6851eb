//! The decisions of lanes that wait for a commit, and the attempts to commit them.
//!
//! A failed commit is retried with the same records: if it turns out that the first attempt
//! succeeded, added records would be lost. So nothing is added while [`CommitQueue::is_retrying`].
//! Attempts are numbered, and the metadata of each committed offset has the number. If the outcome
//! of an attempt is unknown, the metadata of one of its lanes tells it.

use std::sync::Arc;

use bus::{Batch, CommitError, Headers, MonoTime, Outgoing, Position, Route};
use wire::{Envelope, Kind};

use super::ShardOptions;
use super::missing::MissingTopic;

/// The content of the next commit.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    records: Vec<Outgoing>,
    /// The lane that wrote each of the records, so that those of a lost lane can be removed.
    lanes: Vec<u32>,
    /// Set after a failed attempt: earliest time of the next one.
    retry: Option<MonoTime>,
    /// The number of the last attempt.
    attempt: u64,
    /// The attempt whose outcome is unknown.
    in_doubt: Option<InDoubt>,
    /// Due time of the next commit of positions alone.
    positions_due: Option<MonoTime>,
    /// The topic for which all commits are held.
    pub(super) missing: Option<MissingTopic>,
    /// The last reported reason of a failed attempt, and when it is reported again.
    reported: Option<(String, MonoTime)>,
}

/// Interval between two log lines about attempts that fail for the same reason.
const REPORT_MS: u64 = 10_000;

/// An attempt whose outcome is unknown.
#[derive(Debug)]
struct InDoubt {
    attempt: u64,
    /// The lanes whose positions it contains.
    lanes: Vec<u32>,
}

/// A record that is too large for the bus: its topic, its size and the limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooLarge<'a> {
    pub(super) topic: &'a str,
    pub(super) size: usize,
    pub(super) limit: usize,
}

impl CommitQueue {
    /// Adds a record that a lane decided to write.
    pub(super) fn push(&mut self, lane: u32, record: Outgoing) {
        self.lanes.push(lane);
        self.records.push(record);
    }

    /// True if no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// True if the next commit has its maximum number of records.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= ShardOptions::MAX_RECORDS
    }

    /// Returns all waiting records.
    pub(super) fn records(&self) -> &[Outgoing] {
        &self.records
    }

    /// Returns the waiting records of a lane.
    pub(super) fn of_lane(&self, lane: u32) -> impl Iterator<Item = &Outgoing> {
        self.lanes.iter().zip(&self.records).filter(move |(of, _)| **of == lane).map(|(_, record)| record)
    }

    /// True if a record of the lane waits.
    pub(super) fn concerns(&self, lane: u32) -> bool {
        self.lanes.contains(&lane)
    }

    /// Calls `commit` with the waiting records, followed by those of snapshots, and positions. The
    /// records stay in the queue.
    pub(super) fn commit<R>(
        &mut self,
        positions: Vec<Position>,
        snapshots: impl IntoIterator<Item = Outgoing>,
        commit: impl FnOnce(&Batch) -> R,
    ) -> R {
        let decided = self.records.len();
        let mut batch = Batch { records: std::mem::take(&mut self.records), positions };
        batch.records.extend(snapshots);
        let outcome = commit(&batch);
        batch.records.truncate(decided);
        self.records = batch.records;
        outcome
    }

    /// True while a failed commit waits for its retry.
    pub(super) fn is_retrying(&self) -> bool {
        self.retry.is_some()
    }

    /// Returns the time of the retry.
    pub(super) fn retry(&self) -> Option<MonoTime> {
        self.retry
    }

    /// True unless a failed commit waits for a later time.
    pub(super) fn may_commit(&self, now: MonoTime) -> bool {
        self.retry.is_none_or(|at| at <= now)
    }

    /// Nothing is left of the failed commit.
    pub(super) fn drop_retry(&mut self) {
        self.retry = None;
    }

    /// Begins an attempt to commit.
    pub(super) fn begin_attempt(&mut self) {
        self.attempt += 1;
    }

    /// Returns the number of the last attempt.
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Schedules the retry of a failed commit, which had positions of `lanes`.
    pub(super) fn failed(&mut self, error: &CommitError, lanes: Vec<u32>, now: MonoTime) {
        let attempt = self.attempt;
        self.in_doubt = matches!(error, CommitError::Unknown(_)).then_some(InDoubt { attempt, lanes });
        self.retry = Some(now.plus_ms(ShardOptions::RETRY_MS));
    }

    /// True if the failed attempt must be reported: the last one had another reason, or was reported
    /// [`REPORT_MS`] ago.
    pub(super) fn reports(&mut self, error: &CommitError, now: MonoTime) -> bool {
        let reason = error.to_string();
        let is_known = self.reported.as_ref().is_some_and(|(known, until)| *known == reason && now < *until);
        if !is_known {
            self.reported = Some((reason, now.plus_ms(REPORT_MS)));
        }
        !is_known
    }

    /// Returns the number of the attempt in doubt, and a lane: the attempt succeeded if the lane's
    /// committed metadata has this number. `None` if no attempt is in doubt, or all its lanes are
    /// lost.
    pub(super) fn witness(&self) -> Option<(u64, u32)> {
        let InDoubt { attempt, lanes } = self.in_doubt.as_ref()?;
        Some((*attempt, *lanes.first()?))
    }

    /// The outcome of the last commit is known.
    pub(super) fn settled(&mut self) {
        self.in_doubt = None;
    }

    /// Schedules the retry for `at`.
    pub(super) fn retry_at(&mut self, at: MonoTime) {
        self.retry = Some(at);
    }

    /// The records were written.
    pub(super) fn sent(&mut self) {
        self.records.clear();
        self.lanes.clear();
        self.retry = None;
    }

    /// A lane's position has changed: a commit of positions is due after this interval at the latest.
    pub(super) fn moved(&mut self, now: MonoTime, interval_ms: u64) {
        let due = now.plus_ms(interval_ms);
        self.positions_due = Some(self.positions_due.map_or(due, |set| set.min(due)));
    }

    /// Returns when a commit of positions alone is due; `None` if no position has changed.
    pub(super) fn positions_due(&self) -> Option<MonoTime> {
        self.positions_due
    }

    /// All positions are committed.
    pub(super) fn positions_committed(&mut self) {
        self.positions_due = None;
    }

    /// Removes everything that concerns these lanes. If one of them is assigned again, its
    /// committed offset tells what other owners did in between.
    pub(super) fn forget(&mut self, lanes: &[u32]) {
        if let Some(in_doubt) = &mut self.in_doubt {
            in_doubt.lanes.retain(|lane| !lanes.contains(lane));
        }
        let written = std::mem::take(&mut self.lanes).into_iter().zip(std::mem::take(&mut self.records));
        (self.lanes, self.records) = written.filter(|(lane, _)| !lanes.contains(lane)).unzip();
    }

    /// Replaces records that are too large for the bus with dead letters, so that they do not block
    /// their lanes, and schedules the retry for now. The recipient never gets the record; its
    /// timeout covers that like any other loss. Returns lane and reason of each replaced record.
    pub(super) fn replace(
        &mut self,
        found: TooLarge<'_>,
        dead: &Arc<str>,
        source: &str,
        now: MonoTime,
    ) -> Vec<(u32, String)> {
        let TooLarge { topic, size, limit } = found;
        let mut replaced = Vec::new();
        for (lane, record) in self.lanes.iter().zip(&mut self.records) {
            if *record.topic != *topic || record.size() < size {
                continue;
            }
            let reason = format!("a record for `{topic}` has {} bytes; the limit is {limit}", record.size());
            let mut letter = Envelope::new(Kind::Dead, format!("{topic}/{lane}/too-large"), source);
            letter.operation = record.headers.envelope().ok().and_then(|envelope| envelope.operation);
            *record = Outgoing {
                topic: Arc::clone(dead),
                route: Route::To(0),
                key: None,
                headers: Headers::of(&letter),
                value: serde_json::json!({ "topic": topic, "reason": reason }).to_string().into(),
            };
            replaced.push((*lane, reason));
        }
        self.retry = Some(now);
        replaced
    }
}

#[cfg(test)]
mod tests {
    use bus::BusError;

    use super::*;

    const NOW: MonoTime = MonoTime(1_000_000_000);

    fn record(topic: &str, size: usize) -> Outgoing {
        let envelope = Envelope::new(Kind::View, "a", "/test");
        Outgoing {
            topic: topic.into(),
            route: Route::To(0),
            key: None,
            headers: Headers::of(&envelope),
            value: vec![b'x'; size].into(),
        }
    }

    /// A queue with a record of lane 0, 1 and 0.
    fn queue() -> CommitQueue {
        let mut queue = CommitQueue::default();
        for (lane, topic) in [(0, "a"), (1, "b"), (0, "c")] {
            queue.push(lane, record(topic, 1));
        }
        queue
    }

    fn topics(queue: &CommitQueue) -> Vec<&str> {
        queue.records().iter().map(|record| &*record.topic).collect()
    }

    fn unknown() -> CommitError {
        CommitError::Unknown(BusError::Unavailable("no answer".into()))
    }

    #[test]
    fn a_commit_writes_decisions_then_snapshots_and_keeps_the_decisions() {
        let mut queue = queue();
        for _attempt in 0..2 {
            let written = queue.commit(Vec::new(), [record("snapshot", 1)], |batch| {
                batch.records.iter().map(|record| record.topic.to_string()).collect::<Vec<_>>()
            });
            assert_eq!(written, ["a", "b", "c", "snapshot"]);
        }
        assert_eq!(topics(&queue), ["a", "b", "c"]);
        queue.sent();
        assert!(queue.is_empty() && !queue.concerns(0));
    }

    #[test]
    fn a_failed_commit_is_retried_after_the_interval() {
        let mut queue = queue();
        assert!(queue.may_commit(NOW) && !queue.is_retrying());
        let error = CommitError::Failed(BusError::Unavailable("down".into()));
        queue.failed(&error, vec![0], NOW);
        assert_eq!(queue.witness(), None, "it is known to have failed");
        assert_eq!(queue.retry(), Some(NOW.plus_ms(ShardOptions::RETRY_MS)));
        assert!(!queue.may_commit(NOW) && queue.may_commit(NOW.plus_ms(ShardOptions::RETRY_MS)));
        queue.sent();
        assert!(!queue.is_retrying());
    }

    #[test]
    fn attempts_that_fail_for_one_reason_are_reported_at_intervals() {
        let mut queue = CommitQueue::default();
        let later = NOW.plus_ms(REPORT_MS);
        let reports = [NOW, NOW.plus_ms(50), later].map(|now| queue.reports(&unknown(), now));
        assert_eq!(reports, [true, false, true]);
        let other = CommitError::Failed(BusError::Unavailable("down".into()));
        assert!(queue.reports(&other, later) && queue.reports(&unknown(), later), "another reason");
    }

    #[test]
    fn a_later_attempt_leaves_the_number_of_the_one_in_doubt() {
        let mut queue = queue();
        queue.begin_attempt();
        queue.failed(&unknown(), vec![0], NOW);
        queue.begin_attempt();
        assert_eq!((queue.witness(), queue.attempt()), (Some((1, 0)), 2));
    }

    #[test]
    fn only_a_lane_that_is_still_owned_tells_the_outcome_of_a_commit() {
        let mut queue = queue();
        queue.begin_attempt();
        queue.failed(&unknown(), vec![0, 1], NOW);
        assert_eq!(queue.witness(), Some((1, 0)));
        queue.forget(&[0]);
        assert_eq!((queue.witness(), topics(&queue)), (Some((1, 1)), vec!["b"]));
        queue.forget(&[1]);
        assert_eq!((queue.witness(), queue.is_empty()), (None, true));
    }

    #[test]
    fn a_commit_stays_in_doubt_until_it_is_settled() {
        let mut queue = queue();
        queue.begin_attempt();
        queue.failed(&unknown(), vec![0], NOW);
        let later = NOW.plus_ms(ShardOptions::RETRY_MS);
        queue.retry_at(later.plus_ms(1));
        assert_eq!((queue.witness(), queue.may_commit(later)), (Some((1, 0)), false));
        queue.settled();
        assert_eq!(queue.witness(), None);
        assert!(queue.is_retrying(), "the records are not known to be written");
    }

    #[test]
    fn a_record_that_is_too_large_becomes_a_dead_letter() {
        let mut queue = queue();
        queue.push(1, record("b", 1_000));
        let size = queue.records()[3].size();
        let replaced = queue.replace(TooLarge { topic: "b", size, limit: 900 }, &"dead".into(), "member", NOW);
        assert_eq!(topics(&queue), ["a", "b", "c", "dead"]);
        assert_eq!(replaced, [(1, format!("a record for `b` has {size} bytes; the limit is 900"))]);
        assert_eq!(queue.of_lane(1).count(), 2, "the letter still belongs to its lane");
        assert!(queue.is_retrying() && queue.may_commit(NOW), "retried at once");
    }

    #[test]
    fn positions_are_due_one_interval_after_the_first_change() {
        let mut queue = CommitQueue::default();
        queue.moved(NOW, 100);
        queue.moved(NOW.plus_ms(50), 100);
        assert_eq!(queue.positions_due(), Some(NOW.plus_ms(100)));
        queue.positions_committed();
        assert_eq!(queue.positions_due(), None);
    }
}
