//! The record of a topology in the control topic.

use bus::{Bus, BusError, TopicInfo};
use wire::WallTime;
use wire::control::{DesiredState, Submitted, SubmittedStage};
use wire::topics::Topics;

use crate::plan::{Stage, Topology};

impl Topology {
    /// Returns the record of this topology for the control topic, as submitted by `build` at the
    /// time `at`. Creates its topics, or checks those that exist.
    ///
    /// # Errors
    /// If the bus does not answer, or a topic has the wrong shape.
    pub fn record(&self, bus: &dyn Bus, topics: &Topics, build: &str, at: WallTime) -> Result<Submitted, BusError> {
        let made = self.topics(topics).iter().map(|spec| bus.ensure_topic(spec)).collect::<Result<Vec<_>, _>>()?;
        let stage = |stage: Stage| {
            let own = [
                topics.inbox(self.name(), &stage.name),
                topics.egress(self.name(), &stage.name),
                topics.view(self.name(), &stage.name),
                topics.snapshot(self.name(), &stage.name),
            ];
            let of_stage = made.iter().filter(|topic: &&TopicInfo| own.contains(&topic.name));
            SubmittedStage {
                name: stage.name.to_string(),
                lanes: stage.lanes,
                mode: stage.mode,
                topics: of_stage.map(|topic| (topic.name.clone(), topic.id.clone())).collect(),
            }
        };
        let mut services: Vec<String> = self.stages().iter().flat_map(|stage| self.watches(&stage.name)).collect();
        services.sort_unstable();
        services.dedup();
        Ok(Submitted {
            name: self.name().to_owned(),
            graph: self.graph(),
            build: build.to_owned(),
            at,
            desired: DesiredState::Run,
            threads: None,
            stages: self.stages().into_iter().map(stage).collect(),
            settings: self.settings().as_value().clone(),
            workflows: self.workflows(),
            services,
            description: self.describe(),
        })
    }
}
