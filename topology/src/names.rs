//! Names of the metrics of this crate.

/// Records handled by live lanes.
pub const RECORDS: &str = "nave_lane_records_total";
/// Tuples that a bolt has handled, by topology, stage and component. Replays are not counted.
pub const EXECUTED: &str = "nave_component_executed_total";
/// Tuples that a component has emitted, likewise, also if no component reads them.
pub const EMITTED: &str = "nave_component_emitted_total";
/// Tuples that a component has failed, likewise.
pub const FAILED: &str = "nave_component_failed_total";
/// Roots of a spout that were acked, likewise.
pub const ACKED: &str = "nave_component_acked_total";
/// Acks of held tuples whose root had failed before; they had no effect.
pub const ACKS_LATE: &str = "nave_lane_acks_late_total";
/// Offsets of the topic of a source that were deleted before they were read.
pub const SOURCE_GAPS: &str = "nave_source_offsets_lost_total";
/// Successful commits.
pub const COMMITS: &str = "nave_lane_commits_total";
/// Failed commit attempts, which were retried.
pub const COMMITS_RETRIED: &str = "nave_lane_commits_retried_total";
/// Takeovers of lanes.
pub const TAKEOVERS: &str = "nave_lane_takeovers_total";
/// Records replayed by takeovers.
pub const REPLAYED: &str = "nave_lane_replayed_total";
/// Dead letters: records that cannot be read or that no component accepts, and failed tuples.
pub const DEAD_LETTERS: &str = "nave_lane_dead_letters_total";
/// Records larger than the bus accepts; each is replaced by a dead letter.
pub const TOO_LARGE: &str = "nave_lane_too_large_total";
/// Requests that arrived in the wrong lane and were forwarded.
pub const FORWARDED: &str = "nave_lane_forwarded_total";
/// Panics of component code.
pub const PANICS: &str = "nave_lane_panics_total";
/// Tuples that could not be serialized as JSON.
pub const TUPLES_UNWRITABLE: &str = "nave_lane_tuples_unwritable_total";
/// Steps that exceeded the limit of executions and were cut.
pub const STEPS_CUT: &str = "nave_lane_steps_cut_total";
/// Lateness of timers in seconds: from the deadline to the append of the timeout.
pub const TIMER_LATENESS: &str = "nave_timer_lateness_seconds";
/// Timeouts whose timer was disarmed or armed again in the meantime; they had no effect.
pub const TIMEOUTS_STALE: &str = "nave_timeouts_stale_total";
/// Armed timers, by topology, stage and lane.
pub const TIMERS_PENDING: &str = "nave_timers_pending";
/// Roots of spouts that are neither acked nor failed, by topology, stage and lane.
pub const ROOTS_PENDING: &str = "nave_lane_roots_pending";
/// Unhandled records in the inbox of a lane, by topology, stage and lane; updated every ten
/// seconds.
pub const BACKLOG: &str = "nave_lane_backlog_records";
/// Backlog of an inbox at which its writers pause, by topology and stage.
pub const BACKLOG_LIMIT: &str = "nave_lane_backlog_limit_records";
/// Pauses of a stage because a downstream inbox was full, by topology and stage.
pub const HELD_UP: &str = "nave_stage_held_up_total";
/// Published views.
pub const VIEWS: &str = "nave_lane_views_total";
/// Committed snapshots of lanes.
pub const SNAPSHOTS: &str = "nave_lane_snapshots_total";
/// Records of committed snapshots.
pub const SNAPSHOT_RECORDS: &str = "nave_lane_snapshot_records_total";
/// Lanes that can no longer be saved.
pub const SNAPSHOTS_FAILED: &str = "nave_lane_snapshots_failed_total";
/// Corrupt snapshots found by takeovers; the inbox was replayed from its beginning instead.
pub const SNAPSHOTS_CORRUPT: &str = "nave_lane_snapshots_corrupt_total";
/// Checks that found an inbox close to losing records that a takeover needs; at most one in ten
/// seconds per lane.
pub const INBOXES_SHORT: &str = "nave_lane_inboxes_short_total";
/// Lanes restored from a snapshot.
pub const RESTORED: &str = "nave_lane_restored_total";
