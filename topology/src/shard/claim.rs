//! Takes lanes over.

use std::sync::Arc;
use std::time::Duration;

use bus::{Batch, BusError, CommitError, MonoTime, Outgoing, Position, Route};
use wire::owner::OwnerRecord;
use wire::{Code, Envelope, Kind};

use super::image::Checksums;
use super::owned::{OwnedLane, Phase};
use super::restore::{self, Found, Restored};
use super::{Shard, ShardOptions};
use crate::names;

/// Maximum duration of the claims of one poll; the claim in progress completes. A lane of six
/// thousand operations takes a tenth of a second.
const CLAIMING: Duration = Duration::from_millis(50);

/// Interval between two claims of a held lane: each claim writes an owner record and replays
/// records.
const HELD_MS: u64 = 60_000;

impl Shard {
    pub(super) fn claim_due(&mut self) -> bool {
        let now = self.clock.mono();
        let due = |(lane, owned): (&u32, &OwnedLane)| match owned.phase {
            Phase::Claiming { at } if at <= now => Some((at, *lane)),
            Phase::Claiming { .. } | Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => None,
        };
        let mut lanes: Vec<(MonoTime, u32)> = self.owned.iter().filter_map(due).collect();
        // Oldest first, so that one failing, slow claim cannot starve the others.
        lanes.sort_unstable();
        let lanes: Vec<u32> = lanes.into_iter().map(|(_, lane)| lane).collect();
        // Starts reading all of them together: one by one, each would wait for the fetch in
        // progress.
        for lane in &lanes {
            if self.owned[lane].lane.saved().is_some() {
                self.standby.follow(*lane);
            }
        }
        for lane in &lanes {
            // The other lanes wait for the next poll. In between, claimed lanes proceed and
            // revocations are received.
            if self.clock.mono().since(now) > CLAIMING {
                break;
            }
            let claimed = self.claim(*lane);
            self.status.blocked(*lane, claimed.as_ref().err().and_then(ClaimError::code));
            if let Err(error) = claimed {
                let stage = &self.options.stage;
                match &error {
                    ClaimError::Bus(error) => {
                        tracing::warn!(stage, lane, %error, "cannot take the lane over yet; retrying");
                    }
                    ClaimError::Cut(_) | ClaimError::Incompatible(_) => {
                        let code = error.code().map_or("", Code::as_str);
                        tracing::error!(stage, lane, code, %error, "cannot restore the lane: manual action needed");
                    }
                }
                if let Some(owned) = self.owned.get_mut(lane) {
                    let pause = ShardOptions::RETRY_MS << owned.claims_failed.min(7);
                    owned.claims_failed += 1;
                    owned.phase = Phase::Claiming { at: now.plus_ms(pause) };
                }
            }
        }
        !lanes.is_empty()
    }

    /// Claims a lane again whose next record was deleted: the claim finds out what is left of the
    /// inbox. The other lanes continue.
    pub(super) fn claim_again(&mut self, partition: u32, requested: u64, low: u64) {
        let stage = &self.options.stage;
        tracing::error!(
            stage,
            lane = partition,
            requested,
            low,
            "the next record of a lane was deleted from its inbox; taking the lane over again"
        );
        if self.owned.contains_key(&partition) {
            self.forget(&[partition]);
            self.assign(partition);
        }
    }

    /// Stops the replay of a lane that this build must not continue. The lane is claimed again
    /// later, in case something has changed.
    pub(super) fn hold(&mut self, partition: u32, why: &str) {
        let (stage, code) = (&self.options.stage, Code::StateIncompatible);
        tracing::error!(stage, lane = partition, code = code.as_str(), why, "the lane is held: manual action needed");
        self.forget(&[partition]);
        self.assign(partition);
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.phase = Phase::Claiming { at: self.clock.mono().plus_ms(HELD_MS) };
            self.status.blocked(partition, Some(code));
        }
    }

    /// Takes a lane over: commits the owner record on top of the last owner's commits.
    pub(super) fn claim(&mut self, partition: u32) -> Result<(), ClaimError> {
        let takeover = self.member.take_over(partition)?;
        let note = takeover.committed.as_ref().and_then(bus::Committed::parsed);
        let known = takeover.committed.is_some();
        let restored = self.restore(partition, known.then(|| note.as_ref().map_or(0, |note| note.snapshot)))?;
        let snapshot = restored.as_ref().map_or(0, |restored| restored.position);
        if let (Some(restored), Some(committed)) = (&restored, &takeover.committed)
            && committed.next > snapshot
            && let Some(why) = self.build.refuses_replay_of(&restored.head.graph, &restored.head.decides_by)
        {
            let next = committed.next;
            return Err(ClaimError::Incompatible(format!(
                "offsets {snapshot} to {next} were handled after its last snapshot: {why}; start the build that did, and stop it in an orderly way"
            )));
        }
        if takeover.low > snapshot {
            return Err(ClaimError::Cut(format!(
                "its inbox begins at offset {}, but its snapshot covers only offsets up to {snapshot}",
                takeover.low
            )));
        }
        // An inbox that ends before the snapshot or the committed offset was deleted and created
        // again.
        let handled = takeover.committed.as_ref().map_or(0, |committed| committed.next);
        let end = self.bus.bounds(&self.inbox, partition)?.end;
        if end < snapshot.max(handled) {
            return Err(ClaimError::Cut(format!(
                "its inbox ends at offset {end}, but its snapshot covers {snapshot}, and records up to {handled} were handled"
            )));
        }
        // If the committed offset is unknown, for example after its retention, the records after
        // the snapshot are handled again with their effects, because it is unknown whether they
        // were handled.
        let committed = takeover.committed.as_ref().map_or(snapshot.max(takeover.low), |committed| committed.next);
        let (owner, record) = self.owner_record(partition, committed);
        let position = Position { partition, next: committed, metadata: self.offset_metadata(snapshot, false) };
        // If the outcome is unknown, the claim is repeated: a second owner record does no harm.
        self.member.commit(&Batch { records: vec![record], positions: vec![position] }).map_err(
            |error| match error {
                CommitError::Failed(error) | CommitError::Unknown(error) => error,
                CommitError::Fenced(reason) => BusError::Unavailable(reason),
            },
        )?;
        self.member.start(partition, snapshot)?;
        self.counters.add(names::TAKEOVERS, 1);
        if let Some(owned) = self.owned.get_mut(&partition) {
            if let Some(restored) = restored {
                let Restored { lane, timers, views, checksums, .. } = *restored;
                (owned.lane, owned.timers, owned.views) = (lane, timers, views);
                owned.snapshots.checksums = Some(checksums);
                self.counters.add(names::RESTORED, 1);
            }
            owned.position = snapshot;
            owned.restored_from = Some(snapshot);
            owned.snapshots.covers = snapshot;
            owned.phase = if committed > snapshot {
                Phase::Replaying { until: committed, owner }
            } else {
                Phase::CatchingUp { owner }
            };
        }
        Ok(())
    }

    /// Returns the name of the new owner and its owner record. The owner handles the records from
    /// `from` on.
    pub(super) fn owner_record(&mut self, partition: u32, from: u64) -> (String, Outgoing) {
        self.claims += 1;
        let owner = format!("{}/{}", self.options.member, self.claims);
        let body = OwnerRecord {
            build: self.options.build.clone(),
            graph: self.build.graph.clone(),
            versions: self.build.decides_by.clone(),
            settings: self.options.settings.as_value().clone(),
            from,
        };
        let mut envelope = Envelope::new(Kind::Owner, owner.as_str(), format!("/nave/{}", self.options.member));
        envelope.time = Some(self.clock.wall());
        let record = Outgoing {
            topic: Arc::clone(&self.inbox),
            route: Route::To(partition),
            key: None,
            headers: bus::Headers::of(&envelope),
            value: serde_json::to_vec(&body).expect("an owner record is plain data").into(),
        };
        (owner, record)
    }

    /// Restores a lane from its snapshot. None if there is no usable snapshot: the lane then starts
    /// from the beginning of its inbox. `position` is the offset that the snapshot must cover, if
    /// known.
    fn restore(&mut self, partition: u32, position: Option<u64>) -> Result<Option<Box<Restored>>, ClaimError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(None) };
        if owned.lane.saved().is_none() {
            return Ok(None);
        }
        let make = || self.topology.lane(&self.options.topics, &self.options.stage, partition);
        let found = restore::restore(&mut self.standby, partition, position, &self.build, &make, &*self.clock)?;
        match found {
            Ok(Found::Nothing) => owned.snapshots.checksums = Some(Checksums::default()),
            Ok(Found::Whole(restored)) => return Ok(Some(restored)),
            Ok(Found::Corrupt(reason, checksums)) => {
                let (stage, code) = (&self.options.stage, Code::SnapshotDamaged.as_str());
                tracing::error!(stage, lane = partition, code, %reason, "the snapshot is corrupt; replaying the inbox from its beginning");
                self.counters.add(names::SNAPSHOTS_CORRUPT, 1);
                owned.snapshots.checksums = Some(checksums);
            }
            Err(incompatible) => return Err(ClaimError::Incompatible(incompatible.to_string())),
        }
        Ok(None)
    }
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
    fn code(&self) -> Option<Code> {
        match self {
            ClaimError::Bus(_) => None,
            ClaimError::Cut(_) => Some(Code::InboxCut),
            ClaimError::Incompatible(_) => Some(Code::StateIncompatible),
        }
    }
}
