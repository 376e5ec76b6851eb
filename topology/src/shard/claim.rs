//! Takes lanes over as [`super::takeover`] decides.

use std::time::Duration;

use bus::{Batch, BusError, CommitError, MonoTime, Position};
use wire::Code;

use super::Shard;
use super::image::Checksums;
use super::owned::{OwnedLane, Phase};
use super::restore::{Found, Restored};
use super::takeover::{ClaimError, Start, backoff_ms};
use crate::names;

/// Maximum duration of the claims of one poll; the claim in progress completes. A lane of six
/// thousand operations takes a tenth of a second.
const CLAIMING: Duration = Duration::from_millis(50);

/// Interval between two claims of a held lane: each claim writes an owner record and replays
/// records.
const HELD_MS: u64 = 60_000;

impl Shard {
    pub(super) fn claim_due(&mut self) -> bool {
        let now = self.context.clock.mono();
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
            self.takeover.follow(*lane);
        }
        for lane in &lanes {
            // The other lanes wait for the next poll. In between, claimed lanes proceed and
            // revocations are received.
            if self.context.clock.mono().since(now) > CLAIMING {
                break;
            }
            let claimed = self.claim(*lane);
            self.context.status.blocked(*lane, claimed.as_ref().err().and_then(ClaimError::code).as_ref());
            if let Err(error) = claimed {
                let stage = &self.context.options.stage;
                match &error {
                    ClaimError::Bus(error) => {
                        tracing::warn!(stage, lane, %error, "cannot take the lane over yet; retrying");
                    }
                    ClaimError::Cut(_) | ClaimError::Incompatible(_) => {
                        let code = error.code();
                        let code = code.as_ref().map_or("", Code::as_str);
                        tracing::error!(stage, lane, code, %error, "cannot restore the lane: manual action needed");
                    }
                }
                if let Some(owned) = self.owned.get_mut(lane) {
                    let pause = backoff_ms(owned.claims_failed);
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
        let stage = &self.context.options.stage;
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
        let (stage, code) = (&self.context.options.stage, Code::StateIncompatible);
        tracing::error!(stage, lane = partition, code = code.as_str(), why, "the lane is held: manual action needed");
        self.forget(&[partition]);
        self.assign(partition);
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.phase = Phase::Claiming { at: self.context.clock.mono().plus_ms(HELD_MS) };
            self.context.status.blocked(partition, Some(&code));
        }
    }

    /// Takes a lane over: commits the owner record on top of the last owner's commits.
    pub(super) fn claim(&mut self, partition: u32) -> Result<(), ClaimError> {
        let takeover = self.connection.member.take_over(partition)?;
        let covers = |committed: &bus::Committed| committed.parsed().map_or(0, |metadata| metadata.snapshot);
        let restored = self.restore(partition, takeover.committed.as_ref().map(covers))?;
        let head = restored.as_ref().map(|restored| &restored.head);
        let end = || self.context.bus.bounds(&self.context.inbox, partition).map(|bounds| bounds.end);
        let Start { snapshot, committed } = self.takeover.start(&takeover, head, end)?;
        let time = self.context.clock.wall();
        let (owner, record) =
            self.takeover.owner_record(&self.context.options, &self.context.inbox, partition, committed, time);
        self.queue.begin_attempt();
        let position = Position { partition, next: committed, metadata: self.offset_metadata(snapshot, false) };
        // If the outcome is unknown, the claim is repeated: a second owner record does no harm.
        self.connection.member.commit(&Batch { records: vec![record], positions: vec![position] }).map_err(
            |error| match error {
                CommitError::Failed(error) | CommitError::Unknown(error) => error,
                CommitError::Fenced(reason) => BusError::Unavailable(reason),
            },
        )?;
        self.connection.member.start(partition, snapshot)?;
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

    /// Restores a lane from its snapshot. `None` if there is no usable snapshot: the lane then
    /// starts from the beginning of its inbox. `position` is the offset that the snapshot must
    /// cover, if known.
    fn restore(&mut self, partition: u32, position: Option<u64>) -> Result<Option<Box<Restored>>, ClaimError> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(None) };
        let make = || self.context.topology.lane(&self.context.options.topics, &self.context.options.stage, partition);
        let found = self.takeover.restore(partition, position, &make, &*self.context.clock)?;
        match found {
            Found::Nothing => owned.snapshots.checksums = Some(Checksums::default()),
            Found::Whole(restored) => return Ok(Some(restored)),
            Found::Corrupt(reason, checksums) => {
                let (stage, code) = (&self.context.options.stage, Code::SnapshotDamaged);
                tracing::error!(stage, lane = partition, code = code.as_str(), %reason, "the snapshot is corrupt; replaying the inbox from its beginning");
                self.counters.add(names::SNAPSHOTS_CORRUPT, 1);
                owned.snapshots.checksums = Some(checksums);
            }
        }
        Ok(None)
    }
}
