//! How a gateway is set up: the stages of its topology, and what bounds it.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::control::Submitted;
use wire::topics::Topics;

/// What bounds a gateway, whatever topology it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayLimits {
    /// So many requests of a lane may be unanswered; the next is told that the lane is busy. 256 is a quarter of a second
    /// at a thousand operations a second for each lane: enough to keep it at work, few enough that none waits long.
    pub max_unanswered_per_lane: usize,
    /// A lane that is this many records behind its inbox takes no new requests, until it is at half of that.
    pub max_behind: u64,
    /// So many operations that are over are known, the newest, and as many that live: at some 2 KB each, 40 MB in all.
    /// Those that live have a number of their own, so that what is stuck is not forgotten because others went well.
    pub known_operations: usize,
    /// Time that a request waits for its answer before its client gets a 202. The northbound of the proof of concept waited as long.
    pub patience: Duration,
    /// So many bytes of what workflows show are kept, keys included: a hundred thousand flows have 20 MB.
    pub shown_bytes: usize,
    /// So many may watch the progress of operations at once. Each holds a connection, and costs a view each 100 ms.
    pub watchers: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_unanswered_per_lane: 256,
            max_behind: bus::INBOX_LIMIT,
            known_operations: 10_000,
            patience: Duration::from_secs(10),
            shown_bytes: 64 * 1024 * 1024,
            watchers: 256,
        }
    }
}

/// A stage, as a northbound sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOptions {
    /// Its name.
    pub name: String,
    /// The topic that requests go to.
    pub inbox: String,
    /// The topic that answers come from.
    pub egress: String,
    /// The topic that views come from.
    pub view: String,
    /// How many lanes were recorded for it: the partitions of each of its topics.
    pub lanes: u32,
    /// True where it runs workflows: requests go to it, and answers are read.
    pub runs_workflows: bool,
}

/// How a gateway is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayOptions {
    /// The topology's name.
    pub topology: String,
    /// Its stages.
    pub stages: Vec<StageOptions>,
    /// The stage of each workflow. Empty: the first stage runs whatever it is asked.
    pub workflows: BTreeMap<String, String>,
    /// What bounds it.
    pub limits: GatewayLimits,
}

impl GatewayOptions {
    /// The gateway of a topology with one stage, called `hub` in a topology called `flows`.
    pub fn new(inbox: &str, egress: &str, view: &str, lanes: u32) -> Self {
        let stage = StageOptions {
            name: "hub".into(),
            inbox: inbox.into(),
            egress: egress.into(),
            view: view.into(),
            lanes,
            runs_workflows: true,
        };
        let topology = "flows".to_owned();
        Self { topology, stages: vec![stage], workflows: BTreeMap::new(), limits: GatewayLimits::default() }
    }

    /// The gateway of a submitted topology.
    pub fn of(topics: &Topics, submitted: &Submitted, limits: GatewayLimits) -> Self {
        let name = &submitted.name;
        let stage = |stage: &wire::control::SubmittedStage| StageOptions {
            name: stage.name.clone(),
            inbox: topics.inbox(name, &stage.name),
            egress: topics.egress(name, &stage.name),
            view: topics.view(name, &stage.name),
            lanes: stage.lanes,
            runs_workflows: submitted.workflows.iter().any(|workflow| workflow.stage == stage.name),
        };
        let workflows = submitted.workflows.iter().map(|workflow| (workflow.name.clone(), workflow.stage.clone()));
        Self {
            topology: name.clone(),
            stages: submitted.stages.iter().map(stage).collect(),
            workflows: workflows.collect(),
            limits,
        }
    }

    /// The place of the stage that runs this workflow.
    pub(crate) fn stage_of(&self, workflow: &str) -> Option<usize> {
        if self.workflows.is_empty() {
            return (!self.stages.is_empty()).then_some(0);
        }
        let name = self.workflows.get(workflow)?;
        self.stages.iter().position(|stage| stage.name == *name)
    }
}
