//! Which topologies there are: the records of the control topic, one for each name.
//!
//! A topology is code in a binary; what is submitted is its name and shape, and what it is run with. Processes that have the
//! code take its stages up; everybody else, a northbound among them, reads here what there is.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::WallTime;
use crate::graph::Graph;

/// A topology as it was submitted. The record's key is its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its name.
    pub name: String,
    /// Its stages, components and edges. A process whose code lacks one of them does not take it up.
    pub graph: Graph,
    /// The build that submitted it.
    pub build: String,
    /// When.
    pub at: WallTime,
    /// Whether it runs.
    pub wish: Wish,
    /// Its stages.
    pub stages: Vec<SubmittedStage>,
    /// What it is run with: an object with an entry for each component; see [`crate::owner::OwnerRecord`].
    pub settings: Value,
    /// What clients can start.
    #[serde(default)]
    pub workflows: Vec<WorkflowType>,
    /// The services that its workers call, whose spokes may send heartbeats.
    #[serde(default)]
    pub services: Vec<String>,
    /// How it is drawn: a line for each component and for each edge.
    pub description: String,
}

impl Submitted {
    /// The stage that runs this workflow.
    pub fn workflow(&self, name: &str) -> Option<&WorkflowType> {
        self.workflows.iter().find(|workflow| workflow.name == name)
    }

    /// A stage.
    pub fn stage(&self, name: &str) -> Option<&SubmittedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// What is wanted of a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "lowercase")]
pub enum Wish {
    /// It runs.
    Run,
    /// It takes no new requests, finishes what it has until then at the latest, and ends.
    Kill {
        /// When it ends, finished or not.
        by: WallTime,
    },
}

/// A stage of a submitted topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedStage {
    /// Its name.
    pub name: String,
    /// How many lanes it has: fixed for the life of its topics. Who routes to it uses this number.
    pub lanes: u32,
    /// When effects leave.
    pub mode: Mode,
    /// The ids of its topics when it was submitted, by name: a topic that was deleted and made anew has another one.
    pub topics: Vec<(String, String)>,
}

/// When the effects of a stage leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// With the commit of the state that they come of.
    #[default]
    ExactlyOnce,
    /// At once; after a crash they may leave again, with the same ids.
    AtLeastOnce,
}

impl Mode {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ExactlyOnce => "exactly-once",
            Mode::AtLeastOnce => "at-least-once",
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
    /// What a request has to look like, as a JSON Schema.
    pub request: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_wishes_are_written_as_agreed() {
        for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{}\"", mode.as_str()));
        }
        assert_eq!(serde_json::to_string(&Wish::Run).unwrap(), r#"{"wish":"run"}"#);
        let kill = serde_json::to_string(&Wish::Kill { by: WallTime(0) }).unwrap();
        assert_eq!(kill, r#"{"wish":"kill","by":0}"#);
    }
}
