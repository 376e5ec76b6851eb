//! Timers of a bolt: each fires once, at its time, for its owner, also after a takeover.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use bus::Outgoing;
use serde::{Deserialize, Serialize};
use topology::testing::Lanes;
use topology::{Bolt, Delivery, Emitter, InboxSpout, Message, Route, Topology, Unreadable};
use wire::topics::Topics;
use wire::{Envelope, EnvelopeRef, Kind};

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Order {
    After { key: u64, ms: u64 },
    Disarm { key: u64 },
}

struct Orders;

impl InboxSpout for Orders {
    type Out = Order;
    fn accepts(&self, head: &EnvelopeRef<'_>) -> bool {
        head.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Order>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Publishes the keys of its timers as they fire. Key 13 panics.
struct Clock(&'static str);

impl Bolt for Clock {
    type In = Order;
    type Out = ();
    fn execute(&mut self, order: Order, out: &mut Emitter<()>) {
        match order {
            Order::After { key, ms } => out.after(key, ms),
            Order::Disarm { key } => out.disarm(key),
        }
    }
    fn on_timer(&mut self, key: u64, out: &mut Emitter<()>) {
        let text = format!("{} {key}", self.0);
        out.publish(Message {
            topic: Topics::default().egress("clocks", "clocks").into(),
            route: Route::To(0),
            key: None,
            envelope: Envelope::new(Kind::Answer, text.as_str(), "/test"),
            expires_after_ms: None,
            body: text.into_bytes().into(),
        });
        assert!(key != 13, "thirteen");
    }
}

fn topology(clocks: &[&'static str]) -> Topology {
    let t = Topology::named("clocks");
    let orders = t.inbox_spout("orders", || Orders);
    for name in clocks.iter().copied() {
        t.bolt(name, move || Clock(name)).stage("clocks").lanes(1).reads(orders.local());
    }
    t.build().unwrap()
}

fn clocks(seed: u64) -> Lanes {
    let mut lanes = Lanes::of(topology(&["one", "two"]), seed);
    lanes.join();
    lanes.run_ms(1);
    lanes
}

fn order(lanes: &Lanes, orders: &[Order]) {
    for order in orders {
        let record = Outgoing::keyed(&lanes.inbox("clocks"), "k", serde_json::to_string(order).unwrap());
        lanes.write(&[record.with(&Envelope::new(Kind::Request, "r", "/test"))]);
    }
}

fn fired(lanes: &Lanes) -> Vec<String> {
    let records = lanes.records(&lanes.egress("clocks"));
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

#[test]
fn each_bolt_has_its_own_keys() {
    let mut lanes = clocks(1);
    order(&lanes, &[Order::After { key: 7, ms: 20 }, Order::After { key: 8, ms: 10 }]);
    lanes.run_ms(10);
    assert_eq!(fired(&lanes), ["one 8", "two 8"]);
    lanes.run_ms(10);
    assert_eq!(fired(&lanes), ["one 8", "two 8", "one 7", "two 7"]);
    assert_eq!(lanes.timers(), 0);
}

#[test]
fn a_timer_that_is_disarmed_or_armed_again_does_not_fire() {
    let mut lanes = clocks(1);
    order(&lanes, &[Order::After { key: 1, ms: 10 }, Order::After { key: 2, ms: 10 }, Order::After { key: 3, ms: 10 }]);
    lanes.run_ms(9);
    order(&lanes, &[Order::Disarm { key: 2 }, Order::After { key: 3, ms: 50 }]);
    lanes.run_ms(49);
    assert_eq!(fired(&lanes), ["one 1", "two 1"]);
    lanes.run_ms(1);
    assert_eq!(fired(&lanes), ["one 1", "two 1", "one 3", "two 3"]);
}

/// Ticks every second, from the start of its lane on, without any tuple.
struct Ticker;

impl Bolt for Ticker {
    type In = Order;
    type Out = ();
    fn start(&mut self, out: &mut Emitter<()>) {
        out.after(0, 1_000);
    }
    fn execute(&mut self, _: Order, _: &mut Emitter<()>) {}
    fn on_timer(&mut self, key: u64, out: &mut Emitter<()>) {
        Clock("tick").on_timer(key, out);
        out.after(0, 1_000);
    }
}

#[test]
fn a_bolt_ticks_from_the_start_of_its_lane_and_after_a_takeover() {
    let t = Topology::named("clocks");
    let orders = t.inbox_spout("orders", || Orders);
    t.bolt("ticker", || Ticker).stage("clocks").lanes(1).reads(orders.local());
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    for seconds in 1..=3 {
        lanes.run_ms(if seconds == 1 { 1_001 } else { 1_000 });
        assert_eq!(fired(&lanes).len(), seconds, "one tick a second");
    }
    lanes.kill("clocks");
    lanes.start("clocks");
    lanes.run_ms(3_000);
    assert!((5..=6).contains(&fired(&lanes).len()), "the new owner ticks: {:?}", fired(&lanes));
}

/// The timeouts are in the inbox, before the order that disarms their timers is read.
#[test]
fn a_timeout_that_is_overtaken_by_a_later_order_is_stale() {
    let mut lanes = clocks(1);
    order(&lanes, &[Order::After { key: 1, ms: 0 }, Order::Disarm { key: 1 }, Order::After { key: 1, ms: 1_000 }]);
    lanes.run_ms(999);
    assert_eq!(fired(&lanes), [""; 0]);
    lanes.run_ms(1);
    assert_eq!(fired(&lanes), ["one 1", "two 1"]);
    // A forged timeout of a timer that is not armed.
    let mut envelope = Envelope::new(Kind::Timeout, "forged", "/stranger");
    envelope.subject = Some("one".into());
    let forged = Outgoing::keyed(&lanes.inbox("clocks"), "k", r#"{"timer":1,"generation":1}"#).with(&envelope);
    lanes.write(&[forged]);
    lanes.run_ms(1_000);
    assert_eq!((fired(&lanes).len(), lanes.count(topology::names::TIMEOUTS_STALE)), (2, 1));
}

/// With and without a snapshot, and with timeouts in every phase.
#[test]
fn timers_survive_a_crash_at_any_millisecond() {
    for (crash_ms, snapshot_ms, seed) in (0..40).flat_map(|ms| [(ms, 0, 0), (ms, 5, 1), (ms, 10_000, 2)]) {
        let mut lanes = clocks(seed);
        lanes.kill("clocks");
        lanes.recovery.snapshot_ms = snapshot_ms;
        lanes.start("clocks");
        order(&lanes, &(1..=10).map(|key| Order::After { key, ms: key * 3 }).collect::<Vec<_>>());
        lanes.run_ms(crash_ms);
        lanes.kill("clocks");
        order(&lanes, &[Order::After { key: 11, ms: 1 }]);
        lanes.start("clocks");
        lanes.run_ms(1_000);
        let mut keys = fired(&lanes);
        keys.sort();
        let mut expected: Vec<String> = (1..=11).flat_map(|key| [format!("one {key}"), format!("two {key}")]).collect();
        expected.sort();
        assert_eq!(keys, expected, "crash after {crash_ms} ms, snapshots every {snapshot_ms} ms");
    }
}

/// The replay of a larger graph arms more timers. Those of the old bolts are the same.
#[test]
fn timers_survive_a_crash_into_a_build_with_another_bolt() {
    for crash_ms in 0..20 {
        let mut lanes = clocks(1);
        lanes.kill("clocks");
        lanes.recovery.snapshot_ms = 10_000;
        lanes.start("clocks");
        order(&lanes, &(1..=5).map(|key| Order::After { key, ms: key * 3 }).collect::<Vec<_>>());
        lanes.run_ms(crash_ms);
        lanes.kill("clocks");
        lanes.topology = topology(&["another", "one", "two"]);
        lanes.start("clocks");
        lanes.run_ms(1_000);
        let mut keys = fired(&lanes);
        keys.retain(|line| !line.starts_with("another"));
        keys.sort();
        let mut expected: Vec<String> = (1..=5).flat_map(|key| [format!("one {key}"), format!("two {key}")]).collect();
        expected.sort();
        assert_eq!(keys, expected, "crash after {crash_ms} ms");
    }
}

/// A spout that accepts everything does not get the timeouts of bolts.
#[test]
fn a_greedy_spout_leaves_timeouts_to_their_bolts() {
    struct Greedy;
    impl InboxSpout for Greedy {
        type Out = Order;
        fn accepts(&self, _: &EnvelopeRef<'_>) -> bool {
            true
        }
        fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<Order>) -> Result<(), Unreadable> {
            out.emit(delivery.json()?);
            Ok(())
        }
    }
    let t = Topology::named("clocks");
    let orders = t.inbox_spout("greedy", || Greedy);
    t.bolt("one", || Clock("one")).stage("clocks").lanes(1).reads(orders.local());
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    order(&lanes, &[Order::After { key: 7, ms: 20 }]);
    lanes.run_ms(1_000);
    assert_eq!(fired(&lanes), ["one 7"]);
}

#[test]
fn a_panic_on_a_timer_is_a_dead_letter_without_effects() {
    let mut lanes = clocks(1);
    order(&lanes, &[Order::After { key: 13, ms: 1 }, Order::After { key: 14, ms: 2 }]);
    lanes.run_ms(100);
    assert_eq!(fired(&lanes), ["one 14", "two 14"]);
    let letters = lanes.dead_letters();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|(_, letter)| letter["reason"] == "it panicked: thirteen"), "{letters:?}");
}
