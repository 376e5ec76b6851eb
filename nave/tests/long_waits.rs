//! Workflows that wait for hours or days, with everything going wrong: the clock is virtual, so no wait is too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nave::prelude::*;
use nave::program::Program;
use nave::serde_json::{Value, json};
use nave::sim::{Ask, Scenario, Simulation};
use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;

/// A purchase that a person approves before it is made.
#[derive(Serialize, Deserialize)]
struct Purchase {
    within_ms: Option<u64>,
}

/// The time that the person has.
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
                let calls = vec![CallSpec {
                    tag: 1,
                    service: "shop",
                    key: "shop".into(),
                    what: "buy it".into(),
                    body: "null".into(),
                    within_ms: 2_000,
                    undo: None,
                    swallow: false,
                }];
                fx.step(StepSpec { name: "buy", mode: Mode::AtOnce, barrier: Barrier::All, within_ms: 3_000, calls });
                Buying
            }
            (Asking, Event::TimedOut) => over(Answer::Failed(json!("nobody approved")), fx),
            (Buying, Event::Replied { .. }) => Buying,
            (Buying, Event::AllReplied) => over(Answer::Done(json!("bought")), fx),
            (Buying, Event::Failed(_) | Event::TimedOut) => over(Answer::Failed(json!("not bought")), fx),
            (New | Asking | Buying | Over, _) => return Err(Illegal),
        })
    }
}

struct Shop;

impl Spoke for Shop {
    type Request = Value;
    type Reply = Value;

    fn handle(&mut self, _: &Call<'_>, _: Value) -> Result<Value, SpokeError> {
        Ok(Value::Null)
    }
}

fn purchases() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Purchase>("purchases", &["shop"])
}

fn simulation(scenario: Scenario) -> Simulation {
    let program = Program::of(nave::about!(), [purchases]).expect("it builds").spoke("shop", || Shop);
    program.scenario("purchases", scenario).simulation("purchases").expect("it has a scenario")
}

/// Two purchases, each with as long as this for its person.
fn asks(within_ms: Option<u64>) -> Scenario {
    Scenario::new(move |_| ["tea", "cake"].map(|key| Ask::new("purchase", key, Order { within_ms })).into())
}

fn hold(simulation: &Simulation, seeds: u64) -> u64 {
    let summary = simulation.run_many(1, seeds, 2);
    println!("{}", summary.text());
    let broken = summary.broken.map(|ran| format!("{ran:?}\n{}", simulation.tell(ran.seed)));
    assert_eq!(broken, None);
    (1..=5).map(|seed| simulation.run(seed).virtual_ms).max().unwrap_or(0)
}

#[test]
fn a_wait_of_any_length_for_a_person_ends_in_a_signal_or_at_its_deadline() {
    let (bought, lapsed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for within_ms in [HOUR_MS, 72 * HOUR_MS] {
        let (bought, lapsed) = (Arc::clone(&bought), Arc::clone(&lapsed));
        let scenario = asks(Some(within_ms)).signals(|_| ("approval".into(), Value::Null)).check(move |ended| {
            for (_, answer) in ended.answers() {
                match answer {
                    Answer::Done(_) => bought.fetch_add(1, Ordering::AcqRel),
                    Answer::Failed(why) if *why == "nobody approved" => lapsed.fetch_add(1, Ordering::AcqRel),
                    Answer::Failed(_) | Answer::Refused(_) => 0,
                };
            }
            Ok(())
        });
        hold(&simulation(scenario), 60);
    }
    let (bought, lapsed) = (bought.load(Ordering::Acquire), lapsed.load(Ordering::Acquire));
    assert!(bought > 40 && lapsed > 10, "{bought} were bought, and of {lapsed} the time ran out");
}

#[test]
fn a_deadline_passes_also_where_the_scenario_has_no_signals() {
    let virtual_ms = hold(&simulation(asks(Some(720 * HOUR_MS))), 30);
    assert!(virtual_ms >= 720 * HOUR_MS, "30 days pass: {virtual_ms} ms");
}

#[test]
fn people_answer_where_there_is_no_deadline() {
    hold(&simulation(asks(None).signals(|_| ("approval".into(), Value::Null))), 60);
}

/// That an operation waits for ever is found out, and named.
#[test]
fn a_wait_without_a_deadline_and_without_signals_is_a_fault() {
    let broken = simulation(asks(None)).run(1).broken.expect("nobody answers");
    assert!(broken.contains("waits for an answer to purchase") && broken.contains("asking"), "{broken}");
    assert!(broken.ends_with("the signal `approval` never comes: give it with `Scenario::signals`"), "{broken}");
}
