//! What the flows of a lane share: which flows there are, and the pools.

use std::collections::{BTreeMap, BTreeSet};

use topology::{LaneInfo, Settings};
use wire::speaker::{Rule, SwitchId};
use wire::{Code, Problem};

use crate::pools::Pool;
use crate::settings::FlowSettings;

/// A flow that stands, or of which something is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its cookie and meters.
    pub resources: Resources,
    /// The rules that are left of one that could not be removed; empty for one that stands.
    pub left: BTreeSet<u32>,
}

/// What a flow holds: a cookie, and a meter on each switch of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// The cookie.
    pub cookie: u64,
    /// The meter on the switch of rule `i + 1`.
    pub meters: Vec<u32>,
}

impl Resources {
    /// Rule `number` of a flow with these.
    pub fn rule(&self, flow: &str, number: u32) -> Rule {
        Rule {
            switch: SwitchId::numbered(number),
            flow: flow.into(),
            number,
            cookie: self.cookie,
            meter: self.meters[number as usize - 1],
        }
    }

    /// How many rules the flow has.
    pub fn length(&self) -> u32 {
        u32::try_from(self.meters.len()).expect("a flow has at most 1000 rules")
    }
}

/// The flows and pools of a lane. Bounded by the cookies.
#[derive(Debug)]
pub struct Registry {
    /// The settings in force.
    pub settings: FlowSettings,
    flows: BTreeMap<String, Flow>,
    lane: u32,
    lanes: u32,
    cookies: Pool,
    meters: BTreeMap<SwitchId, Pool>,
}

impl Default for Registry {
    fn default() -> Self {
        let settings = FlowSettings::default();
        let cookies = Pool::new(0, 1, settings.cookies);
        Self { settings, flows: BTreeMap::new(), lane: 0, lanes: 1, cookies, meters: BTreeMap::new() }
    }
}

impl Registry {
    /// Takes settings, and at the first time its place among the lanes.
    pub fn configure(&mut self, settings: &Settings, info: &LaneInfo) {
        self.settings = settings.of("flows").unwrap_or_default();
        if (self.lane, self.lanes) != (info.lane, info.lanes) {
            (self.lane, self.lanes) = (info.lane, info.lanes);
            self.cookies = Pool::new(info.lane, info.lanes, self.settings.cookies);
        }
        self.cookies.resize(self.settings.cookies);
        self.meters.values_mut().for_each(|pool| pool.resize(self.settings.meters));
    }

    /// A flow that stands, or of which something is left.
    pub fn flow(&self, name: &str) -> Option<&Flow> {
        self.flows.get(name)
    }

    /// A flow stands, or something of it is left.
    pub fn keep(&mut self, name: &str, flow: Flow) {
        self.flows.insert(name.to_owned(), flow);
    }

    /// Nothing is left of a flow: what it held is free.
    pub fn release(&mut self, name: &str, resources: &Resources) {
        self.flows.remove(name);
        self.cookies.give_back(resources.cookie);
        for (number, meter) in (1..).zip(&resources.meters) {
            if let Some(pool) = self.meters.get_mut(&SwitchId::numbered(number)) {
                pool.give_back(u64::from(*meter));
            }
        }
    }

    /// Takes what a flow of `length` rules needs: all or nothing.
    ///
    /// # Errors
    /// [`Code::PoolEmpty`], naming the pool.
    pub fn allocate(&mut self, name: &str, length: u32) -> Result<Resources, Problem> {
        let empty =
            |what: String| Problem::new(Code::PoolEmpty, format!("{what} for flow `{name}`; remove a flow first"));
        let cookie = self.cookies.take().ok_or_else(|| empty("no cookie is free".into()))?;
        let mut resources = Resources { cookie, meters: Vec::new() };
        for number in 1..=length {
            let switch = SwitchId::numbered(number);
            let (lane, lanes, last) = (self.lane, self.lanes, self.settings.meters);
            let pool = self.meters.entry(switch.clone()).or_insert_with(|| Pool::new(lane, lanes, last));
            if let Some(meter) = pool.take() {
                resources.meters.push(u32::try_from(meter).unwrap_or(u32::MAX));
            } else {
                self.release(name, &resources);
                return Err(empty(format!("no meter is free on {switch}")));
            }
        }
        Ok(resources)
    }

    /// How many cookies and meters are taken in this lane.
    pub fn taken(&self) -> (u64, u64) {
        (self.cookies.taken(), self.meters.values().map(Pool::taken).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_that_fails_takes_nothing() {
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
