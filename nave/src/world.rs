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

use std::sync::Arc;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, Outgoing, Part, Record};
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use northbound::{Gateway, Inlet, InletHandle, Outlet, Submission, Ticket, Told};
use serde_json::Value;
use topology::driver::Virtual;
use topology::{Shard, View};
use uuid::Uuid;
use wire::answer::{Answer, Operation};
use wire::flow::{FlowFailed, FlowUp};
use wire::{OperationId, Problem};

use crate::system::{System, SystemOptions};

/// The system, its clock, and those who ask.
pub struct World {
    clock: Arc<ManualClock>,
    bus: Embedded,
    system: System,
    turns: Virtual,
    hub: Option<Shard>,
    hubs: u32,
    speaker: SpeakerHandle,
    speaker_part: SpeakerPart,
    gateway: Arc<Gateway>,
    inlet: Inlet,
    inlet_handle: InletHandle,
    outlet: Outlet,
    asked: Vec<Asking>,
    requests: u64,
    /// Counts of hubs that died.
    buried: Vec<Shard>,
}

struct Asking {
    ticket: Ticket,
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
    /// It failed, and was rolled back as far as it could be.
    Failed(FlowFailed),
    /// It was not accepted.
    Refused(Problem),
    /// Nothing came yet.
    Nothing,
}

impl Outcome {
    /// True where the flow is up.
    pub fn is_done(&self) -> bool {
        matches!(self, Outcome::Up(_))
    }

    /// The failure.
    ///
    /// # Panics
    /// Where it did not fail.
    pub fn failure(self) -> FlowFailed {
        match self {
            Outcome::Failed(failed) => failed,
            other @ (Outcome::Up(_) | Outcome::Refused(_) | Outcome::Nothing) => panic!("a failure, not {other:?}"),
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
        let inlet = Inlet::open(&bus, Arc::clone(&gateway)).expect("the topics are there");
        let outlet = Outlet::open(&bus, Arc::clone(&gateway)).expect("the topics are there");
        let mut world = Self {
            turns: Virtual::new(Arc::clone(&clock), seed),
            clock,
            bus,
            system,
            hub: None,
            hubs: 0,
            speaker,
            speaker_part,
            inlet_handle: inlet.handle(),
            gateway,
            inlet,
            outlet,
            asked: Vec::new(),
            requests: 0,
            buried: Vec::new(),
        };
        world.start_hub();
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
        self.requests += 1;
        let ticket = self.gateway.submit(Submission {
            workflow: "create-flow",
            key: &request.flowid,
            request: serde_json::to_value(&request).expect("a request is plain data"),
            idempotency_key,
            trace: None,
            http_id: Uuid::from_u128(u128::from(self.requests)),
        })?;
        self.inlet_handle.send(&ticket)?;
        self.asked.push(Asking { ticket, told: None });
        Ok(Asked(self.asked.len() - 1))
    }

    /// What was told.
    pub fn answer(&mut self, asked: Asked) -> Outcome {
        let asking = &mut self.asked[asked.0];
        if asking.told.is_none() {
            asking.told = asking.ticket.answer.try_recv().ok();
        }
        match &asking.told {
            None => Outcome::Nothing,
            Some(Err(problem)) => Outcome::Refused(problem.clone()),
            Some(Ok(operation)) => match operation.answer.clone() {
                Some(Answer::Done(body)) => Outcome::Up(serde_json::from_value(body).expect("a flow's answer")),
                Some(Answer::Failed(body)) => Outcome::Failed(serde_json::from_value(body).expect("a flow's answer")),
                Some(Answer::Refused(problem)) => Outcome::Refused(problem),
                None => Outcome::Nothing,
            },
        }
    }

    /// The operation of a request.
    pub fn operation_of(&self, asked: Asked) -> OperationId {
        self.asked[asked.0].ticket.operation.clone()
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
        let mut parts: Vec<&mut dyn Part> = vec![&mut self.speaker_part, &mut self.inlet, &mut self.outlet];
        if let Some(hub) = &mut self.hub {
            parts.push(hub);
        }
        self.turns.run(&mut parts, until)
    }

    /// Lets time pass until nothing is left to do, for at most a minute.
    ///
    /// # Panics
    /// Where there is something to do after a minute: something is stuck, or goes on for ever.
    pub fn run_until_idle(&mut self) {
        assert!(self.run_ms(60_000), "still busy after a minute:\n{}", self.unfinished().join("\n"));
    }

    // ---- the hub ------------------------------------------------------------------------------------------------------

    /// Kills the hub's process: its lanes, their state, their timers. What it committed is on the bus.
    pub fn kill_hub(&mut self) {
        self.buried.extend(self.hub.take());
    }

    /// Starts a hub, under a new name.
    pub fn start_hub(&mut self) {
        self.hubs += 1;
        self.hub = Some(self.system.shard(&format!("hub-{}", self.hubs)).expect("the topics are there"));
        // The dead member's session need not be waited for: a broker can be told that it is gone.
        if self.hubs > 1 {
            self.buried.clear();
            self.bus.expel(&self.system.options.topics.inbox(self.system.topology.name(), flows::STAGE));
        }
    }

    /// What the hub counted under `name`.
    pub fn count(&self, name: &str) -> u64 {
        self.hub.as_ref().map_or(0, |hub| hub.tally(name))
    }

    /// Deadlines pending in all lanes.
    pub fn timers(&self) -> usize {
        self.hub.as_ref().map_or(0, Shard::timers)
    }

    /// A line for each operation that lives.
    pub fn unfinished(&self) -> Vec<String> {
        self.hub.as_ref().map(Shard::unfinished).unwrap_or_default()
    }

    /// A view as a lane's shell would publish it.
    pub fn view(&self, lane: u32, component: &str, key: &str) -> Option<View> {
        self.hub.as_ref()?.view(lane, component, key)
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
