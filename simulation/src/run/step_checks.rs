//! The checks after each poll that did work.

use std::collections::BTreeMap;

use bus::Record;
use topology::Inspection;

use super::{FaultEvent, Run};
use crate::inside::LaneCheck;
use crate::process::{Process, Role};

/// The state of a shard before a poll: how each lane started, and its number of unusable snapshots.
#[derive(Default)]
pub(super) struct Before {
    begun: BTreeMap<u32, Option<u64>>,
    corrupt: u64,
}

impl Before {
    pub(super) fn of(process: &Process) -> Self {
        let Some(shard) = process.shard() else { return Self::default() };
        Self { begun: shard.restored_from().collect(), corrupt: shard.counter(topology::names::SNAPSHOTS_CORRUPT) }
    }
}

impl Run<'_> {
    /// Runs the checks of the whole system.
    pub(super) fn check_after_poll(&mut self) -> Result<(), String> {
        self.watch.read_inboxes();
        let clients = &self.clients;
        self.watch.check_answers(&|operation| clients.have_requested(operation))?;
        for (service, spoke) in &self.spokes {
            if self.simulation.forgetful {
                spoke.forget();
            }
            self.watch.check_spoke(service, &**spoke, &self.faults)?;
        }
        for late in self.faults.take_late() {
            let in_ms = self.dice.between(1, 3_000);
            self.schedule(in_ms, FaultEvent::Deliver(late));
        }
        for sent in self.people.receive(&self.faults)? {
            if let Some(front) = self.processes.iter().find_map(Process::front) {
                self.people.send(&sent.spec(), front, &self.faults);
            }
        }
        self.check_when_quiet()
    }

    /// Checks the lanes of the process that was polled.
    pub(super) fn check_lanes(&self, place: usize, before: &Before) -> Result<(), String> {
        let process = &self.processes[place];
        let (Some(shard), Role::Stage(stage)) = (process.shard(), &process.role) else { return Ok(()) };
        let inbox = self.names.inbox(self.topology.name(), stage);
        let records = self.watch.kept.get(&inbox).map_or(&[][..], Vec::as_slice);
        let shares_lane = self.topology.stages().len() == 1;
        for lane in shard.lanes() {
            let Some(inside) = shard.inspect(lane) else { continue };
            let number = |component: &str| self.topology.lane(&self.names, stage, lane).number(component);
            let process_name = process.name.as_str();
            LaneCheck { process: process_name, lane, inside: &inside, shares_lane, number: &number, inbox: records }
                .run()?;
            if before.begun.get(&lane).copied().flatten() != inside.restored_from {
                self.check_restored_lane(process_name, stage, lane, &inside, records)?;
            }
        }
        Ok(())
    }

    /// If the process counted an unusable snapshot, marks the damage of the lanes that it takes
    /// over as reported.
    pub(super) fn record_reported_damage(&mut self, place: usize, before: &Before) -> Result<(), String> {
        let process = &self.processes[place];
        let (Some(shard), Role::Stage(stage)) = (process.shard(), &process.role) else { return Ok(()) };
        if shard.counter(topology::names::SNAPSHOTS_CORRUPT) == before.corrupt {
            return Ok(());
        }
        if self.damage.is_empty() {
            return Err(format!("{} could not use a snapshot that was not damaged", process.name));
        }
        let had = |lane: u32| before.begun.get(&lane).copied().flatten();
        // A lane may be lost and taken over again in one poll, so a lane that started from its
        // inbox may have done so just now. A lane that has not started may have been claimed by a
        // commit whose result was lost.
        let affected = shard
            .restored_from()
            .filter(|(lane, begun)| had(*lane).is_none() || begun.is_none_or(|covers| covers == 0));
        let (stage, lanes) = (stage.clone(), affected.map(|(lane, _)| lane).collect::<Vec<_>>());
        self.mark_reported(&stage, &lanes);
        Ok(())
    }

    /// Checks a lane that just started although its snapshot is damaged. If it started from its
    /// inbox, the damage must have been reported. Otherwise its state must equal that of a replay.
    /// That is possible: a standby may have read the record before it was damaged, or the owner may
    /// no longer use the key.
    fn check_restored_lane(
        &self,
        process_name: &str,
        stage: &str,
        lane: u32,
        inside: &Inspection,
        inbox: &[Record],
    ) -> Result<(), String> {
        let Some(covers) = inside.restored_from.filter(|_| self.is_damaged(stage, lane)) else { return Ok(()) };
        if covers == 0 {
            let unreported = format!("lane {lane} of {process_name} ignored a damaged snapshot without counting it");
            return if self.is_reported(stage, lane) { Ok(()) } else { Err(unreported) };
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
        Err(format!(
            "lane {lane} of {process_name} started from a damaged snapshot up to {covers} without detecting it"
        ))
    }

    /// Runs the scenario's check whenever all requests are answered and nothing is in progress.
    fn check_when_quiet(&mut self) -> Result<(), String> {
        let decided = self.watch.order.len();
        if decided == self.checked || !self.is_quiet() {
            return Ok(());
        }
        self.checked = decided;
        self.check_scenario().map_err(|violation| format!("when all requests were answered: {violation}"))
    }

    fn is_quiet(&self) -> bool {
        let ours = |operation: &wire::OperationId| self.clients.have_requested(operation);
        self.watch.all_answered(&ours)
            && self.shards().all(|shard| shard.unfinished().is_empty() && shard.is_settled())
            && self.topology.stages().iter().all(|stage| {
                let inbox = self.names.inbox(self.topology.name(), &stage.name);
                let of_stage = |process: &&Process| process.role == Role::Stage(stage.name.to_string());
                (0..stage.lanes).all(|lane| {
                    let end = self.watch.end(&inbox, lane);
                    let mut shards = self.processes.iter().filter(of_stage).filter_map(Process::shard);
                    shards.any(|shard| shard.live().contains(&lane) && shard.next_offset(lane) >= Some(end))
                })
            })
    }
}
