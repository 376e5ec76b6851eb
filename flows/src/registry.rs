//! The state of a lane: its flows and pools.

use std::collections::{BTreeMap, BTreeSet};

use flow_messages::client::MAX_LENGTH;
use flow_messages::codes;
use flow_messages::speaker::{Rule, SwitchId};
use hub::LaneState;
use serde::{Deserialize, Serialize};
use topology::{LaneInfo, Saver, Settings, StateMap, Stored, Unreadable};
use wire::Problem;

use crate::pools::Pool;
use crate::settings::FlowSettings;

/// A flow that exists, or of which rules are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Its cookie and meters.
    pub resources: Resources,
    /// The rules that could not be removed; empty for a complete flow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<u32>,
}

/// The resources of a flow: a cookie, and a meter on each switch of its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The cookie.
    pub cookie: u64,
    /// The meter on the switch of rule `i + 1`.
    pub meters: Vec<u32>,
}

impl Resources {
    /// Rule `number` of a flow with these resources.
    pub fn rule(&self, flow: &str, number: u32) -> Rule {
        Rule {
            switch: SwitchId::numbered(number),
            flow: flow.into(),
            number,
            cookie: self.cookie,
            meter: self.meters[number as usize - 1],
        }
    }

    /// Number of rules of the flow.
    pub fn length(&self) -> u32 {
        u32::try_from(self.meters.len()).expect("a flow has at most 1000 rules")
    }
}

/// The flows and pools of a lane. Bounded by the number of cookies. Each part tracks its unsaved
/// changes.
#[derive(Debug)]
pub struct Registry {
    /// The settings in force.
    pub settings: FlowSettings,
    flows: StateMap<String, Flow>,
    lane: u32,
    lanes: u32,
    cookies: Pool,
    meters: BTreeMap<SwitchId, Pool>,
}

impl Default for Registry {
    fn default() -> Self {
        let settings = FlowSettings::default();
        let cookies = Pool::new(0, 1, settings.cookies);
        Self { settings, flows: StateMap::default(), lane: 0, lanes: 1, cookies, meters: BTreeMap::new() }
    }
}

impl Registry {
    /// Applies settings, and the first time the number of the lane.
    pub fn configure(&mut self, settings: &Settings, info: &LaneInfo) {
        self.settings = settings.of("flows").unwrap_or_default();
        if (self.lane, self.lanes) != (info.lane, info.lanes) {
            (self.lane, self.lanes) = (info.lane, info.lanes);
            self.cookies = Pool::new(info.lane, info.lanes, self.settings.cookies);
        }
        self.cookies.resize(self.settings.cookies);
        self.meters.values_mut().for_each(|pool| pool.resize(self.settings.meters));
    }

    /// A flow that exists, or of which rules are left.
    pub fn flow(&self, name: &str) -> Option<&Flow> {
        self.flows.get(name)
    }

    /// Records a flow that exists, or of which rules are left.
    pub fn keep(&mut self, name: &str, flow: Flow) {
        self.flows.insert(name.to_owned(), flow);
    }

    /// Removes a flow and releases its resources.
    pub fn release(&mut self, name: &str, resources: &Resources) {
        self.flows.remove(name);
        self.cookies.give_back(resources.cookie);
        for (number, meter) in (1..).zip(&resources.meters) {
            if let Some(pool) = self.meters.get_mut(&SwitchId::numbered(number)) {
                pool.give_back(u64::from(*meter));
            }
        }
    }

    /// Takes the resources of a flow with `length` rules: all or none.
    ///
    /// # Errors
    /// [`codes::POOL_EMPTY`] with the name of the pool.
    pub fn allocate(&mut self, name: &str, length: u32) -> Result<Resources, Problem> {
        let empty =
            |what: String| Problem::new(codes::POOL_EMPTY, format!("{what} for flow `{name}`; remove a flow first"));
        let cookie = self.cookies.take().ok_or_else(|| empty("no cookie is free".into()))?;
        let mut resources = Resources { cookie, meters: Vec::new() };
        for number in 1..=length {
            let switch = SwitchId::numbered(number);
            if let Some(meter) = self.pool(switch.clone()).take() {
                resources.meters.push(u32::try_from(meter).unwrap_or(u32::MAX));
            } else {
                self.release(name, &resources);
                return Err(empty(format!("no meter is free on {switch}")));
            }
        }
        Ok(resources)
    }

    /// The pool of the meters of a switch.
    fn pool(&mut self, switch: SwitchId) -> &mut Pool {
        let (lane, lanes, last) = (self.lane, self.lanes, self.settings.meters);
        self.meters.entry(switch).or_insert_with(|| Pool::new(lane, lanes, last))
    }

    /// Numbers of taken cookies and meters of this lane.
    pub fn taken(&self) -> (u64, u64) {
        (self.cookies.taken(), self.meters.values().map(Pool::taken).sum())
    }
}

/// Keys: `flow/<name>`, and those of [`Pool::save`] below `cookies` and `meters/<switch>`.
const FLOWS: &str = "flow";
const COOKIES: &str = "cookies";
const METERS: &str = "meters";

/// Error for a saved state that does not fit, with its key.
pub(crate) fn inconsistent(key: &str, why: &str) -> Unreadable {
    Unreadable(format!("saved `{key}` is inconsistent: {why}").chars().take(Unreadable::MAX_CHARS).collect())
}

/// The pools are saved separately: an operation holds resources before its flow exists.
impl LaneState for Registry {
    fn save(&mut self, saver: &mut Saver<'_>) {
        self.flows.save(&mut saver.part(FLOWS), Clone::clone);
        self.cookies.save(&mut saver.part(COOKIES));
        let mut saver = saver.part(METERS);
        for (switch, pool) in self.meters.iter_mut().filter(|(_, pool)| pool.has_changed()) {
            pool.save(&mut saver.part(&switch.0));
        }
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if let Some(stored) = stored.part(FLOWS) {
            self.flows.load(stored.key().to_owned(), stored.read()?);
            return Ok(());
        }
        if let Some(stored) = stored.part(COOKIES) {
            return self.cookies.load(&stored);
        }
        let meters = stored.part(METERS);
        let switch = meters.and_then(|stored| Some((stored.key().split_once('/')?.0, stored)));
        let Some((switch, meters)) = switch else { return Err(inconsistent(stored.key(), "flows have no such key")) };
        let meters = meters.part(switch).ok_or_else(|| inconsistent(stored.key(), "flows have no such key"))?;
        self.pool(SwitchId(switch.into())).load(&meters)
    }

    /// Checks that the resources of each flow are taken, and by no other flow.
    fn loaded(&mut self) -> Result<(), Unreadable> {
        self.cookies.loaded(COOKIES)?;
        for (switch, pool) in &self.meters {
            pool.loaded(&format!("{METERS}/{switch}"))?;
        }
        let (mut cookies, mut meters) = (BTreeSet::new(), BTreeSet::new());
        for (name, Flow { resources, left }) in self.flows.iter() {
            let inconsistent = |why: String| Err(inconsistent(&format!("{FLOWS}/{name}"), &why));
            if !self.cookies.is_taken(resources.cookie) || !cookies.insert(resources.cookie) {
                return inconsistent(format!("cookie {} is not taken, or taken by another flow", resources.cookie));
            }
            for (number, meter) in (1..).zip(&resources.meters) {
                let pool = self.meters.get(&SwitchId::numbered(number));
                if !pool.is_some_and(|pool| pool.is_taken(u64::from(*meter))) || !meters.insert((number, *meter)) {
                    return inconsistent(format!(
                        "meter {meter} of rule {number} is not taken, or taken by another flow"
                    ));
                }
            }
            let rules = resources.meters.len();
            if rules > MAX_LENGTH as usize || !left.iter().all(|number| (1..=resources.length()).contains(number)) {
                return inconsistent(format!("it has {rules} rules, but others are listed as left"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_takes_nothing() {
        let mut registry = Registry::default();
        registry.settings.meters = 1;
        let one = registry.allocate("a", 2).unwrap();
        assert_eq!(registry.taken(), (1, 2));
        let problem = registry.allocate("b", 3).unwrap_err();
        assert_eq!(problem.to_string(), "NAVE-0103: no meter is free on of:01 for flow `b`; remove a flow first");
        assert_eq!(registry.taken(), (1, 2));
        registry.release("a", &one);
        assert_eq!(registry.taken(), (0, 0));
        registry.allocate("b", 3).unwrap();
    }
}
