//! Everything at once: flows, faults, crashes, moves of lanes, replies that come again, steps of the wall clock; from one seed.

mod support;

use std::collections::BTreeSet;

use bus::Outgoing;
use floodlight_sim::fault::{Astray, Garbage, Match, Word};
use floodlight_sim::{Fault, FaultKind};
use nave::world::{Asked, Outcome, World};
use serde_json::json;
use support::{inject, not_at_rest, options};
use wire::speaker::SwitchId;

/// Xorshift64 (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn number(&mut self, sides: u32) -> u32 {
        u32::try_from(self.roll(u64::from(sides))).expect("less than its sides")
    }
}

const FLOWS: u32 = 4;
const LENGTH: u32 = 3;

fn some_fault(dice: &mut Dice) -> Fault {
    let astray = [Astray::Call, Astray::Causation, Astray::Key, Astray::Partition];
    let garbage = [Garbage::Body, Garbage::Json, Garbage::Headers, Garbage::Type];
    let kind = match dice.roll(13) {
        0 => FaultKind::Silence,
        1 => FaultKind::Mute,
        2 => FaultKind::DelayReply { ms: dice.roll(2_500) },
        3 => FaultKind::DelayExecution { ms: dice.roll(2_500) },
        4 => FaultKind::Error { code: "busy".into(), retry: true },
        5 => FaultKind::Error { code: "full".into(), retry: false },
        6 => FaultKind::Duplicate,
        7 => FaultKind::Reorder { hold: 1 + dice.number(5) },
        8 => FaultKind::WrongKey { what: astray[dice.number(4) as usize] },
        9 => FaultKind::Corrupt { what: garbage[dice.number(4) as usize] },
        10 => FaultKind::Oversized { bytes: 2 << 20 },
        11 => FaultKind::Crash { after: 1 + dice.number(3), told: dice.roll(2) == 0 },
        _ => FaultKind::Lie,
    };
    let mut command = [None, Some(Word::Install), Some(Word::Read), Some(Word::Remove)][dice.number(4) as usize];
    // A lie of a read would never strike.
    command = command.filter(|word| kind != FaultKind::Lie || *word != Word::Read);
    let switch = (dice.roll(2) == 0).then(|| SwitchId::numbered(1 + dice.number(LENGTH)));
    let times = Some(1 + dice.number(8));
    Fault { when: Match { command, switch, ..Match::default() }, kind, times }
}

/// A reply, a refusal or a timeout that came before comes again.
fn again(world: &mut World, dice: &mut Dice) {
    let records = world.records(&world.inbox());
    let told = |record: &&bus::Record| {
        let kind = record.headers.get("ce_type").unwrap_or_default();
        [&b"nave.reply"[..], b"nave.refusal", b"nave.failure", b"nave.timeout"].contains(&kind)
    };
    let told: Vec<_> = records.iter().filter(told).collect();
    if told.is_empty() {
        return;
    }
    let record = told[usize::try_from(dice.roll(told.len() as u64)).expect("an index")];
    let copy = Outgoing {
        topic: record.topic.clone(),
        route: bus::Route::To(record.partition),
        key: record.key.clone(),
        headers: record.headers.clone(),
        value: record.value.clone(),
    };
    world.write(&[copy]);
}

fn happen(world: &mut World, dice: &mut Dice, asked: &mut Vec<(u32, Asked)>) {
    match dice.roll(13) {
        0..4 => {
            let flow = dice.number(FLOWS);
            let error = [json!(null), json!(null), json!(0), json!(1), json!(2)][dice.number(5) as usize].clone();
            let body = json!({"flowid": format!("flow-{flow}"), "length": LENGTH, "error": error});
            asked.push((flow, world.request(&body)));
        }
        4 | 5 => {
            let fault = some_fault(dice);
            inject(world, fault);
        }
        6 => {
            world.kill_hub();
            world.run_ms(dice.roll(3) * dice.roll(800));
            world.start_hub();
        }
        7 if world.lanes().len() < 3 => world.join_hub(),
        8 if world.lanes().len() > 1 => drop(world.stop_hub()),
        9 => world.expel_hubs(),
        10 => again(world, dice),
        11 => world.clock().step_wall_ms(i64::try_from(dice.roll(4_000)).expect("small")),
        _ => {
            let turns = usize::try_from(dice.roll(40)).expect("small");
            world.run_turns(turns);
        }
    }
}

fn chaos(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut options = options();
    // Every third world has a worker with few places.
    options.speaker.in_flight = if seed.is_multiple_of(3) { 4 } else { 4_096 };
    let mut world = World::with(seed, options);
    let mut asked = Vec::new();
    for _ in 0..40 {
        happen(&mut world, &mut dice, &mut asked);
        world.run_ms(dice.roll(4) * dice.roll(300));
        if world.speaker().is_down() && dice.roll(3) == 0 {
            world.speaker().restart().expect("it has no directory");
        }
    }
    world.speaker().clear_faults();
    world.run_ms(1_000);
    world.speaker().restart().expect("it has no directory");
    // A degraded operation tries again after a minute at the latest, and then it ends.
    world.run_ms(180_000);
    world.run_until_idle();

    let every: Vec<Asked> = asked.iter().map(|(_, asked)| *asked).collect();
    let refused: BTreeSet<usize> =
        (0..every.len()).filter(|i| matches!(world.answer(every[*i]), Outcome::Refused(_))).collect();
    let accepted: Vec<Asked> = (0..every.len()).filter(|i| !refused.contains(i)).map(|i| every[i]).collect();
    assert_eq!(not_at_rest(&mut world, &accepted), [""; 0], "seed {seed}");

    let up: BTreeSet<u32> =
        asked.iter().filter(|(_, asked)| world.answer(*asked).is_done()).map(|(flow, _)| *flow).collect();
    let expected: Vec<(String, u32)> =
        up.iter().flat_map(|flow| (1..=LENGTH).map(move |rule| (format!("flow-{flow}"), rule))).collect();
    let mut stand: Vec<(String, u32)> =
        world.speaker().all_rules().into_iter().map(|rule| (rule.flow.to_string(), rule.number)).collect();
    stand.sort();
    assert_eq!(stand, expected, "seed {seed}");
}

#[test]
fn whatever_happens_each_flow_stands_as_its_clients_were_told() {
    for seed in 1..=120 {
        chaos(seed);
    }
}
