//! The faults that stand, and which of them strikes a command.

use std::collections::BTreeMap;

use wire::Problem;

use crate::fault::{Fault, FaultKind, Struck};

/// So many faults can stand at once. Each command is compared with all of them, and people write them by hand.
pub const MAX_FAULTS: usize = 1_000;

/// The faults that stand, in the order in which they were put in.
#[derive(Debug, Default)]
pub struct Faults {
    standing: Vec<Standing>,
    seed: u64,
    /// How many were put in since the last time that all were taken away: their places.
    put_in: u64,
    /// How often each kind has struck since the start.
    struck: BTreeMap<&'static str, u64>,
}

/// A fault that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The fault, with the times that it has left; a crash with the commands that are left until then.
    pub fault: Fault,
    /// How often it has struck.
    pub struck: u64,
    place: u64,
    /// A crash, once it has struck, waits for so many commands again.
    after: u32,
}

impl Faults {
    /// Puts one in, behind the others.
    ///
    /// # Errors
    /// Where it would never strike, or where there are [`MAX_FAULTS`] already.
    pub fn inject(&mut self, fault: Fault) -> Result<(), Problem> {
        self.inject_all(vec![fault])
    }

    /// Puts these in, behind the others: all of them or none.
    ///
    /// # Errors
    /// As [`Faults::inject`], for the first that cannot be put in.
    pub fn inject_all(&mut self, faults: Vec<Fault>) -> Result<(), Problem> {
        faults.iter().try_for_each(Fault::check)?;
        if self.standing.len() + faults.len() > MAX_FAULTS {
            let (asked, stand) = (faults.len().to_string(), self.standing.len());
            let allowed = format!("{MAX_FAULTS} at once, and {stand} stand; DELETE /faults takes them away");
            return Err(Problem::field("faults", &format!("{asked} more"), &allowed));
        }
        for fault in faults {
            self.put_in += 1;
            let after = if let FaultKind::Crash { after, .. } = fault.kind { after } else { 0 };
            self.standing.push(Standing { fault, struck: 0, place: self.put_in, after });
        }
        Ok(())
    }

    /// Takes all away. The seed stays.
    pub fn clear(&mut self) {
        self.standing.clear();
        self.put_in = 0;
    }

    /// Chance is drawn from this from now on.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// What chance is drawn from; 0 where nobody set it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Those that stand, in order.
    pub fn standing(&self) -> &[Standing] {
        &self.standing
    }

    /// Those that stand, in order, each with the times that it has left.
    pub fn list(&self) -> Vec<Fault> {
        self.standing.iter().map(|standing| standing.fault.clone()).collect()
    }

    /// How often each kind has struck since the start, by its name; those that are gone count too.
    pub fn struck(&self) -> &BTreeMap<&'static str, u64> {
        &self.struck
    }

    /// What strikes this command: the first fault that matches, and that can strike at all (`room` says whether something
    /// may be delayed). One of its times is used up. A crash whose count is not over counts on, and lets the next ones
    /// look.
    pub fn strike(&mut self, command: &Struck<'_>, room: bool) -> Option<FaultKind> {
        let seed = self.seed;
        let found = self.standing.iter_mut().position(|standing| standing.strikes(seed, command, room))?;
        let standing = &mut self.standing[found];
        let kind = standing.fault.kind.clone();
        standing.struck += 1;
        if let Some(times) = &mut standing.fault.times {
            *times -= 1;
            if *times == 0 {
                self.standing.remove(found);
            }
        }
        *self.struck.entry(kind.as_str()).or_default() += 1;
        Some(kind)
    }
}

impl Standing {
    fn strikes(&mut self, seed: u64, command: &Struck<'_>, room: bool) -> bool {
        let Fault { when, kind, .. } = &mut self.fault;
        let by_chance = |command: &Struck<'_>| {
            when.percent.is_none_or(|percent| percent.falls(seed, self.place, command.call, command.attempt))
        };
        if !when.matches(command) || !by_chance(command) || (kind.delays() && !room) {
            return false;
        }
        match kind {
            FaultKind::Lie => command.command != "read",
            FaultKind::Crash { after, .. } => {
                *after -= 1;
                let over = *after == 0;
                if over {
                    *after = self.after;
                }
                over
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
    use wire::CallId;
    use wire::speaker::SwitchId;

    use super::*;

    fn faults(texts: &[&str]) -> Faults {
        let mut faults = Faults::default();
        faults.inject_all(texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()).unwrap();
        faults
    }

    /// The names of what strikes the calls 1 to `count`, in order.
    fn strikes(faults: &mut Faults, word: &str, count: u32) -> Vec<&'static str> {
        let switch = SwitchId::numbered(8);
        let strike = |n| {
            let call = CallId::new(wire::OperationId::new("7f3a").unwrap(), 1, n);
            let command = Struck {
                switch: &switch,
                command: word,
                rule: Some(8),
                flow: Some("test-01"),
                attempt: 1,
                call: &call,
            };
            faults.strike(&command, true).map_or("-", |kind| kind.as_str())
        };
        (1..=count).map(strike).collect()
    }

    #[test]
    fn the_first_fault_that_has_times_left_strikes() {
        let mut faults = faults(&[r#"{"kind":"silence","times":2}"#, r#"{"kind":{"error":{"code":"busy"}}}"#]);
        assert_eq!(strikes(&mut faults, "install", 4), ["silence", "silence", "error", "error"]);
        assert_eq!(faults.list().len(), 1);
        assert_eq!(faults.standing()[0].struck, 2);
        assert_eq!(*faults.struck(), BTreeMap::from([("error", 2), ("silence", 2)]));
    }

    #[test]
    fn nothing_is_delayed_where_there_is_no_room_to_wait() {
        for kind in [r#"{"delay_reply":{"ms":5}}"#, r#"{"delay_execution":{"ms":5}}"#, r#"{"reorder":{"hold":1}}"#] {
            let mut faults = faults(&[&format!(r#"{{"kind":{kind},"times":1}}"#)]);
            let (switch, call) = (SwitchId::numbered(8), "7f3a/1/1".parse().unwrap());
            let command = Struck { switch: &switch, command: "read", rule: None, flow: None, attempt: 1, call: &call };
            assert_eq!(faults.strike(&command, false), None, "{kind}");
            assert!(faults.strike(&command, true).is_some(), "{kind}");
        }
    }

    #[test]
    fn a_crash_counts_what_it_matches_and_lets_others_strike_meanwhile() {
        let mut faults = faults(&[r#"{"kind":{"crash":{"after":3}}}"#, r#"{"kind":"mute","when":{"percent":100}}"#]);
        assert_eq!(strikes(&mut faults, "install", 4), ["mute", "mute", "crash", "mute"]);
        assert_eq!(faults.list()[0].kind, FaultKind::Crash { after: 2, told: false }, "what is left is shown");
    }

    #[test]
    fn a_lie_strikes_no_read_and_no_time_of_it_is_used_up() {
        let mut faults = faults(&[r#"{"kind":"lie","times":1}"#]);
        assert_eq!(strikes(&mut faults, "read", 2), ["-", "-"]);
        assert_eq!(strikes(&mut faults, "remove", 2), ["lie", "-"]);
    }

    #[test]
    fn by_chance_the_same_commands_are_struck_in_every_run_with_the_same_seed() {
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
    fn of_several_faults_all_are_put_in_or_none() {
        let mut faults = faults(&[r#"{"kind":"mute"}"#]);
        let some = |text| serde_json::from_str::<Fault>(text).unwrap();
        assert!(faults.inject_all(vec![some(r#"{"kind":"lie"}"#), some(r#"{"kind":"lie","times":0}"#)]).is_err());
        assert!(faults.inject_all(vec![some(r#"{"kind":"lie"}"#); MAX_FAULTS]).is_err());
        assert_eq!(faults.list().len(), 1);
        faults.inject_all(vec![some(r#"{"kind":"lie"}"#); MAX_FAULTS - 1]).unwrap();
        faults.clear();
        assert!(faults.list().is_empty());
    }
}
