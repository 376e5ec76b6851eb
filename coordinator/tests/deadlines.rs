//! Deadlines in a real lane, in virtual time: regression tests for the timer faults of earlier
//! systems.

use std::sync::Arc;
use std::time::Duration;

use bus::{Clock, MonoTime, Outgoing, Record, Route, Task};
use coordinator::{DEADLINES, Deadline, TimedOut, deadlines};
use topology::testing::Lanes;
use topology::{Bolt, Declarer, Delivery, Emitter, InboxSpout, Message, RecoveryOptions, Topology, Unreadable};
use wire::topics::Topics;
use wire::{Envelope, EnvelopeRef, Kind, WallTime};

// ---- a lane that follows orders -----------------------------------------------------------------------------------

/// The deadlines in a record: key, generation and milliseconds of each. Without milliseconds it is
/// cancelled.
type Orders = Vec<(u64, u32, Option<u64>)>;

#[derive(Default)]
struct Ears;

impl InboxSpout for Ears {
    type Out = Orders;
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Orders>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

#[derive(Clone)]
enum In {
    Orders(Orders),
    TimedOut(TimedOut),
}

impl From<Orders> for In {
    fn from(orders: Orders) -> Self {
        In::Orders(orders)
    }
}

impl From<TimedOut> for In {
    fn from(timed_out: TimedOut) -> Self {
        In::TimedOut(timed_out)
    }
}

/// Registers and cancels deadlines, and publishes those that pass.
struct Keeper {
    egress: Arc<str>,
}

impl Bolt for Keeper {
    type In = In;
    type Out = ();
    fn declare(declarer: &mut Declarer<In>) {
        deadlines(declarer);
    }
    fn execute(&mut self, input: In, out: &mut Emitter<()>) {
        match input {
            In::Orders(orders) => {
                for (key, generation, after_ms) in orders {
                    let cancel = Deadline::Cancel { key };
                    let register = after_ms.map(|after_ms| Deadline::Register { key, generation, after_ms });
                    out.side(DEADLINES, register.unwrap_or(cancel));
                }
            }
            In::TimedOut(TimedOut { key, generation }) => {
                let body = format!("{key}/{generation}");
                let envelope = Envelope::new(Kind::Answer, body.as_str(), out.lane().source());
                out.publish(Message {
                    topic: Arc::clone(&self.egress),
                    route: Route::To(0),
                    key: None,
                    envelope,
                    expires_after_ms: None,
                    body: body.into_bytes().into(),
                });
            }
        }
    }
}

struct Desk {
    lanes: Lanes,
    began: WallTime,
}

impl Desk {
    fn new(seed: u64) -> Self {
        let t = Topology::named("timers");
        let ears = t.inbox_spout("ears", Ears::default);
        let egress: Arc<str> = Topics::default().egress("timers", "keeper").into();
        let keeper = t.bolt("keeper", move || Keeper { egress: Arc::clone(&egress) }).stage("keeper").lanes(1);
        keeper.reads(ears.local());
        let mut lanes = Lanes::of(t.build().expect("the topology is valid"), seed);
        lanes.start("keeper");
        Self { began: lanes.clock.wall(), lanes }
    }

    fn order(&mut self, orders: &Orders) {
        let after = |after_ms: Option<u64>| after_ms.map_or("null".to_owned(), |ms| ms.to_string());
        let body: Vec<String> = orders.iter().map(|(k, g, ms)| format!("[{k},{g},{}]", after(*ms))).collect();
        let envelope = Envelope::new(Kind::Request, "order", "/test");
        let body = format!("[{}]", body.join(","));
        self.lanes.write(&[Outgoing::keyed(&self.lanes.inbox("keeper"), "desk", body).with(&envelope)]);
        self.lanes.run_ms(0);
    }

    /// The passed deadlines: milliseconds since the start, key, generation.
    fn fired(&self) -> Vec<(u64, u64, u32)> {
        let read = |record: &Record| {
            let body = String::from_utf8_lossy(&record.value).into_owned();
            let (key, generation) = body.split_once('/').expect("the keeper writes both");
            let number = |text: &str| text.parse::<u32>().expect("a number");
            (record.time.ms_since(self.began), u64::from(number(key)), number(generation))
        };
        self.lanes.records(&self.lanes.egress("keeper")).iter().map(read).collect()
    }
}

// ---- Lessons 1 to 6 -----------------------------------------------------------------------------------------------------

/// Lesson 1.
#[test]
fn any_number_of_deadlines_in_one_instant_all_fire() {
    let mut desk = Desk::new(1);
    desk.order(&(0..1_000).map(|key| (key, 1, Some(100))).collect());
    desk.lanes.run_ms(99);
    assert_eq!(desk.fired(), []);
    desk.lanes.run_ms(1);
    let mut fired = desk.fired();
    fired.sort_unstable();
    assert_eq!(fired, (0..1_000).map(|key| (100, key, 1)).collect::<Vec<_>>());
    assert_eq!(desk.lanes.timers(), 0);
}

/// Lesson 2.
#[test]
fn deadlines_that_expire_in_one_tick_all_fire() {
    let mut desk = Desk::new(2);
    desk.order(&vec![(1, 1, Some(10))]);
    desk.lanes.run_ms(4);
    desk.order(&vec![(2, 1, Some(6)), (3, 1, Some(6))]);
    assert!(desk.lanes.run_ms(2_000), "the lane becomes idle");
    let mut fired = desk.fired();
    fired.sort_unstable();
    assert_eq!(fired, [(10, 1, 1), (10, 2, 1), (10, 3, 1)]);
}

/// Lessons 3 and 4: the commit that cancels a deadline removes it.
#[test]
fn a_cancelled_deadline_never_fires_for_its_reused_key() {
    let mut desk = Desk::new(3);
    desk.order(&vec![(7, 1, Some(100))]);
    assert_eq!(desk.lanes.timers(), 1);
    desk.lanes.run_ms(30);
    desk.order(&vec![(7, 0, None)]);
    assert_eq!(desk.lanes.timers(), 0);
    desk.order(&vec![(7, 2, Some(100))]);
    desk.lanes.run_ms(1_000);
    assert_eq!(desk.fired(), [(130, 7, 2)]);
}

/// Lesson 3: in production a 10 s timer that was armed again at 9.0 s fired at 10.0 s.
#[test]
fn a_replaced_deadline_counts_from_its_registration() {
    let mut desk = Desk::new(4);
    desk.order(&vec![(7, 1, Some(10_000))]);
    desk.lanes.run_ms(9_000);
    desk.order(&vec![(7, 2, Some(10_000))]);
    desk.lanes.run_ms(60_000);
    assert_eq!(desk.fired(), [(19_000, 7, 2)]);
}

/// Lesson 4.
#[test]
fn a_hundred_thousand_cancelled_deadlines_leave_nothing() {
    let mut desk = Desk::new(5);
    for thousand in 0..100 {
        let keys = (thousand * 1_000)..(thousand + 1) * 1_000;
        desk.order(&keys.flat_map(|key| [(key, 1, Some(60_000)), (key, 0, None)]).collect());
    }
    assert_eq!(desk.lanes.timers(), 0);
    assert!(desk.lanes.run_ms(2_000), "after its position update the lane is idle");
    desk.lanes.run_ms(120_000);
    assert_eq!(desk.fired(), []);
}

/// Lesson 5.
#[test]
fn a_wall_clock_step_does_not_move_a_deadline() {
    for step_ms in [-3_600_000, 3_600_000] {
        let mut desk = Desk::new(6);
        desk.order(&vec![(1, 1, Some(1_000))]);
        desk.lanes.run_ms(500);
        desk.lanes.clock.step_wall_ms(step_ms);
        desk.lanes.run_ms(499);
        assert_eq!(desk.fired(), [], "stepped by {step_ms}");
        desk.lanes.run_ms(1);
        assert_eq!(desk.fired().len(), 1, "stepped by {step_ms}");
    }
}

/// Lessons 5 and 39: nothing ticks. A lane without deadlines never wakes; one with a distant
/// deadline wakes a few times.
#[test]
fn an_idle_lane_does_not_wake() {
    let mut desk = Desk::new(7);
    assert!(desk.lanes.run_ms(RecoveryOptions::SNAPSHOT_MS), "its first snapshot is taken");
    let idle = desk.lanes.shards[0].poll(Duration::ZERO).expect("no error");
    assert_eq!((idle.worked, idle.next), (false, None));

    let an_hour_ms = 3_600_000;
    let due_ms = RecoveryOptions::SNAPSHOT_MS + an_hour_ms;
    desk.order(&vec![(1, 1, Some(an_hour_ms))]);
    let mut wakes = 0;
    while desk.fired().is_empty() {
        let turn = desk.lanes.shards[0].poll(Duration::ZERO).expect("no error");
        if !turn.worked {
            desk.lanes.clock.advance_to(turn.next.expect("it waits for its deadline"));
            wakes += 1;
        }
        assert!(wakes < 10, "woken {wakes} times");
    }
    assert_eq!(desk.fired(), [(due_ms, 1, 1)]);
    assert_eq!(desk.lanes.clock.mono(), MonoTime(0).plus_ms(due_ms));
}

/// Lesson 6: every deadline fires once, never early, and no later than its owner's absence causes.
#[test]
fn a_restart_at_any_moment_loses_no_deadline() {
    for seed in 0..2 {
        for dies_ms in 0..120 {
            for dead_ms in [0, 25, 500] {
                let mut desk = Desk::new(seed);
                desk.order(&(1..=10).map(|key| (key, 1, Some(key * 10))).collect());
                desk.order(&vec![(3, 0, None), (5, 2, Some(90))]);
                desk.lanes.run_ms(dies_ms);
                desk.lanes.kill("keeper");
                desk.lanes.run_ms(dead_ms);
                desk.lanes.start("keeper");
                desk.lanes.run_ms(1_000);
                let mut fired = desk.fired();
                fired.sort_by_key(|(_, key, _)| *key);
                let what = format!("seed {seed}, killed at {dies_ms} ms for {dead_ms} ms: {fired:?}");
                let keys: Vec<_> = fired.iter().map(|(_, key, generation)| (*key, *generation)).collect();
                let expected = [(1, 1), (2, 1), (4, 1), (5, 2), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1)];
                assert_eq!(keys, expected, "{what}");
                for (at, key, _) in fired {
                    let due = if key == 5 { 90 } else { key * 10 };
                    let latest = if due >= dies_ms { due.max(dies_ms + dead_ms) } else { due };
                    assert!((due..=latest).contains(&at), "key {key}: {what}");
                }
            }
        }
    }
}

/// Other systems failed under storms of timers with 2,500 records each. Here a passed deadline
/// costs one record, and a cancelled one none.
#[test]
fn a_deadline_costs_one_record_and_a_cancelled_one_none() {
    let mut desk = Desk::new(8);
    desk.order(&(0..1_000).map(|key| (key, 1, Some(1_000 + key % 7))).collect());
    desk.order(&(0..1_000).filter(|key| key % 2 == 0).map(|key| (key, 0, None)).collect());
    desk.lanes.run_ms(3_600_000);
    let records = desk.lanes.bus.bounds(&desk.lanes.inbox("keeper"), 0).expect("the topic is there").end;
    let others = 3; // the owner record and the two orders
    assert_eq!((records - others, desk.fired().len()), (500, 500));
}
