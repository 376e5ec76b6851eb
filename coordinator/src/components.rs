//! The spout, the bolt, and their wiring.

use serde::{Deserialize, Serialize};
use topology::{
    Declarer, Delivery, Emitter, InboxSpout, LaneInfo, Saver, StateSchema, Stored, SystemBolt, Timeout, Unreadable,
};
use wire::{EnvelopeRef, Kind};

use crate::deadline::{DEADLINES, Deadline, TimedOut};
use crate::names;
use crate::saved::SCHEMA_VERSION;
use crate::table::{DeadlineTable, WheelChange};

/// Reads the timeouts of its stage's coordinator from the inbox. It ignores the timers of other
/// components.
#[derive(Debug, Default)]
pub struct CoordinatorSpout {
    /// The bolt that arms the timers of the stage's deadlines.
    coordinator: String,
}

fn coordinator_of(stage: &str) -> String {
    format!("coordinator@{stage}")
}

impl InboxSpout for CoordinatorSpout {
    type Out = Timeout;

    fn prepare(&mut self, lane: &LaneInfo) {
        self.coordinator = coordinator_of(&lane.stage);
    }

    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Timeout && envelope.subject == Some(&*self.coordinator)
    }

    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Timeout>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// The input of the bolt.
#[derive(Debug, Clone)]
pub enum CoordinatorIn {
    /// An owner, given by its number in the topology, registers or cancels a deadline.
    Deadline(u16, Deadline),
    /// A timeout from the inbox.
    Timeout(Timeout),
}

impl From<Timeout> for CoordinatorIn {
    fn from(timeout: Timeout) -> Self {
        CoordinatorIn::Timeout(timeout)
    }
}

/// A passed deadline with the number of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The owner's number in the topology.
    pub owner: u16,
    /// The event for the owner.
    pub timed_out: TimedOut,
}

/// Keeps the deadlines of the lane.
#[derive(Debug, Default)]
pub struct CoordinatorBolt {
    table: DeadlineTable,
}

impl SystemBolt for CoordinatorBolt {
    type In = CoordinatorIn;
    type Out = Passed;

    fn timer_for(&self, component: u16, key: u64) -> Option<u64> {
        self.table.registered(component, key)
    }

    fn execute(&mut self, input: CoordinatorIn, out: &mut Emitter<Passed>) {
        match input {
            CoordinatorIn::Deadline(owner, deadline) => match self.table.on(owner, deadline) {
                Some(WheelChange::Arm { timer, generation, after_ms }) => {
                    out.count(names::REGISTERED);
                    out.arm(timer, generation, after_ms);
                }
                Some(WheelChange::Disarm { timer }) => out.disarm(timer),
                None => {}
            },
            CoordinatorIn::Timeout(Timeout { timer, generation }) => match self.table.passed(timer, generation) {
                Some((owner, timed_out)) => {
                    out.count(names::PASSED);
                    out.emit(Passed { owner, timed_out });
                }
                None => out.count(names::STALE),
            },
        }
    }

    fn schema(&mut self) -> Option<StateSchema> {
        Some(StateSchema { version: SCHEMA_VERSION, parts: Vec::new() })
    }

    fn save(&mut self, saver: &mut Saver<'_>) {
        self.table.save(saver);
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        self.table.load(stored)
    }

    fn timers(&self) -> Option<Vec<(u64, u32)>> {
        Some(self.table.all().collect())
    }
}

/// Declares that a component uses deadlines, and connects it to the coordinator of its stage.
pub fn deadlines<In: From<TimedOut> + 'static>(declarer: &mut Declarer<In>) {
    declarer.side(DEADLINES);
    declarer.attach(
        "coordinator",
        |t, stage| {
            let timeouts = t.inbox_spout(&format!("coordinator-spout@{stage}"), CoordinatorSpout::default);
            t.bolt(&coordinator_of(stage), CoordinatorBolt::default).reads(timeouts.local())
        },
        |_, coordinator, owner, number| {
            let registered = owner.side(DEADLINES).local();
            coordinator.clone().reads(registered.with(move |deadline| Some(CoordinatorIn::Deadline(number, deadline))));
            let passed = coordinator.local();
            owner
                .reads(passed.with(move |passed: Passed| (passed.owner == number).then(|| In::from(passed.timed_out))));
        },
    );
}
