//! An operation that ends early for a newer one leaves work to it, so the newer one must run.

#[expect(dead_code, reason = "this file uses a part of it")]
#[path = "support/script.rs"]
mod script;
mod support;

use coordinator::{Deadline, TimedOut};
use hub::{Barrier, CallOrder, HubCommand, HubEffect, HubSettings, HubTable};
use topology::Settings;
use wire::command::{Command, Outcome};
use wire::{Code, WallTime};

use script::{Act, Script, request};
use support::{Input, NoTimers, give, named, table};

fn ask(hub: &mut HubTable<Script>, operation: &str, key: &str, pages: &[Vec<Act>]) -> Vec<HubEffect> {
    give(hub, WallTime(0), Input::Request(request(operation, key, &format!("r-{operation}"), pages)))
}

/// The code with which the hub refuses the cancel, or `None` if it accepts.
fn cancel(hub: &mut HubTable<Script>, operation: &str) -> Option<Code> {
    let (operation, cause) = (named(operation), format!("c-{operation}").into());
    let command = HubCommand { operation, cause, command: Command::Cancel };
    let refused = give(hub, WallTime(0), Input::Command(command)).into_iter().find_map(|effect| match effect {
        HubEffect::CommandAnswer { outcome: Outcome::Refused(problem), .. } => Some(Some(problem.code)),
        HubEffect::CommandAnswer { outcome: Outcome::Taken(_), .. } => Some(None),
        _other => None,
    });
    refused.expect("every command gets an answer")
}

fn deadline(effects: &[HubEffect]) -> TimedOut {
    let registered = effects.iter().find_map(|effect| match effect {
        HubEffect::Deadline(Deadline::Register { key, generation, .. }) => {
            Some(TimedOut { key: *key, generation: *generation })
        }
        _other => None,
    });
    registered.expect("it waits for a while")
}

/// Simulation, seed 57: a degraded flow ended early for a newer request, which was then cancelled.
/// The rules that were left stayed on the switches.
#[test]
fn a_sole_successor_cannot_be_cancelled_while_it_is_queued() {
    let one = HubSettings { active: 1, ..HubSettings::default() };
    let mut hub = table::<Script>(&Settings::default().with("hub", &one));
    let ending = [vec![Act::Failed, Act::Yield, Act::Wait], vec![Act::Wait]];
    ask(&mut hub, "ending", "k", &ending);
    let waits = deadline(&ask(&mut hub, "newer", "k", &[]));
    assert_eq!(cancel(&mut hub, "newer"), Some(Code::NotNow), "it is the only successor");
    ask(&mut hub, "newest", "k", &[]);
    let queue = |hub: &HubTable<_>, id: &str| {
        let queue = hub.view(id, &NoTimers).and_then(|view| view.queue).expect("it is queued");
        (queue.behind.map(|first| first.to_string()), queue.ahead, queue.limit)
    };
    assert_eq!(queue(&hub, "newer"), (Some("ending".into()), 1, None));
    assert_eq!(queue(&hub, "newest"), (Some("ending".into()), 2, None));
    assert_eq!(cancel(&mut hub, "newer"), None, "another successor waits");
    assert_eq!(cancel(&mut hub, "newest"), Some(Code::NotNow), "now it is the only successor");

    let call = Act::Step(CallOrder::AtOnce, Barrier::All, vec![(1, 0)]);
    ask(&mut hub, "busy", "other", &[vec![call]]);
    let effects = give(&mut hub, WallTime(0), Input::TimedOut(waits));
    assert!(effects.contains(&HubEffect::Changed("newest".into())), "its view is published again");
    assert_eq!(queue(&hub, "newest"), (None, 0, Some(1)), "it waits for a free place");
    assert_eq!(hub.unfinished(), ["newest script `k`: queued", "busy script `other`: on an odd page"]);
    assert_eq!(cancel(&mut hub, "newest"), Some(Code::NotNow), "it is first on its key, and the other has ended");
}
