//! Back-pressure: a full inbox pauses its writers, unread records are never dropped, and a cycle
//! does not deadlock.
#![expect(clippy::unwrap_used, clippy::disallowed_types, reason = "tests panic and share collected data")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{EmbeddedOptions, ManualClock, Task};
use serde::{Deserialize, Serialize};
use topology::testing::Lanes;
use topology::{Bolt, Emitter, InboxLimit, Spout, Topology, names};

/// Emits the numbers below `end`, one per call, each with a text of `bytes` bytes.
struct Numbers {
    next: u32,
    end: u32,
    bytes: usize,
}

#[derive(Clone, Serialize, Deserialize)]
struct Number(u32, String);

impl Spout for Numbers {
    type Out = Number;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<Number>) -> bool {
        if self.next == self.end {
            return false;
        }
        out.emit(Number(self.next, "x".repeat(self.bytes)));
        self.next += 1;
        true
    }
}

/// Forwards and records its input.
struct Pass(Arc<Mutex<Vec<u32>>>);

impl Bolt for Pass {
    type In = Number;
    type Out = Number;
    fn execute(&mut self, number: Number, out: &mut Emitter<Number>) {
        self.0.lock().unwrap().push(number.0);
        out.emit(number);
    }
}

/// Records its input; each tuple takes the given number of milliseconds.
struct Slow {
    seen: Arc<Mutex<Vec<u32>>>,
    clock: Option<(Arc<ManualClock>, u64)>,
}

impl Bolt for Slow {
    type In = Number;
    type Out = ();
    fn execute(&mut self, number: Number, _: &mut Emitter<()>) {
        self.seen.lock().unwrap().push(number.0);
        if let Some((clock, ms)) = &self.clock {
            clock.advance_ms(*ms);
        }
    }
}

type Seen = Arc<Mutex<Vec<u32>>>;

fn numbers(end: u32, bytes: usize) -> impl Fn() -> Numbers + Send + Sync + 'static {
    move || Numbers { next: 0, end, bytes }
}

fn slow(seen: &Seen, clock: Option<(Arc<ManualClock>, u64)>) -> impl Fn() -> Slow + Send + Sync + 'static {
    let seen = Arc::clone(seen);
    move || Slow { seen: Arc::clone(&seen), clock: clock.clone() }
}

fn behind(lanes: &Lanes, stage: &str) -> u64 {
    let inbox = lanes.inbox(stage);
    lanes.bus.backlog(&inbox, &inbox).unwrap().into_iter().max().unwrap()
}

#[test]
fn a_spout_pauses_while_the_inbox_it_feeds_is_full_and_nothing_is_lost() {
    let seen = Seen::default();
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(2_000, 10));
    t.bolt("slow", slow(&seen, None)).lanes(2).reads(source.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.inbox_limit = InboxLimit { records: 100, ..InboxLimit::default() };
    lanes.join_stage("source").unwrap();
    lanes.run_ms(10_000);
    let full = behind(&lanes, "slow");
    assert!((100..=102).contains(&full), "{full} records wait, including owner records and gaps");
    let waits = format!("stage source waits: inbox `nave.numbers.slow.in` is full: {full} records behind, limit 100");
    assert_eq!(lanes.status.full(), [waits]);
    let source = Arc::clone(&lanes.status);
    lanes.join_stage("slow").unwrap();
    lanes.run_ms(10_000);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..2_000).collect::<Vec<_>>());
    assert_eq!(source.full(), [""; 0]);
    assert_eq!(lanes.count(names::HELD_UP), 1);
}

#[test]
fn large_tuples_fill_an_inbox_by_their_bytes() {
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(2_000, 10_000));
    t.bolt("slow", slow(&Seen::default(), None)).reads(source.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 2);
    lanes.inbox_limit = InboxLimit { records: 100, bytes: 200_000 };
    lanes.join_stage("source").unwrap();
    lanes.run_ms(10_000);
    // The first check limits by records: the size is unknown before the first record.
    lanes.join_stage("slow").unwrap();
    lanes.run_ms(100);
    lanes.shards.truncate(1);
    lanes.run_ms(10_000);
    let full = behind(&lanes, "slow");
    assert!((10..=21).contains(&full), "{full}");
}

/// The last stage has no owner. Each stage before it fills the inbox of the next one and pauses.
#[test]
fn a_full_inbox_stops_every_stage_before_it() {
    let (passed, seen) = (Seen::default(), Seen::default());
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(5_000, 10));
    let note = Arc::clone(&passed);
    let pass = t.bolt("pass", move || Pass(Arc::clone(&note))).lanes(1).reads(source.shuffle());
    t.bolt("slow", slow(&seen, None)).lanes(1).stage("slow").reads(pass.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 4);
    lanes.inbox_limit = InboxLimit { records: 50, ..InboxLimit::default() };
    lanes.join_stage("source").unwrap();
    lanes.join_stage("pass").unwrap();
    lanes.run_ms(10_000);
    assert_eq!(behind(&lanes, "slow"), 50);
    assert!(behind(&lanes, "pass") <= 52, "{}", behind(&lanes, "pass"));
    assert_eq!(passed.lock().unwrap().len(), 50);
    lanes.join_stage("slow").unwrap();
    lanes.run_ms(60_000);
    assert_eq!(*seen.lock().unwrap(), (0..5_000).collect::<Vec<_>>(), "in order, each once");
}

/// Sends a number back and forth between two stages until it is 0.
struct Down(Seen);

impl Bolt for Down {
    type In = Number;
    type Out = Number;
    fn execute(&mut self, Number(number, text): Number, out: &mut Emitter<Number>) {
        if number > 0 {
            out.emit(Number(number - 1, text));
        } else {
            self.0.lock().unwrap().push(number);
        }
    }
}

/// Storm deadlocks here: both queues are full, and each stage waits for the other.
#[test]
fn a_cycle_of_full_inboxes_does_not_deadlock() {
    let ended = Seen::default();
    let (one, two) = (Arc::clone(&ended), Arc::clone(&ended));
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(200, 10));
    let ping = t.bolt("ping", move || Down(Arc::clone(&one))).lanes(2).stage("ping").reads(source.shuffle());
    let pong = t.bolt("pong", move || Down(Arc::clone(&two))).lanes(2).stage("pong").reads(ping.shuffle());
    ping.reads(pong.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 3);
    lanes.inbox_limit = InboxLimit { records: 1, ..InboxLimit::default() };
    lanes.join();
    assert!(lanes.run_ms(600_000), "no work is left");
    assert_eq!(ended.lock().unwrap().len(), 200);
}

/// 40,000 tuples of 1,000 bytes in the memory of an embedded bus.
#[test]
fn a_bolt_that_is_slower_than_its_spout_gets_every_tuple() {
    let seen = Seen::default();
    let clock = Arc::new(ManualClock::default());
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(40_000, 1_000));
    t.bolt("slow", slow(&seen, Some((Arc::clone(&clock), 1)))).lanes(2).reads(source.shuffle());
    let mut lanes = Lanes::with(t.build().unwrap(), 1, &clock, EmbeddedOptions::default());
    lanes.join();
    lanes.run_ms(100_000);
    assert_eq!(seen.lock().unwrap().len(), 40_000);
    assert!(lanes.bus.bounds("nave.numbers.slow.in", 0).unwrap().low > 0, "read records are deleted");
}

#[test]
fn a_batch_is_committed_after_50_ms_at_any_load() {
    let seen = Seen::default();
    let clock = Arc::new(ManualClock::default());
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(1_000, 10));
    t.bolt("slow", slow(&seen, Some((Arc::clone(&clock), 1)))).reads(source.shuffle());
    let mut lanes = Lanes::with(t.build().unwrap(), 1, &clock, EmbeddedOptions::default());
    lanes.join();
    // A poll ends with a commit, so a crash repeats at most the records of one poll.
    let (mut handled, mut most) = (0, 0);
    while handled < 1_000 {
        for shard in &mut lanes.shards {
            shard.poll(Duration::ZERO).unwrap();
        }
        let before = std::mem::replace(&mut handled, seen.lock().unwrap().len());
        most = most.max(handled - before);
    }
    assert_eq!(most, 50);
    assert!(lanes.count(names::COMMITS) >= 20);
}

#[test]
fn a_spout_that_emits_one_tuple_a_call_shares_commits() {
    let seen = Seen::default();
    let t = Topology::named("numbers");
    let source = t.spout("source", numbers(9_000, 10));
    t.bolt("slow", slow(&seen, None)).reads(source.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    assert!(lanes.run_ms(10_000));
    assert_eq!(seen.lock().unwrap().len(), 9_000);
    assert!(lanes.count(names::COMMITS) < 100);
}
