//! Books a trip: a room and a car, or neither. A person must approve an expensive trip.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | - | requested | booking | call the hotel and the car spoke; deadline 5 s |
//! | booking | replied | booking | add the price |
//! | booking | all replied | ended | answer: booked |
//! | booking | all replied | approval | too expensive: wait up to a day for a person |
//! | booking | failed | undoing | cancel each booking that was or may have been made |
//! | booking | timed out | undoing | the same |
//! | booking | cancelled | undoing | the same |
//! | approval | signal | ended | agreed: answer: booked |
//! | approval | signal | undoing | not agreed: cancel both bookings |
//! | approval | timed out | undoing | the same |
//! | approval | cancelled | undoing | the same |
//! | undoing | undone | ended | answer: the reason of the failure |
//! | undoing | undo stuck | ended | answer: the reason, and the bookings that are left |

pub mod scenario;
pub mod spokes;

use nave::prelude::workflow::*;
use nave::serde_json::json;
use serde::{Deserialize, Serialize};

use spokes::{Booked, CAR, HOTEL, Order};

/// A trip above this price needs approval.
pub const PRICE_LIMIT: u64 = 1_000;
/// The signal that approves or rejects a trip: `{"agreed": true}`.
pub const APPROVAL: &str = "approval";
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The request of a traveller.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TripRequest {
    /// The destination.
    pub to: String,
}

/// One trip. The hub saves these fields while the trip is in progress.
#[derive(Serialize, Deserialize)]
pub struct Trip {
    name: String,
    request: TripRequest,
    price: u64,
    /// The code and the reason of a failed trip.
    failure: Option<(Code, String)>,
}

states! {
    /// The states of a trip.
    pub enum TripState { New = "-", Booking = "booking", Approval = "approval", Undoing = "undoing", Ended = "ended" }
}
use TripState::{Approval, Booking, Ended, New, Undoing};

impl Trip {
    fn call(&self, tag: u32, service: Service<Order, Booked>) -> ServiceCall<Order, Booked> {
        let (to, name) = (&self.request.to, service.name());
        let order = |verb: &str| Order { to: to.clone(), trip: self.name.clone(), verb: verb.to_owned() };
        let call = service.call(tag, to, &order("book"), format!("book a {name} in {to}"), 2_000);
        call.undo(&order("cancel"), format!("cancel the {name} in {to}"), 2_000)
    }

    fn booked(&self, fx: &mut Fx<'_, Self>) -> TripState {
        fx.answer(Answer::Done(json!({ "to": self.request.to, "price": self.price })));
        fx.end();
        Ended
    }

    fn undo(&mut self, code: Code, reason: impl Into<String>, fx: &mut Fx<'_, Self>) -> TripState {
        self.failure = Some((code, reason.into()));
        fx.undo("cancel bookings", 2_500);
        Undoing
    }

    fn not_booked(&self, left: &[u32], fx: &mut Fx<'_, Self>) -> TripState {
        let (code, reason) = self.failure.clone().expect("undo sets it");
        fx.answer(Answer::failed(code, reason, json!({ "to": self.request.to, "left": left })));
        fx.end();
        Ended
    }
}

impl Workflow for Trip {
    const NAME: &'static str = "trip";
    const SERVICES: &'static [CalledService] = &[CalledService::of(HOTEL), CalledService::of(CAR)];
    type State = TripState;
    type Request = TripRequest;
    type Lane = ();

    fn begin(_: &OperationId, key: &str, request: TripRequest) -> Result<Self, Problem> {
        Ok(Self { name: key.to_owned(), request, price: 0, failure: None })
    }

    fn on(&mut self, state: TripState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<TripState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                fx.step(StepSpec::new("book", 5_000).call(self.call(1, HOTEL)).call(self.call(2, CAR)));
                Booking
            }
            (Booking, Event::Replied { reply, .. }) => {
                // Both services have the same replies.
                self.price += reply.of(HOTEL).price;
                Booking
            }
            (Booking, Event::AllReplied) if self.price <= PRICE_LIMIT => self.booked(fx),
            (Booking, Event::AllReplied) => {
                fx.wait_for(APPROVAL, "a person to approve the price", Some(DAY_MS));
                Approval
            }
            (Booking, Event::Failed(failure)) => {
                let code = match failure.outcome {
                    CallOutcome::Refused(_) => Code::Conflict,
                    CallOutcome::Misread(_) => Code::WorkflowFailed,
                    CallOutcome::TimedOut | CallOutcome::Replied(_) => Code::WorkflowTimeout,
                };
                self.undo(code, failure.to_string(), fx)
            }
            (Approval, Event::Signal { body, .. }) if body["agreed"] == true => self.booked(fx),
            (Approval, Event::Signal { body, .. }) if body["agreed"] == false => {
                self.undo(Code::Forbidden, "a person rejected the price", fx)
            }
            (Booking | Approval, Event::TimedOut) => self.undo(Code::WorkflowTimeout, "the deadline passed", fx),
            (Booking | Approval, Event::Cancelled) => self.undo(Code::Cancelled, "the trip was cancelled", fx),
            (Undoing, Event::Undone { .. }) => self.not_booked(&[], fx),
            (Undoing, Event::UndoStuck { left }) => self.not_booked(left, fx),
            (New | Booking | Approval | Undoing | Ended, _) => return Err(Illegal),
        })
    }
}

/// Builds the topology: a hub, and a worker for each spoke.
///
/// # Errors
/// Mistakes in the topology, which any test finds.
pub fn trips() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Trip>("trips")
}
