//! A topology as it was submitted, on a bus, with the code of this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Bus, BusError, MonoTime, TopicSpec};
use northbound::Waiting;
use topology::{Arrangement, Handover, Settings, Shard, ShardOptions, ShardStatus, Topology, Upkeep};
use wire::control::Submitted;
use wire::topics::Topics;
use wire::{Code, Problem};

use crate::recorded::Recorded;

/// A topology that can be run: its code agrees with what was submitted.
pub struct Deployment {
    bus: Arc<dyn Bus>,
    topics: Topics,
    topology: Topology,
    upkeep: Upkeep,
    /// How the lanes of each stage stand in this process.
    status: BTreeMap<String, Arc<ShardStatus>>,
    /// Its topics as they were submitted; none where nobody submitted it.
    recorded: Recorded,
}

impl Deployment {
    /// A topology that is laid out and set up already. Its topics have to be there.
    pub fn new(bus: Arc<dyn Bus>, topics: Topics, topology: Topology, upkeep: Upkeep) -> Self {
        let status = |stage: topology::Stage| (stage.name.to_string(), ShardStatus::new(&stage.name, stage.lanes));
        let status = topology.stages().into_iter().map(status).collect();
        Self { bus, topics, topology, upkeep, status, recorded: Recorded::default() }
    }

    /// What was submitted, with this process's code for it.
    ///
    /// # Errors
    /// [`Code::OtherGraph`] where the code is another one, [`Code::TopicReplaced`] or [`Code::WrongTopic`] where a topic is not
    /// the one that it was submitted with, [`Code::CannotBuild`] where the settings do not fit the code.
    pub fn of(
        bus: &Arc<dyn Bus>,
        topics: &Topics,
        code: &Topology,
        submitted: &Submitted,
        upkeep: Upkeep,
    ) -> Result<Self, Problem> {
        let topology = arranged(code, submitted)?;
        let recorded = Recorded::of(submitted, topology.topics(topics));
        let found = recorded.check(&**bus).map_err(|error| Problem::new(Code::NotReady, error.to_string()))?;
        found.map_or(Ok(()), Err)?;
        Ok(Self { recorded, ..Self::new(Arc::clone(bus), topics.clone(), topology, upkeep) })
    }

    /// Its topics as they were submitted.
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How the lanes of each stage stand in this process.
    pub fn status(&self) -> &BTreeMap<String, Arc<ShardStatus>> {
        &self.status
    }

    /// The lanes of `stage` that make no progress, and those that are not live in this process if `is_named` is true of their state and of
    /// the time since which they have been in it.
    pub fn waiting(&self, stage: &str, now: MonoTime, is_named: impl Fn(Handover, MonoTime) -> bool) -> Vec<Waiting> {
        let Some(status) = self.status.get(stage) else { return Vec::new() };
        let inbox = self.topics.inbox(self.topology.name(), stage);
        let mut waiting = status.waiting(now);
        waiting.retain(|(lane, _)| status.handover(*lane).is_none_or(|(handover, since)| is_named(handover, since)));
        waiting.into_iter().map(|(lane, line)| Waiting::of_lane(&inbox, lane, line)).collect()
    }

    /// The lanes of a stage of one thread, as the member `name`: unique among all that live, since it is a transactional id.
    ///
    /// # Errors
    /// Where the bus does not let it join.
    ///
    /// # Panics
    /// Where there is no such stage.
    pub fn shard(&self, stage: &str, name: &str) -> Result<Shard, BusError> {
        let status = self.status.get(stage).unwrap_or_else(|| panic!("stage `{stage}` is not one of this topology"));
        let options = ShardOptions {
            topics: self.topics.clone(),
            stage: stage.to_owned(),
            member: name.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.topology.settings().clone(),
            upkeep: self.upkeep,
            inbox_limit: topology::InboxLimit::default(),
        };
        Shard::join(Arc::clone(&self.bus), self.topology.clone(), options, Arc::clone(status))
    }
}

/// The topics that the code needs, as it was submitted; none where it is another one.
pub(crate) fn needed(code: &Topology, submitted: &Submitted, topics: &Topics) -> Vec<TopicSpec> {
    arranged(code, submitted).map(|topology| topology.topics(topics)).unwrap_or_default()
}

/// The code laid out and set up as it was submitted: of the two layouts the one that has all parts of what was submitted.
fn arranged(code: &Topology, submitted: &Submitted) -> Result<Topology, Problem> {
    let unfit = |errors: topology::BuildErrors| Problem::new(Code::CannotBuild, errors.to_string());
    let code = code.with_settings(&Settings::new(submitted.settings.clone())).map_err(unfit)?;
    // Of the two layouts the one that has every part that was submitted; else the one that lacks less is named.
    let mut lacking: Option<Vec<String>> = None;
    for apart in [false, true] {
        let mut arrangement = Arrangement { apart, ..Arrangement::default() };
        let found = code.arranged(&arrangement).map_err(unfit)?.graph();
        let lacks = found.lacks(&submitted.graph);
        if !lacks.is_empty() {
            let fewer = lacking.as_ref().is_none_or(|known: &Vec<String>| lacks.len() < known.len());
            if fewer {
                lacking = Some(lacks.into_iter().map(str::to_owned).collect());
            }
            continue;
        }
        arrangement.lanes = submitted.stages.iter().map(|stage| (stage.name.clone(), stage.lanes)).collect();
        arrangement.modes = submitted.stages.iter().map(|stage| (stage.name.clone(), stage.mode)).collect();
        return code.arranged(&arrangement).map_err(unfit);
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
