//! The section of a topology in the configuration: its layout and its settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::{Arrangement, BuildErrors, DeliveryMode, Settings, Topology};

use super::BusKind;

/// Layout and settings of a topology. The file for `nave submit` contains one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// True: components that may share a lane are separate stages with a topic between them.
    pub apart: bool,
    /// Lanes of each stage that does not set its own number; 0: as in the code.
    pub lanes: u32,
    /// Threads of each stage that does not set its own number.
    pub threads: u32,
    /// The stages of both layouts by name; the other layout ignores its own.
    pub stages: BTreeMap<String, StageLayout>,
    /// Settings of each component that its code declares.
    pub settings: Value,
}

/// Layout of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLayout {
    /// Number of lanes; fixed for the lifetime of its topics.
    pub lanes: u32,
    /// Delivery mode.
    pub mode: DeliveryMode,
    /// Threads per process that run its lanes.
    pub threads: u32,
}

impl Layout {
    /// Returns the defaults from the code. Stages are apart on Kafka, where several processes can
    /// share them.
    pub fn of(topology: &Topology, bus: BusKind) -> Self {
        let mut stages = BTreeMap::new();
        for apart in [true, false] {
            let arranged = topology.arranged(&Arrangement { apart, ..Arrangement::default() });
            for stage in arranged.iter().flat_map(Topology::stages) {
                let layout = StageLayout { lanes: stage.lanes, mode: stage.mode, threads: 1 };
                stages.insert(stage.name.to_string(), layout);
            }
        }
        let settings = topology.settings().as_value().clone();
        Self { apart: bus == BusKind::Kafka, lanes: 0, threads: 1, stages, settings }
    }

    /// Returns the topology with this layout and these settings.
    ///
    /// # Errors
    /// If the topology cannot be built with them: no lanes, or budgets that do not fit together.
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

    /// Threads per process that run its lanes.
    pub fn threads(&self, stage: &str) -> u32 {
        self.stages.get(stage).map_or(1, |stage| stage.threads)
    }
}
