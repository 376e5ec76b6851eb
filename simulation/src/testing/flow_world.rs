//! The flow topology with a northbound and the simulated switch controller.
//!
//! ```
//! use simulation::testing::World;
//! use serde_json::json;
//!
//! let mut world = World::seeded(7);
//! let request = world.request(&json!({"flowid": "test-01", "length": 3}));
//! world.run_until_idle();
//! assert!(world.answer(request).is_done());
//! assert_eq!(world.speaker().all_rules().len(), 3);
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Record, Task};
use floodlight_sim::{SpeakerHandle, SpeakerService};
use northbound::{Gateway, Inlet, InletHandle, Outlet, RequestResult, Submission, Ticket};
use serde_json::Value;
use spoke::SpokeTask;
use topology::driver::Virtual;
use topology::{Shard, View};
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::command::{self, Command};
use wire::flow::{FlowFailed, FlowGone, FlowUp};
use wire::{Envelope, Kind, OperationId, Problem};

use super::system::{System, SystemOptions};

/// The system, its clock and its clients.
pub struct World {
    clock: Arc<ManualClock>,
    bus: Embedded,
    system: System,
    turns: Virtual,
    /// The running processes of each stage, one shard each.
    running: BTreeMap<String, Vec<Shard>>,
    started: u32,
    speaker: SpeakerHandle,
    speaker_part: SpokeTask<SpeakerService>,
    gateway: Arc<Gateway>,
    inlet: Inlet,
    inlet_handle: InletHandle,
    outlet: Outlet,
    asked: Vec<PendingRequest>,
    requests: u64,
    /// Crashed processes whose session has not expired.
    crashed: BTreeMap<String, Vec<Shard>>,
}

struct PendingRequest {
    key: String,
    operation: OperationId,
    /// Until it is answered. It occupies a place among the waiting requests.
    ticket: Option<Ticket>,
    told: Option<RequestResult>,
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRequest(usize);

/// The answer to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowOutcome {
    /// The flow is up.
    Up(FlowUp),
    /// The flow is gone.
    Gone(FlowGone),
    /// The request failed and was rolled back as far as possible.
    Failed(FlowFailed),
    /// The request was not accepted.
    Refused(Problem),
    /// There is no answer yet.
    Pending,
}

impl FlowOutcome {
    /// True if the request succeeded: the flow is up, or gone.
    pub fn is_done(&self) -> bool {
        matches!(self, FlowOutcome::Up(_) | FlowOutcome::Gone(_))
    }

    /// Returns the failure.
    ///
    /// # Panics
    /// If the request did not fail.
    pub fn failure(self) -> FlowFailed {
        match self {
            FlowOutcome::Failed(failed) => failed,
            other @ (FlowOutcome::Up(_) | FlowOutcome::Gone(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending) => {
                panic!("a failure, not {other:?}")
            }
        }
    }
}

impl World {
    /// Creates a world with two lanes. All random numbers come from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::with(seed, SystemOptions { lanes: 2, ..SystemOptions::default() })
    }

    /// Creates a world with these options. Offsets have gaps if the seed is odd.
    ///
    /// # Panics
    /// If the options are invalid.
    pub fn with(seed: u64, options: SystemOptions) -> Self {
        let clock = Arc::new(ManualClock::default());
        let kept = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, kept);
        let system = System::new(Arc::new(bus.clone()), options).expect("the options are valid");
        let speaker = SpeakerHandle::new();
        let speaker_part = speaker.join(&bus, &system.options.topics, flows::SPEAKER, "speaker-0");
        let speaker_part = speaker_part.expect("the topics exist");
        let gateway = Arc::new(Gateway::new(system.gateway_options(), Arc::clone(&clock) as Arc<dyn Clock>));
        let inlet = Inlet::open(&bus).expect("the topics exist");
        let outlet = Outlet::open(Arc::new(bus.clone()), Arc::clone(&gateway)).expect("the topics exist");
        let mut world = Self {
            turns: Virtual::new(Arc::clone(&clock), seed),
            clock,
            bus,
            system,
            running: BTreeMap::new(),
            started: 0,
            speaker,
            speaker_part,
            inlet_handle: inlet.handle(),
            gateway,
            inlet,
            outlet,
            asked: Vec::new(),
            requests: 0,
            crashed: BTreeMap::new(),
        };
        for stage in world.system.stages() {
            world.start(&stage);
        }
        world
    }

    // ---- requests -------------------------------------------------------------------------------------------------------

    /// Sends `POST /flow` with this body.
    pub fn request(&mut self, body: &Value) -> FlowRequest {
        self.request_with_key(body, None).expect("the northbound accepts the request")
    }

    /// Sends `POST /flow` with an idempotency key.
    ///
    /// # Errors
    /// The northbound rejects the request.
    pub fn request_with_key(&mut self, body: &Value, idempotency_key: Option<&str>) -> Result<FlowRequest, Problem> {
        let request = wire::flow::CreateFlow::from_json(body)?;
        let body = serde_json::to_value(&request).expect("a request is plain data");
        self.start_workflow("create-flow", &request.flowid, body, idempotency_key)
    }

    /// Requests the removal of a flow.
    pub fn remove(&mut self, flowid: &str) -> FlowRequest {
        let body = serde_json::json!({"flowid": flowid});
        self.start_workflow("remove-flow", flowid, body, None).expect("the northbound accepts the request")
    }

    /// Starts any workflow.
    ///
    /// # Errors
    /// The northbound rejects the request.
    pub fn start_workflow(
        &mut self,
        workflow: &str,
        key: &str,
        request: Value,
        idempotency_key: Option<&str>,
    ) -> Result<FlowRequest, Problem> {
        self.requests += 1;
        let http_id = Uuid::from_u128(u128::from(self.requests));
        let submission = Submission { idempotency_key, ..Submission::new(workflow, key, request, http_id) };
        let ticket = self.gateway.submit(submission)?;
        // The answer shows whether it was written.
        drop(self.inlet_handle.send(&ticket)?);
        let operation = ticket.operation.clone();
        self.asked.push(PendingRequest { key: key.to_owned(), operation, ticket: Some(ticket), told: None });
        Ok(FlowRequest(self.asked.len() - 1))
    }

    /// Sends a command to the operation of a request. Returns the id for [`World::outcome`].
    pub fn command(&mut self, asked: FlowRequest, command: &Command) -> String {
        self.requests += 1;
        let cause = format!("command-{}", self.requests);
        let mut envelope = Envelope::new(Kind::Command, cause.as_str(), "/world");
        envelope.operation = Some(self.operation_of(asked));
        let body = serde_json::to_vec(command).expect("a command is plain data");
        let key = self.asked[asked.0].key.clone();
        self.write(&[Outgoing::keyed(&self.inbox(), key, body).with(&envelope)]);
        cause
    }

    /// Returns the outcome of a command, or `None` if there is none yet.
    ///
    /// # Panics
    /// If there are several outcomes, or one cannot be read.
    pub fn outcome(&self, command: &str) -> Option<command::Outcome> {
        let told = |record: &Record| {
            let envelope = record.headers.envelope().expect("the hub writes envelopes");
            envelope.subject.as_deref() == Some("command") && envelope.causation.as_deref() == Some(command)
        };
        let told: Vec<Record> = self.records(&self.egress()).into_iter().filter(told).collect();
        assert!(told.len() <= 1, "{command} was answered {} times", told.len());
        told.first().map(|record| serde_json::from_slice(&record.value).expect("an outcome"))
    }

    /// Returns the answer to a request.
    pub fn answer(&mut self, asked: FlowRequest) -> FlowOutcome {
        self.receive_answers();
        match &self.asked[asked.0].told {
            None => FlowOutcome::Pending,
            Some(Err(problem)) => FlowOutcome::Refused(problem.clone()),
            Some(Ok(operation)) => match operation.answer.clone() {
                Some(Answer::Done(body)) => match serde_json::from_value(body.clone()) {
                    Ok(up) => FlowOutcome::Up(up),
                    Err(_) => FlowOutcome::Gone(serde_json::from_value(body).expect("a flow's answer")),
                },
                Some(Answer::Failed(body)) => {
                    FlowOutcome::Failed(serde_json::from_value(body).expect("a flow's answer"))
                }
                Some(Answer::Refused(problem)) => FlowOutcome::Refused(problem),
                None => FlowOutcome::Pending,
            },
        }
    }

    /// Receives new answers and releases the tickets of answered requests.
    fn receive_answers(&mut self) {
        for pending in self.asked.iter_mut().filter(|pending| pending.told.is_none()) {
            pending.told = pending.ticket.as_mut().and_then(|ticket| ticket.answer.try_recv().ok());
            if pending.told.is_some() {
                pending.ticket = None;
            }
        }
    }

    /// Returns the operation of a request.
    pub fn operation_of(&self, asked: FlowRequest) -> OperationId {
        self.asked[asked.0].operation.clone()
    }

    /// Returns the northbound's view of an operation.
    pub fn operation(&self, asked: FlowRequest) -> Option<Operation> {
        self.gateway.operation(&self.operation_of(asked))
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

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

    fn run_until(&mut self, until: MonoTime) -> bool {
        let (turns, mut parts) = self.parts();
        let idle = turns.run(&mut parts, until);
        self.receive_answers();
        idle
    }

    /// Executes `turns` single polls, so that a test can interrupt the world between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, turns: usize) -> bool {
        let (driver, mut parts) = self.parts();
        driver.run_polls(&mut parts, turns)
    }

    fn parts(&mut self) -> (&mut Virtual, Vec<&mut dyn Task>) {
        let mut parts: Vec<&mut dyn Task> = vec![&mut self.speaker_part, &mut self.inlet, &mut self.outlet];
        parts.extend(self.running.values_mut().flatten().map(|shard| shard as &mut dyn Task));
        (&mut self.turns, parts)
    }

    /// Runs until nothing is left to do, for at most a minute.
    ///
    /// # Panics
    /// If the system is still busy after a minute.
    pub fn run_until_idle(&mut self) {
        let until = self.clock.mono().plus_ms(60_000);
        assert!(self.run_until(until), "still busy after a minute:\n{}", self.unfinished().join("\n"));
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Crashes every process of a stage, with the state and timers of its lanes. Committed records
    /// remain on the bus.
    pub fn kill(&mut self, stage: &str) {
        let dead = self.running.remove(stage).unwrap_or_default();
        self.crashed.entry(stage.to_owned()).or_default().extend(dead);
    }

    /// Starts a process of a stage under a new name, in place of the crashed ones.
    pub fn start(&mut self, stage: &str) {
        self.join(stage);
        // Expels the crashed members at once, instead of waiting for their session timeout.
        if self.crashed.remove(stage).is_some() {
            self.expel(stage);
        }
    }

    /// Starts one more process of a stage under a new name. The group moves lanes to it.
    ///
    /// # Panics
    /// If there is no such stage.
    pub fn join(&mut self, stage: &str) {
        self.started += 1;
        let shard = self.system.shard(stage, &format!("{stage}-{}", self.started)).expect("the topics exist");
        self.running.entry(stage.to_owned()).or_default().push(shard);
    }

    /// Shuts down the process of a stage that was started first, and returns its unfinished work.
    /// Its lanes move to the others.
    ///
    /// # Panics
    /// If the stage has no process.
    pub fn stop(&mut self, stage: &str) -> Vec<String> {
        Box::new(self.running.get_mut(stage).expect("the stage has a process").remove(0)).stop()
    }

    /// Expels all processes of a stage from their group, as a broker does after a session timeout.
    /// They join again.
    pub fn expel(&mut self, stage: &str) {
        self.bus.expel(&self.system.options.topics.inbox(self.system.topology.name(), stage));
    }

    /// Crashes the hub, like [`World::kill`].
    pub fn kill_hub(&mut self) {
        self.kill(flows::STAGE);
    }

    /// Starts a hub, like [`World::start`].
    pub fn start_hub(&mut self) {
        self.start(flows::STAGE);
    }

    /// Starts one more hub, like [`World::join`].
    pub fn join_hub(&mut self) {
        self.join(flows::STAGE);
    }

    /// Shuts down the first hub, like [`World::stop`].
    pub fn stop_hub(&mut self) -> Vec<String> {
        self.stop(flows::STAGE)
    }

    /// Expels all hubs, like [`World::expel`].
    pub fn expel_hubs(&mut self) {
        self.expel(flows::STAGE);
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.running.values().flatten()
    }

    /// The live lanes of the hub's stage, by process.
    pub fn lanes(&self) -> Vec<Vec<u32>> {
        self.running.get(flows::STAGE).into_iter().flatten().map(Shard::live).collect()
    }

    /// The value of the counter `name`, over all processes.
    pub fn count(&self, name: &str) -> u64 {
        self.shards().map(|shard| shard.counter(name)).sum()
    }

    /// Number of armed timers in all lanes.
    pub fn timers(&self) -> usize {
        self.shards().map(Shard::timers).sum()
    }

    /// One line per live operation.
    pub fn unfinished(&self) -> Vec<String> {
        self.shards().flat_map(Shard::unfinished).collect()
    }

    /// Returns a view as the shard of the lane would publish it.
    pub fn view(&self, lane: u32, component: &str, key: &str) -> Option<View> {
        self.shards().find_map(|shard| shard.view(lane, component, key))
    }

    // ---- the environment --------------------------------------------------------------------------------------------------

    /// The simulated switch controller.
    pub fn speaker(&self) -> &SpeakerHandle {
        &self.speaker
    }

    /// The system under test.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The inbox of the hub's stage.
    pub fn inbox(&self) -> String {
        self.system.options.topics.inbox(self.system.topology.name(), flows::STAGE)
    }

    /// The topic of replies from spokes: the inbox of the worker's stage.
    pub fn replies(&self) -> String {
        let stage = if self.system.options.apart { flows::SPEAKER } else { flows::STAGE };
        self.system.options.topics.inbox(self.system.topology.name(), stage)
    }

    /// The topic of the hub's answers.
    pub fn egress(&self) -> String {
        self.system.options.topics.egress(self.system.topology.name(), flows::STAGE)
    }

    /// The dead-letter topic.
    pub fn dead_letters(&self) -> String {
        self.system.options.topics.dead(self.system.topology.name())
    }

    /// Writes records directly to the bus, as a foreign client would.
    pub fn write(&mut self, records: &[Outgoing]) {
        self.bus.writer("stranger").and_then(|mut writer| writer.append(records)).expect("the topics exist");
    }

    /// Returns every record of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let partitions = self.bus.topic(topic).expect("the bus answers").map_or(0, |topic| topic.partitions);
        let mut reader = self.bus.reader().expect("the bus answers");
        for partition in 0..partitions {
            reader.assign(topic, partition, 0).expect("the bus keeps everything");
        }
        let mut records = Vec::new();
        reader.poll(usize::MAX, std::time::Duration::ZERO, &mut records).expect("the bus keeps everything");
        records
    }
}
