//! Acking: a spout that tracks its tuples learns once what became of each root, and after the commit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_types, reason = "a test collects what a spout learns")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bus::{BusError, CommitFault, FaultScript, FaultyBus};
use topology::testing::Lanes;
use topology::{BuildError, Builder, Declared, DeliveryMode, Emitter, Failed, Side, Spout, Topology, Tuple, names};

/// The outcome of a root as its spout learned it: its id, and the place and the reason of a failure.
type Learned = (u64, Option<(String, String)>);

/// The outcomes that the spouts of a test learned, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Learned>>>);

impl Log {
    fn add(&self, id: u64, failed: Option<&Failed>) {
        let failure = failed.map(|failed| (failed.place.to_string(), failed.reason.clone()));
        self.0.lock().unwrap().push((id, failure));
    }

    fn take(&self) -> Vec<Learned> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn acked(ids: impl IntoIterator<Item = u64>) -> Vec<Learned> {
    ids.into_iter().map(|id| (id, None)).collect()
}

fn failed(id: u64, place: &str, reason: &str) -> Learned {
    (id, Some((place.to_owned(), reason.to_owned())))
}

/// Emits the numbers below `count`, each as a root of its own.
struct Numbers {
    log: Log,
    count: u64,
    next: u64,
}

impl Spout for Numbers {
    type Out = u64;
    type Position = ();
    const TRACKS: bool = true;

    fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
        if self.next == self.count {
            return false;
        }
        let number = self.next;
        self.next += 1;
        out.track(number, |out| out.emit(number));
        true
    }

    fn ack(&mut self, id: u64, (): &mut ()) {
        self.log.add(id, None);
    }

    fn fail(&mut self, id: u64, failed: &Failed, (): &mut (), _: &mut Emitter<u64>) {
        self.log.add(id, Some(failed));
    }
}

fn numbers(t: &Builder, log: &Log, count: u64) -> Declared<(), u64> {
    let log = log.clone();
    t.spout("numbers", move || Numbers { log: log.clone(), count, next: 0 })
}

fn run(t: &Builder, ms: u64) -> Lanes {
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    lanes.run_ms(ms);
    lanes
}

/// Holds each tuple for `ms` milliseconds, then acks it.
struct Delay {
    ms: u64,
    held: VecDeque<Tuple<u64>>,
}

impl Delay {
    fn of(ms: u64) -> impl Fn() -> Self + Send + Sync + 'static {
        move || Self { ms, held: VecDeque::new() }
    }
}

impl topology::Bolt for Delay {
    type In = u64;
    type Out = ();

    fn execute(&mut self, number: u64, out: &mut Emitter<()>) {
        self.held.push_back(out.hold(number));
        out.after(number, self.ms);
    }

    fn on_timer(&mut self, _: u64, _: &mut Emitter<()>) {
        self.held.pop_front().unwrap().ack();
    }
}

// C5
#[test]
fn a_root_is_acked_once_when_every_branch_of_its_tree_is_done() {
    let (t, log) = (Topology::named("t"), Log::default());
    let numbers = numbers(&t, &log, 3);
    let copies = numbers.out().local().flat_map("copy", |n| vec![n; 3]);
    copies.local().map("next", |n| n + 1).local().for_each("end", drop);
    numbers.out().local().for_each("other", drop);
    let lanes = run(&t, 100);
    assert_eq!(log.take(), acked(0..3));
    assert_eq!((lanes.pending_roots(), lanes.dead_letters()), (0, Vec::new()));
}

// C7
#[test]
fn a_bolt_that_holds_its_inputs_delays_their_roots() {
    let (t, log) = (Topology::named("t"), Log::default());
    let numbers = numbers(&t, &log, 2);
    t.bolt("delay", Delay::of(5_000)).reads(numbers.local());
    numbers.local().for_each("other", drop);
    let mut lanes = run(&t, 4_000);
    assert_eq!((log.take(), lanes.pending_roots()), (Vec::new(), 2));
    // A kill that drains waits for them.
    assert_eq!(lanes.unfinished(), ["numbers lane 0: roots of spouts that are neither acked nor failed: 2"]);
    lanes.run_ms(2_000);
    assert_eq!((log.take(), lanes.pending_roots()), (acked(0..2), 0));
}

// C9
#[test]
fn a_root_fails_at_its_deadline_and_not_before() {
    for mode in [DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce] {
        let (t, log) = (Topology::named("t"), Log::default());
        let numbers = numbers(&t, &log, 4).timeout_ms(10_000).mode(mode);
        let (odd, even) =
            (numbers.local().filter("odd", |n| n % 2 == 1), numbers.local().filter("even", |n| n % 2 == 0));
        t.bolt("delay", Delay::of(60_000)).reads(odd.local());
        even.local().for_each("end", drop);
        let mut lanes = Lanes::of(t.build().unwrap(), 1);
        lanes.join();
        while log.0.lock().unwrap().is_empty() {
            lanes.run_polls(&mut [], 1);
        }
        let emitted_ms = lanes.now_ms();
        lanes.run_ms(9_999);
        assert_eq!(log.take(), acked([0, 2]), "{emitted_ms}");
        lanes.run_ms(1);
        let reason = "not acked within 10000 ms";
        assert_eq!(log.take(), [failed(1, "delay", reason), failed(3, "delay", reason)]);
        assert_eq!(lanes.pending_roots(), 0);
    }
}

#[test]
fn an_ack_after_the_deadline_is_counted_and_has_no_effect() {
    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("delay", Delay::of(20_000)).reads(numbers(&t, &log, 1).timeout_ms(10_000).local());
    let mut lanes = run(&t, 15_000);
    assert_eq!(log.take(), [failed(0, "delay", "not acked within 10000 ms")]);
    lanes.run_ms(10_000);
    assert_eq!((log.take(), lanes.count(names::ACKS_LATE), lanes.pending_roots()), (Vec::new(), 1, 0));
}

// C10
#[test]
fn an_extended_deadline_keeps_a_root_alive() {
    /// Extends the deadline each second, for 30 seconds.
    #[derive(Default)]
    struct Patient(Option<Tuple<u64>>);

    impl topology::Bolt for Patient {
        type In = u64;
        type Out = ();
        fn execute(&mut self, number: u64, out: &mut Emitter<()>) {
            self.0 = Some(out.hold(number));
            out.after(0, 1_000);
        }
        fn on_timer(&mut self, seconds: u64, out: &mut Emitter<()>) {
            if seconds == 30 {
                self.0.take().unwrap().ack();
            } else {
                self.0.as_ref().unwrap().extend(1_500);
                out.after(seconds + 1, 1_000);
            }
        }
    }

    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("patient", Patient::default).reads(numbers(&t, &log, 1).timeout_ms(2_000).local());
    let mut lanes = run(&t, 30_000);
    assert_eq!(log.take(), []);
    lanes.run_ms(2_000);
    assert_eq!(log.take(), acked([0]));
}

// C11
#[test]
fn without_a_timeout_a_root_never_fails_by_time() {
    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("delay", Delay::of(86_400_000)).reads(numbers(&t, &log, 1).timeout_ms(None).local());
    let mut lanes = run(&t, 86_000_000);
    assert_eq!((log.take(), lanes.pending_roots()), (Vec::new(), 1));
    lanes.run_ms(500_000);
    assert_eq!(log.take(), acked([0]));
}

#[test]
fn a_panic_fails_its_tuple_alone_with_place_and_message() {
    let (t, log) = (Topology::named("t"), Log::default());
    let checked = numbers(&t, &log, 3).local().map("check", |n| {
        assert!(n != 1, "one is bad");
        n
    });
    checked.local().for_each("end", drop);
    let lanes = run(&t, 100);
    let learned: BTreeMap<_, _> = log.take().into_iter().collect();
    let expected = [(0, None), failed(1, "check", "it panicked: one is bad"), (2, None)];
    assert_eq!(learned, expected.into_iter().collect());
    assert_eq!(lanes.dead_letters(), [], "the spout decides what becomes of a failed root");
}

#[test]
fn a_failure_in_one_branch_fails_the_root_once() {
    struct Refuse;
    impl topology::Bolt for Refuse {
        type In = u64;
        type Out = ();
        fn execute(&mut self, number: u64, out: &mut Emitter<()>) {
            out.fail(format!("{number} is refused"));
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let copies = numbers(&t, &log, 1).local().flat_map("copy", |n| vec![n, n + 10]);
    t.bolt("refuse", || Refuse).reads(copies.local());
    copies.local().for_each("other", drop);
    let lanes = run(&t, 100);
    assert_eq!((log.take(), lanes.pending_roots()), (vec![failed(0, "refuse", "0 is refused")], 0));
}

#[test]
fn a_failed_root_is_a_dead_letter_unless_the_spout_handles_it() {
    struct Once(bool);
    impl Spout for Once {
        type Out = u64;
        type Position = ();
        const TRACKS: bool = true;
        fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
            if !std::mem::replace(&mut self.0, true) {
                out.track(7, |out| out.emit(7));
            }
            false
        }
    }
    let t = Topology::named("t");
    t.spout("once", || Once(false)).local().for_each("end", |_| panic!("no"));
    let letters = run(&t, 100).dead_letters();
    let [(_, letter)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&letter["place"], &letter["reason"]), (&"end".into(), &"it panicked: no".into()));
}

#[test]
fn a_held_tuple_that_is_dropped_fails_its_root() {
    struct Forget;
    impl topology::Bolt for Forget {
        type In = u64;
        type Out = ();
        fn execute(&mut self, number: u64, out: &mut Emitter<()>) {
            let held = out.hold(number);
            assert!(*held != 1, "with a held tuple");
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("forget", || Forget).reads(numbers(&t, &log, 2).local());
    run(&t, 100);
    let dropped = failed(0, "forget", "a held tuple was dropped without an ack");
    assert_eq!(log.take(), [dropped, failed(1, "forget", "it panicked: with a held tuple")]);
}

#[test]
fn a_tuple_with_several_anchors_belongs_to_all_their_roots() {
    /// Emits the sum of each two numbers, for both.
    #[derive(Default)]
    struct Pairs(Option<Tuple<u64>>);
    impl topology::Bolt for Pairs {
        type In = u64;
        type Out = u64;
        fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
            let second = out.hold(number);
            let Some(first) = self.0.take() else {
                self.0 = Some(second);
                return;
            };
            out.emit_anchored(&[&first, &second], *first + *second);
            first.ack();
            second.ack();
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let sums = t.bolt("pairs", Pairs::default).reads(numbers(&t, &log, 5).local());
    sums.local().for_each("check", |sum| assert!(sum != 5, "five is bad"));
    let lanes = run(&t, 100);
    let bad = |id| failed(id, "check", "it panicked: five is bad");
    let learned: BTreeMap<_, _> = log.take().into_iter().collect();
    assert_eq!(learned, [(0, None), (1, None), bad(2), bad(3)].into_iter().collect());
    assert_eq!(lanes.pending_roots(), 1, "the fifth number waits for a sixth");
}

#[test]
fn a_root_can_have_tuples_of_several_streams() {
    const NOTES: Side<String> = Side::named("notes");
    struct Both(Log, bool);
    impl Spout for Both {
        type Out = u64;
        type Position = ();
        const TRACKS: bool = true;
        fn declare(declarer: &mut topology::Declarer<()>) {
            declarer.side(NOTES);
        }
        fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
            if !std::mem::replace(&mut self.1, true) {
                out.track(1, |out| {
                    out.emit(1);
                    out.side(NOTES, "a note".into());
                });
            }
            false
        }
        fn ack(&mut self, id: u64, (): &mut ()) {
            self.0.add(id, None);
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let of = log.clone();
    let both = t.spout("both", move || Both(of.clone(), false));
    t.bolt("delay", Delay::of(1_000)).reads(both.local());
    both.side(NOTES).local().for_each("notes", drop);
    let mut lanes = run(&t, 900);
    assert_eq!(log.take(), []);
    lanes.run_ms(200);
    assert_eq!(log.take(), acked([1]));
}

#[test]
fn a_spout_is_not_called_beyond_its_maximum_of_pending_roots() {
    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("delay", Delay::of(1_000)).reads(numbers(&t, &log, 10).max_pending(3).local());
    let mut lanes = run(&t, 900);
    for batch in [0..3, 3..6, 6..9, 9..10] {
        assert_eq!(lanes.pending_roots() as usize, batch.clone().count());
        lanes.run_ms(1_000);
        assert_eq!(log.take(), acked(batch));
    }
}

/// A call that panics emits nothing, so its roots have no outcome.
#[test]
fn a_panic_of_the_spout_forgets_the_roots_of_its_call() {
    struct Panics(Log, u64);
    impl Spout for Panics {
        type Out = u64;
        type Position = ();
        const TRACKS: bool = true;
        fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
            if self.1 == 3 {
                return false;
            }
            self.1 += 1;
            out.track(self.1, |out| {
                out.emit(self.1);
                assert!(self.1 != 2, "inside");
            });
            assert!(self.1 != 1, "after it");
            true
        }
        fn ack(&mut self, id: u64, (): &mut ()) {
            self.0.add(id, None);
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let of = log.clone();
    t.spout("panics", move || Panics(of.clone(), 0)).local().for_each("end", drop);
    let lanes = run(&t, 10_000);
    assert_eq!((log.take(), lanes.pending_roots()), (acked([3]), 0));
}

#[test]
fn limits_are_refused_where_nothing_is_tracked_and_zero_is_refused() {
    let (t, log) = (Topology::named("t"), Log::default());
    let numbers = numbers(&t, &log, 1).max_pending(0).timeout_ms(0);
    numbers.local().map("next", |n| n + 1).max_pending(7).may_be_unread();
    let errors = t.build().err().unwrap().errors;
    let zero = |limit| BuildError::ZeroLimit { component: "numbers".into(), limit };
    let not_tracking = BuildError::NotTracking { component: "next".into(), limit: "max_pending" };
    assert_eq!(errors, [not_tracking, zero("max_pending"), zero("timeout_ms")]);
}

/// The tuples go to another stage, so they are done with the commit.
#[test]
fn an_ack_comes_after_the_commit_of_what_the_root_caused() {
    let away = || BusError::Unavailable("away".into());
    let faults = [CommitFault::Fails(away()), CommitFault::UnknownButCommitted, CommitFault::UnknownNotCommitted];
    for (fault, earlier) in faults.iter().flat_map(|fault| (0..6).map(move |earlier| (fault, earlier))) {
        let (t, log) = (Topology::named("t"), Log::default());
        numbers(&t, &log, 3).shuffle().for_each("end", drop);
        let (script, topology) = (Arc::new(FaultScript::default()), t.build().unwrap());
        let wrapped = Arc::clone(&script);
        let mut lanes = Lanes::on(topology, 0, |bus| Arc::new(FaultyBus::new(Arc::new(bus), wrapped)));
        (0..earlier).for_each(|_| script.commit(CommitFault::None));
        script.commit(fault.clone());
        lanes.join_stage("numbers").unwrap();
        for _ in 0..60 {
            lanes.run_polls(&mut [], 1);
            let (learned, written) = (log.0.lock().unwrap().len(), lanes.records(&lanes.inbox("end")).len());
            assert!(learned <= written, "{fault:?} after {earlier} commits: acked before the commit");
        }
        lanes.run_ms(1_000);
        assert_eq!((log.take(), lanes.records(&lanes.inbox("end")).len()), (acked(0..3), 3), "{fault:?}");
    }
}

/// Emits numbers again until they are acked; its position is the end of the acked prefix.
#[derive(Default)]
struct Replaying {
    next: Option<u64>,
    acked: std::collections::BTreeSet<u64>,
    again: VecDeque<u64>,
}

impl Spout for Replaying {
    type Out = u64;
    type Position = u64;
    const TRACKS: bool = true;

    fn next(&mut self, position: &mut u64, out: &mut Emitter<u64>) -> bool {
        let next = self.next.get_or_insert(*position);
        let number = self.again.pop_front().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        });
        if number < 12 {
            out.track(number, |out| out.emit(number));
        }
        number < 12
    }

    fn ack(&mut self, id: u64, position: &mut u64) {
        self.acked.insert(id);
        while self.acked.remove(position) {
            *position += 1;
        }
    }

    fn fail(&mut self, id: u64, _: &Failed, _: &mut u64, _: &mut Emitter<u64>) {
        self.again.push_back(id);
    }
}

/// Holds each number for a while, and fails each fifth call.
#[derive(Default)]
struct Flaky {
    calls: u64,
    held: VecDeque<Tuple<u64>>,
}

impl topology::Bolt for Flaky {
    type In = u64;
    type Out = u64;
    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        self.calls += 1;
        if self.calls.is_multiple_of(5) {
            return out.fail("the fifth call");
        }
        self.held.push_back(out.hold(number));
        out.after(number, 3);
    }
    fn on_timer(&mut self, _: u64, out: &mut Emitter<u64>) {
        if let Some(held) = self.held.pop_front() {
            out.emit_anchored(&[&held], *held);
            held.ack();
        }
    }
}

// C55: the position is the end of the acked prefix.
#[test]
fn a_spout_that_replays_loses_no_tuple_at_a_crash_at_any_point() {
    for polls in 0..60 {
        let t = Topology::named("t");
        let numbers = t.spout("numbers", Replaying::default).max_pending(4);
        let flaky = t.bolt("flaky", Flaky::default).reads(numbers.local());
        flaky.shuffle().for_each("end", drop);
        let mut lanes = Lanes::of(t.build().unwrap(), polls % 2);
        lanes.join_stage("numbers").unwrap();
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        lanes.kill("numbers");
        lanes.start("numbers");
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        let records = lanes.records(&lanes.inbox("end"));
        let mut received: Vec<u64> =
            records.iter().filter_map(|record| serde_json::from_slice(&record.value).ok()).collect();
        received.sort_unstable();
        received.dedup();
        assert_eq!(received, (0..12).collect::<Vec<_>>(), "{polls} polls");
        assert_eq!(lanes.pending_roots(), 0, "{polls} polls");
    }
}

#[test]
fn a_deadline_can_be_extended_in_the_step_of_its_root() {
    struct Long(Option<Tuple<u64>>);
    impl topology::Bolt for Long {
        type In = u64;
        type Out = ();
        fn execute(&mut self, number: u64, out: &mut Emitter<()>) {
            let held = out.hold(number);
            held.extend(60_000);
            self.0 = Some(held);
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    t.bolt("long", || Long(None)).reads(numbers(&t, &log, 1).timeout_ms(10_000).local());
    let mut lanes = run(&t, 50_000);
    assert_eq!(log.take(), []);
    lanes.run_ms(15_000);
    assert_eq!(log.take(), [failed(0, "long", "not acked within 60000 ms")]);
}

#[test]
fn a_spout_that_fails_a_root_and_panics_leaves_no_root_pending() {
    struct Panics(Log, bool);
    impl Spout for Panics {
        type Out = u64;
        type Position = ();
        const TRACKS: bool = true;
        fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
            if !std::mem::replace(&mut self.1, true) {
                out.track(1, |out| out.fail("bad"));
                panic!("after it");
            }
            false
        }
        fn fail(&mut self, id: u64, failed: &Failed, (): &mut (), _: &mut Emitter<u64>) {
            self.0.add(id, Some(failed));
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let of = log.clone();
    t.spout("panics", move || Panics(of.clone(), false)).local().for_each("end", drop);
    let lanes = run(&t, 10_000);
    assert_eq!((log.take(), lanes.pending_roots()), (vec![failed(1, "panics", "bad")], 0));
}

#[test]
fn a_panic_after_a_held_tuple_was_emitted_fails_its_root() {
    struct Passes;
    impl topology::Bolt for Passes {
        type In = u64;
        type Out = std::rc::Rc<Tuple<u64>>;
        fn execute(&mut self, number: u64, out: &mut Emitter<Self::Out>) {
            let held = out.hold(number);
            out.emit(std::rc::Rc::new(held));
            panic!("after it");
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let passes = t.bolt("passes", || Passes).reads(numbers(&t, &log, 1).local());
    passes.local().for_each("end", drop);
    let lanes = run(&t, 100);
    assert_eq!((log.take().len(), lanes.pending_roots()), (1, 0));
}

#[test]
fn a_panic_after_an_ack_does_not_ack_the_root() {
    struct Pairs(Option<Tuple<u64>>);
    impl topology::Bolt for Pairs {
        type In = u64;
        type Out = u64;
        fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
            let second = out.hold(number);
            let Some(first) = self.0.take() else {
                self.0 = Some(second);
                return;
            };
            out.emit_anchored(&[&first, &second], *first + *second);
            first.ack();
            panic!("after the ack");
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let sums = t.bolt("pairs", || Pairs(None)).reads(numbers(&t, &log, 2).local());
    sums.local().for_each("end", drop);
    run(&t, 100);
    let learned = log.take();
    assert!(learned.iter().all(|(_, failure)| failure.is_some()), "its tuples were discarded: {learned:?}");
}

/// Each bolt joins the two copies of a tuple, which both refer to the join of the bolt before.
#[test]
fn joins_of_joins_do_not_multiply() {
    #[derive(Default)]
    struct Twice(Option<Tuple<u64>>);
    impl topology::Bolt for Twice {
        type In = u64;
        type Out = u64;
        fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
            let second = out.hold(number);
            let Some(first) = self.0.take() else {
                self.0 = Some(second);
                return;
            };
            for _ in 0..2 {
                out.emit_anchored(&[&first, &second], number);
            }
            first.ack();
            second.ack();
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let names: Vec<String> = (0..64).map(|n| format!("twice-{n}")).collect();
    let mut twice = t.bolt(&names[0], Twice::default).reads(numbers(&t, &log, 2).local());
    for name in &names[1..] {
        twice = t.bolt(name, Twice::default).reads(twice.local());
    }
    twice.local().for_each("end", drop);
    let lanes = run(&t, 100);
    assert_eq!((log.take(), lanes.pending_roots()), (acked(0..2), 0));
}

#[test]
fn a_spout_that_emits_what_always_fails_does_not_keep_its_thread_busy() {
    struct Again(Log, bool);
    impl Spout for Again {
        type Out = u64;
        type Position = ();
        const TRACKS: bool = true;
        fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
            if !std::mem::replace(&mut self.1, true) {
                out.track(7, |out| out.emit(7));
            }
            false
        }
        fn fail(&mut self, id: u64, failed: &Failed, (): &mut (), out: &mut Emitter<u64>) {
            self.0.add(id, Some(failed));
            out.track(id, |out| out.emit(id));
        }
    }
    let (t, log) = (Topology::named("t"), Log::default());
    let of = log.clone();
    t.spout("again", move || Again(of.clone(), false)).local().for_each("end", |_| panic!("no"));
    run(&t, 100);
    let times = log.take().len();
    assert!((10..=101).contains(&times), "failed {times} times in 100 ms");
}
