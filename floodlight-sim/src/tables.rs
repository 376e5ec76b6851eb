//! What a speaker has: the rule tables and the memory, and what was changed in them.
//!
//! The two live and die together. A memory without its rules would claim what is not there, and rules without their memory
//! would be changed by a message that comes late. So there is one way to change either, and each change is written down
//! here as data, for a store that keeps all changes of a turn or none.

use wire::CallId;
use wire::speaker::{Reply, Rule, SwitchId};

use crate::memory::{Memo, Memory, Named};
use crate::newest::Placed;
use crate::switch::{MeterTaken, Switches};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This rule stands, in place of one with its cookie.
    Rule(Rule),
    /// No rule stands under this cookie.
    NoRule {
        /// The switch.
        switch: SwitchId,
        /// The cookie.
        cookie: u64,
    },
    /// Something is remembered.
    Remembered(Numbered),
    /// Something is forgotten.
    Forgotten {
        /// Of which kind.
        memo: Memo,
        /// Under which number.
        number: u64,
    },
}

/// Something that is remembered, under its number: of one kind, the least goes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// What.
    pub fact: Fact,
}

/// Something that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// What a call was told.
    Replied {
        /// The call.
        call: CallId,
        /// The reply.
        reply: Reply,
    },
    /// A call is refused ever after.
    Undone {
        /// The call.
        call: CallId,
    },
    /// The rule that a cookie was last used for.
    Named {
        /// The switch.
        switch: SwitchId,
        /// The cookie.
        cookie: u64,
        /// The rule.
        named: Named,
    },
}

impl Fact {
    /// Its kind.
    pub fn memo(&self) -> Memo {
        match self {
            Fact::Replied { .. } => Memo::Replied,
            Fact::Undone { .. } => Memo::Undone,
            Fact::Named { .. } => Memo::Named,
        }
    }
}

/// Rule tables and memory.
#[derive(Debug, Default)]
pub struct Tables {
    switches: Switches,
    memory: Memory,
    /// None where nobody keeps them.
    changes: Option<Vec<Change>>,
}

impl Tables {
    /// Tables as they were kept; from here on every change is written down.
    ///
    /// # Errors
    /// Where two of the rules have one meter.
    pub fn kept(rules: &[Rule], facts: Vec<Numbered>) -> Result<Self, MeterTaken> {
        let mut tables = Self { changes: Some(Vec::new()), ..Self::default() };
        for rule in rules {
            tables.switches.install(rule)?;
        }
        for Numbered { number, fact } in facts {
            tables.memory.restore(number, fact);
        }
        Ok(tables)
    }

    /// The rule tables.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// What is remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Puts `rule` on its switch; see [`Switches::install`].
    ///
    /// # Errors
    /// [`MeterTaken`]; nothing is changed then.
    pub fn install(&mut self, rule: &Rule) -> Result<bool, MeterTaken> {
        let existed = self.switches.install(rule)?;
        self.note(|| Change::Rule(rule.clone()));
        Ok(existed)
    }

    /// Takes the rule under `cookie` away; see [`Switches::remove`].
    pub fn remove(&mut self, switch: &SwitchId, cookie: u64) -> bool {
        let existed = self.switches.remove(switch, cookie);
        if existed {
            self.note(|| Change::NoRule { switch: switch.clone(), cookie });
        }
        existed
    }

    /// Keeps what `call` is told.
    pub fn keep(&mut self, call: &CallId, reply: &Reply) {
        let placed = self.memory.keep(call.clone(), reply.clone());
        self.remembered(Memo::Replied, &placed, || Fact::Replied { call: call.clone(), reply: reply.clone() });
    }

    /// From now on `call` is refused.
    pub fn undo(&mut self, call: &CallId) {
        if !self.memory.is_undone(call) {
            let placed = self.memory.undo(call.clone());
            self.remembered(Memo::Undone, &placed, || Fact::Undone { call: call.clone() });
        }
    }

    /// Keeps which rule a cookie stands for.
    pub fn name(&mut self, rule: &Rule) {
        let named = Named { flow: rule.flow.clone(), number: rule.number };
        if self.memory.named(&rule.switch, rule.cookie) != Some(&named) {
            let placed = self.memory.name(rule.switch.clone(), rule.cookie, named.clone());
            let (switch, cookie) = (rule.switch.clone(), rule.cookie);
            self.remembered(Memo::Named, &placed, || Fact::Named { switch, cookie, named });
        }
    }

    /// What was changed since the last time, in order; empty where nobody keeps it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// These were taken and could not be kept: they come first the next time.
    pub fn give_back(&mut self, mut changes: Vec<Change>) {
        if let Some(since) = &mut self.changes {
            changes.append(since);
            *since = changes;
        }
    }

    fn remembered(&mut self, memo: Memo, placed: &Placed, fact: impl FnOnce() -> Fact) {
        let Placed { number, forgotten } = *placed;
        if let Some(number) = forgotten {
            self.note(|| Change::Forgotten { memo, number });
        }
        self.note(|| Change::Remembered(Numbered { number, fact: fact() }));
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule { switch: SwitchId::numbered(8), flow: "test-01".into(), number: 8, cookie: 17, meter: 3 }
    }

    fn call() -> CallId {
        "7f3a/1/8".parse().unwrap()
    }

    #[test]
    fn every_change_is_written_down_once_and_what_changes_nothing_is_not() {
        let mut tables = Tables::kept(&[], Vec::new()).unwrap();
        let removed = Reply::Removed { existed: true };
        for _ in 0..2 {
            tables.name(&rule());
            tables.undo(&call());
        }
        tables.install(&rule()).unwrap();
        for _ in 0..2 {
            tables.remove(&rule().switch, 17);
        }
        tables.keep(&call(), &removed);
        let Rule { switch, flow, number, cookie, .. } = rule();
        let named = Fact::Named { switch: switch.clone(), cookie, named: Named { flow, number } };
        let remembered = |fact| Change::Remembered(Numbered { number: 1, fact });
        let changes = tables.take_changes();
        assert_eq!(
            changes,
            [
                remembered(named),
                remembered(Fact::Undone { call: call() }),
                Change::Rule(rule()),
                Change::NoRule { switch, cookie },
                remembered(Fact::Replied { call: call(), reply: removed }),
            ]
        );
        assert_eq!(tables.take_changes(), []);
        tables.give_back(changes.clone());
        assert_eq!(tables.take_changes(), changes);
    }

    #[test]
    fn what_is_forgotten_is_written_down_too() {
        let mut tables = Tables { memory: Memory::newest(2), changes: Some(Vec::new()), ..Tables::default() };
        for n in 1..=3 {
            tables.undo(&CallId::new(call().operation, 1, n));
        }
        let changes = tables.take_changes();
        assert_eq!(changes[2], Change::Forgotten { memo: Memo::Undone, number: 1 });
        assert_eq!(changes.len(), 4);
    }

    #[test]
    fn where_nobody_keeps_them_changes_are_not_written_down() {
        let mut tables = Tables::default();
        tables.install(&rule()).unwrap();
        assert_eq!(tables.take_changes(), []);
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let facts = vec![
            Numbered { number: 4, fact: Fact::Undone { call: call() } },
            Numbered { number: 7, fact: Fact::Replied { call: call(), reply: Reply::Removed { existed: true } } },
        ];
        let tables = Tables::kept(&[rule()], facts).unwrap();
        assert_eq!(tables.switches().all_rules(), [rule()]);
        assert!(tables.memory().is_undone(&call()) && tables.memory().reply(&call()).is_some());
        assert!(Tables::kept(&[rule(), Rule { cookie: 18, ..rule() }], Vec::new()).is_err(), "one meter, two rules");
    }
}
