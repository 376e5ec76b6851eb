//! Spouts with a position: after a crash at any point, no tuple is lost or repeated, and state that
//! the tuples change within the lane is exact.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bus::{BusError, CommitFault, FaultScript, FaultyBus};
use topology::testing::Lanes;
use topology::{Bolt, BuildError, DeliveryMode, Emitter, SavedState, Spout, StateValue, Topology};

const NUMBERS: u64 = 12;

/// Emits the numbers below [`NUMBERS`].
struct Numbers;

impl Spout for Numbers {
    type Out = u64;
    type Position = u64;
    fn next(&mut self, position: &mut u64, out: &mut Emitter<u64>) -> bool {
        if *position == NUMBERS {
            return false;
        }
        out.emit(*position);
        *position += 1;
        true
    }
}

/// Emits the sum so far; a timer adds 1,000 to it once the last number has arrived.
#[derive(Default)]
struct Sum(StateValue<u64>);

impl Bolt for Sum {
    type In = u64;
    type Out = u64;
    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.value("sum", &mut self.0);
    }
    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        *self.0 += number;
        out.emit(*self.0);
        if number == NUMBERS - 1 {
            out.after(0, 5_000);
        }
    }
    fn on_timer(&mut self, _: u64, out: &mut Emitter<u64>) {
        *self.0 += 1_000;
        out.emit(*self.0);
    }
}

struct Ignore;

impl Bolt for Ignore {
    type In = u64;
    type Out = ();
    fn execute(&mut self, _: u64, _: &mut Emitter<()>) {}
}

/// The spout and the sum share a lane. The stage that reads the sums does not run, so its inbox keeps them.
fn sums(mode: DeliveryMode) -> Topology {
    let t = Topology::named("sums");
    let numbers = t.spout("numbers", || Numbers).mode(mode);
    let sums = t.bolt("sum", Sum::default).mode(mode).reads(numbers.local());
    t.bolt("ignore", || Ignore).reads(sums.shuffle());
    t.build().unwrap()
}

/// Returns the sums that the second stage received.
fn received(lanes: &Lanes) -> Vec<u64> {
    let records = lanes.records(&lanes.inbox("ignore"));
    records.iter().filter_map(|record| serde_json::from_slice(&record.value).ok()).collect()
}

/// Each number once, then the timer.
fn expected() -> Vec<u64> {
    let sums = (0..NUMBERS).map(|number| (0..=number).sum());
    sums.chain([(0..NUMBERS).sum::<u64>() + 1_000]).collect()
}

#[test]
fn a_crash_at_any_point_loses_and_repeats_no_tuple() {
    for polls in 0..60 {
        let mut lanes = Lanes::of(sums(DeliveryMode::ExactlyOnce), polls % 2);
        lanes.recovery.snapshot_ms = 3_600_000;
        lanes.join_stage("numbers").unwrap();
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        lanes.kill("numbers");
        lanes.start("numbers");
        lanes.run_ms(60_000);
        assert_eq!(received(&lanes), expected(), "{polls} polls");
    }
}

#[test]
fn a_commit_that_fails_or_has_an_unknown_outcome_loses_and_repeats_no_tuple() {
    let away = || BusError::Unavailable("away".into());
    let faults = [CommitFault::Fails(away()), CommitFault::UnknownButCommitted, CommitFault::UnknownNotCommitted];
    for (fault, earlier) in faults.iter().flat_map(|fault| (0..6).map(move |earlier| (fault, earlier))) {
        for crashes in [false, true] {
            let script = Arc::new(FaultScript::default());
            let wrapped = Arc::clone(&script);
            let topology = sums(DeliveryMode::ExactlyOnce);
            let mut lanes = Lanes::on(topology, 0, |bus| Arc::new(FaultyBus::new(Arc::new(bus), wrapped)));
            (0..earlier).for_each(|_| script.commit(CommitFault::None));
            script.commit(fault.clone());
            lanes.join_stage("numbers").unwrap();
            lanes.run_ms(20);
            if crashes {
                lanes.kill("numbers");
                lanes.start("numbers");
            }
            assert!(lanes.run_ms(60_000), "no work is left");
            assert_eq!(received(&lanes), expected(), "{fault:?} after {earlier} commits, crash: {crashes}");
        }
    }
}

/// Effects are written before the position, so a crash repeats tuples but loses none.
#[test]
fn an_at_least_once_stage_loses_no_tuple() {
    for polls in 0..40 {
        let mut lanes = Lanes::of(sums(DeliveryMode::AtLeastOnce), polls % 2);
        lanes.join_stage("numbers").unwrap();
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        lanes.kill("numbers");
        lanes.start("numbers");
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        let mut received = received(&lanes);
        received.sort_unstable();
        received.dedup();
        assert_eq!(received, expected(), "{polls} polls");
    }
}

/// Adds numbers; its sum cannot be saved from 10 on.
#[derive(Default)]
struct Unsavable(StateValue<u64>);

impl Bolt for Unsavable {
    type In = u64;
    type Out = u64;
    fn state(&mut self, saved: &mut SavedState<'_>) {
        assert!(*self.0 < 10, "it cannot be saved");
        saved.value("sum", &mut self.0);
    }
    fn execute(&mut self, number: u64, out: &mut Emitter<u64>) {
        *self.0 += number;
        out.emit(*self.0);
    }
}

/// Its commit would lack the position, and the next owner would repeat the tuples.
#[test]
fn a_lane_that_cannot_be_saved_writes_no_tuple_of_a_spout_twice() {
    let t = Topology::named("sums");
    let numbers = t.spout("numbers", || Numbers);
    let sums = t.bolt("sum", Unsavable::default).reads(numbers.local());
    t.bolt("ignore", || Ignore).reads(sums.shuffle());
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.join_stage("numbers").unwrap();
    lanes.run_ms(60_000);
    let sums = received(&lanes);
    assert!(expected().starts_with(&sums), "{sums:?}");
    assert!(lanes.count(topology::names::SNAPSHOTS_FAILED) > 1, "the lane is claimed again");
}

/// A timer that a tuple of a spout armed runs for the rest of its time after a takeover.
#[test]
fn a_timer_of_a_spout_keeps_its_due_time_across_a_takeover() {
    let mut lanes = Lanes::of(sums(DeliveryMode::ExactlyOnce), 0);
    lanes.join_stage("numbers").unwrap();
    lanes.run_ms(4_000);
    lanes.kill("numbers");
    lanes.start("numbers");
    lanes.run_ms(2_000);
    assert_eq!(received(&lanes), expected(), "5 s after it was armed, and 2 s after the takeover");
}

/// Emits a number and says that it has no more.
struct OneByOne;

impl Spout for OneByOne {
    type Out = u64;
    type Position = u64;
    fn next(&mut self, position: &mut u64, out: &mut Emitter<u64>) -> bool {
        if *position < 2 {
            out.emit(*position);
            *position += 1;
        }
        false
    }
}

#[test]
fn a_tuple_is_saved_although_its_spout_returns_false() {
    let t = Topology::named("sums");
    let numbers = t.spout("numbers", || OneByOne);
    t.bolt("sum", Sum::default).reads(numbers.local()).may_be_unread();
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.join();
    lanes.run_ms(1_000);
    let saved = lanes.records(&lanes.topics.snapshot("sums", "numbers"));
    let saved =
        |key: &str| saved.iter().rfind(|record| record.key.as_deref() == Some(key.as_bytes())).unwrap().value.clone();
    assert_eq!((&saved("sum/sum")[..], &saved("numbers/position")[..]), (&b"1"[..], &b"2"[..]));
}

/// Panics in each call, or counts.
struct Idle {
    panics: bool,
}

impl Spout for Idle {
    type Out = u64;
    type Position = u64;
    fn next(&mut self, _: &mut u64, out: &mut Emitter<u64>) -> bool {
        if self.panics {
            out.emit(1);
            panic!("always");
        }
        out.count("idle");
        false
    }
}

fn idle(panics: bool) -> Lanes {
    let t = Topology::named("idle");
    t.spout("idle", move || Idle { panics }).for_each("end", |_| ());
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.join();
    lanes.run_ms(10_500);
    lanes
}

#[test]
fn a_spout_that_panics_is_called_once_a_second() {
    let letters = idle(true).dead_letters().len();
    assert!((9..=12).contains(&letters), "{letters} dead letters in ten seconds");
}

#[test]
fn a_spout_that_only_counts_commits_at_the_snapshot_interval() {
    let commits = idle(false).count(topology::names::COMMITS);
    assert!(commits <= 13, "{commits} commits in ten seconds");
}

/// Without a position, a crash would lose tuples that the saved state needs.
#[test]
fn a_spout_without_a_position_cannot_feed_saved_state_in_its_lane() {
    struct Plain;
    impl Spout for Plain {
        type Out = u64;
        type Position = ();
        fn next(&mut self, (): &mut (), _: &mut Emitter<u64>) -> bool {
            false
        }
    }
    let t = Topology::named("sums");
    let plain = t.spout("plain", || Plain);
    t.bolt("sum", Sum::default).reads(plain.local()).may_be_unread();
    let errors = t.build().err().unwrap().errors;
    assert_eq!(errors, [BuildError::SpoutFeedsState { spout: "plain".into(), component: "sum".into() }]);
}
