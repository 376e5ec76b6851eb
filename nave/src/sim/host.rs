//! What a simulation asks of a spoke, whatever it is made of.

use std::any::Any;
use std::sync::Arc;

use bus::{Bus, BusError, Part};
use floodlight_sim::fault::{Astray, Garbage, Match, Word};
use floodlight_sim::{Deed, Fault, FaultKind, SpeakerHandle, SpeakerPart};
use wire::speaker::SwitchId;
use wire::topics::Topics;

use super::dice::Dice;
use crate::spoke::{Did, Handled, Served, Spoke, SpokePart};

/// A spoke: its tables and its memory, which outlive the processes that serve it.
pub(crate) trait Host: Send {
    /// A process that serves it, as a member of this name.
    fn join(&self, bus: &dyn Bus, names: &Topics, service: &str, member: &str) -> Result<Box<dyn Part>, BusError>;

    /// To be looked at by who knows what it is.
    fn as_any(&self) -> &dyn Any;

    /// The calls that it handled since the last time, in order.
    fn handled(&self) -> Vec<Handled>;

    /// Forgets the calls that it carried out, where it can.
    fn forget(&self) {}

    /// It will misbehave somehow: in words. None where it cannot.
    fn misbehave(&self, dice: &mut Dice) -> Option<String> {
        let _ = dice;
        None
    }

    /// It died, and somebody starts it again; with `calm` it does not misbehave any more.
    fn recover(&self, calm: bool) {
        let _ = calm;
    }
}

/// Makes a spoke that has done nothing yet.
pub(crate) type MakeHost = Arc<dyn Fn() -> Box<dyn Host> + Send + Sync>;

impl<S: Spoke> Host for Served<S> {
    fn join(&self, bus: &dyn Bus, names: &Topics, service: &str, member: &str) -> Result<Box<dyn Part>, BusError> {
        Ok(Box::new(SpokePart::join(bus, names, service, member, self.clone())?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn handled(&self) -> Vec<Handled> {
        self.journal()
    }

    fn forget(&self) {
        Served::forget(self);
    }
}

/// The simulated switch controller.
pub(crate) struct Speaker {
    handle: SpeakerHandle,
    /// The last line of the audit log that was looked at.
    seen: std::sync::atomic::AtomicU64,
}

impl Speaker {
    pub(crate) fn new() -> Self {
        Self { handle: SpeakerHandle::new(), seen: 0.into() }
    }
}

impl Host for Speaker {
    fn join(&self, bus: &dyn Bus, names: &Topics, service: &str, member: &str) -> Result<Box<dyn Part>, BusError> {
        Ok(Box::new(SpeakerPart::join(bus, &names.spoke(service), member, self.handle.clone())?))
    }

    fn as_any(&self) -> &dyn Any {
        &self.handle
    }

    fn handled(&self) -> Vec<Handled> {
        let seen = self.seen.load(std::sync::atomic::Ordering::Relaxed);
        let entries = self.handle.audit_after(seen, usize::MAX);
        if let Some(last) = entries.last() {
            self.seen.store(last.seq, std::sync::atomic::Ordering::Relaxed);
        }
        let told = |entry: floodlight_sim::Entry| {
            let did = match entry.deed {
                // A read changes nothing, so it may be done as often as it is asked.
                Deed::Executed { .. } if entry.command != "read" => Did::All,
                Deed::Executed { .. } | Deed::Remembered => Did::Nothing,
                Deed::Refused { .. } => Did::Refused,
                Deed::Struck { .. } => return None,
            };
            Some(Handled { call: entry.call, did })
        };
        entries.into_iter().filter_map(told).collect()
    }

    fn misbehave(&self, dice: &mut Dice) -> Option<String> {
        let fault = speaker_fault(dice);
        let what = serde_json::to_string(&fault).ok()?;
        self.handle.inject(fault).ok().map(|()| what)
    }

    fn recover(&self, calm: bool) {
        if calm {
            self.handle.clear_faults();
        }
        self.handle.restart().expect("it has no directory");
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
        8 => {
            FaultKind::WrongKey { what: *dice.pick(&[Astray::Call, Astray::Causation, Astray::Key, Astray::Partition]) }
        }
        9 => FaultKind::Corrupt { what: *dice.pick(&[Garbage::Body, Garbage::Json, Garbage::Headers, Garbage::Type]) },
        10 => FaultKind::Crash { after: 1 + u32::try_from(dice.roll(3)).unwrap_or(0), told: dice.chance(500) },
        _ => FaultKind::Lie,
    };
    let mut command = *dice.pick(&[None, Some(Word::Install), Some(Word::Read), Some(Word::Remove)]);
    // A lie of a read would never strike.
    command = command.filter(|word| kind != FaultKind::Lie || *word != Word::Read);
    let switch = dice.chance(500).then(|| SwitchId::numbered(1 + u32::try_from(dice.roll(3)).unwrap_or(0)));
    let times = Some(1 + u32::try_from(dice.roll(8)).unwrap_or(0));
    Fault { when: Match { command, switch, ..Match::default() }, kind, times }
}
