//! Saving and loading: nothing is forgotten, nothing is saved without need, and behaviour does not
//! change.

#[path = "support/script.rs"]
mod script;
mod support;

use coordinator::TimedOut;
use hub::{Barrier, CallOrder, HubCommand, HubRequest};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use wire::call::{CallEnd, CallOutcome};
use wire::command::Command;
use wire::{CallId, Code};

use script::{Act, Script, request, small};
use support::{Input, World, named, operation_of};

#[derive(Debug, Clone)]
enum Step {
    /// Requests an operation; sometimes with another body than the first time.
    Ask {
        operation: u32,
        other: bool,
        cause: u32,
        expires: Option<u64>,
    },
    End {
        pick: Index,
        outcome: u8,
        attempts: u32,
    },
    EndAbandoned {
        pick: Index,
        outcome: u8,
        attempts: u32,
    },
    EndUnknown {
        operation: u32,
        step: u32,
        n: u32,
    },
    Fire(Index),
    FireStale(u64, u32),
    /// Sends a command to a live operation, or to one that may not be live.
    Tell {
        pick: Index,
        stranger: bool,
        command: u8,
    },
    Configure {
        remembered: usize,
    },
    Save,
    Reload(u64),
}

/// Acts that do not change what the operation waits for.
fn aside() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Yield),
        2 => Just(Act::Note),
        1 => (1..4_u32).prop_map(Act::Keep),
        1 => (1..4_u32).prop_map(Act::Again),
        1 => prop::num::f64::NORMAL.prop_map(Act::Done),
        2 => Just(Act::Failed),
        1 => prop_oneof![Just(Act::DoneLarge), Just(Act::Show)],
        1 => prop_oneof![Just(Act::Refuse(Code::Busy)), Just(Act::Refuse(Code::Conflict))],
        2 => "[ab]".prop_map(Act::Count),
    ]
}

/// Acts that decide what the operation waits for next.
fn main() -> impl Strategy<Value = Act> {
    let mode = prop_oneof![2 => Just(CallOrder::AtOnce), 1 => Just(CallOrder::OneByOne)];
    let barrier = prop_oneof![3 => Just(Barrier::All), 1 => Just(Barrier::First), 1 => Just(Barrier::Quorum(2))];
    prop_oneof![
        8 => (mode, barrier, prop::collection::vec((1..4_u32, 0..3_u8), 0..4)).prop_map(|(m, b, c)| Act::Step(m, b, c)),
        4 => Just(Act::Undo),
        1 => Just(Act::Wait),
        1 => any::<bool>().prop_map(|within| Act::WaitFor { within }),
        2 => prop_oneof![Just(Act::Panic), Just(Act::Illegal), Just(Act::Note), Just(Act::End)],
    ]
}

fn scripts() -> impl Strategy<Value = Vec<Vec<Vec<Act>>>> {
    let page = (prop::collection::vec(aside(), 0..2), main());
    let page = page.prop_map(|(mut page, main)| {
        page.push(main);
        page
    });
    prop::collection::vec(prop::collection::vec(page, 0..7), 4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..9_u32, prop::bool::weighted(0.1), 0..12_u32, prop::option::weighted(0.2, 0..60_u64));
    let end = || (any::<Index>(), 0..4_u8, 0..3_u32);
    let tell = (any::<Index>(), prop::bool::weighted(0.1), 0..8_u8);
    let step = prop_oneof![
        6 => ask.prop_map(|(operation, other, cause, expires)| Step::Ask { operation, other, cause, expires }),
        10 => end().prop_map(|(pick, outcome, attempts)| Step::End { pick, outcome, attempts }),
        3 => end().prop_map(|(pick, outcome, attempts)| Step::EndAbandoned { pick, outcome, attempts }),
        1 => (0..9_u32, 0..4_u32, 0..4_u32).prop_map(|(operation, step, n)| Step::EndUnknown { operation, step, n }),
        3 => any::<Index>().prop_map(Step::Fire),
        1 => (0..10_u64, 0..4_u32).prop_map(|(slot, generation)| Step::FireStale(slot, generation)),
        6 => tell.prop_map(|(pick, stranger, command)| Step::Tell { pick, stranger, command }),
        1 => (0..5_usize).prop_map(|remembered| Step::Configure { remembered }),
        3 => Just(Step::Save),
        3 => any::<u64>().prop_map(Step::Reload),
    ];
    prop::collection::vec(step, 0..100)
}

fn outcome(outcome: u8) -> CallOutcome {
    match outcome {
        0 => CallOutcome::Refused("no".into()),
        1 => CallOutcome::TimedOut,
        2 => CallOutcome::Replied("turn the page".into()),
        _ => CallOutcome::Replied("{}".into()),
    }
}

fn command(command: u8) -> Command {
    match command {
        0..=3 => Command::Resume,
        4 => Command::Abort,
        5 => Command::Cancel,
        6 => Command::Signal { name: "go".into(), body: json!("no") },
        _ => Command::Signal { name: "go".into(), body: json!({ "yes": 0.1 }) },
    }
}

fn picked(calls: &[CallId], pick: Index) -> Option<CallId> {
    (!calls.is_empty()).then(|| pick.get(calls).clone())
}

/// The input of a step, if the step is possible in this world.
fn input(world: &World<Script>, scripts: &[Vec<Vec<Act>>], step: &Step) -> Option<Input> {
    // Three operations on each of three keys.
    let name = |operation: u32| format!("op-{operation}");
    let ended = |id, outcome, attempts| Input::CallEnded(CallEnd { id, lane: 0, attempts, outcome });
    Some(match step {
        Step::Ask { operation, other, cause, expires } => {
            let script = &scripts[(*operation as usize + usize::from(*other)) % scripts.len()];
            let request = request(&name(*operation), &format!("key-{}", operation % 3), &format!("r-{cause}"), script);
            // Sometimes a body that no workflow accepts, or one that is not JSON.
            let body = match cause {
                0 => Ok(wire::request::Request::new("script", json!("no script"))),
                1 => Err("not JSON".into()),
                _readable => request.body,
            };
            Input::Request(HubRequest { expires: expires.map(|after| world.at.plus_ms(after)), body, ..request })
        }
        Step::End { pick, outcome: how, attempts } => ended(picked(&world.open, *pick)?, outcome(*how), *attempts),
        Step::EndAbandoned { pick, outcome: how, attempts } => {
            ended(picked(&world.abandoned, *pick)?, outcome(*how), *attempts)
        }
        Step::EndUnknown { operation, step, n } => {
            ended(CallId::new(named(&name(*operation)), *step, *n), outcome(3), 1)
        }
        Step::Fire(pick) => {
            let timers: Vec<(u64, u32)> = world.timers.iter().map(|(key, generation)| (*key, *generation)).collect();
            let (key, generation) = *(!timers.is_empty()).then(|| pick.get(&timers))?;
            Input::TimedOut(TimedOut { key, generation })
        }
        Step::FireStale(key, generation) => Input::TimedOut(TimedOut { key: *key, generation: *generation }),
        Step::Tell { pick, stranger, command: which } => {
            let live = world.table.unfinished();
            let known = (!stranger && !live.is_empty()).then(|| operation_of(pick.get::<String>(&live)));
            let operation = named(&known.unwrap_or_else(|| name(3)));
            Input::Command(HubCommand {
                operation,
                cause: format!("c-{}", world.at.0).into(),
                command: command(*which),
            })
        }
        Step::Configure { remembered } => Input::Configure(small(*remembered)),
        Step::Save | Step::Reload(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// After any inputs, a loaded table behaves like the original and has nothing to save. A
    /// state saved in parts equals the state of a single save.
    #[test]
    fn a_loaded_hub_behaves_like_the_saved_one(scripts in scripts(), steps in steps()) {
        let mut world = World::<Script>::new(&small(3));
        for step in &steps {
            world.at.0 += 7;
            match step {
                Step::Save => _ = world.save()?,
                Step::Reload(seed) => world.reload(*seed)?,
                step => {
                    if let Some(input) = input(&world, &scripts, step) {
                        world.give(input)?;
                    }
                }
            }
        }
        world.reload(7)?;
    }
}

fn run_to_the_end(world: &mut World<Script>, from: u32, count: u32) {
    for n in from..from + count {
        let script = [vec![Act::Step(CallOrder::AtOnce, Barrier::All, vec![(1, 1), (2, 1)])]];
        world.give(Input::Request(request(&format!("op-{n}"), "key", "r", &script))).expect("same as its twin");
        while let Some(id) = world.open.first().cloned() {
            let outcome = CallOutcome::Replied("{}".into());
            world.give(Input::CallEnded(CallEnd { id, lane: 0, attempts: 1, outcome })).expect("same as its twin");
        }
    }
}

/// One record for each operation and one for the table, however many operations have run.
#[test]
fn an_operation_that_begins_and_ends_between_two_snapshots_costs_one_record() {
    let mut world = World::<Script>::new(&small(100));
    run_to_the_end(&mut world, 0, 1);
    assert_eq!(world.save().unwrap(), 1 + 1);
    run_to_the_end(&mut world, 1, 20);
    assert_eq!(world.save().unwrap(), 20 + 1);
    assert_eq!(world.save().unwrap(), 0, "nothing has happened");
    let keys: Vec<&str> = world.saved.keys().map(String::as_str).filter(|key| !key.starts_with("finished/")).collect();
    assert_eq!(keys, ["table"]);
}

/// The next outcome overwrites the forgotten one.
#[test]
fn a_forgotten_operation_costs_no_record() {
    let mut world = World::<Script>::new(&small(3));
    run_to_the_end(&mut world, 0, 10);
    assert_eq!(world.save().unwrap(), 3 + 1, "the last three");
    run_to_the_end(&mut world, 10, 2);
    assert_eq!(world.save().unwrap(), 2 + 1);
    assert_eq!(world.saved.len(), 3 + 1);
}

#[test]
fn a_resized_ring_keeps_the_newest_outcomes() {
    let mut world = World::<Script>::new(&small(3));
    run_to_the_end(&mut world, 0, 10);
    world.reload(1).unwrap();
    for (remembered, left) in [(2, 2), (50, 2), (0, 0), (3, 0)] {
        world.give(Input::Configure(small(remembered))).expect("same as its twin");
        world.reload(3).unwrap();
        assert_eq!(world.saved.len(), left + 1, "{remembered} are remembered");
    }
}
