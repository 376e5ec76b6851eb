//! The flow topology with a northbound and the simulated switch controller.

use std::ops::{Deref, DerefMut};

use floodlight_sim::SpeakerHandle;
use flow_messages::client::{CreateFlow, FlowFailed, FlowGone, FlowUp};
use nave::testing::{HUB, Lanes, SPEAKER, SentRequest, SystemOptions, World};
use serde_json::{Value, json};
use wire::Problem;
use wire::answer::Answer;

/// A world with the requests and answers of flows.
pub(crate) struct FlowWorld {
    world: World,
    speaker: SpeakerHandle,
    apart: bool,
}

impl Deref for FlowWorld {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for FlowWorld {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// The answer to a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FlowOutcome {
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
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, FlowOutcome::Up(_) | FlowOutcome::Gone(_))
    }

    /// Returns the failure.
    ///
    /// # Panics
    /// If the request did not fail.
    pub(crate) fn failure(self) -> FlowFailed {
        match self {
            FlowOutcome::Failed(failed) => failed,
            other @ (FlowOutcome::Up(_) | FlowOutcome::Gone(_) | FlowOutcome::Refused(_) | FlowOutcome::Pending) => {
                panic!("a failure, not {other:?}")
            }
        }
    }
}

impl FlowWorld {
    /// Creates a world with these options, except for the names of its topics. Offsets have gaps if
    /// the seed is odd.
    pub(crate) fn new(seed: u64, options: &SystemOptions) -> Self {
        let mut lanes = Lanes::of(options.topology().expect("the options are valid"), seed);
        lanes.recovery = options.recovery();
        let speaker = SpeakerHandle::new();
        let world = World::of(lanes).task(|bus, topics| speaker.join(bus, topics, SPEAKER, "speaker-0"));
        Self { world, speaker, apart: options.apart }
    }

    /// Sends `POST /flow` with this body.
    pub(crate) fn request(&mut self, body: &Value) -> SentRequest {
        self.request_with_key(body, None).expect("the northbound accepts the request")
    }

    /// Sends `POST /flow` with an idempotency key.
    pub(crate) fn request_with_key(&mut self, body: &Value, key: Option<&str>) -> Result<SentRequest, Problem> {
        let request = CreateFlow::from_json(body)?;
        self.world.request_with_key("create-flow", &request.flowid, &request, key)
    }

    /// Requests the removal of a flow.
    pub(crate) fn remove(&mut self, flowid: &str) -> SentRequest {
        self.world.request("remove-flow", flowid, &json!({"flowid": flowid}))
    }

    /// Returns the answer to a request.
    pub(crate) fn answer(&mut self, request: SentRequest) -> FlowOutcome {
        match self.world.answer(request) {
            None => FlowOutcome::Pending,
            Some(Answer::Done(body)) => match serde_json::from_value(body.clone()) {
                Ok(up) => FlowOutcome::Up(up),
                Err(_) => FlowOutcome::Gone(serde_json::from_value(body).expect("a flow's answer")),
            },
            Some(Answer::Failed(body)) => FlowOutcome::Failed(serde_json::from_value(body).expect("a flow's answer")),
            Some(Answer::Refused(problem)) => FlowOutcome::Refused(problem),
        }
    }

    /// The simulated switch controller.
    pub(crate) fn speaker(&self) -> &SpeakerHandle {
        &self.speaker
    }

    /// The topic of requests to the speaker.
    pub(crate) fn speaker_topic(&self) -> String {
        self.lanes.topics.spoke(SPEAKER)
    }

    /// The inbox of the hub's stage.
    pub(crate) fn inbox(&self) -> String {
        self.lanes.inbox(HUB)
    }

    /// The topic of replies from spokes: the inbox of the worker's stage.
    pub(crate) fn replies(&self) -> String {
        self.lanes.inbox(if self.apart { SPEAKER } else { HUB })
    }

    /// The topic of the hub's answers.
    pub(crate) fn egress(&self) -> String {
        self.lanes.egress(HUB)
    }
}
