//! The position of a lane in the topology.

use std::sync::{Arc, Weak};

use bus::Bus;
use wire::topics::Topics;

/// The position of a lane in the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneInfo {
    /// The topology's name.
    pub topology: Arc<str>,
    /// The stage's name.
    pub stage: Arc<str>,
    /// The stage's inbox.
    pub inbox: Arc<str>,
    /// The naming scheme of topics.
    pub names: Topics,
    /// The number of this lane, from 0.
    pub lane: u32,
    /// The number of lanes of the stage.
    pub lanes: u32,
}

impl LaneInfo {
    /// Returns the `ce_source` of the lane.
    pub fn source(&self) -> String {
        format!("/nave/{}/{}/{}", self.topology, self.stage, self.lane)
    }

    /// Returns the stage's egress: the topic of its results for clients.
    pub fn egress(&self) -> String {
        self.names.egress(&self.topology, &self.stage)
    }
}

/// The lane of a spout, and the bus that it runs on.
#[derive(Clone)]
pub struct SourceContext {
    /// The lane.
    pub lane: LaneInfo,
    /// The bus. A spout that polls a [`bus::Reader`] without waiting is called again when a record
    /// arrives.
    pub bus: Arc<dyn Bus>,
    /// Upgrades while the shard of the lane exists. A lane that ends before its shard has moved, or is
    /// taken over again.
    pub(crate) shard: Weak<()>,
}

/// A topic that a component writes to and others create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTopic {
    /// The name.
    pub name: Arc<str>,
    /// True if all its records have keys. Compacted topics take no others.
    pub has_keys: bool,
}

/// The component or edge that could not handle a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A component, by its number.
    Component(u16),
    /// An edge to another stage, by its name.
    Edge(Arc<str>),
}
