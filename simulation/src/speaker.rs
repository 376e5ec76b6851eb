//! The simulated switch controller as a spoke of a simulation.

use std::any::Any;

use bus::{Bus, BusError, Task};
use floodlight_sim::fault::{CommandKind, Garbage, Match, WrongIdentity};
use floodlight_sim::{CommandOutcome, Fault, FaultKind, SpeakerHandle};
use flow_messages::speaker::SwitchId;
use spoke::{CallEffect, HandledCall, SpokeOptions};
use wire::topics::Topics;

use super::dice::Dice;
use super::host::Host;

/// The simulated switch controller.
struct Speaker {
    handle: SpeakerHandle,
    /// The last entry of the audit log that was read.
    seen: std::sync::atomic::AtomicU64,
}

/// Creates a simulated switch controller.
pub fn speaker() -> Box<dyn Host> {
    Box::new(Speaker { handle: SpeakerHandle::new(), seen: 0.into() })
}

impl Host for Speaker {
    fn join(
        &self,
        bus: &dyn Bus,
        names: &Topics,
        service: &str,
        member: &str,
        options: &SpokeOptions,
    ) -> Result<Box<dyn Task>, BusError> {
        Ok(Box::new(self.handle.join_with(bus, names, service, member, options)?))
    }

    fn as_any(&self) -> &dyn Any {
        &self.handle
    }

    fn handled(&self) -> Vec<HandledCall> {
        let seen = self.seen.load(std::sync::atomic::Ordering::Relaxed);
        let entries = self.handle.audit_after(seen, usize::MAX);
        if let Some(last) = entries.last() {
            self.seen.store(last.seq, std::sync::atomic::Ordering::Relaxed);
        }
        let handled = |entry: floodlight_sim::AuditEntry| {
            let did = match entry.outcome {
                // A read changes nothing, so it may be executed any number of times.
                CommandOutcome::Executed { .. } if entry.command != "read" => CallEffect::Executed,
                CommandOutcome::Executed { .. } | CommandOutcome::Remembered => CallEffect::NoEffect,
                CommandOutcome::Refused { .. } => CallEffect::Refused,
                CommandOutcome::Struck { .. } => return None,
            };
            Some(HandledCall { call: entry.call, effect: did })
        };
        entries.into_iter().filter_map(handled).collect()
    }

    fn misbehave(&self, dice: &mut Dice) -> Option<String> {
        let fault = speaker_fault(dice);
        let description = serde_json::to_string(&fault).ok()?;
        self.handle.inject(fault).ok().map(|()| description)
    }

    fn recover(&self, clear_faults: bool) {
        if clear_faults {
            self.handle.clear_faults();
        }
        self.handle.restart().expect("the speaker has no directory, so a restart cannot fail");
    }
}

fn speaker_fault(dice: &mut Dice) -> Fault {
    let kind = match dice.roll(12) {
        0 => FaultKind::Silence,
        1 => FaultKind::Mute,
        2 => FaultKind::DelayReply { ms: dice.roll(2_500) },
        3 => FaultKind::DelayExecution { ms: dice.roll(2_500) },
        4 => FaultKind::Error { code: "busy".into(), retry: true },
        5 => FaultKind::Error { code: "full".into(), retry: false },
        6 => FaultKind::Duplicate,
        7 => FaultKind::Reorder { hold: 1 + u32::try_from(dice.roll(5)).unwrap_or(0) },
        8 => FaultKind::WrongKey {
            what: *dice.pick(&[
                WrongIdentity::Call,
                WrongIdentity::Causation,
                WrongIdentity::Key,
                WrongIdentity::Partition,
            ]),
        },
        9 => FaultKind::Corrupt { what: *dice.pick(&[Garbage::Body, Garbage::Json, Garbage::Headers, Garbage::Type]) },
        10 => FaultKind::Crash { after: 1 + u32::try_from(dice.roll(3)).unwrap_or(0), answered: dice.chance(500) },
        _ => FaultKind::Lie,
    };
    let mut command =
        *dice.pick(&[None, Some(CommandKind::Install), Some(CommandKind::Read), Some(CommandKind::Remove)]);
    // A lying read would never match.
    command = command.filter(|word| kind != FaultKind::Lie || *word != CommandKind::Read);
    let switch = dice.chance(500).then(|| SwitchId::numbered(1 + u32::try_from(dice.roll(3)).unwrap_or(0)));
    let times = Some(1 + u32::try_from(dice.roll(8)).unwrap_or(0));
    Fault { when: Match { command, switch, ..Match::default() }, kind, times }
}
