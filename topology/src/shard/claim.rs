//! Taking a lane over.

use std::sync::Arc;
use std::time::Duration;

use bus::{Batch, BusError, CommitError, MonoTime, Outgoing, Position, Route};
use wire::owner::OwnerRecord;
use wire::{Code, Envelope, Kind};

use super::image::Account;
use super::owned::{Owned, Phase};
use super::restore::{self, Found, Restored};
use super::{Shard, ShardOptions};
use crate::names;

/// So long a turn claims lanes, and the one that it has begun with to its end: a lane of six thousand operations takes a tenth of a second.
const CLAIMING: Duration = Duration::from_millis(50);

/// A lane that was held is claimed again after this: each claim writes an owner record and replays until it is held.
const HELD_MS: u64 = 60_000;

impl Shard {
    pub(super) fn claim_due(&mut self) -> bool {
        let now = self.clock.mono();
        let due = |(lane, owned): (&u32, &Owned)| match owned.phase {
            Phase::Claiming { at } if at <= now => Some((at, *lane)),
            Phase::Claiming { .. } | Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => None,
        };
        let mut lanes: Vec<(MonoTime, u32)> = self.owned.iter().filter_map(due).collect();
        // Who waits longest is first: one that fails, and takes its time, holds none up for ever.
        lanes.sort_unstable();
        let lanes: Vec<u32> = lanes.into_iter().map(|(_, lane)| lane).collect();
        // All are read together: one after the other, each would wait for the fetch that was under way without it.
        for lane in &lanes {
            if self.owned[lane].lane.saved().is_some() {
                self.heir.follow(*lane);
            }
        }
        for lane in &lanes {
            // The others wait for the next turn, in which what was claimed goes on, and what is asked back is heard of.
            if self.clock.mono().since(now) > CLAIMING {
                break;
            }
            let claimed = self.claim(*lane);
            self.status.hindered(*lane, claimed.as_ref().err().and_then(Hindrance::code));
            if let Err(error) = claimed {
                let stage = &self.options.stage;
                match &error {
                    Hindrance::Bus(error) => {
                        tracing::warn!(stage, lane, %error, "lane cannot be taken over yet");
                    }
                    Hindrance::Cut(_) | Hindrance::Incompatible(_) => {
                        let code = error.code().map_or("", Code::as_str);
                        tracing::error!(stage, lane, code, %error, "lane cannot be restored here: a person is needed");
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

    /// What a lane was to read next is gone: it is claimed anew, which finds out what is left of it. The other lanes go on.
    pub(super) fn claim_again(&mut self, partition: u32, asked: u64, low: u64) {
        let stage = &self.options.stage;
        tracing::error!(stage, lane = partition, asked, low, "an inbox lacks what its lane was to read next");
        if self.owned.contains_key(&partition) {
            self.forget(&[partition]);
            self.assign(partition);
        }
    }

    /// A lane that is being replayed must not go on in this build: it is claimed again after a while, in case something changed.
    pub(super) fn hold(&mut self, partition: u32, why: &str) {
        let (stage, code) = (&self.options.stage, Code::StateIncompatible);
        tracing::error!(stage, lane = partition, code = code.as_str(), why, "lane is held: a person is needed");
        self.forget(&[partition]);
        self.assign(partition);
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.phase = Phase::Claiming { at: self.clock.mono().plus_ms(HELD_MS) };
            self.status.hindered(partition, Some(code));
        }
    }

    /// Takes a lane over: one commit of the owner record, on top of what the last owner left.
    pub(super) fn claim(&mut self, partition: u32) -> Result<(), Hindrance> {
        let takeover = self.member.take_over(partition)?;
        let note = takeover.committed.as_ref().and_then(bus::Committed::parsed);
        let known = takeover.committed.is_some();
        let restored = self.restore(partition, known.then(|| note.as_ref().map_or(0, |note| note.snapshot)))?;
        let snapshot = restored.as_ref().map_or(0, |restored| restored.position);
        if let (Some(restored), Some(committed)) = (&restored, &takeover.committed)
            && committed.next > snapshot
            && let Some(why) = self.build.decides_otherwise(&restored.head.graph, &restored.head.decides_by)
        {
            let next = committed.next;
            return Err(Hindrance::Incompatible(format!(
                "offsets {snapshot} to {next} were handled after its last snapshot: {why}; start the build that did, and stop it in order"
            )));
        }
        if takeover.low > snapshot {
            return Err(Hindrance::Cut(format!(
                "its inbox begins at offset {}, and what is saved ends at {snapshot}",
                takeover.low
            )));
        }
        // What is saved, or was handled, speaks of records that this inbox never had: it was deleted, and made anew.
        let handled = takeover.committed.as_ref().map_or(0, |committed| committed.next);
        let end = self.bus.bounds(&self.inbox, partition)?.end;
        if end < snapshot.max(handled) {
            return Err(Hindrance::Cut(format!(
                "its inbox ends at offset {end}, what is saved at {snapshot}, and what was handled at {handled}"
            )));
        }
        // Where the committed offset is not known any more, as after its retention, what came after the snapshot is handled anew, with its
        // effects: it may have been, and nobody can tell.
        let committed = takeover.committed.as_ref().map_or(snapshot.max(takeover.low), |committed| committed.next);
        let (owner, record) = self.owner_record(partition, committed);
        let position = Position { partition, next: committed, note: self.note(snapshot, false) };
        // Where the outcome is unknown the claim is made again: two owner records are as good as one.
        self.member.commit(&Batch { records: vec![record], positions: vec![position] }).map_err(
            |error| match error {
                CommitError::Failed(error) | CommitError::Unknown(error) => error,
                CommitError::Fenced(reason) => BusError::Unavailable(reason),
            },
        )?;
        self.member.start(partition, snapshot)?;
        *self.tallies.entry(names::TAKEOVERS).or_default() += 1;
        metrics::counter!(names::TAKEOVERS).increment(1);
        if let Some(owned) = self.owned.get_mut(&partition) {
            if let Some(restored) = restored {
                let Restored { lane, timers, views, account, .. } = *restored;
                (owned.lane, owned.timers, owned.views) = (lane, timers, views);
                owned.saves.account = Some(account);
                *self.tallies.entry(names::RESTORED).or_default() += 1;
                metrics::counter!(names::RESTORED).increment(1);
            }
            owned.position = snapshot;
            owned.begun = Some(snapshot);
            owned.saves.covers = snapshot;
            owned.phase = if committed > snapshot {
                Phase::Replaying { until: committed, owner }
            } else {
                Phase::CatchingUp { owner }
            };
        }
        Ok(())
    }

    /// A record that says whose the lane is, and its name. Its owner handles the records from `from` on.
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

    /// What is saved of a lane; none where nothing is, or nothing that can be used: then it begins with its inbox. `position` is S, where
    /// that is known.
    fn restore(&mut self, partition: u32, position: Option<u64>) -> Result<Option<Box<Restored>>, Hindrance> {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(None) };
        if owned.lane.saved().is_none() {
            return Ok(None);
        }
        let make = || self.topology.lane(&self.options.topics, &self.options.stage, partition);
        let found = restore::restore(&mut self.heir, partition, position, &self.build, &make, &*self.clock)?;
        match found {
            Ok(Found::Nothing) => owned.saves.account = Some(Account::default()),
            Ok(Found::Whole(restored)) => return Ok(Some(restored)),
            Ok(Found::Spoilt(reason, account)) => {
                let (stage, code) = (&self.options.stage, Code::SnapshotDamaged.as_str());
                tracing::error!(stage, lane = partition, code, %reason, "a snapshot is not used: the inbox is read from its beginning");
                *self.tallies.entry(names::SNAPSHOTS_SPOILT).or_default() += 1;
                metrics::counter!(names::SNAPSHOTS_SPOILT).increment(1);
                owned.saves.account = Some(account);
            }
            Err(incompatible) => return Err(Hindrance::Incompatible(incompatible.to_string())),
        }
        Ok(None)
    }
}

/// Why a lane is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hindrance {
    /// The bus did not do its part; it may the next time.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// The inbox lacks what would have to be read again.
    #[error("{0}")]
    Cut(String),
    /// This build cannot go on with it.
    #[error("{0}")]
    Incompatible(String),
}

impl Hindrance {
    fn code(&self) -> Option<Code> {
        match self {
            Hindrance::Bus(_) => None,
            Hindrance::Cut(_) => Some(Code::InboxCut),
            Hindrance::Incompatible(_) => Some(Code::StateIncompatible),
        }
    }
}
