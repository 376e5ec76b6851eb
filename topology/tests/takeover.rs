//! A lane is a pure function of its inbox: a new owner computes the same state, and repeats only
//! uncommitted work. Commits that fail or have an unknown outcome lose and repeat nothing.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::sync::Arc;

use bus::{BusError, Clock, CommitFault, FaultScript, FaultyBus, Outgoing};
use bytes::Bytes;
use topology::testing::Lanes;
use topology::{
    Arrangement, Bolt, Delivery, Emitter, InboxSpout, Message, Route, SavedState, Settings, Spout, StateValue,
    Topology, Unreadable,
};
use wire::{Envelope, EnvelopeRef, Kind, OperationId};

/// Makes numbers of requests.
struct Asked;

impl InboxSpout for Asked {
    type Out = u64;
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Publishes the running sum of its input, multiplied by the setting `sum`.
#[derive(Default)]
struct Sum {
    sum: StateValue<u64>,
    factor: u64,
}

/// The input that is answered with a record larger than the bus accepts.
const HUGE: u64 = 1_000;
const OUT: &str = "nave.sums.sum.out";

impl Bolt for Sum {
    type In = u64;
    type Out = ();
    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.value("sum", &mut self.sum);
    }
    fn configure(&mut self, settings: &Settings) {
        self.factor = settings.of("sum").unwrap_or(1);
    }
    fn execute(&mut self, n: u64, out: &mut Emitter<()>) {
        *self.sum += n * self.factor;
        let (lane, chance) = (out.lane().lane, out.random() % 1_000);
        let mut envelope = Envelope::new(Kind::Answer, format!("{lane}/{}", *self.sum), "/sum");
        envelope.operation = OperationId::new("sum").ok();
        out.publish(Message {
            topic: OUT.into(),
            route: Route::To(lane),
            key: None,
            envelope,
            expires_after_ms: None,
            body: Bytes::from(format!(
                "{} {chance}{}",
                *self.sum,
                if n == HUGE { "!".repeat(2 << 20) } else { String::new() }
            )),
        });
    }
}

fn sums() -> Topology {
    let t = Topology::named("sums");
    let asked = t.inbox_spout("asked", || Asked);
    t.bolt("sum", Sum::default).stage("sum").lanes(2).reads(asked.local());
    t.build().unwrap()
}

fn ask(lanes: &Lanes, key: &str, n: u64, id: &str) {
    let request = Outgoing::keyed("nave.sums.sum.in", key.to_owned(), n.to_string());
    let request = request.with(&Envelope::new(Kind::Request, id, "/test"));
    lanes.write(&[request]);
}

/// Returns a key of this lane.
fn key(lane: u32) -> String {
    (0..100).map(|i| format!("k{i}")).find(|key| wire::routing::lane_of(key.as_bytes(), 2) == lane).unwrap()
}

fn published(lanes: &Lanes, lane: u32) -> Vec<String> {
    let records = lanes.records(OUT).into_iter().filter(|record| record.partition == lane);
    records.map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

/// Returns the sums without the random numbers.
fn sums_of(lanes: &Lanes, lane: u32) -> Vec<u64> {
    published(lanes, lane).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_takeover_restores_the_same_state_and_repeats_nothing() {
    for seed in 0..4 {
        let mut lanes = Lanes::of(sums(), seed);
        lanes.join();
        for n in 1..=3 {
            ask(&lanes, &key(0), n, &format!("a{n}"));
            lanes.run_ms(1);
        }
        lanes.shards.clear();
        ask(&lanes, &key(0), 10, "while nobody was there");
        lanes.embedded.expel("nave.sums.sum.in");
        lanes.join();
        assert!(lanes.run_ms(1_000));
        ask(&lanes, &key(0), 100, "after");
        assert!(lanes.run_ms(1_000));
        assert_eq!(sums_of(&lanes, 0), [1, 3, 6, 16, 116], "seed {seed}");
        assert_eq!(lanes.count(topology::names::REPLAYED), 5, "two owner records and three requests");
    }
}

#[test]
fn lanes_move_to_a_joining_shard_and_back_when_it_leaves() {
    let mut lanes = Lanes::of(sums(), 3);
    lanes.join();
    lanes.run_ms(10);
    assert_eq!(lanes.shards[0].live(), [0, 1]);
    ask(&lanes, &key(0), 1, "a");
    ask(&lanes, &key(1), 1, "b");
    lanes.join();
    assert!(lanes.run_ms(1_000));
    assert_eq!(lanes.shards.iter().map(|shard| shard.live().len()).collect::<Vec<_>>(), [1, 1]);
    ask(&lanes, &key(0), 2, "c");
    ask(&lanes, &key(1), 2, "d");
    assert!(lanes.run_ms(1_000));
    let second = Box::new(lanes.shards.remove(1));
    assert_eq!(bus::Task::stop(second), Vec::<String>::new());
    ask(&lanes, &key(0), 3, "e");
    ask(&lanes, &key(1), 3, "f");
    assert!(lanes.run_ms(1_000));
    assert_eq!(lanes.shards[0].live(), [0, 1]);
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 3, 6], vec![1, 3, 6]));
}

/// Missing records are not skipped.
#[test]
fn a_lane_with_a_truncated_inbox_is_reported_and_not_taken_over() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(10);
    lanes.shards.clear();
    lanes.embedded.expel("nave.sums.sum.in");
    lanes.embedded.delete_records("nave.sums.sum.in", 0, 1).unwrap();
    lanes.join();
    assert!(!lanes.run_ms(60_000), "the claim is retried");
    assert_eq!(lanes.shards[0].live(), [1], "the other lane continues");
    let why = "NAVE-0062: the inbox lacks records that its lane needs, see the log";
    assert_eq!(lanes.status.waiting(lanes.clock.mono()), [(0, format!("sum lane 0: recovering at offset 0; {why}"))]);
    assert_eq!(sums_of(&lanes, 0), [1]);
}

/// Additional partitions of an inbox add no lanes and stop none.
#[test]
fn a_partition_without_a_lane_is_not_read_and_the_others_are() {
    let mut lanes = Lanes::of(sums(), 0);
    let one_lane = Arrangement { lanes: [("sum".to_owned(), 1)].into(), ..Arrangement::default() };
    lanes.topology = lanes.topology.arranged(&one_lane).unwrap();
    lanes.join_stage("sum").unwrap();
    ask(&lanes, &key(0), 1, "a");
    ask(&lanes, &key(1), 2, "b");
    lanes.run_ms(10);
    assert_eq!((lanes.shards[0].live(), sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![0], vec![1], vec![]));
    let shard = Box::new(lanes.shards.remove(0));
    assert_eq!(bus::Task::stop(shard), Vec::<String>::new());
}

#[test]
fn settings_are_state_that_only_an_owner_record_changes() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(10);
    lanes.shards.clear();
    lanes.embedded.expel("nave.sums.sum.in");
    lanes.settings = Settings::default().with("sum", &10);
    lanes.join();
    lanes.run_ms(10);
    ask(&lanes, &key(0), 1, "b");
    lanes.run_ms(10);
    assert_eq!(sums_of(&lanes, 0), [1, 11], "earlier requests keep the settings of their time");
}

#[test]
fn a_bad_record_is_a_dead_letter_and_the_lane_continues() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    let inbox = "nave.sums.sum.in";
    let nonsense = Outgoing::keyed(inbox, key(0), "not a number").with(&Envelope::new(Kind::Request, "x", "/test"));
    let stranger = Outgoing::keyed(inbox, key(0), "1").with(&Envelope::new(Kind::Reply, "y", "/test"));
    let misrouted = Outgoing::keyed(inbox, key(1), "5").with(&Envelope::new(Kind::Request, "z", "/test")).to(0);
    let mut wrong_twice = Envelope::new(Kind::Request, "w", "/test");
    wrong_twice.attempt = Some(1);
    let wrong_twice = Outgoing::keyed(inbox, key(1), "7").with(&wrong_twice).to(0);
    let bare = Outgoing::keyed(inbox, key(0), "1").to(0);
    lanes.write(&[nonsense, stranger, misrouted, wrong_twice, bare]);
    ask(&lanes, &key(0), 2, "good");
    assert!(lanes.run_ms(1_000));
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![2], vec![5]), "the misrouted request was forwarded");
    let letters = lanes.dead_letters();
    let reasons: Vec<&str> = letters.iter().map(|(_, letter)| letter["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[0].starts_with("expected") || reasons[0].contains("ident"), "{reasons:?}");
    assert_eq!(reasons[1], "`ce_causationid` is missing");
    assert!(reasons[2].contains("is not forwarded") && reasons[3].contains("ce_specversion"), "{reasons:?}");
}

#[test]
fn a_record_too_large_for_the_bus_does_not_block_its_lane() {
    let mut lanes = Lanes::of(sums(), 1);
    lanes.join();
    for (n, id) in [(1, "before"), (HUGE, "huge"), (2, "after")] {
        ask(&lanes, &key(0), n, id);
    }
    ask(&lanes, &key(1), 7, "the neighbour");
    assert!(lanes.run_ms(5_000));
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 1_003], vec![7]));
    assert_eq!(lanes.count(topology::names::TOO_LARGE), 1);
    let letters = lanes.dead_letters();
    let letter = letters[0].1.to_string();
    assert!(letters.len() == 1 && letter.contains("the limit is 1048576"), "{letter}");
}

// ---- failing commits ---------------------------------------------------------------------------

fn away() -> BusError {
    BusError::Unavailable("as the script says".into())
}

/// Returns lanes on a bus with scripted outcomes of commits.
fn scripted(topology: Topology, seed: u64) -> (Lanes, Arc<FaultScript>) {
    let script = Arc::new(FaultScript::default());
    let fates = Arc::clone(&script);
    (Lanes::on(topology, seed, |bus| Arc::new(FaultyBus::new(Arc::new(bus), fates))), script)
}

/// All sequences of four commit outcomes: state is never rolled back.
#[test]
fn failed_and_unknown_commits_lose_and_repeat_nothing() {
    let all = [
        CommitFault::None,
        CommitFault::Fails(away()),
        CommitFault::UnknownButCommitted,
        CommitFault::UnknownNotCommitted,
    ];
    for script in 0..256_usize {
        let script: Vec<CommitFault> = (0..4).map(|i| all[(script >> (2 * i)) % 4].clone()).collect();
        let (mut lanes, fates) = scripted(sums(), 1);
        for fate in &script {
            fates.commit(fate.clone());
        }
        lanes.join();
        for n in 1..=4 {
            ask(&lanes, &key(0), n, &format!("a{n}"));
            ask(&lanes, &key(1), n, &format!("b{n}"));
            lanes.run_ms(20);
        }
        assert!(lanes.run_ms(5_000), "{script:?}");
        assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 3, 6, 10], vec![1, 3, 6, 10]), "{script:?}");
    }
}

/// A shard that loses its lanes before a retry has nothing to retry; new lanes must not wait for
/// it.
#[test]
fn a_shard_that_loses_lanes_during_a_retry_works_on_new_lanes() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    fates.commit(CommitFault::Fails(away()));
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(1);
    lanes.embedded.expel("nave.sums.sum.in");
    assert!(lanes.run_ms(2_000), "no work is left");
    ask(&lanes, &key(0), 2, "b");
    assert!(lanes.run_ms(2_000));
    assert_eq!(sums_of(&lanes, 0), [1, 3]);
}

/// Records that wait during a retry are handled before later ones, even if a revoked lane settles
/// the commit in the middle of a poll.
#[test]
fn records_that_wait_for_a_commit_are_not_overtaken() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    fates.commit(CommitFault::Fails(away()));
    for (n, id) in [(1, "first"), (10, "waits"), (100, "comes with the news that a lane is asked back")] {
        (0..2).for_each(|lane| ask(&lanes, &key(lane), n, &format!("{id}/{lane}")));
        if n == 100 {
            lanes.join();
        }
        lanes.run_ms(1);
    }
    assert!(lanes.run_ms(1_000));
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 11, 111], vec![1, 11, 111]));
}

/// Publishes a count of the timeouts and requests that it receives.
#[derive(Default)]
struct Alarm(u64);

impl InboxSpout for Alarm {
    type Out = u64;
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        matches!(envelope.kind, Kind::Request | Kind::Timeout)
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        if delivery.envelope.kind == Kind::Timeout {
            out.emit(1);
        } else {
            // Each request is answered at once, and again after its delay.
            self.0 += 1;
            out.arm(self.0, 1, delivery.json()?);
            out.emit(1);
        }
        Ok(())
    }
}

/// Emits the numbers below 4, one in every other call.
#[derive(Default)]
struct Numbers(u64, bool);

impl Spout for Numbers {
    type Out = u64;
    type Position = ();
    fn next(&mut self, (): &mut (), out: &mut Emitter<u64>) -> bool {
        self.1 = !self.1;
        if self.0 == 4 || !self.1 {
            return false;
        }
        out.emit(self.0);
        self.0 += 1;
        true
    }
}

/// A commit of a spout's tuples moves no offset of its inbox; its number tells whether it
/// succeeded.
#[test]
fn an_unknown_commit_of_spout_tuples_loses_and_repeats_nothing() {
    let fates = [CommitFault::UnknownButCommitted, CommitFault::UnknownNotCommitted];
    for (fate, earlier) in fates.iter().flat_map(|fate| (0..6).map(move |earlier| (fate, earlier))) {
        let t = Topology::named("sums");
        let numbers = t.spout("numbers", Numbers::default).stage("numbers").lanes(1);
        t.bolt("sum", Sum::default).stage("sum").lanes(1).reads(numbers.shuffle());
        let (mut lanes, script) = scripted(t.build().unwrap(), 0);
        (0..earlier).for_each(|_| script.commit(CommitFault::None));
        script.commit(fate.clone());
        lanes.join_stage("numbers").unwrap();
        lanes.run_ms(1_000);
        let written = lanes.records("nave.sums.sum.in").iter().map(|record| record.value.to_vec()).collect::<Vec<_>>();
        assert_eq!(written, [b"0", b"1", b"2", b"3"], "{fate:?} after {earlier} commits");
    }
}

/// A deadline that passes while the outcome of a commit is unknown is not part of that commit.
#[test]
fn a_timer_that_fires_during_an_unknown_commit_is_not_lost() {
    let t = Topology::named("sums");
    let alarm = t.inbox_spout("alarm", Alarm::default);
    t.bolt("sum", Sum::default).stage("sum").lanes(2).reads(alarm.local());
    let (mut lanes, fates) = scripted(t.build().unwrap(), 0);
    lanes.join();
    lanes.run_ms(10);
    ask(&lanes, &key(0), 20, "in twenty milliseconds");
    lanes.run_ms(5);
    fates.commit(CommitFault::UnknownButCommitted);
    ask(&lanes, &key(0), 10_000, "in ten seconds");
    assert!(!lanes.run_ms(1_000), "one timer is still armed");
    assert_eq!(sums_of(&lanes, 0), [1, 2, 3], "two requests, one timeout");
    assert!(lanes.run_ms(20_000));
    assert_eq!(sums_of(&lanes, 0), [1, 2, 3, 4]);
}

// ---- the view from outside ---------------------------------------------------------------------

/// A moving lane publishes its position at most every second; an idle one publishes nothing.
#[test]
fn a_lane_publishes_its_position_while_it_moves() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    assert!(lanes.run_ms(1_000), "an idle lane publishes nothing");
    let positions = |lanes: &Lanes| -> Vec<u64> {
        let records = lanes.records("nave.sums.sum.view").into_iter().filter(|record| record.partition == 0);
        records.map(|r| serde_json::from_slice::<wire::answer::LanePosition>(&r.value).unwrap().next).collect()
    };
    let mut published_positions = positions(&lanes);
    assert_eq!(published_positions, [1], "after the owner record");
    for n in 0..300 {
        ask(&lanes, &key(0), 1, &format!("r{n}"));
        lanes.run_ms(10);
        published_positions.extend(positions(&lanes).last());
        published_positions.dedup();
    }
    assert!((4..=5).contains(&published_positions.len()), "once a second for three seconds: {published_positions:?}");
    assert!(lanes.run_ms(5_000));
    assert_eq!(positions(&lanes).last(), Some(&301), "the last published position is the final one");
}

#[test]
fn a_lane_that_cannot_commit_is_reported() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    let status = Arc::clone(&lanes.status);
    assert_eq!(status.waiting(lanes.clock.mono()), []);
    (0..60).for_each(|_| fates.commit(CommitFault::Fails(away())));
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(2_000);
    let named = status.waiting(lanes.clock.mono());
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].1.starts_with("sum lane 0: nothing could be committed for 2."), "{named:?}");
    assert!(lanes.run_ms(5_000));
    assert_eq!((status.waiting(lanes.clock.mono()), sums_of(&lanes, 0)), (vec![], vec![1]));
}
