//! Configuration of a gateway: the stages of its topology, and its limits.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::control::Submitted;
use wire::topics::Topics;

/// The limits of a gateway, for any topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Maximum number of unanswered requests per lane; more are refused as busy. 256 is a quarter
    /// of a second at a thousand operations per second and lane: enough to keep it busy, few enough
    /// for short waits.
    pub max_unanswered_per_lane: usize,
    /// Number of records behind the end of its inbox at which a lane refuses requests. It accepts
    /// them again at half of that.
    pub max_behind: u64,
    /// Maximum number of cached operations: this many live ones, and this many ended ones; 40 MB in
    /// all at 2 KB each. Two separate limits, so that stuck operations are not displaced by
    /// successful ones.
    pub cached_operations: usize,
    /// Time that a request waits for its answer before its client gets a 202. The northbound of the
    /// proof of concept waited as long.
    pub patience: Duration,
    /// Maximum size of the cached resources in bytes, with keys: a hundred thousand flows take 20
    /// MB.
    pub shown_bytes: usize,
    /// Maximum number of concurrent watchers. Each holds a connection and costs one view per 100
    /// ms.
    pub watchers: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_unanswered_per_lane: 256,
            max_behind: bus::INBOX_LIMIT,
            cached_operations: 10_000,
            patience: Duration::from_secs(10),
            shown_bytes: 64 * 1024 * 1024,
            watchers: 256,
        }
    }
}

/// A stage, as a northbound uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOptions {
    /// Its name.
    pub name: String,
    /// The topic of requests.
    pub inbox: String,
    /// The topic of answers.
    pub egress: String,
    /// The topic of views.
    pub view: String,
    /// Number of lanes: the partitions of each of its topics.
    pub lanes: u32,
    /// True if it runs workflows: then it gets requests, and its answers are read.
    pub runs_workflows: bool,
}

/// Configuration of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayOptions {
    /// The topology's name.
    pub topology: String,
    /// Its stages.
    pub stages: Vec<StageOptions>,
    /// The stage of each workflow. If empty, the first stage runs all workflows.
    pub workflows: BTreeMap<String, String>,
    /// Its limits.
    pub limits: GatewayLimits,
}

impl GatewayOptions {
    /// The gateway of a topology with one stage, which runs all workflows.
    pub fn new(topology: &str, stage: &str, lanes: u32) -> Self {
        let topics = Topics::default();
        let stage = StageOptions {
            name: stage.to_owned(),
            inbox: topics.inbox(topology, stage),
            egress: topics.egress(topology, stage),
            view: topics.view(topology, stage),
            lanes,
            runs_workflows: true,
        };
        let (topology, workflows) = (topology.to_owned(), BTreeMap::new());
        Self { topology, stages: vec![stage], workflows, limits: GatewayLimits::default() }
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

    /// The index of the stage that runs this workflow.
    pub(crate) fn stage_of(&self, workflow: &str) -> Option<usize> {
        if self.workflows.is_empty() {
            return (!self.stages.is_empty()).then_some(0);
        }
        let name = self.workflows.get(workflow)?;
        self.stages.iter().position(|stage| stage.name == *name)
    }
}
