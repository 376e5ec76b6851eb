//! A submitted topology on a bus, with the code of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Bus, BusError, MonoTime, TopicSpec};
use northbound::Waiting;
use topology::{Arrangement, Handover, RecoveryOptions, Settings, Shard, ShardOptions, ShardStatus, Topology};
use wire::control::Submitted;
use wire::topics::Topics;
use wire::{Code, Problem};

use super::recorded::RecordedTopics;

/// A topology that can run: its code matches the submission.
pub(super) struct Deployment {
    bus: Arc<dyn Bus>,
    topics: Topics,
    topology: Topology,
    recovery: RecoveryOptions,
    /// Status of the lanes of each stage in this process.
    status: BTreeMap<String, Arc<ShardStatus>>,
    /// The recorded topics; none if the topology was not submitted.
    recorded: RecordedTopics,
}

impl Deployment {
    /// Creates a deployment of a topology with layout and settings. Its topics have to exist.
    pub(super) fn new(bus: Arc<dyn Bus>, topics: Topics, topology: Topology, recovery: RecoveryOptions) -> Self {
        let status = |stage: topology::Stage| (stage.name.to_string(), ShardStatus::new(&stage.name, stage.lanes));
        let status = topology.stages().into_iter().map(status).collect();
        Self { bus, topics, topology, recovery, status, recorded: RecordedTopics::default() }
    }

    /// Creates a deployment of a submitted topology with the code of this process.
    ///
    /// # Errors
    /// [`Code::OtherGraph`] if the code lacks a part of the graph, [`Code::TopicReplaced`] or
    /// [`Code::WrongTopic`] if a topic is not the recorded one, [`Code::CannotBuild`] if the
    /// settings do not fit the code.
    pub(super) fn of(
        bus: &Arc<dyn Bus>,
        topics: &Topics,
        code: &Topology,
        submitted: &Submitted,
        recovery: RecoveryOptions,
    ) -> Result<Self, Problem> {
        let topology = arranged(code, submitted)?;
        let recorded = RecordedTopics::of(submitted, topology.topics(topics));
        let found = recorded.check(&**bus).map_err(|error| Problem::new(Code::NotReady, error.to_string()))?;
        found.map_or(Ok(()), Err)?;
        Ok(Self { recorded, ..Self::new(Arc::clone(bus), topics.clone(), topology, recovery) })
    }

    /// Returns the recorded topics.
    pub(super) fn recorded(&self) -> &RecordedTopics {
        &self.recorded
    }

    /// Returns the topology.
    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Status of the lanes of each stage in this process.
    pub(super) fn status(&self) -> &BTreeMap<String, Arc<ShardStatus>> {
        &self.status
    }

    /// Returns the lanes of `stage` that make no progress, and those that are not live in this
    /// process and for which `is_named` is true. Its arguments are the state of the lane and the
    /// time since when it has that state.
    pub(super) fn waiting(
        &self,
        stage: &str,
        now: MonoTime,
        is_named: impl Fn(Handover, MonoTime) -> bool,
    ) -> Vec<Waiting> {
        let Some(status) = self.status.get(stage) else { return Vec::new() };
        let inbox = self.topics.inbox(self.topology.name(), stage);
        let mut waiting = status.waiting(now);
        waiting.retain(|(lane, _)| status.handover(*lane).is_none_or(|(handover, since)| is_named(handover, since)));
        waiting.into_iter().map(|(lane, line)| Waiting::of_lane(&inbox, lane, line)).collect()
    }

    /// Joins the lanes of a stage with one thread, as the member `name`, which must be unique among
    /// all live members: it is a transactional id.
    ///
    /// # Errors
    /// If the bus refuses the member.
    ///
    /// # Panics
    /// If there is no such stage.
    pub(super) fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        let status = self.status.get(stage).unwrap_or_else(|| panic!("stage `{stage}` is not one of this topology"));
        let options = ShardOptions {
            topics: self.topics.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.topology.settings().clone(),
            recovery: self.recovery,
            inbox_limit: topology::InboxLimit::default(),
        };
        Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(status))
    }
}

/// Returns the topics that the code needs for this submission; none if the code does not fit it.
pub(crate) fn needed(code: &Topology, submitted: &Submitted, topics: &Topics) -> Vec<TopicSpec> {
    arranged(code, submitted).map(|topology| topology.topics(topics)).unwrap_or_default()
}

/// Returns the code with the layout and the settings of a submission: the layout that has all
/// submitted parts.
fn arranged(code: &Topology, submitted: &Submitted) -> Result<Topology, Problem> {
    let incompatible = |errors: topology::BuildErrors| Problem::new(Code::CannotBuild, errors.to_string());
    let code = code.with_settings(&Settings::new(submitted.settings.clone())).map_err(incompatible)?;
    // If both layouts lack parts, the error names those that the closer layout lacks.
    let mut lacking: Option<Vec<String>> = None;
    for apart in [false, true] {
        let mut arrangement = Arrangement { apart, ..Arrangement::default() };
        let found = code.arranged(&arrangement).map_err(incompatible)?.graph();
        let lacks = found.lacks(&submitted.graph);
        if !lacks.is_empty() {
            let fewer = lacking.as_ref().is_none_or(|known: &Vec<String>| lacks.len() < known.len());
            if fewer {
                lacking = Some(lacks);
            }
            continue;
        }
        arrangement.lanes = submitted.stages.iter().map(|stage| (stage.name.clone(), stage.lanes)).collect();
        arrangement.modes = submitted.stages.iter().map(|stage| (stage.name.clone(), stage.mode)).collect();
        return code.arranged(&arrangement).map_err(incompatible);
    }
    let (name, build) = (&submitted.name, &submitted.build);
    let detail = format!(
        "topology `{name}` was submitted by build {build} with parts that the code of this process (build {}) lacks: {}; run the \
         build that submitted it",
        env!("CARGO_PKG_VERSION"),
        lacking.unwrap_or_default().join("; ")
    );
    Err(Problem::new(Code::OtherGraph, detail))
}
