//! What must be so after a turn of a process that did something.

use std::collections::BTreeMap;

use bus::Record;
use topology::Inside;

use super::{Deed, Run};
use crate::sim::inside::Look;
use crate::sim::process::{Process, Role};

/// What a shard had before its turn: how each of its lanes was begun, and how many snapshots it could not use.
#[derive(Default)]
pub(super) struct Before {
    begun: BTreeMap<u32, Option<u64>>,
    spoilt: u64,
}

impl Before {
    pub(super) fn of(process: &Process) -> Self {
        let Some(shard) = process.shard() else { return Self::default() };
        Self { begun: shard.begun().collect(), spoilt: shard.tally(topology::names::SNAPSHOTS_SPOILT) }
    }
}

impl Run<'_> {
    /// What must be so after every turn.
    pub(super) fn look(&mut self) -> Result<(), String> {
        self.watch.keep();
        let clients = &self.clients;
        self.watch.answers(&|operation| clients.ask_for(operation))?;
        for (service, spoke) in &self.spokes {
            if self.simulation.forgetful {
                spoke.forget();
            }
            self.watch.spoke(service, &**spoke, &self.weather)?;
        }
        for late in self.weather.take_late() {
            let in_ms = self.dice.between(1, 3_000);
            self.note(in_ms, Deed::Deliver(late));
        }
        for said in self.people.listen(&self.weather)? {
            if let Some(front) = self.processes.iter().find_map(Process::front) {
                self.people.tell(&said.word(), front, &self.weather);
            }
        }
        self.look_where_all_is_quiet()
    }

    /// What must be so inside the lanes of a process that had a turn.
    pub(super) fn look_inside(&self, place: usize, before: &Before) -> Result<(), String> {
        let process = &self.processes[place];
        let (Some(shard), Role::Stage(stage)) = (process.shard(), &process.role) else { return Ok(()) };
        let inbox = self.names.inbox(self.topology.name(), stage);
        let records = self.watch.kept.get(&inbox).map_or(&[][..], Vec::as_slice);
        let together = self.topology.stages().len() == 1;
        for lane in shard.lanes() {
            let Some(inside) = shard.inside(lane) else { continue };
            let number = |component: &str| self.topology.lane(&self.names, stage, lane).number(component);
            let who = process.name.as_str();
            Look { who, lane, inside: &inside, together, number: &number, inbox: records }.judge()?;
            if before.begun.get(&lane).copied().flatten() != inside.begun {
                self.is_restored(who, stage, lane, &inside, records)?;
            }
        }
        Ok(())
    }

    /// A process that counted a snapshot that it cannot use has met damage: that of the lanes which it takes over.
    pub(super) fn look_at_what_is_named(&mut self, place: usize, before: &Before) -> Result<(), String> {
        let process = &self.processes[place];
        let (Some(shard), Role::Stage(stage)) = (process.shard(), &process.role) else { return Ok(()) };
        if shard.tally(topology::names::SNAPSHOTS_SPOILT) == before.spoilt {
            return Ok(());
        }
        if self.damage.is_empty() {
            return Err(format!("{} could not use a snapshot that nobody has damaged", process.name));
        }
        let had = |lane: u32| before.begun.get(&lane).copied().flatten();
        // A lane may be lost and come back in one turn: what began with its inbox may have begun so just now, and what has not begun may
        // have been claimed by a commit that happened and of which nobody said so.
        let met = shard.begun().filter(|(lane, begun)| had(*lane).is_none() || begun.is_none_or(|covers| covers == 0));
        let (stage, lanes) = (stage.clone(), met.map(|(lane, _)| lane).collect::<Vec<_>>());
        self.damage_is_named(&stage, &lanes);
        Ok(())
    }

    /// A lane that was just begun with a snapshot of which a stranger has written a record is what its inbox makes of it: what is not
    /// as it was written was not used. It may be as it was written all the same: for one who had followed it before, or where the
    /// owner has no use for the key any more. One that was begun with its inbox, though something was saved, was named.
    fn is_restored(&self, who: &str, stage: &str, lane: u32, inside: &Inside, inbox: &[Record]) -> Result<(), String> {
        let Some(covers) = inside.begun.filter(|_| self.is_damaged(stage, lane)) else { return Ok(()) };
        if covers == 0 {
            let unnamed =
                format!("lane {lane} of {who} does not use a snapshot that is damaged, and nobody counted it");
            return if self.is_named(stage, lane) { Ok(()) } else { Err(unnamed) };
        }
        let mut read = self.topology.lane(&self.names, stage, lane);
        let handled = |record: &&Record| record.partition == lane && record.offset < inside.position;
        for record in inbox.iter().filter(handled) {
            read.step(record);
            drop(read.take_effects());
        }
        if read.waits() == inside.waits {
            return Ok(());
        }
        Err(format!("lane {lane} of {who} began with a damaged snapshot up to {covers}, and nobody said so"))
    }

    /// Where all that was asked is decided, and nothing is under way, what the scenario wants is so already.
    fn look_where_all_is_quiet(&mut self) -> Result<(), String> {
        let decided = self.watch.order.len();
        if decided == self.judged || !self.is_quiet() {
            return Ok(());
        }
        self.judged = decided;
        self.is_as_told().map_err(|what| format!("when all that was asked was answered: {what}"))
    }

    fn is_quiet(&self) -> bool {
        let ours = |operation: &wire::OperationId| self.clients.ask_for(operation);
        self.watch.all_decided(&ours)
            && self.shards().all(|shard| shard.unfinished().is_empty() && shard.is_settled())
            && self.topology.stages().iter().all(|stage| {
                let inbox = self.names.inbox(self.topology.name(), &stage.name);
                let of_stage = |process: &&Process| process.role == Role::Stage(stage.name.to_string());
                (0..stage.lanes).all(|lane| {
                    let end = self.watch.end(&inbox, lane);
                    let mut shards = self.processes.iter().filter(of_stage).filter_map(Process::shard);
                    shards.any(|shard| shard.live().contains(&lane) && shard.stands_at(lane) >= Some(end))
                })
            })
    }
}
