//! A topology's own part of the configuration: how it is laid out where it runs, and what it is run with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{Arrangement, BuildErrors, Mode, Settings, Topology};

use super::BusKind;

/// How a topology is laid out, and what it is run with. A file for `nave submit` is one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// True: components that may share a lane are stages of their own, with a topic between them.
    pub apart: bool,
    /// Its stages, by name; those of both layouts, and only those of its own count.
    pub stages: BTreeMap<String, StageLayout>,
    /// What it is run with: for each component what its code declares.
    pub settings: Value,
}

/// How a stage is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLayout {
    /// How many lanes it has: fixed for the life of its topics.
    pub lanes: u32,
    /// When its effects leave.
    pub mode: Mode,
    /// Threads that run its lanes in a process.
    pub threads: u32,
}

impl Layout {
    /// As the code says, on this bus: stages are apart where there is a cluster to place them in.
    pub fn of(topology: &Topology, bus: BusKind) -> Self {
        let mut stages = BTreeMap::new();
        for apart in [true, false] {
            let arranged = topology.arranged(&Arrangement { apart, ..Arrangement::default() });
            for stage in arranged.iter().flat_map(Topology::stages) {
                let layout = StageLayout { lanes: stage.lanes, mode: stage.mode, threads: 1 };
                stages.insert(stage.name.to_string(), layout);
            }
        }
        Self { apart: bus == BusKind::Kafka, stages, settings: topology.settings().as_value().clone() }
    }

    /// The topology, laid out and set up in this way.
    ///
    /// # Errors
    /// Where it cannot be built so: a budget that does not fit, no lanes.
    pub fn apply(&self, topology: &Topology) -> Result<Topology, BuildErrors> {
        let mut arrangement = Arrangement { apart: self.apart, ..Arrangement::default() };
        let topology = topology.with_settings(&Settings::new(self.settings.clone()))?;
        for stage in topology.arranged(&arrangement)?.stages() {
            if let Some(layout) = self.stages.get(&*stage.name) {
                arrangement.lanes.insert(stage.name.to_string(), layout.lanes);
                arrangement.modes.insert(stage.name.to_string(), layout.mode);
            }
        }
        topology.arranged(&arrangement)
    }

    /// Threads that run the lanes of a stage in a process.
    pub fn threads(&self, stage: &str) -> u32 {
        self.stages.get(stage).map_or(1, |stage| stage.threads)
    }
}
