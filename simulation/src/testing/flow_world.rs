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

use std::sync::Arc;

use bus::{Clock, Outgoing, Record, Task};
use floodlight_sim::{SpeakerHandle, SpeakerService};
use flow_messages::client::{FlowFailed, FlowGone, FlowUp};
use northbound::{Gateway, Inlet, InletHandle, Outlet, RequestResult, Submission, Ticket};
use serde_json::Value;
use spoke::SpokeTask;
use topology::testing::Lanes;
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::command::{self, Command};
use wire::{Envelope, Kind, OperationId, Problem};

use super::system::{HUB, SPEAKER, System, SystemOptions};

/// The system and its clients.
pub struct World {
    /// The hub and the workers.
    pub lanes: Lanes,
    system: System,
    speaker: SpeakerHandle,
    speaker_part: SpokeTask<SpeakerService>,
    gateway: Arc<Gateway>,
    inlet: Inlet,
    inlet_handle: InletHandle,
    outlet: Outlet,
    asked: Vec<PendingRequest>,
    requests: u64,
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

    /// Creates a world with these options, except for the names of its topics. Offsets have gaps if
    /// the seed is odd.
    ///
    /// # Panics
    /// If the options are invalid.
    pub fn with(seed: u64, options: SystemOptions) -> Self {
        let mut lanes = Lanes::of(options.topology().expect("the options are valid"), seed);
        lanes.recovery = options.recovery();
        let options = SystemOptions { topics: lanes.topics.clone(), ..options };
        let system = System::new(Arc::clone(&lanes.bus), options).expect("the options are valid");
        let speaker = SpeakerHandle::new();
        let speaker_part = speaker.join(&*lanes.bus, &lanes.topics, SPEAKER, "speaker-0");
        let speaker_part = speaker_part.expect("the topics exist");
        let clock = Arc::clone(&lanes.clock) as Arc<dyn Clock>;
        let gateway = Arc::new(Gateway::new(system.gateway_options(), clock));
        let inlet = Inlet::open(&*lanes.bus).expect("the topics exist");
        let outlet = Outlet::open(Arc::clone(&lanes.bus), Arc::clone(&gateway)).expect("the topics exist");
        lanes.join();
        Self {
            lanes,
            system,
            speaker,
            speaker_part,
            inlet_handle: inlet.handle(),
            gateway,
            inlet,
            outlet,
            asked: Vec::new(),
            requests: 0,
        }
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
        let request = flow_messages::client::CreateFlow::from_json(body)?;
        let body = serde_json::to_value(&request).expect("a request is plain data");
        self.start_workflow("create-flow", &request.flowid, body, idempotency_key)
    }

    /// Requests the removal of a flow.
    pub fn remove(&mut self, flowid: &str) -> FlowRequest {
        let body = serde_json::json!({"flowid": flowid});
        self.start_workflow("remove-flow", flowid, body, None).expect("the northbound accepts the request")
    }

    fn start_workflow(
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
        self.lanes.write(&[Outgoing::keyed(&self.inbox(), key, body).with(&envelope)]);
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
        let told: Vec<Record> = self.lanes.records(&self.egress()).into_iter().filter(told).collect();
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

    /// Runs for `ms` milliseconds. Returns true if nothing is left to do but wait.
    pub fn run_ms(&mut self, ms: u64) -> bool {
        let (lanes, mut others) = self.tasks();
        let is_idle = lanes.run_ms_with(&mut others, ms);
        self.receive_answers();
        is_idle
    }

    /// Executes `polls` single polls, so that a test can interrupt the world between any two.
    /// Returns true if nothing is left to do.
    pub fn run_polls(&mut self, polls: usize) -> bool {
        let (lanes, mut others) = self.tasks();
        lanes.run_polls(&mut others, polls)
    }

    /// Runs until nothing is left to do, for at most a minute.
    ///
    /// # Panics
    /// If the system is still busy after a minute.
    pub fn run_until_idle(&mut self) {
        let until = self.lanes.clock.mono().plus_ms(60_000);
        let (lanes, mut others) = self.tasks();
        let is_idle = lanes.run_until(&mut others, until);
        self.receive_answers();
        assert!(is_idle, "still busy after a minute:\n{}", self.lanes.unfinished().join("\n"));
    }

    fn tasks(&mut self) -> (&mut Lanes, [&mut dyn Task; 3]) {
        (&mut self.lanes, [&mut self.speaker_part, &mut self.inlet, &mut self.outlet])
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
        self.lanes.inbox(HUB)
    }

    /// The topic of replies from spokes: the inbox of the worker's stage.
    pub fn replies(&self) -> String {
        self.lanes.inbox(if self.system.options.apart { SPEAKER } else { HUB })
    }

    /// The topic of the hub's answers.
    pub fn egress(&self) -> String {
        self.lanes.egress(HUB)
    }
}
