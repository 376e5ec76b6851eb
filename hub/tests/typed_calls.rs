//! Typed calls: the hub checks each reply, and each undo, against the type of its service.

mod support;

use hub::{
    CallFailure, CalledService, CheckedReply, Event, Fx, HubEffect, HubRequest, Illegal, ServiceExt, StepSpec,
    Workflow, Workflows,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use topology::{Level, Settings};
use wire::answer::Answer;
use wire::call::{CallCommand, CallEnd, CallOutcome};
use wire::request::Request;
use wire::{OperationId, Problem, Service};

use support::{Input, World, named};

#[derive(Serialize, Deserialize)]
struct Order {
    item: String,
}

#[derive(Serialize, Deserialize)]
struct Price {
    euros: u32,
}

const SHOP: Service<Order, Price> = Service::named("shop");
const BANK: Service<Value, Value> = Service::named("bank");

hub::states! { enum PurchaseState { New = "-", Buying = "buying", Undoing = "undoing", Ended = "ended" } }
use PurchaseState::{Buying, Ended, New, Undoing};

/// Buys the item, or calls the bank, which it does not list.
#[derive(Serialize, Deserialize)]
struct Purchase {
    item: String,
    euros: u32,
    failure: String,
}

impl Workflow for Purchase {
    const NAME: &'static str = "purchase";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SHOP)];
    type State = PurchaseState;
    type Request = String;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, item: String) -> Result<Self, Problem> {
        Ok(Self { item, euros: 0, failure: String::new() })
    }

    fn check_reply(&self, _: PurchaseState, _: u32, is_undo: bool, reply: &CheckedReply) -> Result<(), String> {
        if is_undo || reply.of(SHOP).euros > 0 { Ok(()) } else { Err("nothing is free".into()) }
    }

    fn on(&mut self, state: PurchaseState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<PurchaseState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) if self.item == "money" => {
                fx.step(StepSpec::new("buy", 2_000).call(BANK.call(1, "k", &json!(7), "ask the bank", 1_000)));
                Buying
            }
            (New, Event::Requested) => {
                let order = |item: &str| Order { item: item.to_owned() };
                let call = SHOP.call(1, "k", &order(&self.item), "buy it", 1_000);
                fx.step(StepSpec::new("buy", 2_000).call(call.undo(&order("nothing"), "give it back", 1_000)));
                Buying
            }
            (Buying, Event::Replied { reply, .. }) => {
                self.euros = reply.of(SHOP).euros;
                Buying
            }
            (Buying, Event::AllReplied) => {
                fx.answer(Answer::Done(json!(self.euros)));
                fx.end();
                Ended
            }
            (Buying, Event::Failed(CallFailure { outcome: CallOutcome::Misread(why), .. })) => {
                self.failure.clone_from(why);
                fx.undo("give back", 2_000);
                Undoing
            }
            (Undoing, Event::Undone { .. } | Event::UndoStuck { .. }) => {
                fx.answer(Answer::Failed(json!([self.failure, event.name()])));
                fx.end();
                Ended
            }
            _ => return Err(Illegal),
        })
    }
}

/// A started purchase of `item`, and the body of its call.
fn purchase(item: &str) -> (World<Purchase>, Vec<HubEffect>) {
    let mut world = World::new(&Settings::default());
    let body = Ok(Request::new("purchase", json!(item)));
    let (operation, cause, key) = (named("op"), "r".into(), "k".into());
    let request = HubRequest { operation, has_key: true, cause, key, expires: None, body };
    let effects = world.give(Input::Request(request)).expect("same as its twin");
    (world, effects)
}

/// Ends the open call with this reply. Returns the answer, if there is one.
fn reply(world: &mut World<Purchase>, body: &str) -> Option<Answer> {
    let id = world.open.first().expect("a call is open").clone();
    let end = CallEnd { id, lane: 0, attempts: 1, outcome: CallOutcome::Replied(body.into()) };
    let effects = world.give(Input::CallEnded(end)).expect("same as its twin");
    effects.into_iter().find_map(|effect| if let HubEffect::Answer { view, .. } = effect { view.answer } else { None })
}

#[test]
fn a_request_is_sent_as_json_and_its_reply_is_read_as_its_type() {
    let (mut world, effects) = purchase("tea");
    let body = |effect: &HubEffect| match effect {
        HubEffect::Call(CallCommand::Start(call)) => Some((call.service.to_string(), call.body.clone())),
        _ => None,
    };
    assert_eq!(effects.iter().find_map(body), Some(("shop".into(), r#"{"item":"tea"}"#.into())));
    assert_eq!(reply(&mut world, r#"{"euros":3}"#), Some(Answer::Done(json!(3))));
}

#[test]
fn a_reply_of_another_type_fails_its_call_and_names_the_fault() {
    let (mut world, _) = purchase("tea");
    assert_eq!(reply(&mut world, r#"{"price":3}"#), None, "it undoes the call");
    let why = "the reply `{\"price\":3}` is not of the type that the call expects: \
        missing field `euros` at line 1 column 11";
    assert_eq!(reply(&mut world, r#"{"euros":0}"#), Some(Answer::Failed(json!([why, "undone"]))));
}

#[test]
fn an_undo_with_a_reply_of_another_type_is_stuck() {
    let (mut world, _) = purchase("tea");
    assert_eq!(reply(&mut world, r#"{"euros":0}"#), None, "it undoes the call");
    assert_eq!(reply(&mut world, "null"), Some(Answer::Failed(json!(["nothing is free", "undo stuck"]))));
}

#[test]
fn a_loaded_operation_checks_replies_against_the_type_of_its_service() {
    let (mut world, _) = purchase("tea");
    world.reload(7).expect("its own state is readable");
    assert_eq!(reply(&mut world, "not JSON"), None, "it undoes the call");
    world.reload(7).expect("its own state is readable");
    let Some(Answer::Failed(body)) = reply(&mut world, r#"{"euros":1}"#) else { panic!("the purchase must fail") };
    assert_eq!(body[1], "undone");
}

#[test]
fn a_call_of_a_service_that_is_not_listed_parks_the_operation() {
    let (world, effects) = purchase("money");
    assert_eq!(world.open, [], "the call is not sent");
    let parked = effects.iter().find_map(|effect| match effect {
        HubEffect::Log(Level::Error, _, line) => Some(line.as_str()),
        _ => None,
    });
    let why = "workflow `purchase` calls service `bank`, which its SERVICES do not list";
    assert_eq!(parked, Some(&*format!("parked: it panicked on event `requested`: {why}")));
}

#[test]
fn workflows_of_one_hub_list_each_service_once() {
    assert_eq!(<(Purchase, Purchase)>::services(), ["shop"]);
}
