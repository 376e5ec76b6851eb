//! A topology, its spokes and clients. `examples/trip/tests` shows its use.

use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Clock, Outgoing, Reader, Record, Task};
use serde::Serialize;
use topology::Topology;
use topology::testing::Lanes;
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::request::Request;
use wire::service::ServiceName;
use wire::{Envelope, Kind, OperationId, Problem};

use spoke::{Spoke, SpokeService, SpokeTask};

/// A topology, its spokes and clients.
pub struct TestWorld {
    /// The lanes of the topology.
    pub lanes: Lanes,
    seed: u64,
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
        let mut lanes = Lanes::of(topology.clone(), seed);
        let mut egress = lanes.bus.reader().expect("a new bus gives a reader");
        for stage in topology.stages() {
            for lane in 0..stage.lanes {
                egress.assign(&lanes.egress(&stage.name), lane, 0).expect("the topic was just created");
            }
        }
        lanes.join();
        Self {
            lanes,
            seed,
            spokes: BTreeMap::new(),
            parts: Vec::new(),
            egress,
            answers: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Adds a spoke that serves `service`.
    ///
    /// # Panics
    /// If no worker of the topology calls it.
    #[must_use]
    pub fn spoke<S: Spoke>(mut self, service: impl ServiceName<S::Request, S::Reply>, spoke: S) -> Self {
        let service = service.service_name();
        let served = SpokeService::new(spoke);
        let member = format!("{service}-1");
        let part = SpokeTask::join(&*self.lanes.bus, &self.lanes.topics, service, &member, served.clone());
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
        let workflows = self.lanes.topology.workflows();
        let found = workflows.iter().find(|known| known.name == workflow);
        let stage = found.unwrap_or_else(|| panic!("no workflow `{workflow}`")).stage.clone();
        let operation = self.envelope(Kind::Request).requested_operation(self.lanes.topology.name(), key);
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
        self.lanes.write(&[Outgoing::keyed(&self.lanes.inbox(&asked.stage), asked.key.clone(), value).with(envelope)]);
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

    /// Runs for `ms` milliseconds. Returns true if nothing is left to do but wait.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        self.lanes.run_ms_with(&mut tasks(&mut self.parts), ms)
    }

    /// Runs until nothing is left to do, for at most an hour.
    ///
    /// # Panics
    /// If the system is still busy after an hour.
    pub fn run_until_idle(&mut self) {
        let until = self.lanes.clock.mono().plus_ms(3_600_000);
        let is_idle = self.lanes.run_until(&mut tasks(&mut self.parts), until);
        assert!(is_idle, "seed {}: still busy after an hour: {:?}", self.seed, self.lanes.unfinished());
    }

    /// Executes `polls` single polls, so that a test can interrupt the world between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, polls: usize) -> bool {
        self.lanes.run_polls(&mut tasks(&mut self.parts), polls)
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Crashes every process that runs lanes. Committed records remain on the bus, and spokes
    /// continue.
    pub fn kill(&mut self) {
        for stage in self.lanes.topology.stages() {
            self.lanes.kill(&stage.name);
        }
    }

    /// Starts a process for each stage, in place of those that crashed.
    pub fn start(&mut self) {
        for stage in self.lanes.topology.stages() {
            self.lanes.start(&stage.name);
        }
    }
}

fn tasks(parts: &mut [Box<dyn Task>]) -> Vec<&mut dyn Task> {
    parts.iter_mut().map(|part| &mut **part as &mut dyn Task).collect()
}
