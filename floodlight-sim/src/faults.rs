//! The active faults, and which of them applies to a command.

use std::collections::BTreeMap;

use wire::Problem;

use crate::fault::{Fault, FaultKind, FaultTarget};

/// The maximum number of active faults. Each command is compared with all of them.
pub const MAX_FAULTS: usize = 1_000;

/// The active faults, in the order of injection.
#[derive(Debug, Default)]
pub struct Faults {
    active: Vec<ActiveFault>,
    seed: u64,
    /// The number of faults injected since the last [`Faults::clear`]: the index of the newest.
    injected: u64,
    /// The number of commands hit by each kind since the start.
    struck: BTreeMap<&'static str, u64>,
}

/// An active fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFault {
    /// The fault, with its remaining `times` and, for a crash, its remaining `after`.
    pub fault: Fault,
    /// The number of commands it was applied to.
    pub struck: u64,
    index: u64,
    /// The original `after` of a crash, for the next round.
    after: u32,
}

impl Faults {
    /// Adds a fault after the active ones.
    ///
    /// # Errors
    /// The fault can never apply, or [`MAX_FAULTS`] are active.
    pub fn inject(&mut self, fault: Fault) -> Result<(), Problem> {
        self.inject_all(vec![fault])
    }

    /// Adds all these faults after the active ones, or none of them.
    ///
    /// # Errors
    /// As [`Faults::inject`], for the first invalid fault.
    pub fn inject_all(&mut self, faults: Vec<Fault>) -> Result<(), Problem> {
        faults.iter().try_for_each(Fault::check)?;
        if self.active.len() + faults.len() > MAX_FAULTS {
            let (added, active) = (faults.len(), self.active.len());
            let allowed = format!("at most {MAX_FAULTS}, of which {active} are active; DELETE /faults removes them");
            return Err(Problem::field("faults", &format!("{added} more"), &allowed));
        }
        for fault in faults {
            self.injected += 1;
            let after = if let FaultKind::Crash { after, .. } = fault.kind { after } else { 0 };
            self.active.push(ActiveFault { fault, struck: 0, index: self.injected, after });
        }
        Ok(())
    }

    /// Removes all faults. The seed stays.
    pub fn clear(&mut self) {
        self.active.clear();
        self.injected = 0;
    }

    /// Sets the seed of all later random choices.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// The seed of random choices; 0 by default.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The active faults, in order.
    pub fn active(&self) -> &[ActiveFault] {
        &self.active
    }

    /// The active faults, in order, without their counters.
    pub fn list(&self) -> Vec<Fault> {
        self.active.iter().map(|active| active.fault.clone()).collect()
    }

    /// The number of commands hit since the start, by the name of the kind; removed faults count.
    pub fn struck(&self) -> &BTreeMap<&'static str, u64> {
        &self.struck
    }

    /// Returns the first fault that applies to this command, and uses up one of its `times`.
    ///
    /// `room` says whether the speaker can delay one more command or answer. A crash that matches
    /// before its `after` only counts the command, and the search continues.
    pub fn strike(&mut self, command: &FaultTarget<'_>, room: bool) -> Option<FaultKind> {
        let seed = self.seed;
        let found = self.active.iter_mut().position(|active| active.strikes(seed, command, room))?;
        let active = &mut self.active[found];
        let kind = active.fault.kind.clone();
        active.struck += 1;
        if let Some(times) = &mut active.fault.times {
            *times -= 1;
            if *times == 0 {
                self.active.remove(found);
            }
        }
        *self.struck.entry(kind.as_str()).or_default() += 1;
        Some(kind)
    }
}

impl ActiveFault {
    fn strikes(&mut self, seed: u64, command: &FaultTarget<'_>, room: bool) -> bool {
        let Fault { when, kind, .. } = &mut self.fault;
        let by_chance = |command: &FaultTarget<'_>| {
            when.percent.is_none_or(|percent| percent.selects(seed, self.index, command.call, command.attempt))
        };
        if !when.matches(command) || !by_chance(command) || (kind.delays() && !room) {
            return false;
        }
        match kind {
            FaultKind::Lie => command.command != "read",
            FaultKind::Crash { after, .. } => {
                *after -= 1;
                let now = *after == 0;
                if now {
                    *after = self.after;
                }
                now
            }
            FaultKind::Silence
            | FaultKind::Mute
            | FaultKind::DelayReply { .. }
            | FaultKind::DelayExecution { .. }
            | FaultKind::Error { .. }
            | FaultKind::Duplicate
            | FaultKind::Reorder { .. }
            | FaultKind::WrongKey { .. }
            | FaultKind::Corrupt { .. }
            | FaultKind::Oversized { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use flow_messages::speaker::SwitchId;
    use wire::CallId;

    use super::*;

    fn faults(texts: &[&str]) -> Faults {
        let mut faults = Faults::default();
        faults.inject_all(texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()).unwrap();
        faults
    }

    /// The faults that apply to the calls 1 to `count`, by name.
    fn strikes(faults: &mut Faults, command: &str, count: u32) -> Vec<&'static str> {
        let switch = SwitchId::numbered(8);
        let strike = |n| {
            let call = CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, n);
            let target =
                FaultTarget { switch: &switch, command, rule: Some(8), flow: Some("test-01"), attempt: 1, call: &call };
            faults.strike(&target, true).map_or("-", |kind| kind.as_str())
        };
        (1..=count).map(strike).collect()
    }

    #[test]
    fn the_first_fault_with_times_left_applies() {
        let mut faults = faults(&[r#"{"kind":"silence","times":2}"#, r#"{"kind":{"error":{"code":"busy"}}}"#]);
        assert_eq!(strikes(&mut faults, "install", 4), ["silence", "silence", "error", "error"]);
        assert_eq!(faults.list().len(), 1);
        assert_eq!(faults.active()[0].struck, 2);
        assert_eq!(*faults.struck(), BTreeMap::from([("error", 2), ("silence", 2)]));
    }

    #[test]
    fn a_delay_does_not_apply_without_room() {
        for kind in [r#"{"delay_reply":{"ms":5}}"#, r#"{"delay_execution":{"ms":5}}"#, r#"{"reorder":{"hold":1}}"#] {
            let mut faults = faults(&[&format!(r#"{{"kind":{kind},"times":1}}"#)]);
            let (switch, call) = (SwitchId::numbered(8), "7f3a/1/1".parse().unwrap());
            let command =
                FaultTarget { switch: &switch, command: "read", rule: None, flow: None, attempt: 1, call: &call };
            assert_eq!(faults.strike(&command, false), None, "{kind}");
            assert!(faults.strike(&command, true).is_some(), "{kind}");
        }
    }

    #[test]
    fn a_crash_counts_matching_commands_and_lets_other_faults_apply() {
        let mut faults = faults(&[r#"{"kind":{"crash":{"after":3}}}"#, r#"{"kind":"mute","when":{"percent":100}}"#]);
        assert_eq!(strikes(&mut faults, "install", 4), ["mute", "mute", "crash", "mute"]);
        assert_eq!(
            faults.list()[0].kind,
            FaultKind::Crash { after: 2, answered: false },
            "the list shows the remaining count"
        );
    }

    #[test]
    fn a_lie_does_not_apply_to_reads_and_does_not_count_them() {
        let mut faults = faults(&[r#"{"kind":"lie","times":1}"#]);
        assert_eq!(strikes(&mut faults, "read", 2), ["-", "-"]);
        assert_eq!(strikes(&mut faults, "remove", 2), ["lie", "-"]);
    }

    #[test]
    fn a_seed_selects_the_same_commands_in_every_run() {
        let run = |seed| {
            let mut faults = faults(&[r#"{"kind":"mute","when":{"percent":25}}"#]);
            faults.set_seed(seed);
            strikes(&mut faults, "install", 200)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let struck = run(7).into_iter().filter(|struck| *struck == "mute").count();
        assert!((30..70).contains(&struck), "{struck} of 200");
    }

    #[test]
    fn a_batch_of_faults_is_injected_as_a_whole_or_not_at_all() {
        let mut faults = faults(&[r#"{"kind":"mute"}"#]);
        let fault = |text| serde_json::from_str::<Fault>(text).unwrap();
        assert!(faults.inject_all(vec![fault(r#"{"kind":"lie"}"#), fault(r#"{"kind":"lie","times":0}"#)]).is_err());
        assert!(faults.inject_all(vec![fault(r#"{"kind":"lie"}"#); MAX_FAULTS]).is_err());
        assert_eq!(faults.list().len(), 1);
        faults.inject_all(vec![fault(r#"{"kind":"lie"}"#); MAX_FAULTS - 1]).unwrap();
        faults.clear();
        assert!(faults.list().is_empty());
    }
}
