//! Rule tables and meters.

use std::collections::BTreeMap;

use flow_messages::speaker::{Rule, SwitchId};

/// All switches. Every switch exists from the start, without rules.
///
/// The number of rules is not limited here: callers take cookies and meters from bounded pools.
#[derive(Debug, Default)]
pub struct Switches(BTreeMap<SwitchId, Table>);

/// The rules of one switch by cookie, and the cookie of each used meter.
#[derive(Debug, Default)]
struct Table {
    rules: BTreeMap<u64, Rule>,
    meters: BTreeMap<u32, u64>,
}

/// The error if another rule has the meter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("meter {meter} of {switch} belongs to the rule with cookie {cookie}")]
pub struct MeterTaken {
    /// The switch.
    pub switch: SwitchId,
    /// The requested meter.
    pub meter: u32,
    /// The cookie of the rule with this meter.
    pub cookie: u64,
}

impl Switches {
    /// Installs `rule` on its switch and replaces a rule with the same cookie. Returns true if one
    /// existed.
    ///
    /// # Errors
    /// [`MeterTaken`] if another rule of the switch has the meter; nothing changes then.
    pub fn install(&mut self, rule: &Rule) -> Result<bool, MeterTaken> {
        let table = self.0.entry(rule.switch.clone()).or_default();
        if let Some(&cookie) = table.meters.get(&rule.meter)
            && cookie != rule.cookie
        {
            return Err(MeterTaken { switch: rule.switch.clone(), meter: rule.meter, cookie });
        }
        let before = table.rules.insert(rule.cookie, rule.clone());
        if let Some(before) = &before {
            table.meters.remove(&before.meter);
        }
        table.meters.insert(rule.meter, rule.cookie);
        Ok(before.is_some())
    }

    /// The rule under `cookie`.
    pub fn read(&self, switch: &SwitchId, cookie: u64) -> Option<&Rule> {
        self.0.get(switch)?.rules.get(&cookie)
    }

    /// Removes the rule under `cookie` and frees its meter. Returns true if one existed.
    pub fn remove(&mut self, switch: &SwitchId, cookie: u64) -> bool {
        let Some(table) = self.0.get_mut(switch) else { return false };
        let Some(rule) = table.rules.remove(&cookie) else { return false };
        table.meters.remove(&rule.meter);
        if table.rules.is_empty() {
            self.0.remove(switch);
        }
        true
    }

    /// The rules of a switch, by cookie.
    pub fn rules(&self, switch: &SwitchId) -> Vec<Rule> {
        self.0.get(switch).map(|table| table.rules.values().cloned().collect()).unwrap_or_default()
    }

    /// The rules of all switches, by switch and cookie.
    pub fn all_rules(&self) -> Vec<Rule> {
        self.0.values().flat_map(|table| table.rules.values().cloned()).collect()
    }

    /// The switches with rules, and the number of rules of each.
    pub fn counts(&self) -> Vec<(SwitchId, usize)> {
        self.0.iter().map(|(switch, table)| (switch.clone(), table.rules.len())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(switch: u32, cookie: u64, meter: u32) -> Rule {
        Rule {
            switch: SwitchId::numbered(switch),
            flow: format!("flow-{cookie}").into(),
            number: switch,
            cookie,
            meter,
        }
    }

    #[test]
    fn a_rule_exists_after_its_installation_only() {
        let mut switches = Switches::default();
        assert_eq!(switches.install(&rule(1, 17, 3)), Ok(false));
        assert_eq!(switches.install(&rule(1, 17, 3)), Ok(true));
        assert!(switches.remove(&SwitchId::numbered(1), 17));
        assert!(!switches.remove(&SwitchId::numbered(1), 17));
        assert!(switches.all_rules().is_empty());
    }

    #[test]
    fn a_meter_belongs_to_one_rule_of_a_switch() {
        let mut switches = Switches::default();
        switches.install(&rule(1, 17, 3)).unwrap();
        let taken = switches.install(&rule(1, 18, 3)).unwrap_err();
        assert_eq!(taken.to_string(), "meter 3 of of:01 belongs to the rule with cookie 17");
        assert_eq!(switches.read(&SwitchId::numbered(1), 18), None);
        assert_eq!(switches.install(&rule(2, 18, 3)), Ok(false), "another switch has its own meters");
    }

    #[test]
    fn a_rule_with_another_meter_frees_its_first_meter() {
        let mut switches = Switches::default();
        switches.install(&rule(1, 17, 3)).unwrap();
        assert_eq!(switches.install(&rule(1, 17, 4)), Ok(true));
        assert_eq!(switches.install(&rule(1, 18, 3)), Ok(false));
    }

    proptest! {
        #[test]
        fn every_used_meter_belongs_to_the_rule_that_names_it(steps in prop::collection::vec((any::<bool>(), 1..3_u32, 0..4_u64, 0..4_u32), 0..60)) {
            let mut switches = Switches::default();
            for (install, switch, cookie, meter) in steps {
                if install {
                    drop(switches.install(&rule(switch, cookie, meter)));
                } else {
                    switches.remove(&SwitchId::numbered(switch), cookie);
                }
                for table in switches.0.values() {
                    let named: BTreeMap<u32, u64> = table.rules.values().map(|rule| (rule.meter, rule.cookie)).collect();
                    prop_assert_eq!(named.len(), table.rules.len());
                    prop_assert_eq!(&named, &table.meters);
                }
            }
        }
    }
}
