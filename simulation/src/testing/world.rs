//! A topology, its spokes and clients. `examples/trip/tests` shows its use.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Reader, Record, Task};
use serde::Serialize;
use topology::driver::Virtual;
use topology::{RecoveryOptions, Shard, ShardOptions, ShardStatus, Topology};
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::request::Request;
use wire::topics::Topics;
use wire::{Envelope, Kind, OperationId, Problem};

use spoke::{Spoke, SpokeService, SpokeTask};

/// A topology, its spokes, a clock and clients.
pub struct TestWorld {
    seed: u64,
    clock: Arc<ManualClock>,
    bus: Embedded,
    topology: Topology,
    names: Topics,
    turns: Virtual,
    shards: Vec<(String, Shard)>,
    started: u32,
    crashed: Vec<Shard>,
    spokes: BTreeMap<String, Box<dyn Any>>,
    parts: Vec<Box<dyn Task>>,
    egress: Box<dyn Reader>,
    answers: BTreeMap<OperationId, Operation>,
    outcomes: BTreeMap<String, Outcome>,
    requests: u32,
}

/// A request that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRequest {
    operation: OperationId,
    key: String,
    stage: String,
}

impl TestWorld {
    /// Creates a world that runs `topology`. All random numbers come from `seed`; if it is odd,
    /// offsets have gaps.
    ///
    /// # Panics
    /// If a topic cannot be created.
    pub fn seeded(seed: u64, topology: &Topology) -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        let names = Topics::default();
        let mut egress = bus.reader().expect("a new bus gives a reader");
        for spec in topology.topics(&names) {
            bus.ensure_topic(&spec).expect("a new bus takes every topic");
        }
        for stage in topology.stages() {
            for lane in 0..stage.lanes {
                egress
                    .assign(&names.egress(topology.name(), &stage.name), lane, 0)
                    .expect("the topic was just created");
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
            crashed: Vec::new(),
            spokes: BTreeMap::new(),
            parts: Vec::new(),
            egress,
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            requests: 0,
        };
        world.start();
        world
    }

    /// Adds a spoke that serves `service`.
    ///
    /// # Panics
    /// If no worker of the topology calls it.
    #[must_use]
    pub fn spoke<S: Spoke>(mut self, service: &str, spoke: S) -> Self {
        let served = SpokeService::new(spoke);
        let member = format!("{service}-1");
        let part = SpokeTask::join(&self.bus, &self.names, service, &member, served.clone());
        let part = part.unwrap_or_else(|error| panic!("no worker calls `{service}`: {error}"));
        self.parts.push(Box::new(part));
        self.spokes.insert(service.to_owned(), Box::new(served));
        self
    }

    /// Calls `look` with the spoke of `service`.
    ///
    /// # Panics
    /// If there is no such spoke, or it has another type.
    pub fn look<S: Spoke, R>(&self, service: &str, look: impl FnOnce(&mut S) -> R) -> R {
        let served = self.spokes.get(service).and_then(|spoke| spoke.downcast_ref::<SpokeService<S>>());
        served.unwrap_or_else(|| panic!("no spoke `{service}` of this type")).look(look)
    }

    // ---- requests -------------------------------------------------------------------------------------------------------

    /// Starts a workflow for `key`.
    ///
    /// # Panics
    /// If the topology has no such workflow.
    pub fn request(&mut self, workflow: &str, key: &str, request: &impl Serialize) -> TestRequest {
        self.requests += 1;
        let workflows = self.topology.workflows();
        let found = workflows.iter().find(|known| known.name == workflow);
        let stage = found.unwrap_or_else(|| panic!("no workflow `{workflow}`")).stage.clone();
        let operation = self.envelope(Kind::Request).requested_operation(self.topology.name(), key);
        let asked = TestRequest { operation, key: key.to_owned(), stage };
        let request = serde_json::to_value(request).expect("a request can be serialized to JSON");
        let body = Request::new(workflow, request);
        self.send(&asked, &self.envelope(Kind::Request), &body);
        asked
    }

    /// Sends the signal `name` to an operation. Returns the id for [`TestWorld::outcome`].
    pub fn signal(&mut self, asked: &TestRequest, name: &str, body: &impl Serialize) -> String {
        let body = serde_json::to_value(body).expect("a signal can be serialized to JSON");
        self.command(asked, &Command::Signal { name: name.to_owned(), body })
    }

    /// Sends a command to an operation. Returns the id for [`TestWorld::outcome`].
    pub fn command(&mut self, asked: &TestRequest, command: &Command) -> String {
        self.requests += 1;
        let envelope = Envelope { operation: Some(asked.operation.clone()), ..self.envelope(Kind::Command) };
        self.send(asked, &envelope, command);
        envelope.id
    }

    fn envelope(&self, kind: Kind) -> Envelope {
        Envelope::new(kind, format!("{kind}-{}", self.requests), "/world")
    }

    fn send(&self, asked: &TestRequest, envelope: &Envelope, body: &impl Serialize) {
        let value = serde_json::to_vec(body).expect("it is plain data");
        let inbox = self.names.inbox(self.topology.name(), &asked.stage);
        let record = Outgoing::keyed(&inbox, asked.key.clone(), value).with(envelope);
        self.bus.writer("world").and_then(|mut writer| writer.append(&[record])).expect("the topic exists");
    }

    /// Returns the answer of an operation, or `None` if there is none yet.
    pub fn answer(&mut self, asked: &TestRequest) -> Option<Answer> {
        self.receive();
        self.answers.get(&asked.operation)?.answer.clone()
    }

    /// Returns the outcome of a command: the operation's state when it was accepted, or the reason
    /// of the refusal. `None` if there is no outcome yet.
    pub fn outcome(&mut self, command: &str) -> Option<Result<Operation, Problem>> {
        self.receive();
        self.outcomes.get(command).cloned().map(|outcome| match outcome {
            Outcome::Taken(view) => Ok(*view),
            Outcome::Refused(problem) => Err(problem),
        })
    }

    fn receive(&mut self) {
        let mut records: Vec<Record> = Vec::new();
        self.egress.poll(usize::MAX, Duration::ZERO, &mut records).expect("the bus keeps everything");
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

    /// Milliseconds since the start of the world.
    pub fn now_ms(&self) -> u64 {
        self.clock.mono().0 / 1_000_000
    }

    /// Runs for `ms` milliseconds. Returns true if nothing is left to do but wait.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        let until = self.clock.mono().plus_ms(ms);
        let idle = self.run_until(until);
        self.clock.advance_to(until);
        idle
    }

    /// Runs until nothing is left to do, for at most an hour.
    ///
    /// # Panics
    /// If the system is still busy after an hour.
    pub fn run_until_idle(&mut self) {
        let until = self.clock.mono().plus_ms(3_600_000);
        assert!(self.run_until(until), "seed {}: still busy after an hour: {:?}", self.seed, self.unfinished());
    }

    /// Executes `turns` single polls, so that a test can interrupt the world between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, turns: usize) -> bool {
        let mut parts = parts(&mut self.shards, &mut self.parts);
        self.turns.run_polls(&mut parts, turns)
    }

    fn run_until(&mut self, until: MonoTime) -> bool {
        let mut parts = parts(&mut self.shards, &mut self.parts);
        self.turns.run(&mut parts, until)
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Crashes every process that runs lanes, with their state and timers. Committed records remain
    /// on the bus, and spokes continue.
    pub fn kill(&mut self) {
        self.crashed.extend(self.shards.drain(..).map(|(_, shard)| shard));
    }

    /// Starts a process for each stage, in place of those that crashed.
    ///
    /// # Panics
    /// Never: the topics exist.
    pub fn start(&mut self) {
        for stage in self.topology.stages() {
            self.started += 1;
            let options = ShardOptions {
                topics: self.names.clone(),
                stage: stage.name.to_string(),
                member: format!("{}-{}", stage.name, self.started),
                build: "test".to_owned(),
                settings: self.topology.settings().clone(),
                recovery: RecoveryOptions::default(),
                inbox_limit: topology::InboxLimit::default(),
            };
            let bus: Arc<dyn Bus> = Arc::new(self.bus.clone());
            let group = options.group(self.topology.name());
            let status = ShardStatus::new(&stage.name, stage.lanes);
            let shard = Shard::join(bus, self.topology.clone(), options, status).expect("the topics exist");
            self.shards.push((stage.name.to_string(), shard));
            if !self.crashed.is_empty() {
                // Expels the crashed members at once, instead of waiting for their session timeout.
                self.bus.expel(&group);
            }
        }
        self.crashed.clear();
    }

    /// One line per live operation.
    pub fn unfinished(&self) -> Vec<String> {
        self.shards.iter().flat_map(|(_, shard)| shard.unfinished()).collect()
    }

    /// Number of armed timers in all lanes.
    pub fn timers(&self) -> usize {
        self.shards.iter().map(|(_, shard)| shard.timers()).sum()
    }

    /// The value of the counter `name`, over all processes.
    pub fn count(&self, name: &str) -> u64 {
        self.shards.iter().map(|(_, shard)| shard.counter(name)).sum()
    }
}

fn parts<'a>(shards: &'a mut [(String, Shard)], others: &'a mut [Box<dyn Task>]) -> Vec<&'a mut dyn Task> {
    let shards = shards.iter_mut().map(|(_, shard)| shard as &mut dyn Task);
    shards.chain(others.iter_mut().map(|part| &mut **part as &mut dyn Task)).collect()
}
