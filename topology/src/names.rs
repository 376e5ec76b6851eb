//! The names of what this crate counts and measures.

/// Records stepped by live lanes.
pub const RECORDS: &str = "nave_lane_records_total";
/// Commits that happened.
pub const COMMITS: &str = "nave_lane_commits_total";
/// Commits that did not happen at the first try.
pub const COMMITS_RETRIED: &str = "nave_lane_commits_retried_total";
/// Lanes taken over.
pub const TAKEOVERS: &str = "nave_lane_takeovers_total";
/// Records replayed by takeovers.
pub const REPLAYED: &str = "nave_lane_replayed_total";
/// Records that could not be read, or that nobody takes; each has its dead letter.
pub const DEAD_LETTERS: &str = "nave_lane_dead_letters_total";
/// Records that the bus will never take, since they are too large; each has its dead letter.
pub const TOO_LARGE: &str = "nave_lane_too_large_total";
/// Requests that came to the wrong lane and were sent on.
pub const FORWARDED: &str = "nave_lane_forwarded_total";
/// Tuples whose component panicked.
pub const PANICS: &str = "nave_lane_panics_total";
/// Tuples that could not be written as JSON.
pub const TUPLES_UNWRITABLE: &str = "nave_lane_tuples_unwritable_total";
/// Steps that did not come to an end and were cut.
pub const STEPS_CUT: &str = "nave_lane_steps_cut_total";
/// How late timers fire, in seconds: from the deadline to the append of the timeout.
pub const TIMER_LATENESS: &str = "nave_timer_lateness_seconds";
/// Timers armed, by topology, stage and lane.
pub const TIMERS_PENDING: &str = "nave_timers_pending";
/// How many records of its inbox a lane has not handled, by topology, stage and lane; measured every ten seconds.
pub const BACKLOG: &str = "nave_lane_backlog_records";
/// How far an inbox may be behind before those who write into it stop, by topology and stage.
pub const BACKLOG_LIMIT: &str = "nave_lane_backlog_limit_records";
/// Times that a stage stopped because an inbox downstream was full, by topology and stage.
pub const HELD_UP: &str = "nave_stage_held_up_total";
/// Views published.
pub const VIEWS: &str = "nave_lane_views_total";
/// Snapshots of lanes that were committed.
pub const SNAPSHOTS: &str = "nave_lane_snapshots_total";
/// Records that they took.
pub const SNAPSHOT_RECORDS: &str = "nave_lane_snapshot_records_total";
/// Lanes that could not be saved any more.
pub const SNAPSHOTS_FAILED: &str = "nave_lane_snapshots_failed_total";
/// Snapshots that could not be used at a takeover: the inbox was read from its beginning instead.
pub const SNAPSHOTS_SPOILT: &str = "nave_lane_snapshots_spoilt_total";
/// Looks at an inbox that was found close to losing what a takeover needs: one in ten seconds and lane.
pub const INBOXES_SHORT: &str = "nave_lane_inboxes_short_total";
/// Lanes taken over from a snapshot.
pub const RESTORED: &str = "nave_lane_restored_total";
