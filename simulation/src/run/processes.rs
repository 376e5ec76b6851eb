//! The processes of a run: how they start, crash and return.

use std::sync::Arc;

use bus::{Clock, DriftingClock, FaultyBus};
use spoke::SpokeOptions;
use topology::{Shard, ShardOptions, ShardStatus};

use super::{BUILD, FaultEvent, Run};
use crate::clients::NORTHBOUNDS;
use crate::fault_schedule::ProcessFaults;
use crate::process::{Front, Process, Role, Running};

impl Run<'_> {
    pub(super) fn roles(&self) -> Vec<Role> {
        let stages = self.topology.stages().into_iter().map(|stage| Role::Stage(stage.name.to_string()));
        let spokes = self.spokes.keys().cloned().map(Role::Spoke);
        stages.chain(spokes).chain((0..NORTHBOUNDS).map(Role::North)).collect()
    }

    pub(super) fn start(&mut self, role: &Role) {
        self.started += 1;
        let name = match role {
            Role::Stage(name) => format!("{name}-{}", self.started),
            // A stage may have the same name as the spoke that it calls.
            Role::Spoke(name) => format!("spoke-{name}-{}", self.started),
            Role::North(number) => format!("northbound-{number}-{}", self.started),
        };
        let (mut ppm, mut ahead) =
            (i64::try_from(self.dice.roll(20_000)).unwrap_or(0) - 10_000, self.dice.roll(1 << 40));
        if matches!(role, Role::Spoke(_)) {
            // Delays injected into a spoke outlive its process, so all its processes use one clock.
            (ppm, ahead) = (0, 0);
        }
        let clock = Arc::new(DriftingClock::new(Arc::clone(&self.clock), ppm, ahead));
        let process_faults = Arc::new(ProcessFaults::new(Arc::clone(&self.faults), name.clone()));
        let bus =
            FaultyBus::with_clock(Arc::new(self.bus.clone()), Arc::clone(&clock) as Arc<dyn Clock>, process_faults);
        let running = match role {
            Role::Stage(stage) => self.lanes(stage, &name, &bus),
            Role::Spoke(service) => {
                let joined = self.spokes[service].join(&bus, &self.names, service, &name, &SpokeOptions::default());
                Running::Spoke(joined.unwrap_or_else(|error| panic!("spoke `{service}` cannot join: {error}")))
            }
            Role::North(_) => {
                let front = Front::open(&bus, self.north.clone()).expect("the topics exist");
                Running::North(Box::new(front))
            }
        };
        self.say(&name, || "starts".to_owned());
        self.processes.push(Process { name, role: role.clone(), running, bus, clock, paused_until: None });
    }

    fn lanes(&self, stage: &str, name: &str, bus: &FaultyBus) -> Running {
        let options = ShardOptions {
            topics: self.names.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: BUILD.to_owned(),
            settings: self.topology.settings().clone(),
            recovery: self.recovery,
            inbox_limit: topology::InboxLimit::default(),
        };
        let lanes =
            self.topology.stages().into_iter().find(|known| *known.name == *stage).map_or(0, |known| known.lanes);
        let status = ShardStatus::new(stage, lanes);
        let shard = Shard::join(Arc::new(bus.clone()), self.topology.clone(), options, status);
        Running::Lanes(Box::new(shard.expect("the topics exist")))
    }

    /// Crashes a process with everything in its memory.
    pub(super) fn crash(&mut self, place: usize) {
        let process = self.processes.remove(place);
        process.bus.kill();
        self.disconnect(&process);
        self.say(&process.name, || "crashed".to_owned());
        // Sometimes the broker notices at once, and sometimes after the session timeout.
        if self.dice.chance(300)
            && let Role::Stage(stage) = &process.role
        {
            self.bus.expel(&self.names.inbox(self.topology.name(), stage));
        }
        let in_ms = self.dice.roll(3) * self.dice.roll(2_000);
        self.schedule(in_ms, FaultEvent::Start(process.role.clone()));
    }

    pub(super) fn disconnect(&mut self, process: &Process) {
        if let Role::North(number) = process.role {
            self.clients.disconnect(number, self.clock.mono());
        }
    }
}
