//! The checks at the end of a run.

use std::collections::BTreeMap;

use wire::OperationId;
use wire::answer::Answer;

use super::Run;
use crate::process::{Process, Role};
use crate::replay::{Armed, Replay};
use crate::scenario::SimResults;

impl Run<'_> {
    /// Runs all checks.
    pub(super) fn final_checks(&mut self) -> Result<(), String> {
        self.check_after_poll()?;
        for client in &self.clients.all {
            let operation = client.operation.clone().ok_or("a client never sent its request")?;
            let answer = self.watch.answered.get(&operation);
            // A foreign client or a paused northbound may repeat a request that found no room: it
            // then is a new request.
            if answer != client.answer.as_ref() && client.refused.is_none() {
                return Err(format!(
                    "the client of {operation} was answered {:?}, but the hub answered {answer:?}",
                    client.answer
                ));
            }
        }
        self.people.check_outcomes(&self.watch.answered)?;
        self.compare_with_replay()?;
        self.check_scenario()
    }

    /// Runs the scenario's check on the requests that are answered so far.
    pub(super) fn check_scenario(&self) -> Result<(), String> {
        let decided = |operation: &OperationId| {
            self.watch.answered.contains_key(operation) || self.watch.refused.contains(operation)
        };
        let requests =
            self.clients.all.iter().filter_map(|client| Some((client.ask.clone(), client.operation.clone()?)));
        let requests: Vec<_> = requests.filter(|(_, operation)| decided(operation)).collect();
        let places: BTreeMap<&OperationId, usize> =
            (0..).zip(&requests).map(|(place, (_, operation))| (operation, place)).collect();
        let answers: Vec<_> = self
            .watch
            .order
            .iter()
            .filter_map(|operation| Some((*places.get(operation)?, self.watch.answered[operation].clone())))
            .filter(|(_, answer)| !matches!(answer, Answer::Refused(_)))
            .collect();
        let results = SimResults { requests: &requests, answers: &answers, spokes: &self.spokes };
        (self.simulation.scenario.check)(&results)
    }

    /// Compares the lanes with undisturbed lanes that replay the inboxes.
    fn compare_with_replay(&mut self) -> Result<(), String> {
        let name = self.topology.name().to_owned();
        let replay =
            Replay::of(&self.topology, &self.names, self.simulation.scenario.parks, &|topic| self.records(topic))?;
        let mut unfinished = self.unfinished();
        unfinished.sort();
        if unfinished != replay.unfinished {
            return Err(format!("live operations: {unfinished:?}; after a replay: {:?}", replay.unfinished));
        }
        for ((stage, lane), armed) in &replay.armed {
            let of_stage = |process: &&Process| process.role == Role::Stage(stage.clone());
            let mut shards = self.processes.iter().filter(of_stage).filter_map(Process::shard);
            let wheel = shards.find_map(|shard| shard.armed(*lane));
            let wheel: Armed = wheel.into_iter().flatten().collect();
            if wheel != *armed {
                return Err(format!("timers of {stage} lane {lane}: after a replay {armed:?}, in the wheel {wheel:?}"));
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
        let altered = self.faults.altered();
        for service in self.spokes.keys() {
            let topic = self.names.spoke(service);
            replay.compare(&topic, &self.records(&topic), true, &[], &altered)?;
        }
        Ok(())
    }
}
