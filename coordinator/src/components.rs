//! The spout, the bolt, and their wiring.

use serde::{Deserialize, Serialize};
use topology::{Declarer, Delivery, Emitter, InboxSpout, LaneInfo, StateSchema, SystemBolt, Timeout, Unreadable};
use wire::{EnvelopeRef, Kind};

use crate::deadline::{DEADLINES, Deadline, TimedOut};
use crate::names;

/// Reads the timeouts of its stage's coordinator from the inbox. The lane drops those of deadlines
/// that were cancelled or replaced. It ignores the timers of other components.
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

/// Turns the deadlines of its stage into timers of the lane, and timeouts into events for their
/// owners. It has no state: the lane's table of timers has each deadline.
#[derive(Debug, Default)]
pub struct CoordinatorBolt;

/// Width of an owner's key in a timer number. The owner's number is in the bits above.
const KEY_BITS: u32 = 48;

/// Returns the number of the timer for an owner's key.
fn timer_of(owner: u16, key: u64) -> u64 {
    assert!(key < 1 << KEY_BITS, "the key of a deadline is below 2^{KEY_BITS}, not {key}");
    (u64::from(owner) << KEY_BITS) | key
}

/// Returns the owner and the key of a timer.
fn owner_of(timer: u64) -> (u16, u64) {
    let owner = u16::try_from(timer >> KEY_BITS).expect("16 bits are above the key");
    (owner, timer & ((1 << KEY_BITS) - 1))
}

impl SystemBolt for CoordinatorBolt {
    type In = CoordinatorIn;
    type Out = Passed;

    fn timer_for(&self, component: u16, key: u64) -> Option<u64> {
        (key < 1 << KEY_BITS).then(|| timer_of(component, key))
    }

    fn execute(&mut self, input: CoordinatorIn, out: &mut Emitter<Passed>) {
        match input {
            CoordinatorIn::Deadline(owner, Deadline::Register { key, generation, after_ms }) => {
                out.count(names::REGISTERED);
                out.arm(timer_of(owner, key), u64::from(generation), after_ms);
            }
            CoordinatorIn::Deadline(owner, Deadline::Cancel { key }) => out.disarm(timer_of(owner, key)),
            CoordinatorIn::Timeout(Timeout { timer, generation }) => {
                out.count(names::PASSED);
                let (owner, key) = owner_of(timer);
                let generation = u32::try_from(generation).expect("the lane passes only timeouts of timers armed here");
                out.emit(Passed { owner, timed_out: TimedOut { key, generation } });
            }
        }
    }

    fn schema(&mut self) -> Option<StateSchema> {
        None
    }
}

/// Declares that a component uses deadlines, and connects it to the coordinator of its stage.
pub fn deadlines<In: From<TimedOut> + 'static>(declarer: &mut Declarer<In>) {
    declarer.side(DEADLINES);
    declarer.attach(
        "coordinator",
        |t, stage| {
            let timeouts = t.inbox_spout(&format!("coordinator-spout@{stage}"), CoordinatorSpout::default);
            t.bolt(&coordinator_of(stage), || CoordinatorBolt).reads(timeouts.local())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_names_its_owner_and_the_owners_key() {
        for (owner, key) in [(0, 0), (1, 7), (u16::MAX, (1 << KEY_BITS) - 1)] {
            assert_eq!(owner_of(timer_of(owner, key)), (owner, key));
        }
    }
}
