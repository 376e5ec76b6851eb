//! The whole system in one process, on one thread, in virtual time, from one seed.
//!
//! ```
//! use nave::world::World;
//! use serde_json::json;
//!
//! let mut world = World::seeded(7);
//! let asked = world.request(&json!({"flowid": "test-01", "length": 3}));
//! world.run_until_idle();
//! assert!(world.answer(asked).is_done());
//! assert_eq!(world.speaker().all_rules().len(), 3);
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, MonoTime, Outgoing, Part, Record};
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use northbound::{Gateway, Inlet, InletHandle, Outlet, Submission, Ticket, Told};
use serde_json::Value;
use topology::driver::Virtual;
use topology::{Shard, View};
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::command::{self, Command};
use wire::flow::{FlowFailed, FlowGone, FlowUp};
use wire::{Envelope, Kind, OperationId, Problem};

use crate::system::{System, SystemOptions};

/// The system, its clock, and those who ask.
pub struct World {
    clock: Arc<ManualClock>,
    bus: Embedded,
    system: System,
    turns: Virtual,
    /// What runs the lanes of each stage: a process each.
    running: BTreeMap<String, Vec<Shard>>,
    started: u32,
    speaker: SpeakerHandle,
    speaker_part: SpeakerPart,
    gateway: Arc<Gateway>,
    inlet: Inlet,
    inlet_handle: InletHandle,
    outlet: Outlet,
    asked: Vec<Asking>,
    requests: u64,
    /// Processes that died, and are not missed by the bus yet.
    buried: BTreeMap<String, Vec<Shard>>,
}

struct Asking {
    key: String,
    operation: OperationId,
    /// Until it is answered: it holds a place among those that wait.
    ticket: Option<Ticket>,
    told: Option<Told>,
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(usize);

/// What a client was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The flow is up.
    Up(FlowUp),
    /// The flow is gone.
    Gone(FlowGone),
    /// It failed, and was rolled back as far as it could be.
    Failed(FlowFailed),
    /// It was not accepted.
    Refused(Problem),
    /// Nothing came yet.
    Nothing,
}

impl Outcome {
    /// True where it did what was asked: the flow is up, or gone.
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Up(_) | Outcome::Gone(_))
    }

    /// The failure.
    ///
    /// # Panics
    /// Where it did not fail.
    pub fn failure(self) -> FlowFailed {
        match self {
            Outcome::Failed(failed) => failed,
            other @ (Outcome::Up(_) | Outcome::Gone(_) | Outcome::Refused(_) | Outcome::Nothing) => {
                panic!("a failure, not {other:?}")
            }
        }
    }
}

impl World {
    /// A world with two lanes. Everything by chance comes from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::with(seed, SystemOptions { lanes: 2, ..SystemOptions::default() })
    }

    /// A world with these options. Offsets have gaps where the seed is odd.
    ///
    /// # Panics
    /// Where the options do not make a system.
    pub fn with(seed: u64, options: SystemOptions) -> Self {
        let clock = Arc::new(ManualClock::default());
        let kept = EmbeddedOptions { keep_bytes: None, offset_gaps: seed % 2 == 1, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, kept);
        let system = System::new(Arc::new(bus.clone()), options).expect("the options make a system");
        let speaker = SpeakerHandle::new();
        let speaker_part = SpeakerPart::join(&bus, &system.speaker_topic(), "speaker-0", speaker.clone());
        let speaker_part = speaker_part.expect("the topics are there");
        let gateway = Arc::new(Gateway::new(system.gateway_options(), Arc::clone(&clock) as Arc<dyn Clock>));
        let inlet = Inlet::open(&bus).expect("the topics are there");
        let outlet = Outlet::open(Arc::new(bus.clone()), Arc::clone(&gateway)).expect("the topics are there");
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
            buried: BTreeMap::new(),
        };
        for stage in world.system.stages() {
            world.start(&stage);
        }
        world
    }

    // ---- asking -------------------------------------------------------------------------------------------------------

    /// Sends `POST /flow` with this body.
    pub fn request(&mut self, body: &Value) -> Asked {
        self.request_with_key(body, None).expect("the northbound takes it")
    }

    /// The same with an idempotency key.
    ///
    /// # Errors
    /// What the northbound says by itself.
    pub fn request_with_key(&mut self, body: &Value, idempotency_key: Option<&str>) -> Result<Asked, Problem> {
        let request = wire::flow::CreateFlow::from_json(body)?;
        let body = serde_json::to_value(&request).expect("a request is plain data");
        self.start_workflow("create-flow", &request.flowid, body, idempotency_key)
    }

    /// Asks for a flow to be removed.
    pub fn remove(&mut self, flowid: &str) -> Asked {
        let body = serde_json::json!({"flowid": flowid});
        self.start_workflow("remove-flow", flowid, body, None).expect("the northbound takes it")
    }

    /// Starts any workflow.
    ///
    /// # Errors
    /// What the northbound says by itself.
    pub fn start_workflow(
        &mut self,
        workflow: &str,
        key: &str,
        request: Value,
        idempotency_key: Option<&str>,
    ) -> Result<Asked, Problem> {
        self.requests += 1;
        let http_id = Uuid::from_u128(u128::from(self.requests));
        let ticket =
            self.gateway.submit(Submission { idempotency_key, ..Submission::new(workflow, key, request, http_id) })?;
        // Whether it was written shows in what becomes of it.
        drop(self.inlet_handle.send(&ticket)?);
        let operation = ticket.operation.clone();
        self.asked.push(Asking { key: key.to_owned(), operation, ticket: Some(ticket), told: None });
        Ok(Asked(self.asked.len() - 1))
    }

    /// Gives a command to the operation of a request; the name under which its outcome can be asked for.
    pub fn command(&mut self, asked: Asked, command: &Command) -> String {
        self.requests += 1;
        let cause = format!("command-{}", self.requests);
        let mut envelope = Envelope::new(Kind::Command, cause.as_str(), "/world");
        envelope.operation = Some(self.operation_of(asked));
        let body = serde_json::to_vec(command).expect("a command is plain data");
        let key = self.asked[asked.0].key.clone();
        self.write(&[Outgoing::keyed(&self.inbox(), key, body).with(&envelope)]);
        cause
    }

    /// What became of a command; none while nothing was said.
    ///
    /// # Panics
    /// Where it was said twice, or cannot be read.
    pub fn outcome(&self, command: &str) -> Option<command::Outcome> {
        let told = |record: &Record| {
            let envelope = record.headers.envelope().expect("the hub writes envelopes");
            envelope.subject.as_deref() == Some("command") && envelope.causation.as_deref() == Some(command)
        };
        let told: Vec<Record> = self.records(&self.egress()).into_iter().filter(told).collect();
        assert!(told.len() <= 1, "{command} was answered {} times", told.len());
        told.first().map(|record| serde_json::from_slice(&record.value).expect("an outcome"))
    }

    /// What was told.
    pub fn answer(&mut self, asked: Asked) -> Outcome {
        self.hear();
        match &self.asked[asked.0].told {
            None => Outcome::Nothing,
            Some(Err(problem)) => Outcome::Refused(problem.clone()),
            Some(Ok(operation)) => match operation.answer.clone() {
                Some(Answer::Done(body)) => match serde_json::from_value(body.clone()) {
                    Ok(up) => Outcome::Up(up),
                    Err(_) => Outcome::Gone(serde_json::from_value(body).expect("a flow's answer")),
                },
                Some(Answer::Failed(body)) => Outcome::Failed(serde_json::from_value(body).expect("a flow's answer")),
                Some(Answer::Refused(problem)) => Outcome::Refused(problem),
                None => Outcome::Nothing,
            },
        }
    }

    /// Takes the answers that came; who has one waits no longer.
    fn hear(&mut self) {
        for asking in self.asked.iter_mut().filter(|asking| asking.told.is_none()) {
            asking.told = asking.ticket.as_mut().and_then(|ticket| ticket.answer.try_recv().ok());
            if asking.told.is_some() {
                asking.ticket = None;
            }
        }
    }

    /// The operation of a request.
    pub fn operation_of(&self, asked: Asked) -> OperationId {
        self.asked[asked.0].operation.clone()
    }

    /// How an operation stands, as the northbound knows it.
    pub fn operation(&self, asked: Asked) -> Option<Operation> {
        self.gateway.operation(&self.operation_of(asked))
    }

    // ---- time ---------------------------------------------------------------------------------------------------------

    /// The clock.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

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

    fn run_until(&mut self, until: MonoTime) -> bool {
        let (turns, mut parts) = self.parts();
        let idle = turns.run(&mut parts, until);
        self.hear();
        idle
    }

    /// Gives so many single turns: a way to stop the world between any two. True where nothing is left to do.
    pub fn run_turns(&mut self, turns: usize) -> bool {
        let (driver, mut parts) = self.parts();
        driver.run_turns(&mut parts, turns)
    }

    fn parts(&mut self) -> (&mut Virtual, Vec<&mut dyn Part>) {
        let mut parts: Vec<&mut dyn Part> = vec![&mut self.speaker_part, &mut self.inlet, &mut self.outlet];
        parts.extend(self.running.values_mut().flatten().map(|shard| shard as &mut dyn Part));
        (&mut self.turns, parts)
    }

    /// Lets time pass until nothing is left to do, for at most a minute.
    ///
    /// # Panics
    /// Where there is something to do after a minute: something is stuck, or goes on for ever.
    pub fn run_until_idle(&mut self) {
        let until = self.clock.mono().plus_ms(60_000);
        assert!(self.run_until(until), "still busy after a minute:\n{}", self.unfinished().join("\n"));
    }

    // ---- processes ----------------------------------------------------------------------------------------------------

    /// Kills every process of a stage: its lanes, their state, their timers. What it committed is on the bus.
    pub fn kill(&mut self, stage: &str) {
        let dead = self.running.remove(stage).unwrap_or_default();
        self.buried.entry(stage.to_owned()).or_default().extend(dead);
    }

    /// Starts a process of a stage, under a new name, in place of those that died.
    pub fn start(&mut self, stage: &str) {
        self.join(stage);
        // The dead members' session need not be waited for: a broker can be told that they are gone.
        if self.buried.remove(stage).is_some() {
            self.expel(stage);
        }
    }

    /// Starts one more process of a stage, under a new name: the group moves lanes to it.
    ///
    /// # Panics
    /// Where there is no such stage.
    pub fn join(&mut self, stage: &str) {
        self.started += 1;
        let shard = self.system.shard(stage, &format!("{stage}-{}", self.started)).expect("the topics are there");
        self.running.entry(stage.to_owned()).or_default().push(shard);
    }

    /// Stops the process of a stage that was started first, in order; says what it left. Its lanes go to the others.
    ///
    /// # Panics
    /// Where there is none.
    pub fn stop(&mut self, stage: &str) -> Vec<String> {
        Box::new(self.running.get_mut(stage).expect("the stage has a process").remove(0)).stop()
    }

    /// The bus takes all lanes from the processes of a stage that live, as one does that lost sight of them; they join again.
    pub fn expel(&mut self, stage: &str) {
        self.bus.expel(&self.system.options.topics.inbox(self.system.topology.name(), stage));
    }

    /// Kills the hub, as [`World::kill`] does.
    pub fn kill_hub(&mut self) {
        self.kill(flows::STAGE);
    }

    /// Starts a hub, as [`World::start`] does.
    pub fn start_hub(&mut self) {
        self.start(flows::STAGE);
    }

    /// Starts one more hub, as [`World::join`] does.
    pub fn join_hub(&mut self) {
        self.join(flows::STAGE);
    }

    /// Stops the first hub, as [`World::stop`] does.
    pub fn stop_hub(&mut self) -> Vec<String> {
        self.stop(flows::STAGE)
    }

    /// Takes all lanes from the hubs, as [`World::expel`] does.
    pub fn expel_hubs(&mut self) {
        self.expel(flows::STAGE);
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.running.values().flatten()
    }

    /// The lanes of the hub's stage that are live, process by process.
    pub fn lanes(&self) -> Vec<Vec<u32>> {
        self.running.get(flows::STAGE).into_iter().flatten().map(Shard::live).collect()
    }

    /// What was counted under `name`.
    pub fn count(&self, name: &str) -> u64 {
        self.shards().map(|shard| shard.tally(name)).sum()
    }

    /// Deadlines pending in all lanes.
    pub fn timers(&self) -> usize {
        self.shards().map(Shard::timers).sum()
    }

    /// A line for each operation that lives.
    pub fn unfinished(&self) -> Vec<String> {
        self.shards().flat_map(Shard::unfinished).collect()
    }

    /// A view as a lane's shell would publish it.
    pub fn view(&self, lane: u32, component: &str, key: &str) -> Option<View> {
        self.shards().find_map(|shard| shard.view(lane, component, key))
    }

    // ---- the outside --------------------------------------------------------------------------------------------------

    /// The simulated switch controller.
    pub fn speaker(&self) -> &SpeakerHandle {
        &self.speaker
    }

    /// The system under test.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The topic that feeds the hub.
    pub fn inbox(&self) -> String {
        self.system.options.topics.inbox(self.system.topology.name(), flows::STAGE)
    }

    /// The topic that spokes reply to: the inbox of the stage where the worker is.
    pub fn replies(&self) -> String {
        let stage = if self.system.options.apart { flows::SPEAKER } else { flows::STAGE };
        self.system.options.topics.inbox(self.system.topology.name(), stage)
    }

    /// The topic of its answers.
    pub fn egress(&self) -> String {
        self.system.options.topics.egress(self.system.topology.name(), flows::STAGE)
    }

    /// The topic of what could not be handled.
    pub fn dead_letters(&self) -> String {
        self.system.options.topics.dead(self.system.topology.name())
    }

    /// Writes records past every part, as a stranger would.
    pub fn write(&mut self, records: &[Outgoing]) {
        self.bus.writer("stranger").and_then(|mut writer| writer.append(records)).expect("the topics are there");
    }

    /// Every record of a topic, partition by partition.
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
