//! A lane is a pure function of its inbox: whoever takes it over comes to the same state, and does again only what was not
//! committed. Commits that fail, or do not say whether they happened, lose nothing and double nothing.
#![expect(clippy::unwrap_used, reason = "tests panic")]

#[expect(dead_code, reason = "this file uses a part of it")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, CommitFate, Faulty, Outgoing, Script};
use bytes::Bytes;
use support::Lanes;
use topology::{Bolt, Delivery, Emitter, InboxSpout, Message, Route, Settings, Topology, Unreadable};
use wire::{Envelope, Head, Kind, OperationId};

/// Requests as numbers.
struct Asked;

impl InboxSpout for Asked {
    type Out = u64;
    fn accepts(&self, envelope: &Head<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Adds up what it is asked, and publishes each sum. Its step is the settings' `sum`.
#[derive(Default)]
struct Sum {
    sum: u64,
    factor: u64,
}

/// What is answered with more than the bus takes.
const HUGE: u64 = 1_000;
const OUT: &str = "nave.sums.sum.out";

impl Bolt for Sum {
    type In = u64;
    type Out = ();
    fn configure(&mut self, settings: &Settings) {
        self.factor = settings.of("sum").unwrap_or(1);
    }
    fn execute(&mut self, n: u64, out: &mut Emitter<()>) {
        self.sum += n * self.factor;
        let (lane, chance) = (out.lane().lane, out.random() % 1_000);
        let mut envelope = Envelope::new(Kind::Answer, format!("{lane}/{}", self.sum), "/sum");
        envelope.operation = OperationId::new("sum").ok();
        out.publish(Message {
            topic: OUT.into(),
            route: Route::To(lane),
            key: None,
            envelope,
            expires_after_ms: None,
            body: Bytes::from(format!(
                "{} {chance}{}",
                self.sum,
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
    lanes.embedded.writer("test").unwrap().append(&[request]).unwrap();
}

/// A key of each lane.
fn key(lane: u32) -> String {
    (0..100).map(|i| format!("k{i}")).find(|key| wire::routing::lane_of(key.as_bytes(), 2) == lane).unwrap()
}

fn published(lanes: &Lanes, lane: u32) -> Vec<String> {
    let mut reader = lanes.embedded.reader().unwrap();
    reader.assign(OUT, lane, 0).unwrap();
    let mut records = Vec::new();
    reader.poll(10_000, Duration::ZERO, &mut records).unwrap();
    records.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

/// The sums without what came by chance.
fn sums_of(lanes: &Lanes, lane: u32) -> Vec<u64> {
    published(lanes, lane).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn whoever_takes_a_lane_over_comes_to_the_same_state_and_repeats_nothing() {
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
        assert_eq!(lanes.shards[0].tally(topology::names::REPLAYED), 5, "two owner records and three requests");
    }
}

#[test]
fn lanes_move_to_one_who_joins_and_back_when_it_leaves() {
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
    assert_eq!(bus::Part::stop(second), Vec::<String>::new());
    ask(&lanes, &key(0), 3, "e");
    ask(&lanes, &key(1), 3, "f");
    assert!(lanes.run_ms(1_000));
    assert_eq!(lanes.shards[0].live(), [0, 1]);
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 3, 6], vec![1, 3, 6]));
}

/// A record that cannot be replayed is not skipped.
#[test]
fn a_lane_whose_inbox_was_cut_is_not_taken_over_and_is_named() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(10);
    lanes.shards.clear();
    lanes.embedded.expel("nave.sums.sum.in");
    lanes.embedded.delete_records("nave.sums.sum.in", 0, 1).unwrap();
    lanes.join();
    assert!(!lanes.run_ms(60_000), "it is tried again");
    assert_eq!(lanes.shards[0].live(), [1], "the other lane goes on");
    let why = "NAVE-0062: an inbox no longer has what its lane needs, see the log";
    assert_eq!(lanes.status.waiting(lanes.clock.mono()), [(0, format!("sum lane 0: recovering at offset 0; {why}"))]);
    assert_eq!(sums_of(&lanes, 0), [1]);
}

/// Who adds partitions to an inbox does not add lanes, and stops none.
#[test]
fn a_partition_that_no_lane_has_is_not_read_and_the_others_are() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join_stage("sum", 1).unwrap();
    ask(&lanes, &key(0), 1, "a");
    ask(&lanes, &key(1), 2, "b");
    lanes.run_ms(10);
    assert_eq!((lanes.shards[0].live(), sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![0], vec![1], vec![]));
    let shard = Box::new(lanes.shards.remove(0));
    assert_eq!(bus::Part::stop(shard), Vec::<String>::new());
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
    assert_eq!(sums_of(&lanes, 0), [1, 11], "what was asked before keeps the settings of its time");
}

#[test]
fn a_record_that_cannot_be_handled_goes_to_the_dead_letters_and_the_lane_goes_on() {
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
    lanes.embedded.writer("test").unwrap().append(&[nonsense, stranger, misrouted, wrong_twice, bare]).unwrap();
    ask(&lanes, &key(0), 2, "good");
    assert!(lanes.run_ms(1_000));
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![2], vec![5]), "the misrouted one was sent on");
    let mut reader = lanes.embedded.reader().unwrap();
    reader.assign("nave.sums.dead", 0, 0).unwrap();
    let mut letters = Vec::new();
    reader.poll(100, Duration::ZERO, &mut letters).unwrap();
    let reasons: Vec<String> = letters
        .iter()
        .map(|letter| {
            serde_json::from_slice::<serde_json::Value>(&letter.value).unwrap()["reason"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[0].starts_with("expected") || reasons[0].contains("ident"), "{reasons:?}");
    assert_eq!(reasons[1], "`ce_causationid` is missing");
    assert!(reasons[2].contains("is not sent on") && reasons[3].contains("ce_specversion"), "{reasons:?}");
}

#[test]
fn a_record_that_is_too_large_for_the_bus_does_not_jam_its_lane() {
    let mut lanes = Lanes::of(sums(), 1);
    lanes.join();
    for (n, id) in [(1, "before"), (HUGE, "huge"), (2, "after")] {
        ask(&lanes, &key(0), n, id);
    }
    ask(&lanes, &key(1), 7, "the neighbour");
    assert!(lanes.run_ms(5_000));
    assert_eq!((sums_of(&lanes, 0), sums_of(&lanes, 1)), (vec![1, 1_003], vec![7]));
    assert_eq!(lanes.shards[0].tally(topology::names::TOO_LARGE), 1);
    let mut reader = lanes.embedded.reader().unwrap();
    reader.assign("nave.sums.dead", 0, 0).unwrap();
    let mut letters = Vec::new();
    reader.poll(100, Duration::ZERO, &mut letters).unwrap();
    let letter = String::from_utf8(letters[0].value.to_vec()).unwrap();
    assert!(letters.len() == 1 && letter.contains("at most 1048576 are taken"), "{letter}");
}

// ---- commits that go wrong ----------------------------------------------------------------------------------------------

fn away() -> BusError {
    BusError::Unavailable("as the script says".into())
}

/// Lanes on a bus whose commits fare as a script says.
fn scripted(topology: Topology, seed: u64) -> (Lanes, Arc<Script>) {
    let script = Arc::new(Script::default());
    let fates = Arc::clone(&script);
    (Lanes::on(topology, seed, |bus| Arc::new(Faulty::new(Arc::new(bus), fates))), script)
}

/// State is never rolled back: in every sequence of up to four fates, from the first commit on.
#[test]
fn commits_that_fail_or_do_not_say_lose_nothing_and_double_nothing() {
    let all =
        [CommitFate::Passes, CommitFate::Fails(away()), CommitFate::UnknownAndHappened, CommitFate::UnknownAndDidNot];
    for script in 0..256_usize {
        let script: Vec<CommitFate> = (0..4).map(|i| all[(script >> (2 * i)) % 4].clone()).collect();
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

/// A shard that is to send a commit again, and loses its lanes before, has nothing to send: what comes after is not held up.
#[test]
fn a_shard_that_loses_its_lanes_while_it_tries_a_commit_again_goes_on_with_those_that_it_is_given() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    fates.commit(CommitFate::Fails(away()));
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(1);
    lanes.embedded.expel("nave.sums.sum.in");
    assert!(lanes.run_ms(1_000), "nothing is left to be done");
    ask(&lanes, &key(0), 2, "b");
    assert!(lanes.run_ms(1_000));
    assert_eq!(sums_of(&lanes, 0), [1, 3]);
}

/// Records that wait while a commit is tried again are handled before those that come when it is settled, even where a lane that is asked
/// back settles it in the middle of a turn.
#[test]
fn records_that_wait_for_a_commit_are_not_overtaken() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    fates.commit(CommitFate::Fails(away()));
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

/// Counts the timeouts that it gets, and publishes each.
#[derive(Default)]
struct Alarm(u64);

impl InboxSpout for Alarm {
    type Out = u64;
    fn accepts(&self, envelope: &Head<'_>) -> bool {
        matches!(envelope.kind, Kind::Request | Kind::Timeout)
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        if delivery.envelope.kind == Kind::Timeout {
            out.emit(1);
        } else {
            // Each request is answered at once, and once more after a while.
            self.0 += 1;
            out.arm(self.0, 1, delivery.json()?);
            out.emit(1);
        }
        Ok(())
    }
}

/// A deadline that passes while a commit is in doubt is not taken for written with it.
#[test]
fn a_timer_that_fires_while_the_outcome_of_a_commit_is_unknown_is_not_lost() {
    let t = Topology::named("sums");
    let alarm = t.inbox_spout("alarm", Alarm::default);
    t.bolt("sum", Sum::default).stage("sum").lanes(2).reads(alarm.local());
    let (mut lanes, fates) = scripted(t.build().unwrap(), 0);
    lanes.join();
    lanes.run_ms(10);
    ask(&lanes, &key(0), 20, "in twenty milliseconds");
    lanes.run_ms(5);
    fates.commit(CommitFate::UnknownAndHappened);
    ask(&lanes, &key(0), 10_000, "in ten seconds");
    assert!(!lanes.run_ms(1_000), "one is armed still");
    assert_eq!(sums_of(&lanes, 0), [1, 2, 3], "two requests, one timeout");
    assert!(lanes.run_ms(20_000));
    assert_eq!(sums_of(&lanes, 0), [1, 2, 3, 4]);
}

// ---- seen from outside --------------------------------------------------------------------------------------------------

/// A lane that moves says where it stands, at most every second; an idle one says nothing.
#[test]
fn a_lane_publishes_its_position_while_it_moves() {
    let mut lanes = Lanes::of(sums(), 0);
    lanes.join();
    assert!(lanes.run_ms(10), "an idle lane has nothing to say");
    let positions = |lanes: &Lanes| -> Vec<u64> {
        let mut reader = lanes.embedded.reader().unwrap();
        reader.assign("nave.sums.sum.view", 0, 0).unwrap();
        let mut records = Vec::new();
        reader.poll(100, Duration::ZERO, &mut records).unwrap();
        records.iter().map(|r| serde_json::from_slice::<wire::answer::LanePosition>(&r.value).unwrap().next).collect()
    };
    let mut said = positions(&lanes);
    assert_eq!(said, [1], "after the owner record");
    for n in 0..300 {
        ask(&lanes, &key(0), 1, &format!("r{n}"));
        lanes.run_ms(10);
        said.extend(positions(&lanes).last());
        said.dedup();
    }
    assert!((3..=4).contains(&said.len()), "once a second for three seconds: {said:?}");
    assert!(lanes.run_ms(5_000));
    assert_eq!(positions(&lanes).last(), Some(&301), "the last word is where it stands");
}

#[test]
fn a_lane_that_cannot_commit_is_named() {
    let (mut lanes, fates) = scripted(sums(), 0);
    lanes.join();
    lanes.run_ms(10);
    let status = Arc::clone(&lanes.status);
    assert_eq!(status.waiting(lanes.clock.mono()), []);
    (0..60).for_each(|_| fates.commit(CommitFate::Fails(away())));
    ask(&lanes, &key(0), 1, "a");
    lanes.run_ms(2_000);
    let named = status.waiting(lanes.clock.mono());
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].1.starts_with("sum lane 0: nothing could be committed for 2."), "{named:?}");
    assert!(lanes.run_ms(5_000));
    assert_eq!((status.waiting(lanes.clock.mono()), sums_of(&lanes, 0)), (vec![], vec![1]));
}
