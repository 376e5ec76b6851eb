//! A component that panics: its tuple goes to the dead-letter topic, and the call has no effects.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bus::Outgoing;
use serde_json::{Value, json};
use topology::testing::Lanes;
use topology::{Bolt, Declarer, Delivery, Emitter, InboxSpout, Side, Spout, Topology, Unreadable, names};
use wire::{Envelope, EnvelopeRef, Kind};

const INBOX: &str = "nave.numbers.main.in";
const ODD: Side<u32> = Side::named("odd");

/// Makes numbers of requests.
struct Numbers;

impl InboxSpout for Numbers {
    type Out = u32;
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u32>) -> Result<(), Unreadable> {
        let number = delivery.json()?;
        out.emit(number);
        assert!(number != 99, "ninety-nine");
        Ok(())
    }
}

/// Emits everything that a call can emit, then panics at 13.
struct Check;

impl Bolt for Check {
    type In = u32;
    type Out = u32;
    fn declare(declarer: &mut Declarer<u32>) {
        declarer.side(ODD);
    }
    fn execute(&mut self, number: u32, out: &mut Emitter<u32>) {
        out.emit(number);
        out.side(ODD, number);
        out.count("checked");
        out.arm(u64::from(number), 1, 1_000);
        out.changed(&Arc::from("view"));
        assert!(number != 13, "thirteen");
    }
}

/// Adds its input to the shared sum.
struct Sum(Arc<AtomicU32>);

impl Bolt for Sum {
    type In = u32;
    type Out = ();
    fn execute(&mut self, number: u32, _: &mut Emitter<()>) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }
}

/// Three sums: behind a local edge, a local side stream, and an edge to another stage.
struct World {
    lanes: Lanes,
    sums: [Arc<AtomicU32>; 3],
}

impl World {
    fn new() -> Self {
        let sums: [Arc<AtomicU32>; 3] = Default::default();
        let [local, side, far] = sums.clone();
        let t = Topology::named("numbers");
        let numbers = t.inbox_spout("main", || Numbers);
        let checked = t.bolt("check", || Check).reads(numbers.local());
        t.bolt("local", move || Sum(Arc::clone(&local))).reads(checked.local());
        t.bolt("side", move || Sum(Arc::clone(&side))).reads(checked.side(ODD).local());
        t.bolt("far", move || Sum(Arc::clone(&far))).lanes(2).reads(checked.shuffle());
        let mut lanes = Lanes::of(t.build().unwrap(), 1);
        lanes.join();
        lanes.run_ms(0);
        Self { lanes, sums }
    }

    fn send(&mut self, id: &str, number: u32) {
        let mut record = Outgoing::keyed(INBOX, "some-key", number.to_string());
        record.headers = bus::Headers::of(&Envelope::new(Kind::Request, id, "/test"));
        self.lanes.write(&[record]);
        self.lanes.run_ms(0);
    }

    fn sums(&self) -> [u32; 3] {
        [0, 1, 2].map(|at| self.sums[at].load(Ordering::Relaxed))
    }
}

#[test]
fn a_tuple_whose_bolt_panics_is_a_dead_letter_without_effects() {
    let mut world = World::new();
    world.send("a", 13);
    assert_eq!(world.sums(), [0; 3]);
    assert_eq!((world.lanes.count("checked"), world.lanes.count(names::PANICS)), (0, 1));
    assert_eq!(world.lanes.timers(), 0);
    let letters = world.lanes.dead_letters();
    assert_eq!(letters.len(), 1);
    let (key, letter) = &letters[0];
    assert_eq!(key.as_deref(), Some("some-key"));
    assert_eq!(letter["place"], "check");
    assert_eq!(letter["reason"], "it panicked: thirteen");
    assert_eq!((&letter["topic"], &letter["record"], &letter["tuples"]), (&json!(INBOX), &json!("13"), &json!(1)));
}

#[test]
fn a_panic_does_not_stop_the_lane_or_disturb_its_shuffle() {
    let mut world = World::new();
    for (id, number) in [("a", 1), ("b", 13), ("c", 2), ("d", 13), ("e", 4)] {
        world.send(id, number);
    }
    assert_eq!(world.sums(), [7; 3]);
    assert_eq!(world.lanes.count("checked"), 3);
    assert_eq!(world.lanes.dead_letters().len(), 2);
    let far = world.lanes.records("nave.numbers.far.in");
    let id_of = |record: &bus::Record| record.headers.envelope().unwrap();
    let tuples = far.iter().map(id_of).filter(|envelope| envelope.kind == Kind::Tuple);
    let ids: Vec<String> = tuples.map(|envelope| envelope.id).collect();
    assert_eq!(ids, [0, 2, 1].map(|n| format!("/nave/numbers/main/0/check/default>far/{n}")), "numbered without a gap");
}

#[test]
fn an_inbox_spout_that_panics_emits_nothing_and_is_named() {
    let mut world = World::new();
    world.send("a", 99);
    assert_eq!(world.sums(), [0; 3]);
    let letters = world.lanes.dead_letters();
    assert_eq!((&letters[0].1["place"], &letters[0].1["reason"]), (&json!("main"), &json!("it panicked: ninety-nine")));
}

/// Emits two numbers and panics in between.
struct Broken(u32);

impl Spout for Broken {
    type Out = u32;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<u32>) -> bool {
        self.0 += 1;
        match self.0 {
            1 | 3 => out.emit(self.0),
            2 => {
                out.emit(100);
                panic!("the file cannot be read");
            }
            _ => return false,
        }
        true
    }
}

/// The conversion of a tuple of another stage can also panic.
#[test]
fn a_spout_or_a_conversion_that_panics_is_a_dead_letter_too() {
    let sum: Arc<AtomicU32> = Arc::default();
    let into = Arc::clone(&sum);
    let t = Topology::named("numbers");
    let broken = t.spout("broken", || Broken(0));
    let careful = |number: u32| (number != 3).then_some(number).or_else(|| panic!("three"));
    t.bolt("sum", move || Sum(Arc::clone(&into))).lanes(2).reads(broken.shuffle().with(careful));
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    lanes.run_ms(1_000);
    assert_eq!(sum.load(Ordering::Relaxed), 1);
    let letters: Vec<Value> = lanes.dead_letters().into_iter().map(|(_, letter)| letter).collect();
    assert_eq!((&letters[0]["place"], &letters[0]["topic"]), (&json!("broken"), &Value::Null));
    assert_eq!(letters[0]["reason"], "it panicked: the file cannot be read");
    assert_eq!(
        (&letters[1]["place"], &letters[1]["reason"]),
        (&json!("broken/default>sum"), &json!("it panicked: three"))
    );
}
