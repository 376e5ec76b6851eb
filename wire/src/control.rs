//! Submitted topologies: the records of the control topic, one per name.
//!
//! A topology is code in a binary; the submission records its name, its graph and its settings.
//! Processes that have the code run its stages. Other processes, such as a northbound, read here
//! which topologies exist.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::WallTime;
use crate::graph::Graph;

/// A submitted topology. The key of the record is its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its name.
    pub name: String,
    /// Its stages, components and edges. A process whose code lacks one of them does not run it.
    pub graph: Graph,
    /// The build that submitted it.
    pub build: String,
    /// Time of the submission.
    pub at: WallTime,
    /// Whether it should run, wait or end.
    pub desired: DesiredState,
    /// The number of threads for each stage in each process that runs it; none: as each process is
    /// configured.
    #[serde(default)]
    pub threads: Option<u32>,
    /// Its stages.
    pub stages: Vec<SubmittedStage>,
    /// Its settings: an object with an entry per component; see [`crate::owner::OwnerRecord`].
    pub settings: Value,
    /// The workflows that clients can start.
    #[serde(default)]
    pub workflows: Vec<WorkflowType>,
    /// The services that its workers call, whose spokes may send heartbeats.
    #[serde(default)]
    pub services: Vec<String>,
    /// Printable description: a line per component and per edge.
    pub description: String,
}

impl Submitted {
    /// The workflow of this name.
    pub fn workflow(&self, name: &str) -> Option<&WorkflowType> {
        self.workflows.iter().find(|workflow| workflow.name == name)
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&SubmittedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// The desired state of a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum DesiredState {
    /// It runs.
    Run,
    /// Its spouts emit nothing and it accepts no new requests. Everything else continues.
    Inactive,
    /// It accepts no new requests, finishes its operations until `by` at the latest, and ends.
    Kill {
        /// The time at which it ends, finished or not.
        by: WallTime,
    },
}

impl DesiredState {
    /// Returns the time at which it ends, if it is being killed.
    pub fn ends(self) -> Option<WallTime> {
        match self {
            DesiredState::Run | DesiredState::Inactive => None,
            DesiredState::Kill { by } => Some(by),
        }
    }
}

/// A stage of a submitted topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedStage {
    /// Its name.
    pub name: String,
    /// Number of lanes, fixed as long as the topics exist. Senders use it to route keys.
    pub lanes: u32,
    /// The delivery mode of its effects.
    pub mode: DeliveryMode,
    /// The ids of its topics at submission, by name: a topic that was deleted and created again has
    /// another id.
    pub topics: Vec<(String, String)>,
}

/// The time at which the effects of a stage leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryMode {
    /// With the commit of the state that caused them.
    #[default]
    ExactlyOnce,
    /// At once. After a crash they may leave again, with the same ids.
    AtLeastOnce,
}

impl DeliveryMode {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryMode::ExactlyOnce => "exactly-once",
            DeliveryMode::AtLeastOnce => "at-least-once",
        }
    }
}

/// A kind of workflow that clients can start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowType {
    /// Its name.
    pub name: String,
    /// The stage that runs it.
    pub stage: String,
    /// JSON Schema of a request.
    pub request: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_modes_and_desired_states_have_their_documented_json() {
        for mode in [DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{}\"", mode.as_str()));
        }
        assert_eq!(serde_json::to_string(&DesiredState::Run).unwrap(), r#"{"state":"run"}"#);
        assert_eq!(serde_json::to_string(&DesiredState::Inactive).unwrap(), r#"{"state":"inactive"}"#);
        let kill = serde_json::to_string(&DesiredState::Kill { by: WallTime(0) }).unwrap();
        assert_eq!(kill, r#"{"state":"kill","by":0}"#);
    }
}
