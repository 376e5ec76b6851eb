//! Books a trip: a room and a car, or neither. Above a price a person has to agree.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | - | requested | booking | call hotel, call car; within 5 s |
//! | booking | replied | booking | add the price up |
//! | booking | all replied | ended | answer: booked |
//! | booking | all replied | asking | too dear: wait for a person, for a day |
//! | booking | failed | undoing | give back what was, or may have been, booked |
//! | booking | timed out | undoing | the same |
//! | booking | cancelled | undoing | the same |
//! | asking | signal | ended | agreed: answer: booked |
//! | asking | signal | undoing | not agreed: give back what was booked |
//! | asking | timed out | undoing | the same |
//! | asking | cancelled | undoing | the same |
//! | undoing | undone | ended | answer: why not |
//! | undoing | undo stuck | ended | answer: why not, and what is left |

pub mod scenario;
pub mod spokes;

use nave::prelude::*;
use nave::serde_json::json;
use serde::{Deserialize, Serialize};

/// A trip above this price waits for a person.
pub const LIMIT: u64 = 1_000;
/// The signal by which a person agrees, or does not: `{"agreed": true}`.
pub const AGREEMENT: &str = "agreement";
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What a traveller asks for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Where to.
    pub to: String,
}

/// One trip: what is saved of it while it runs.
#[derive(Serialize, Deserialize)]
pub struct Trip {
    name: String,
    ask: Ask,
    price: u64,
    /// The status and the reason of the answer, where there is no trip.
    why_not: Option<(Code, String)>,
}

states! {
    /// Where a trip stands.
    pub enum TripState { New = "-", Booking = "booking", Asking = "asking", Undoing = "undoing", Ended = "ended" }
}
use TripState::{Asking, Booking, Ended, New, Undoing};

impl Trip {
    fn call(&self, tag: u32, service: &'static str) -> CallSpec {
        let body = |verb: &str| json!({ "verb": verb, "to": self.ask.to, "trip": self.name }).to_string();
        CallSpec {
            tag,
            service,
            key: self.ask.to.clone(),
            what: format!("book a {service} in {}", self.ask.to),
            body: body("book"),
            within_ms: 2_000,
            undo: Some(UndoSpec {
                what: format!("give the {service} in {} back", self.ask.to),
                body: body("cancel"),
                within_ms: 2_000,
                always: false,
            }),
            swallow: false,
        }
    }

    fn booked(&self, fx: &mut Fx<'_, Self>) -> TripState {
        fx.answer(Answer::Done(json!({ "to": self.ask.to, "price": self.price })));
        fx.end();
        Ended
    }

    fn undo(&mut self, code: Code, why_not: impl Into<String>, fx: &mut Fx<'_, Self>) -> TripState {
        self.why_not = Some((code, why_not.into()));
        fx.undo("give back", 2_500);
        Undoing
    }

    fn not_booked(&self, left: &[u32], fx: &mut Fx<'_, Self>) -> TripState {
        let (code, why_not) = self.why_not.clone().expect("it is set before anything is undone");
        fx.answer(Answer::failed(code, why_not, json!({ "to": self.ask.to, "left": left })));
        fx.end();
        Ended
    }
}

/// The reply of hotel and car.
#[derive(Deserialize)]
struct Priced {
    price: u64,
}

impl Workflow for Trip {
    const NAME: &'static str = "trip";
    type State = TripState;
    type Request = Ask;
    type Lane = ();

    fn begin(_: &OperationId, key: &str, ask: Ask) -> Result<Self, Problem> {
        Ok(Self { name: key.to_owned(), ask, price: 0, why_not: None })
    }

    fn check_reply(&self, _: TripState, _: u32, _: bool, body: &str) -> Result<(), String> {
        expect_reply::<Priced>(body).map(drop)
    }

    fn on(&mut self, state: TripState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<TripState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                let calls = vec![self.call(1, "hotel"), self.call(2, "car")];
                fx.step(StepSpec { name: "book", mode: Mode::AtOnce, barrier: Barrier::All, within_ms: 5_000, calls });
                Booking
            }
            (Booking, Event::Replied { body, .. }) => {
                self.price += expect_reply::<Priced>(body).map_or(0, |reply| reply.price);
                Booking
            }
            (Booking, Event::AllReplied) if self.price <= LIMIT => self.booked(fx),
            (Booking, Event::AllReplied) => {
                fx.wait_for(AGREEMENT, "a person to agree to the price", Some(DAY_MS));
                Asking
            }
            (Booking, Event::Failed(failure)) => {
                let code = match failure.outcome {
                    CallOutcome::Refused(_) => Code::Conflict,
                    CallOutcome::Misread(_) => Code::WorkflowFailed,
                    CallOutcome::TimedOut | CallOutcome::Replied(_) => Code::WorkflowTimeout,
                };
                self.undo(code, failure.to_string(), fx)
            }
            (Asking, Event::Signal { body, .. }) if body["agreed"] == true => self.booked(fx),
            (Asking, Event::Signal { body, .. }) if body["agreed"] == false => {
                self.undo(Code::Forbidden, "a person did not agree to the price", fx)
            }
            (Booking | Asking, Event::TimedOut) => self.undo(Code::WorkflowTimeout, "it took too long", fx),
            (Booking | Asking, Event::Cancelled) => self.undo(Code::Cancelled, "it was cancelled", fx),
            (Undoing, Event::Undone { .. }) => self.not_booked(&[], fx),
            (Undoing, Event::UndoStuck { left }) => self.not_booked(left, fx),
            (New | Booking | Asking | Undoing | Ended, _) => return Err(Illegal),
        })
    }
}

/// The topology: a hub, and a worker for each spoke.
///
/// # Errors
/// None that its first test would not find.
pub fn trips() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Trip>("trips", &["hotel", "car"])
}
