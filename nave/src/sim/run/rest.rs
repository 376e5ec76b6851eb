//! What must be so in the end.

use std::collections::BTreeMap;

use wire::OperationId;
use wire::answer::Answer;

use super::Run;
use crate::sim::process::{Process, Role};
use crate::sim::replay::{Armed, Replay};
use crate::sim::scenario::Ended;

impl Run<'_> {
    /// What must be so in the end.
    pub(super) fn at_rest(&mut self) -> Result<(), String> {
        self.look()?;
        for client in &self.clients.all {
            let operation = client.operation.clone().ok_or("a client has never asked")?;
            let told = self.watch.answered.get(&operation);
            // A request that found no room may come again, by a stranger or from a northbound that slept: then it is a new one.
            if told != client.answer.as_ref() && client.refused.is_none() {
                return Err(format!("the client of {operation} was told {:?}; the hub said {told:?}", client.answer));
            }
        }
        self.people.were_told_the_same(&self.watch.answered)?;
        self.agrees_with_a_replay()?;
        self.is_as_told()
    }

    /// What the scenario wants, of what was asked and decided so far.
    pub(super) fn is_as_told(&self) -> Result<(), String> {
        let decided = |operation: &OperationId| {
            self.watch.answered.contains_key(operation) || self.watch.refused.contains(operation)
        };
        let asked = self.clients.all.iter().filter_map(|client| Some((client.ask.clone(), client.operation.clone()?)));
        let asked: Vec<_> = asked.filter(|(_, operation)| decided(operation)).collect();
        let places: BTreeMap<&OperationId, usize> =
            (0..).zip(&asked).map(|(place, (_, operation))| (operation, place)).collect();
        let answers: Vec<_> = self
            .watch
            .order
            .iter()
            .filter_map(|operation| Some((*places.get(operation)?, self.watch.answered[operation].clone())))
            .filter(|(_, answer)| !matches!(answer, Answer::Refused(_)))
            .collect();
        let ended = Ended { asked: &asked, answers: &answers, spokes: &self.spokes };
        (self.simulation.scenario.check)(&ended)
    }

    /// What the lanes came to is what lanes come to that nothing disturbed.
    fn agrees_with_a_replay(&mut self) -> Result<(), String> {
        let name = self.topology.name().to_owned();
        let replay =
            Replay::of(&self.topology, &self.names, self.simulation.scenario.parks, &|topic| self.records(topic))?;
        let mut unfinished = self.unfinished();
        unfinished.sort();
        if unfinished != replay.unfinished {
            return Err(format!("what lives is {unfinished:?}; a replay comes to {:?}", replay.unfinished));
        }
        for ((stage, lane), armed) in &replay.armed {
            let of_stage = |process: &&Process| process.role == Role::Stage(stage.clone());
            let mut shards = self.processes.iter().filter(of_stage).filter_map(Process::shard);
            let wheel = shards.find_map(|shard| shard.armed(*lane));
            let wheel: Armed = wheel.into_iter().flatten().collect();
            if wheel != *armed {
                return Err(format!("timers of {stage} lane {lane}: in the state {armed:?}, in the wheel {wheel:?}"));
            }
        }
        let mut topics = vec![self.names.dead(&name)];
        for stage in self.topology.stages() {
            let inbox = self.names.inbox(&name, &stage.name);
            topics.extend([self.names.egress(&name, &stage.name), inbox]);
        }
        for topic in topics {
            replay.compare(&topic, &self.records(&topic), false, &self.copies, &[])?;
        }
        let astray = self.weather.astray();
        for service in self.spokes.keys() {
            let topic = self.names.spoke(service);
            replay.compare(&topic, &self.records(&topic), true, &[], &astray)?;
        }
        Ok(())
    }
}
