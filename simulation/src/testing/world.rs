//! A topology with a northbound and its spokes. `examples/trip/tests` shows its use.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Bus, BusError, Clock, Outgoing, Record, Task};
use northbound::{
    Gateway, GatewayLimits, GatewayOptions, Inlet, InletHandle, Outlet, RequestResult, Submission, Ticket,
};
use serde::Serialize;
use spoke::{Spoke, SpokeService, SpokeTask};
use topology::Topology;
use topology::testing::Lanes;
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::command::{Command, Outcome};
use wire::service::ServiceName;
use wire::topics::Topics;
use wire::{Envelope, Kind, OperationId, Problem, WallTime};

/// A topology, a northbound, spokes and clients.
pub struct World {
    /// The lanes of the topology.
    pub lanes: Lanes,
    spokes: BTreeMap<String, Box<dyn Any>>,
    /// The spokes and the northbound.
    tasks: Vec<Box<dyn Task>>,
    gateway: Arc<Gateway>,
    inlet: InletHandle,
    sent: Vec<PendingRequest>,
    requests: u64,
}

struct PendingRequest {
    workflow: String,
    key: String,
    operation: OperationId,
    /// Until it is answered. It occupies a place among the unanswered requests.
    ticket: Option<Ticket>,
    result: Option<RequestResult>,
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentRequest(usize);

impl World {
    /// Creates a world that runs `topology`. All random numbers come from `seed`; if it is odd,
    /// offsets have gaps.
    ///
    /// # Panics
    /// If a topic cannot be created.
    pub fn seeded(seed: u64, topology: &Topology) -> Self {
        Self::of(Lanes::of(topology.clone(), seed))
    }

    /// Creates a world around these lanes, and adds a shard for each stage.
    ///
    /// # Panics
    /// If a topic does not exist.
    pub fn of(mut lanes: Lanes) -> Self {
        let submitted = lanes.topology.record(&*lanes.bus, &lanes.topics, "test", WallTime::default());
        let submitted = submitted.expect("the topics exist");
        let options = GatewayOptions::of(&lanes.topics, &submitted, GatewayLimits::default());
        let gateway = Arc::new(Gateway::new(options, Arc::clone(&lanes.clock) as Arc<dyn Clock>));
        let inlet = Inlet::open(&*lanes.bus).expect("the topics exist");
        let outlet = Outlet::open(Arc::clone(&lanes.bus), Arc::clone(&gateway)).expect("the topics exist");
        lanes.join();
        Self {
            lanes,
            spokes: BTreeMap::new(),
            inlet: inlet.handle(),
            tasks: vec![Box::new(inlet), Box::new(outlet)],
            gateway,
            sent: Vec::new(),
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
        let (served, member) = (SpokeService::new(spoke), format!("{service}-1"));
        self.spokes.insert(service.to_owned(), Box::new(served.clone()));
        self.task(|bus, topics| SpokeTask::join(bus, topics, service, &member, served))
    }

    /// Adds a task, such as the one of a spoke with its own memory of calls.
    ///
    /// # Panics
    /// If the bus refuses it.
    #[must_use]
    pub fn task<T: Task + 'static>(mut self, join: impl FnOnce(&dyn Bus, &Topics) -> Result<T, BusError>) -> Self {
        let task = join(&*self.lanes.bus, &self.lanes.topics).unwrap_or_else(|error| panic!("no task joins: {error}"));
        self.tasks.push(Box::new(task));
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
    /// If the northbound refuses the request.
    pub fn request(&mut self, workflow: &str, key: &str, request: &impl Serialize) -> SentRequest {
        let sent = self.request_with_key(workflow, key, request, None);
        sent.unwrap_or_else(|problem| panic!("the northbound refuses {workflow} of `{key}`: {problem}"))
    }

    /// Starts a workflow for `key` with an idempotency key.
    ///
    /// # Errors
    /// If the northbound refuses the request.
    pub fn request_with_key(
        &mut self,
        workflow: &str,
        key: &str,
        request: &impl Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<SentRequest, Problem> {
        self.requests += 1;
        let http_id = Uuid::from_u128(u128::from(self.requests));
        let request = serde_json::to_value(request).expect("a request can be serialized to JSON");
        let submission = Submission { idempotency_key, ..Submission::new(workflow, key, request, http_id) };
        let ticket = self.gateway.submit(submission)?;
        // The answer shows whether it was written.
        drop(self.inlet.send(&ticket)?);
        self.sent.push(PendingRequest {
            workflow: workflow.to_owned(),
            key: key.to_owned(),
            operation: ticket.operation.clone(),
            ticket: Some(ticket),
            result: None,
        });
        Ok(SentRequest(self.sent.len() - 1))
    }

    /// Sends the signal `name` to an operation. Returns the id for [`World::outcome`].
    pub fn signal(&mut self, request: SentRequest, name: &str, body: &impl Serialize) -> String {
        let body = serde_json::to_value(body).expect("a signal can be serialized to JSON");
        self.command(request, &Command::Signal { name: name.to_owned(), body })
    }

    /// Sends a command to an operation. Returns the id for [`World::outcome`].
    pub fn command(&mut self, request: SentRequest, command: &Command) -> String {
        self.requests += 1;
        let PendingRequest { workflow, key, operation, .. } = &self.sent[request.0];
        let mut envelope = Envelope::new(Kind::Command, format!("command-{}", self.requests), "/world");
        envelope.operation = Some(operation.clone());
        let workflows = self.lanes.topology.workflows();
        let stage = workflows.iter().find(|known| known.name == *workflow).map(|known| known.stage.as_str());
        let inbox = self.lanes.inbox(stage.expect("the northbound accepted the request"));
        let body = serde_json::to_vec(command).expect("a command is plain data");
        self.lanes.write(&[Outgoing::keyed(&inbox, key.clone(), body).with(&envelope)]);
        envelope.id
    }

    /// Returns the outcome of a command: the operation's state when it was accepted, or the reason
    /// of the refusal. `None` if there is no outcome yet.
    ///
    /// # Panics
    /// If there are several outcomes, or one cannot be read.
    pub fn outcome(&self, command: &str) -> Option<Result<Operation, Problem>> {
        let is_outcome = |record: &Record| {
            let envelope = record.headers.envelope().expect("a hub writes envelopes");
            envelope.subject.as_deref() == Some("command") && envelope.causation.as_deref() == Some(command)
        };
        let stages = self.lanes.topology.stages();
        let records = stages.iter().flat_map(|stage| self.lanes.records(&self.lanes.egress(&stage.name)));
        let outcomes: Vec<Record> = records.filter(is_outcome).collect();
        assert!(outcomes.len() <= 1, "{command} has {} outcomes", outcomes.len());
        outcomes.first().map(|record| match serde_json::from_slice(&record.value).expect("an outcome") {
            Outcome::Taken(view) => Ok(*view),
            Outcome::Refused(problem) => Err(problem),
        })
    }

    /// Returns the answer to a request, or `None` if there is none yet.
    pub fn answer(&mut self, request: SentRequest) -> Option<Answer> {
        self.receive_answers();
        match self.sent[request.0].result.as_ref()? {
            Ok(operation) => operation.answer.clone(),
            Err(problem) => Some(Answer::Refused(problem.clone())),
        }
    }

    /// Receives new answers and releases the tickets of answered requests.
    fn receive_answers(&mut self) {
        for pending in &mut self.sent {
            if let Some(result) = pending.ticket.as_mut().and_then(|ticket| ticket.answer.try_recv().ok()) {
                (pending.result, pending.ticket) = (Some(result), None);
            }
        }
    }

    /// Returns the operation of a request.
    pub fn operation_of(&self, request: SentRequest) -> OperationId {
        self.sent[request.0].operation.clone()
    }

    /// Returns the northbound's view of an operation.
    pub fn operation(&self, request: SentRequest) -> Option<Operation> {
        self.gateway.operation(&self.sent[request.0].operation)
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// Runs for `ms` milliseconds. Returns true if nothing is left to do but wait.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        let is_idle = self.lanes.run_ms_with(&mut tasks(&mut self.tasks), ms);
        self.receive_answers();
        is_idle
    }

    /// Runs until nothing is left to do, for at most an hour.
    ///
    /// # Panics
    /// If the system is still busy after an hour.
    pub fn run_until_idle(&mut self) {
        let until = self.lanes.clock.mono().plus_ms(3_600_000);
        let is_idle = self.lanes.run_until(&mut tasks(&mut self.tasks), until);
        self.receive_answers();
        assert!(is_idle, "still busy after an hour:\n{}", self.lanes.unfinished().join("\n"));
    }

    /// Executes `polls` single polls, so that a test can interrupt the world between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, polls: usize) -> bool {
        self.lanes.run_polls(&mut tasks(&mut self.tasks), polls)
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Crashes every process that runs lanes. Committed records remain on the bus; the northbound
    /// and the spokes continue.
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

fn tasks(tasks: &mut [Box<dyn Task>]) -> Vec<&mut dyn Task> {
    tasks.iter_mut().map(|task| &mut **task as &mut dyn Task).collect()
}
