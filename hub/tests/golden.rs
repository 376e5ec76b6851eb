//! Saved states of every version that was released: they are loaded for ever.

#[expect(dead_code, reason = "this file uses a part of it")]
#[path = "support/script.rs"]
mod script;
mod support;

use hub::{Barrier, HubCommand, HubRequest, HubSettings, Mode};
use serde_json::json;
use topology::Settings;
use wire::call::{CallEnd, CallOutcome};
use wire::command::Command;
use wire::request::Request;
use wire::{CallId, Code};

use script::{Act, Script, request};
use support::{Input, World, golden, named};

fn ask(world: &mut World<Script>, operation: &str, key: &str, script: &[Vec<Act>]) {
    let cause = format!("r-{operation}");
    world.give(Input::Request(request(operation, key, &cause, script))).expect("as its twin");
}

fn end(world: &mut World<Script>, operation: &str, step: u32, n: u32, outcome: CallOutcome) {
    let id = CallId::new(named(operation), step, n);
    world.give(Input::CallEnded(CallEnd { id, lane: 1, attempts: 1, outcome })).expect("as its twin");
}

fn replied(body: &str) -> CallOutcome {
    CallOutcome::Replied(body.into())
}

/// Operations in every position that there is.
#[test]
fn a_hub_loads_what_it_saved_in_every_version() {
    let hub = HubSettings { live: 10, active: 2, remembered: 5, ..HubSettings::default() };
    let settings = Settings::default().with("hub", &hub);
    let mut world = World::<Script>::new(&settings);
    let step = |calls: &[(u32, u8)]| Act::Step(Mode::AtOnce, Barrier::All, calls.to_vec());
    for n in 1..=4 {
        ask(&mut world, &format!("past-{n}"), "past", &[vec![Act::Note, Act::Done(0.1), Act::End]]);
    }
    ask(&mut world, "refused", "past", &[vec![Act::Refuse(Code::UnknownFlow), Act::End]]);
    let open = step(&[(1, 1), (2, 2), (3, 0)]);
    ask(&mut world, "parked", "a", &[vec![open.clone()], vec![Act::Panic]]);
    end(&mut world, "parked", 1, 1, replied("turn the page"));
    end(&mut world, "parked", 1, 2, CallOutcome::Refused("no room".into()));
    ask(&mut world, "signal", "b", &[vec![Act::Done(0.5), Act::WaitFor { within: true }]]);
    ask(&mut world, "degraded", "c", &[vec![Act::Count("c".into()), Act::Failed, Act::Yield, Act::Wait]]);
    ask(&mut world, "step", "d", &[vec![open]]);
    end(&mut world, "step", 1, 2, replied("{}"));
    let one_by_one = Act::Step(Mode::OneByOne, Barrier::Quorum(2), vec![(1, 1), (2, 1), (3, 1)]);
    ask(&mut world, "undo", "e", &[vec![one_by_one], vec![Act::Undo]]);
    end(&mut world, "undo", 1, 1, replied("{}"));
    end(&mut world, "undo", 1, 2, replied("turn the page"));
    end(&mut world, "undo", 2, 1, CallOutcome::TimedOut);
    ask(&mut world, "queued", "d", &[]);
    ask(&mut world, "admitted", "f", &[]);
    let request = request("unread", "past", "r-unread", &[]);
    let body = Request { route: "POST /script".into(), ..Request::new("script", json!("no script")) };
    world.give(Input::Request(HubRequest { body: Ok(body), ..request })).expect("as its twin");
    ask(&mut world, "cancelled", "d", &[]);
    let (operation, cause) = (named("cancelled"), "c-cancelled".into());
    world.give(Input::Command(HubCommand { operation, cause, command: Command::Cancel })).expect("as its twin");
    world.save().expect("as its twin");
    assert_eq!(world.table.unfinished().len(), 7);
    golden("hub", &settings, &world);
}
