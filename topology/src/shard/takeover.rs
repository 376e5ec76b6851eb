//! Decides how a shard takes a lane over: from which offset, with which state, and whether this
//! build may.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{BusError, Clock, Headers, MonoTime, Outgoing, Route};
use wire::graph::Graph;
use wire::owner::OwnerRecord;
use wire::{Code, Envelope, Kind, WallTime};

use super::ShardOptions;
use super::image::{Build, LaneHead};
use super::restore::{self, Found};
use super::standby::Standby;
use crate::lane::Lane;

/// Takes lanes over for a shard.
pub(super) struct Takeover {
    build: Build,
    standby: Standby,
    /// True: lanes of other owners are followed.
    warm: bool,
    /// The number of owner records so far: part of the names of owners.
    claims: u64,
    /// Next check that inboxes still contain the records that a takeover needs.
    pub(super) next_check: MonoTime,
}

/// The offsets at which a lane starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// The offset that the snapshot covers (S): the first record to read.
    pub(super) snapshot: u64,
    /// The committed offset (C): records below it are replayed without effects.
    pub(super) committed: u64,
}

impl Takeover {
    pub(super) fn new(build: Build, standby: Standby, warm: bool) -> Self {
        Self { build, standby, warm, claims: 0, next_check: MonoTime::default() }
    }

    /// Returns the build that the lanes run.
    pub(super) fn build(&self) -> &Build {
        &self.build
    }

    /// Follows the snapshots of a lane that this shard is about to take over.
    pub(super) fn follow(&mut self, lane: u32) {
        self.standby.follow(lane);
    }

    /// Another owner gets the lane: follows its snapshots if that is configured.
    pub(super) fn lost(&mut self, lane: u32) {
        if self.warm {
            self.standby.follow(lane);
        } else {
            self.standby.unfollow(lane);
        }
    }

    /// Reads new snapshots of other owners.
    pub(super) fn look(&mut self, now: MonoTime) -> Result<(), BusError> {
        self.standby.look(now)
    }

    /// Restores a lane from its snapshot, which must cover `position` if that is known.
    ///
    /// # Errors
    /// If the bus fails, or this build cannot continue the state.
    pub(super) fn restore(
        &mut self,
        lane: u32,
        position: Option<u64>,
        make: &dyn Fn() -> Lane,
        clock: &dyn Clock,
    ) -> Result<Found, ClaimError> {
        let found = restore::restore(&mut self.standby, lane, position, &self.build, make, clock)?;
        found.map_err(|incompatible| ClaimError::Incompatible(incompatible.to_string()))
    }

    /// Decides where a lane starts. `restored` is the head of its snapshot; `end` returns the end of
    /// its inbox.
    ///
    /// # Errors
    /// If the inbox lacks records that have to be replayed, or this build must not replay them.
    pub(super) fn start(
        &self,
        found: &bus::Takeover,
        restored: Option<&LaneHead>,
        end: impl FnOnce() -> Result<u64, BusError>,
    ) -> Result<Start, ClaimError> {
        let snapshot = restored.map_or(0, |head| head.position);
        let next = found.committed.as_ref().map(|committed| committed.next);
        if let (Some(head), Some(next)) = (restored, next)
            && next > snapshot
            && let Some(why) = self.refuses_replay_of(&head.graph, &head.decides_by)
        {
            return Err(ClaimError::Incompatible(format!(
                "offsets {snapshot} to {next} were handled after its last snapshot: {why}; start the build that did, and stop it in an orderly way"
            )));
        }
        if found.low > snapshot {
            return Err(ClaimError::Cut(format!(
                "its inbox begins at offset {}, but its snapshot covers only offsets up to {snapshot}",
                found.low
            )));
        }
        // An inbox that ends before the snapshot or the committed offset was deleted and created
        // again.
        let (handled, end) = (next.unwrap_or(0), end()?);
        if end < snapshot.max(handled) {
            return Err(ClaimError::Cut(format!(
                "its inbox ends at offset {end}, but its snapshot covers {snapshot}, and records up to {handled} were handled"
            )));
        }
        // If the committed offset is unknown, for example after its retention, the records after
        // the snapshot are handled again with their effects, because it is unknown whether they
        // were handled.
        Ok(Start { snapshot, committed: next.unwrap_or(snapshot.max(found.low)) })
    }

    /// Explains why this build must not replay what another one decided; `None` if it may.
    pub(super) fn refuses_replay_of(&self, graph: &Graph, versions: &BTreeMap<String, u32>) -> Option<String> {
        self.build.refuses_replay_of(graph, versions)
    }

    /// Returns the name of the new owner and its owner record. The owner handles the records from
    /// `from` on.
    pub(super) fn owner_record(
        &mut self,
        options: &ShardOptions,
        inbox: &Arc<str>,
        lane: u32,
        from: u64,
        time: WallTime,
    ) -> (String, Outgoing) {
        self.claims += 1;
        let owner = format!("{}/{}", options.member, self.claims);
        let body = OwnerRecord {
            build: options.build.clone(),
            graph: self.build.graph.clone(),
            versions: self.build.decides_by.clone(),
            settings: options.settings.as_value().clone(),
            from,
        };
        let mut envelope = Envelope::new(Kind::Owner, owner.as_str(), format!("/nave/{}", options.member));
        envelope.time = Some(time);
        let record = Outgoing {
            topic: Arc::clone(inbox),
            route: Route::To(lane),
            key: None,
            headers: Headers::of(&envelope),
            value: serde_json::to_vec(&body).expect("an owner record is plain data").into(),
        };
        (owner, record)
    }
}

/// Returns the time until the next attempt to claim a lane, in milliseconds: it doubles with each
/// failed attempt, up to 6.4 s.
pub(super) fn backoff_ms(failed: u32) -> u64 {
    ShardOptions::RETRY_MS << failed.min(7)
}

/// The reason why a lane is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// The bus failed; a retry may succeed.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// The inbox lacks records that have to be replayed.
    #[error("{0}")]
    Cut(String),
    /// This build cannot continue the saved state.
    #[error("{0}")]
    Incompatible(String),
}

impl ClaimError {
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            ClaimError::Bus(_) => None,
            ClaimError::Cut(_) => Some(Code::InboxCut),
            ClaimError::Incompatible(_) => Some(Code::StateIncompatible),
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::{Committed, Embedded, EmbeddedOptions, ManualClock};
    use wire::graph::{Component, ComponentKind};

    use super::super::{InboxLimit, RecoveryOptions};
    use super::*;

    /// A build whose graph has one component.
    fn build(component: &str) -> Build {
        let (name, stage) = (component.to_owned(), "s".to_owned());
        let components = vec![Component { name, kind: ComponentKind::Bolt, stage, saves: None, tracks: false }];
        Build { versions: BTreeMap::new(), graph: Graph { components, edges: Vec::new() }, decides_by: BTreeMap::new() }
    }

    fn takeover() -> Takeover {
        let bus = Embedded::open(Arc::new(ManualClock::default()), EmbeddedOptions::default());
        Takeover::new(build("g"), Standby::new(Arc::new(bus), "snapshots".into()), false)
    }

    /// The head of a snapshot that covers 10 offsets and was written by a build with this graph.
    fn head(component: &str) -> LaneHead {
        LaneHead {
            position: 10,
            graph: build(component).graph,
            decides_by: BTreeMap::new(),
            components: BTreeMap::new(),
            settings: serde_json::json!({}),
            sent: BTreeMap::new(),
        }
    }

    /// The start of a lane with this committed offset, the low watermark and the end of its inbox.
    fn start(restored: Option<&LaneHead>, next: Option<u64>, low: u64, end: u64) -> Result<(u64, u64), Option<Code>> {
        let committed = next.map(|next| Committed { next, metadata: String::new() });
        let start = takeover().start(&bus::Takeover { committed, low, end }, restored, || Ok(end));
        start.map(|start| (start.snapshot, start.committed)).map_err(|error| error.code())
    }

    #[test]
    fn a_lane_starts_at_its_snapshot_and_replays_up_to_its_committed_offset() {
        let head = head("g");
        assert_eq!(start(Some(&head), Some(15), 10, 20), Ok((10, 15)));
        assert_eq!(start(None, Some(15), 0, 20), Ok((0, 15)));
        assert_eq!(
            start(Some(&head), None, 5, 20),
            Ok((10, 10)),
            "without an offset, records after the snapshot are new"
        );
    }

    #[test]
    fn a_lane_whose_inbox_lacks_records_does_not_start() {
        let (head, cut) = (head("g"), Err(Some(Code::InboxCut)));
        assert_eq!(start(Some(&head), Some(15), 11, 20), cut, "records after the snapshot were deleted");
        assert_eq!(start(None, None, 1, 20), cut, "there is no snapshot");
        assert_eq!(start(Some(&head), Some(15), 0, 14), cut, "the inbox ends before the committed offset");
        assert_eq!(start(Some(&head), None, 0, 9), cut, "the inbox ends before the snapshot");
    }

    #[test]
    fn a_build_with_another_graph_starts_only_without_a_replay() {
        let head = head("another");
        assert_eq!(start(Some(&head), Some(10), 0, 20), Ok((10, 10)));
        assert_eq!(start(Some(&head), Some(11), 0, 20), Err(Some(Code::StateIncompatible)));
    }

    #[test]
    fn a_failed_bus_is_an_error_without_a_code() {
        let found = bus::Takeover { committed: None, low: 0, end: 0 };
        let start = takeover().start(&found, None, || Err(BusError::Unavailable("down".into())));
        assert!(matches!(start, Err(error @ ClaimError::Bus(_)) if error.code().is_none()));
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        assert_eq!([0, 1, 2, 7, 8, u32::MAX].map(backoff_ms), [50, 100, 200, 6_400, 6_400, 6_400]);
    }

    #[test]
    fn each_claim_has_its_own_owner_name() {
        let options = ShardOptions {
            topics: wire::topics::Topics::default(),
            stage: "s".into(),
            member: "m".into(),
            build: "1.0".into(),
            settings: crate::Settings::default(),
            recovery: RecoveryOptions::default(),
            inbox_limit: InboxLimit::default(),
        };
        let mut takeover = takeover();
        let mut claim = |from| takeover.owner_record(&options, &"inbox".into(), 3, from, WallTime::default());
        let (first, record) = claim(7);
        assert_eq!((first.as_str(), claim(7).0.as_str()), ("m/1", "m/2"));
        let body: OwnerRecord = serde_json::from_slice(&record.value).expect("an owner record");
        assert_eq!((record.route, body.from, &*body.build), (Route::To(3), 7, "1.0"));
    }
}
