//! Workflows that wait for hours or days, in the simulation with faults. The clock is virtual, so
//! long waits cost nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nave::prelude::workflow::*;
use nave::program::Program;
use nave::serde_json::{Value, json};
use nave::sim::{Scenario, SimRequest, Simulation};
use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
const SHOP: Service<(), ()> = Service::named("shop");

/// A purchase that needs the approval of a person.
#[derive(Serialize, Deserialize)]
struct Purchase {
    within_ms: Option<u64>,
}

/// The request: the time limit of the approval.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    within_ms: Option<u64>,
}

states! {
    /// The state of a purchase.
    enum PurchaseState { New = "-", Asking = "asking", Buying = "buying", Over = "over" }
}
use PurchaseState::{Asking, Buying, New, Over};

fn over(answer: Answer, fx: &mut Fx<'_, Purchase>) -> PurchaseState {
    fx.answer(answer);
    fx.end();
    Over
}

impl Workflow for Purchase {
    const NAME: &'static str = "purchase";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SHOP)];
    type State = PurchaseState;
    type Request = Order;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, Order { within_ms }: Order) -> Result<Self, Problem> {
        Ok(Self { within_ms })
    }

    fn on(&mut self, state: PurchaseState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<PurchaseState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                fx.wait_for("approval", "a person who approves", self.within_ms);
                Asking
            }
            (Asking, Event::Signal { .. }) => {
                fx.step(StepSpec::new("buy", 3_000).call(SHOP.call(1, "shop", &(), "buy it", 2_000)));
                Buying
            }
            (Asking, Event::TimedOut) => over(Answer::Failed(json!("not approved in time")), fx),
            (Buying, Event::Replied { .. }) => Buying,
            (Buying, Event::AllReplied) => over(Answer::Done(json!("bought")), fx),
            (Buying, Event::Failed(_) | Event::TimedOut) => over(Answer::Failed(json!("not bought")), fx),
            (New | Asking | Buying | Over, _) => return Err(Illegal),
        })
    }
}

struct Shop;

impl Spoke for Shop {
    type Request = ();
    type Reply = ();

    fn handle(&mut self, _: &Call, (): ()) -> Result<(), SpokeError> {
        Ok(())
    }
}

fn purchases() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Purchase>("purchases")
}

fn simulation(scenario: Scenario) -> Simulation {
    let program = Program::of(nave::about!(), [purchases]).expect("it builds").spoke(SHOP, || Shop);
    program.scenario("purchases", scenario).simulation("purchases").expect("it has a scenario")
}

/// Two purchases with this time limit for the approval.
fn asks(within_ms: Option<u64>) -> Scenario {
    Scenario::new(move |_| ["tea", "cake"].map(|key| SimRequest::new("purchase", key, Order { within_ms })).into())
}

fn assert_succeeds(simulation: &Simulation, seeds: u64) -> u64 {
    let summary = simulation.run_many(1, seeds, 2);
    println!("{}", summary.text());
    let failure = summary.failed.map(|ran| format!("{ran:?}\n{}", simulation.story(ran.seed)));
    assert_eq!(failure, None);
    (1..=5).map(|seed| simulation.run(seed).virtual_ms).max().unwrap_or(0)
}

#[test]
fn a_wait_for_a_person_ends_with_a_signal_or_at_its_deadline() {
    let (bought, lapsed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for within_ms in [HOUR_MS, 72 * HOUR_MS] {
        let (bought, lapsed) = (Arc::clone(&bought), Arc::clone(&lapsed));
        let scenario = asks(Some(within_ms)).signals(|_| ("approval".into(), Value::Null)).check(move |results| {
            for (_, answer) in results.answers() {
                match answer {
                    Answer::Done(_) => bought.fetch_add(1, Ordering::AcqRel),
                    Answer::Failed(why) if *why == "not approved in time" => lapsed.fetch_add(1, Ordering::AcqRel),
                    Answer::Failed(_) | Answer::Refused(_) => 0,
                };
            }
            Ok(())
        });
        assert_succeeds(&simulation(scenario), 60);
    }
    let (bought, lapsed) = (bought.load(Ordering::Acquire), lapsed.load(Ordering::Acquire));
    assert!(bought > 40 && lapsed > 10, "{bought} bought, {lapsed} timed out");
}

#[test]
fn a_deadline_expires_without_signals_in_the_scenario() {
    let virtual_ms = assert_succeeds(&simulation(asks(Some(720 * HOUR_MS))), 30);
    assert!(virtual_ms >= 720 * HOUR_MS, "at least 30 days must pass: {virtual_ms} ms");
}

#[test]
fn people_signal_to_waits_without_a_deadline() {
    assert_succeeds(&simulation(asks(None).signals(|_| ("approval".into(), Value::Null))), 60);
}

/// The simulation detects an operation that waits forever and names its signal.
#[test]
fn a_wait_without_deadline_and_signals_is_reported() {
    let failure = simulation(asks(None)).run(1).failure.expect("no one signals");
    assert!(failure.contains("is waiting for the answer to purchase") && failure.contains("asking"), "{failure}");
    assert!(failure.ends_with("no one sends the signal `approval`: provide it with `Scenario::signals`"), "{failure}");
}
