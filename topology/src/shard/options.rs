//! The options of a shard, and its intervals and limits.

use std::time::Duration;

use bus::MemberSpec;
use wire::topics::Topics;

use super::pressure::InboxLimit;
use crate::settings::Settings;

/// The options of a shard.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// The naming scheme of topics.
    pub topics: Topics,
    /// The stage whose lanes it runs.
    pub stage: String,
    /// Its name, unique among the live members of the stage's group; also its transactional id.
    pub member: String,
    /// The build name in its owner records.
    pub build: String,
    /// The settings that its owner records give to its lanes.
    pub settings: Settings,
    /// How its lanes survive a crash.
    pub recovery: RecoveryOptions,
    /// The backlog of a downstream inbox at which this stage pauses.
    pub inbox_limit: InboxLimit,
}

/// Options for the takeover of lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryOptions {
    /// A shard that is silent for this long loses its lanes.
    pub session_timeout: Duration,
    /// Interval between two snapshots of a changing lane, in milliseconds; 0 takes one with every
    /// commit. A takeover replays the records since the last snapshot.
    pub snapshot_ms: u64,
    /// True: a shard follows the snapshots of lanes that it does not own, and has them in memory at
    /// a takeover. Useless if the other owners are in the same process.
    pub warm: bool,
}

impl RecoveryOptions {
    /// One second: the replay of the thousands of records of a second takes a fraction of a second,
    /// and a key that changes all the time is written once.
    pub const SNAPSHOT_MS: u64 = 1_000;
}

impl Default for RecoveryOptions {
    /// The shortest session that a broker accepts, and a snapshot every second.
    fn default() -> Self {
        Self { session_timeout: MemberSpec::SESSION, snapshot_ms: Self::SNAPSHOT_MS, warm: false }
    }
}

impl ShardOptions {
    /// Maximum number of records per commit: the size of a poll in the throughput measurements of
    /// Kafka.
    pub const MAX_RECORDS: usize = 5_000;
    /// Maximum duration of a batch, and so of the work that a crash repeats and that a stop waits
    /// for.
    pub const BATCH: Duration = Duration::from_millis(50);
    /// Maximum number of times that a lane's spouts are called in a row, so that no lane of a shard
    /// waits long for another one.
    pub(super) const SPOUT_VISITS: usize = 64;
    /// Wait after a spout has panicked and emitted nothing, in milliseconds: each panic is a dead
    /// letter.
    pub(super) const SPOUT_BACKOFF_MS: u64 = 1_000;
    /// Interval in milliseconds between two reports of failed roots to the spouts of a lane: a spout that
    /// emits again what always fails does not keep a thread busy.
    pub(super) const SETTLE_MS: u64 = 1;
    /// Maximum number of calls each time, unless one writes a record: back-pressure is checked before
    /// the next record.
    pub(super) const SPOUT_VISIT_CALLS: usize = 256;
    /// Maximum number of calls of spouts per commit, if their tuples stay in the lanes: some
    /// milliseconds, in which a commit of a hundred microseconds is a small part.
    pub(super) const SPOUT_CALLS: usize = 65_536;
    /// Interval between two attempts of a failed commit, in milliseconds.
    pub const RETRY_MS: u64 = 50;
    /// Interval between two publications of a lane's position, in milliseconds.
    pub const POSITION_MS: u64 = 1_000;

    /// Returns the group of the stage.
    pub fn group(&self, topology: &str) -> String {
        self.topics.inbox(topology, &self.stage)
    }
}
