//! An operation that ends early for a newer one leaves work to it: that one is run.

#[expect(dead_code, reason = "this file uses a part of it")]
#[path = "support/script.rs"]
mod script;
mod support;

use coordinator::{Deadline, TimedOut};
use hub::{Barrier, HubCommand, HubEffect, HubSettings, HubTable, Mode};
use topology::Settings;
use wire::command::{Command, Outcome};
use wire::{Code, WallTime};

use script::{Act, Script, request};
use support::{Input, NoTimers, give, named, table};

fn ask(hub: &mut HubTable<Script>, operation: &str, key: &str, pages: &[Vec<Act>]) -> Vec<HubEffect> {
    give(hub, WallTime(0), Input::Request(request(operation, key, &format!("r-{operation}"), pages)))
}

/// What became of cancelling it.
fn cancel(hub: &mut HubTable<Script>, operation: &str) -> Option<Code> {
    let (operation, cause) = (named(operation), format!("c-{operation}").into());
    let command = HubCommand { operation, cause, command: Command::Cancel };
    let told = give(hub, WallTime(0), Input::Command(command)).into_iter().find_map(|effect| match effect {
        HubEffect::Told { outcome: Outcome::Refused(problem), .. } => Some(Some(problem.code)),
        HubEffect::Told { outcome: Outcome::Taken(_), .. } => Some(None),
        _other => None,
    });
    told.expect("who gave a command is told what became of it")
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

/// Simulation, seed 57: a flow was degraded and made way for a newer request, which was then cancelled: the rules that were left were
/// nobody's.
#[test]
fn an_heir_is_not_cancelled_before_its_turn_unless_another_waits() {
    let one = HubSettings { active: 1, ..HubSettings::default() };
    let mut hub = table::<Script>(&Settings::default().with("hub", &one));
    let leaves = [vec![Act::Failed, Act::Yield, Act::Wait], vec![Act::Wait]];
    ask(&mut hub, "leaves", "k", &leaves);
    let waits = deadline(&ask(&mut hub, "newer", "k", &[]));
    assert_eq!(cancel(&mut hub, "newer"), Some(Code::NotNow), "it is the only one");
    ask(&mut hub, "newest", "k", &[]);
    let queue = |hub: &HubTable<_>, id: &str| {
        let queue = hub.view(id, &NoTimers).and_then(|view| view.queue).expect("it is queued");
        (queue.behind.map(|first| first.to_string()), queue.ahead, queue.limit)
    };
    assert_eq!(queue(&hub, "newer"), (Some("leaves".into()), 1, None));
    assert_eq!(queue(&hub, "newest"), (Some("leaves".into()), 2, None));
    assert_eq!(cancel(&mut hub, "newer"), None, "the newest does it");
    assert_eq!(cancel(&mut hub, "newest"), Some(Code::NotNow), "now it is the only one");

    let call = Act::Step(Mode::AtOnce, Barrier::All, vec![(1, 0)]);
    ask(&mut hub, "busy", "other", &[vec![call]]);
    let effects = give(&mut hub, WallTime(0), Input::TimedOut(waits));
    assert!(effects.contains(&HubEffect::Changed("newest".into())), "what is shown of it is true again");
    assert_eq!(queue(&hub, "newest"), (None, 0, Some(1)), "it waits for a place");
    assert_eq!(hub.unfinished(), ["newest script `k`: queued", "busy script `other`: on an odd page"]);
    assert_eq!(cancel(&mut hub, "newest"), Some(Code::NotNow), "its turn has come, and the other is over");
}
