//! A topology and its spokes on one thread, in virtual time, from one seed: how users test their workflows.
//!
//! There is no broker and no waiting; an hour of timeouts passes in a millisecond. See `examples/trip/tests`.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Part, Reader, Record};
use serde::Serialize;
use topology::driver::Virtual;
use topology::{Shard, ShardOptions, ShardStatus, Topology, Upkeep};
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::request::Request;
use wire::topics::Topics;
use wire::{Envelope, Kind, OperationId, Problem};

use crate::spoke::{Served, Spoke, SpokePart};

/// A topology, its spokes, a clock, and those who ask.
pub struct World {
    seed: u64,
    clock: Arc<ManualClock>,
    bus: Embedded,
    topology: Topology,
    names: Topics,
    turns: Virtual,
    shards: Vec<(String, Shard)>,
    started: u32,
    dead: Vec<Shard>,
    spokes: BTreeMap<String, Box<dyn Any>>,
    parts: Vec<Box<dyn Part>>,
    told: Box<dyn Reader>,
    answers: BTreeMap<OperationId, Operation>,
    outcomes: BTreeMap<String, Outcome>,
    asked: u32,
}

/// An operation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    operation: OperationId,
    key: String,
    stage: String,
}

impl World {
    /// A world in which `topology` runs. Everything by chance comes from `seed`; where it is odd, offsets have gaps.
    ///
    /// # Panics
    /// Where one of its topics cannot be made.
    pub fn seeded(seed: u64, topology: &Topology) -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let names = Topics::default();
        let mut told = bus.reader().expect("a new bus gives a reader");
        for spec in topology.topics(&names) {
            bus.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        for stage in topology.stages() {
            for lane in 0..stage.lanes {
                told.assign(&names.egress(topology.name(), &stage.name), lane, 0).expect("it was just made");
            }
        }
        let mut world = Self {
            seed,
            turns: Virtual::new(Arc::clone(&clock), seed),
            clock,
            bus,
            topology: topology.clone(),
            names,
            shards: Vec::new(),
            started: 0,
            dead: Vec::new(),
            spokes: BTreeMap::new(),
            parts: Vec::new(),
            told,
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            asked: 0,
        };
        world.start();
        world
    }

    /// The same with a spoke that serves `service`.
    ///
    /// # Panics
    /// Where no worker of the topology calls it.
    #[must_use]
    pub fn spoke<S: Spoke>(mut self, service: &str, spoke: S) -> Self {
        let served = Served::new(spoke);
        let member = format!("{service}-1");
        let part = SpokePart::join(&self.bus, &self.names, service, &member, served.clone());
        let part = part.unwrap_or_else(|error| panic!("nobody calls `{service}`: {error}"));
        self.parts.push(Box::new(part));
        self.spokes.insert(service.to_owned(), Box::new(served));
        self
    }

    /// Looks at the spoke of `service`.
    ///
    /// # Panics
    /// Where there is none, or it is of another type.
    pub fn look<S: Spoke, R>(&self, service: &str, look: impl FnOnce(&mut S) -> R) -> R {
        let served = self.spokes.get(service).and_then(|spoke| spoke.downcast_ref::<Served<S>>());
        served.unwrap_or_else(|| panic!("no spoke `{service}` of this type")).look(look)
    }

    // ---- asking -------------------------------------------------------------------------------------------------------

    /// Starts a workflow for `key`.
    ///
    /// # Panics
    /// Where the topology has no workflow of this name.
    pub fn request(&mut self, workflow: &str, key: &str, request: &impl Serialize) -> Asked {
        self.asked += 1;
        let known = self.topology.workflows();
        let found = known.iter().find(|known| known.name == workflow);
        let stage = found.unwrap_or_else(|| panic!("no workflow `{workflow}`")).stage.clone();
        let operation = self.envelope(Kind::Request).requested_operation(self.topology.name(), key);
        let asked = Asked { operation, key: key.to_owned(), stage };
        let request = serde_json::to_value(request).expect("a request can be written as JSON");
        let body = Request::new(workflow, request);
        self.send(&asked, &self.envelope(Kind::Request), &body);
        asked
    }

    /// Says `name` to an operation that waits for it.
    pub fn signal(&mut self, asked: &Asked, name: &str, body: &impl Serialize) -> String {
        let body = serde_json::to_value(body).expect("a signal can be written as JSON");
        self.command(asked, &Command::Signal { name: name.to_owned(), body })
    }

    /// Gives a command to an operation: the name under which [`World::outcome`] tells what became of it.
    pub fn command(&mut self, asked: &Asked, command: &Command) -> String {
        self.asked += 1;
        let envelope = Envelope { operation: Some(asked.operation.clone()), ..self.envelope(Kind::Command) };
        self.send(asked, &envelope, command);
        envelope.id
    }

    fn envelope(&self, kind: Kind) -> Envelope {
        Envelope::new(kind, format!("{kind}-{}", self.asked), "/world")
    }

    fn send(&self, asked: &Asked, envelope: &Envelope, body: &impl Serialize) {
        let value = serde_json::to_vec(body).expect("it is plain data");
        let inbox = self.names.inbox(self.topology.name(), &asked.stage);
        let record = Outgoing::keyed(&inbox, asked.key.clone(), value).with(envelope);
        self.bus.writer("world").and_then(|mut writer| writer.append(&[record])).expect("the topic is there");
    }

    /// The answer of an operation; none while there is none.
    pub fn answer(&mut self, asked: &Asked) -> Option<Answer> {
        self.listen();
        self.answers.get(&asked.operation)?.answer.clone()
    }

    /// What became of a command: how the operation stood then, or why it was refused. None while nothing was said.
    pub fn outcome(&mut self, command: &str) -> Option<Result<Operation, Problem>> {
        self.listen();
        self.outcomes.get(command).cloned().map(|outcome| match outcome {
            Outcome::Taken(view) => Ok(*view),
            Outcome::Refused(problem) => Err(problem),
        })
    }

    fn listen(&mut self) {
        let mut records: Vec<Record> = Vec::new();
        self.told.poll(usize::MAX, Duration::ZERO, &mut records).expect("the bus keeps everything");
        for record in records {
            let envelope = record.headers.envelope().expect("a hub writes envelopes");
            if envelope.subject.as_deref() == Some("command") {
                let outcome = serde_json::from_slice(&record.value).expect("an outcome");
                self.outcomes.insert(envelope.causation.unwrap_or_default(), outcome);
            } else {
                let view: Operation = serde_json::from_slice(&record.value).expect("an operation");
                self.answers.insert(view.operation.clone(), view);
            }
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// Milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        self.clock.mono().0 / 1_000_000
    }

    /// Lets `ms` milliseconds pass; true where nothing is left to do but wait for others.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        let until = self.clock.mono().plus_ms(ms);
        let idle = self.run_until(until);
        self.clock.advance_to(until);
        idle
    }

    /// Lets time pass until nothing is left to do, for at most an hour.
    ///
    /// # Panics
    /// Where there is something to do after an hour: something is stuck, or goes on for ever.
    pub fn run_until_idle(&mut self) {
        let until = self.clock.mono().plus_ms(3_600_000);
        assert!(self.run_until(until), "seed {}: still busy after an hour: {:?}", self.seed, self.unfinished());
    }

    /// Gives so many single turns: a way to stop the world between any two. True where nothing is left to do.
    pub fn run_turns(&mut self, turns: usize) -> bool {
        let mut parts = parts(&mut self.shards, &mut self.parts);
        self.turns.run_turns(&mut parts, turns)
    }

    fn run_until(&mut self, until: MonoTime) -> bool {
        let mut parts = parts(&mut self.shards, &mut self.parts);
        self.turns.run(&mut parts, until)
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Kills everything that runs lanes: their state, their timers. What was committed is on the bus. The spokes live.
    pub fn kill(&mut self) {
        self.dead.extend(self.shards.drain(..).map(|(_, shard)| shard));
    }

    /// Starts a process for each stage, in place of those that died.
    ///
    /// # Panics
    /// Never: the topics are there.
    pub fn start(&mut self) {
        for stage in self.topology.stages() {
            self.started += 1;
            let options = ShardOptions {
                topics: self.names.clone(),
                stage: stage.name.to_string(),
                member: format!("{}-{}", stage.name, self.started),
                build: "test".to_owned(),
                settings: self.topology.settings().clone(),
                upkeep: Upkeep::default(),
                inbox_limit: topology::InboxLimit::default(),
            };
            let bus: Arc<dyn Bus> = Arc::new(self.bus.clone());
            let group = options.group(self.topology.name());
            let status = ShardStatus::new(&stage.name, stage.lanes);
            let shard = Shard::join(bus, self.topology.clone(), options, status).expect("the topics are there");
            self.shards.push((stage.name.to_string(), shard));
            if !self.dead.is_empty() {
                // The session of the dead need not be waited for: a broker can be told that they are gone.
                self.bus.expel(&group);
            }
        }
        self.dead.clear();
    }

    /// A line for each operation that lives.
    pub fn unfinished(&self) -> Vec<String> {
        self.shards.iter().flat_map(|(_, shard)| shard.unfinished()).collect()
    }

    /// Deadlines pending in all lanes.
    pub fn timers(&self) -> usize {
        self.shards.iter().map(|(_, shard)| shard.timers()).sum()
    }

    /// What was counted under `name`.
    pub fn count(&self, name: &str) -> u64 {
        self.shards.iter().map(|(_, shard)| shard.tally(name)).sum()
    }
}

fn parts<'a>(shards: &'a mut [(String, Shard)], others: &'a mut [Box<dyn Part>]) -> Vec<&'a mut dyn Part> {
    let shards = shards.iter_mut().map(|(_, shard)| shard as &mut dyn Part);
    shards.chain(others.iter_mut().map(|part| &mut **part as &mut dyn Part)).collect()
}
