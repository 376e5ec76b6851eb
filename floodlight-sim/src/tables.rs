//! The rule tables and the memory of a speaker, with a list of their changes.
//!
//! The two must match. Memory without its rules would confirm missing rules; rules without memory
//! could be changed by a late message. So all changes go through [`Tables`], which records each as
//! data. A store writes all changes of a poll or none.

use flow_messages::speaker::{Reply, Rule, SwitchId};
use wire::CallId;

use crate::bounded_map::Placed;
use crate::memory::{FactKind, Memory, Named};
use crate::switch::{MeterTaken, Switches};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A rule was installed or replaced.
    Rule(Rule),
    /// The rule under this cookie was removed.
    RuleRemoved {
        /// The switch.
        switch: SwitchId,
        /// The cookie.
        cookie: u64,
    },
    /// A fact was remembered.
    Remembered(NumberedFact),
    /// A fact was forgotten.
    Forgotten {
        /// The kind of the fact.
        kind: FactKind,
        /// The number of the fact.
        number: u64,
    },
}

/// A remembered fact with its number. The smallest number of a kind is forgotten first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedFact {
    /// The number.
    pub number: u64,
    /// The fact.
    pub fact: Fact,
}

/// A remembered fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The reply to a call.
    Replied {
        /// The call.
        call: CallId,
        /// The reply.
        reply: Reply,
    },
    /// A call that is refused from now on.
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
    /// The kind.
    pub fn kind(&self) -> FactKind {
        match self {
            Fact::Replied { .. } => FactKind::Replied,
            Fact::Undone { .. } => FactKind::Undone,
            Fact::Named { .. } => FactKind::Named,
        }
    }
}

/// Rule tables and memory.
#[derive(Debug, Default)]
pub struct Tables {
    switches: Switches,
    memory: Memory,
    /// `None` without a store.
    changes: Option<Vec<Change>>,
}

impl Tables {
    /// Restores stored tables, which record every change from here on.
    ///
    /// # Errors
    /// Two rules have the same meter.
    pub fn restored(rules: &[Rule], facts: Vec<NumberedFact>) -> Result<Self, MeterTaken> {
        let mut tables = Self { changes: Some(Vec::new()), ..Self::default() };
        for rule in rules {
            tables.switches.install(rule)?;
        }
        for NumberedFact { number, fact } in facts {
            tables.memory.restore(number, fact);
        }
        Ok(tables)
    }

    /// The rule tables.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Installs `rule`; see [`Switches::install`].
    ///
    /// # Errors
    /// [`MeterTaken`]; nothing changes then.
    pub fn install(&mut self, rule: &Rule) -> Result<bool, MeterTaken> {
        let existed = self.switches.install(rule)?;
        self.record(|| Change::Rule(rule.clone()));
        Ok(existed)
    }

    /// Removes the rule under `cookie`; see [`Switches::remove`].
    pub fn remove(&mut self, switch: &SwitchId, cookie: u64) -> bool {
        let existed = self.switches.remove(switch, cookie);
        if existed {
            self.record(|| Change::RuleRemoved { switch: switch.clone(), cookie });
        }
        existed
    }

    /// Remembers the reply to `call`.
    pub fn keep(&mut self, call: &CallId, reply: &Reply) {
        let placed = self.memory.keep(call.clone(), reply.clone());
        self.remembered(FactKind::Replied, &placed, || Fact::Replied { call: call.clone(), reply: reply.clone() });
    }

    /// Marks `call` as undone: it is refused from now on.
    pub fn undo(&mut self, call: &CallId) {
        if !self.memory.is_undone(call) {
            let placed = self.memory.undo(call.clone());
            self.remembered(FactKind::Undone, &placed, || Fact::Undone { call: call.clone() });
        }
    }

    /// Remembers the rule of a cookie.
    pub fn name(&mut self, rule: &Rule) {
        let named = Named { flow: rule.flow.clone(), number: rule.number };
        if self.memory.named(&rule.switch, rule.cookie) != Some(&named) {
            let placed = self.memory.name(rule.switch.clone(), rule.cookie, named.clone());
            let (switch, cookie) = (rule.switch.clone(), rule.cookie);
            self.remembered(FactKind::Named, &placed, || Fact::Named { switch, cookie, named });
        }
    }

    /// Takes the changes since the last call, in order; empty without a store.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts changes back that could not be stored: the next call returns them first.
    pub fn put_back(&mut self, mut changes: Vec<Change>) {
        if let Some(since) = &mut self.changes {
            changes.append(since);
            *since = changes;
        }
    }

    fn remembered(&mut self, kind: FactKind, placed: &Placed, fact: impl FnOnce() -> Fact) {
        let Placed { number, forgotten } = *placed;
        if let Some(number) = forgotten {
            self.record(|| Change::Forgotten { kind, number });
        }
        self.record(|| Change::Remembered(NumberedFact { number, fact: fact() }));
    }

    fn record(&mut self, change: impl FnOnce() -> Change) {
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
    fn every_change_is_recorded_once_and_a_repeat_is_not() {
        let mut tables = Tables::restored(&[], Vec::new()).unwrap();
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
        let remembered = |fact| Change::Remembered(NumberedFact { number: 1, fact });
        let changes = tables.take_changes();
        assert_eq!(
            changes,
            [
                remembered(named),
                remembered(Fact::Undone { call: call() }),
                Change::Rule(rule()),
                Change::RuleRemoved { switch, cookie },
                remembered(Fact::Replied { call: call(), reply: removed }),
            ]
        );
        assert_eq!(tables.take_changes(), []);
        tables.put_back(changes.clone());
        assert_eq!(tables.take_changes(), changes);
    }

    #[test]
    fn forgotten_facts_are_recorded() {
        let mut tables = Tables { memory: Memory::with_bound(2), changes: Some(Vec::new()), ..Tables::default() };
        for n in 1..=3 {
            tables.undo(&CallId::new(call().operation, 1, n));
        }
        let changes = tables.take_changes();
        assert_eq!(changes[2], Change::Forgotten { kind: FactKind::Undone, number: 1 });
        assert_eq!(changes.len(), 4);
    }

    #[test]
    fn changes_are_not_recorded_without_a_store() {
        let mut tables = Tables::default();
        tables.install(&rule()).unwrap();
        assert_eq!(tables.take_changes(), []);
    }

    #[test]
    fn stored_tables_are_restored() {
        let facts = vec![
            NumberedFact { number: 4, fact: Fact::Undone { call: call() } },
            NumberedFact { number: 7, fact: Fact::Replied { call: call(), reply: Reply::Removed { existed: true } } },
        ];
        let tables = Tables::restored(&[rule()], facts).unwrap();
        assert_eq!(tables.switches().all_rules(), [rule()]);
        assert!(tables.memory().is_undone(&call()) && tables.memory().reply(&call()).is_some());
        assert!(
            Tables::restored(&[rule(), Rule { cookie: 18, ..rule() }], Vec::new()).is_err(),
            "two rules have one meter"
        );
    }
}
