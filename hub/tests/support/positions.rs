//! A hub with operations in every position.

use hub::{Barrier, CallOrder, HubSettings};
use topology::Settings;
use wire::CallId;
use wire::call::{CallEnd, CallOutcome};

use super::script::{Act, Script, request};
use super::support::{Input, World, named};

pub(crate) fn ask(world: &mut World<Script>, operation: &str, key: &str, script: &[Vec<Act>]) {
    let cause = format!("r-{operation}");
    world.give(Input::Request(request(operation, key, &cause, script))).expect("same as its twin");
}

fn end(world: &mut World<Script>, operation: &str, step: u32, n: u32, outcome: CallOutcome) {
    let id = CallId::new(named(operation), step, n);
    world.give(Input::CallEnded(CallEnd { id, lane: 1, attempts: 1, outcome })).expect("same as its twin");
}

fn replied(body: &str) -> CallOutcome {
    CallOutcome::Replied(body.into())
}

/// Seven live operations, and four ended ones of which `remembered` are remembered. `more` adds
/// requests before the live ones.
pub(crate) fn hub(remembered: usize, more: impl FnOnce(&mut World<Script>)) -> (World<Script>, Settings) {
    let hub = HubSettings { live: 10, active: 2, remembered, ..HubSettings::default() };
    let settings = Settings::default().with("hub", &hub);
    let mut world = World::<Script>::new(&settings);
    let step = |calls: &[(u32, u8)]| Act::Step(CallOrder::AtOnce, Barrier::All, calls.to_vec());
    for n in 1..=4 {
        ask(&mut world, &format!("past-{n}"), "past", &[vec![Act::Note, Act::Done(0.1), Act::End]]);
    }
    more(&mut world);
    let open = step(&[(1, 1), (2, 2), (3, 0)]);
    ask(&mut world, "parked", "a", &[vec![open.clone()], vec![Act::Panic]]);
    end(&mut world, "parked", 1, 1, replied("turn the page"));
    end(&mut world, "parked", 1, 2, CallOutcome::Refused("no room".into()));
    ask(&mut world, "signal", "b", &[vec![Act::Done(0.5), Act::WaitFor { within: true }]]);
    ask(&mut world, "degraded", "c", &[vec![Act::Count("c".into()), Act::Failed, Act::Yield, Act::Wait]]);
    ask(&mut world, "step", "d", &[vec![open]]);
    end(&mut world, "step", 1, 2, replied("{}"));
    let one_by_one = Act::Step(CallOrder::OneByOne, Barrier::Quorum(2), vec![(1, 1), (2, 1), (3, 1)]);
    ask(&mut world, "undo", "e", &[vec![one_by_one], vec![Act::Undo]]);
    end(&mut world, "undo", 1, 1, replied("{}"));
    end(&mut world, "undo", 1, 2, replied("turn the page"));
    end(&mut world, "undo", 2, 1, CallOutcome::TimedOut);
    ask(&mut world, "queued", "d", &[]);
    ask(&mut world, "admitted", "f", &[]);
    (world, settings)
}
