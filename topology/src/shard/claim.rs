//! Taking a lane over: DESIGN section 6.

use std::sync::Arc;

use bus::{Batch, BusError, CommitError, Outgoing, Position, Route};
use wire::owner::OwnerRecord;
use wire::{Code, Envelope, Kind};

use super::owned::{Owned, Phase};
use super::{Shard, ShardOptions};
use crate::names;

impl Shard {
    pub(super) fn claim_due(&mut self) -> bool {
        let now = self.clock.mono();
        let due = |(lane, owned): (&u32, &Owned)| match owned.phase {
            Phase::Claiming { at } if at <= now => Some(*lane),
            Phase::Claiming { .. } | Phase::Replaying { .. } | Phase::CatchingUp { .. } | Phase::Live => None,
        };
        let lanes: Vec<u32> = self.owned.iter().filter_map(due).collect();
        for lane in &lanes {
            if let Err(error) = self.claim(*lane) {
                let stage = &self.options.stage;
                if matches!(error, BusError::Gone { .. }) {
                    let code = Code::WrongTopic.as_str();
                    tracing::error!(stage, lane, code, %error, "lane cannot be restored: its inbox was cut, a person is needed");
                } else {
                    tracing::warn!(stage, lane, %error, "lane cannot be taken over yet");
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

    /// Takes a lane over: one commit of the owner record, on top of what the last owner left.
    pub(super) fn claim(&mut self, partition: u32) -> Result<(), BusError> {
        let takeover = self.member.take_over(partition)?;
        let committed = takeover.committed.as_ref().map_or(takeover.low, |committed| committed.next);
        let snapshot = takeover.committed.as_ref().and_then(bus::Committed::parsed).map_or(0, |note| note.snapshot);
        if takeover.low > snapshot {
            return Err(BusError::Gone {
                topic: self.inbox.to_string(),
                partition,
                asked: snapshot,
                low: takeover.low,
            });
        }
        self.claims += 1;
        let owner = format!("{}/{}", self.options.member, self.claims);
        let body = OwnerRecord {
            build: self.options.build.clone(),
            settings: self.options.settings.as_value().clone(),
            from: Some(committed),
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
        let note = self.note(snapshot, false);
        let position = Position { partition, next: committed, note };
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
            owned.position = snapshot;
            owned.snapshot = snapshot;
            owned.phase = if committed > snapshot {
                Phase::Replaying { until: committed, owner }
            } else {
                Phase::CatchingUp { owner }
            };
        }
        Ok(())
    }
}
