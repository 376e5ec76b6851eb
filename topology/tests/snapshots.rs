//! A lane is restored from its snapshot and the records after it, to exactly the same state: in
//! both modes, after a crash at any point, and with any outcome of the commits that carry
//! snapshots. Unusable snapshots are never used.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::sync::Arc;

use bus::{BusError, Clock, CommitFault, FaultScript, FaultyBus, Outgoing, Record, Task, TopicFault};
use bytes::Bytes;
use topology::testing::Lanes;
use topology::{
    Arrangement, Bolt, Delivery, DeliveryMode, Emitter, InboxSpout, Message, Route, SavedState, Settings, StateMap,
    StateValue, Topology, Unreadable, names,
};
use wire::{Envelope, EnvelopeRef, Kind, OperationId};

const INBOX: &str = "nave.bank.bank.in";
const OUT: &str = "nave.bank.bank.out";
const SNAPSHOTS: &str = "nave.bank.bank.snap";

/// Amounts for accounts.
struct Door;

impl InboxSpout for Door {
    type Out = (String, u64);
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<(String, u64)>) -> Result<(), Unreadable> {
        let account = String::from_utf8_lossy(delivery.record.key.as_ref().unwrap()).into_owned();
        out.emit((account, delivery.json()?));
        Ok(())
    }
}

/// Saving an account with this sum panics.
const POISON: u64 = 666;

/// Publishes the running sum of each account, and one second later the sum with interest.
struct Bank<const VERSION: u32> {
    accounts: StateMap<String, u64>,
    /// The account of each timer.
    due: StateMap<u64, String>,
    next: StateValue<u64>,
    factor: u64,
}

impl<const VERSION: u32> Default for Bank<VERSION> {
    fn default() -> Self {
        Self { accounts: StateMap::default(), due: StateMap::default(), next: StateValue::default(), factor: 1 }
    }
}

impl<const VERSION: u32> Bank<VERSION> {
    fn say(&self, account: &str, out: &mut Emitter<()>) {
        let (lane, sum) = (out.lane().lane, *self.accounts.get(account).unwrap());
        let mut envelope = Envelope::new(Kind::Answer, format!("{account}/{sum}"), "/bank");
        envelope.operation = OperationId::new("bank").ok();
        out.publish(Message {
            topic: OUT.into(),
            route: Route::To(lane),
            key: None,
            envelope,
            expires_after_ms: None,
            body: Bytes::from(format!("{account}={sum}")),
        });
    }
}

impl<const VERSION: u32> Bolt for Bank<VERSION> {
    type In = (String, u64);
    type Out = ();
    const STATE_VERSION: u32 = VERSION;

    fn state(&mut self, saved: &mut SavedState<'_>) {
        assert!(self.accounts.iter().all(|(_, sum)| *sum != POISON), "the poison works");
        saved.map("accounts", &mut self.accounts);
        saved.map("due", &mut self.due);
        saved.value("next", &mut self.next);
    }

    fn configure(&mut self, settings: &Settings) {
        self.factor = settings.of("bank").unwrap_or(1);
    }

    fn execute(&mut self, (account, n): (String, u64), out: &mut Emitter<()>) {
        *self.accounts.get_or_default(&account) += n * self.factor;
        *self.next += 1;
        out.after(*self.next, 1_000);
        self.say(&account, out);
        self.due.insert(*self.next, account);
    }

    fn on_timer(&mut self, timer: u64, out: &mut Emitter<()>) {
        let account = self.due.remove(&timer).unwrap();
        *self.accounts.get_or_default(&account) += 1;
        self.say(&account, out);
    }
}

fn bank<const VERSION: u32>(mode: DeliveryMode) -> Topology {
    let t = Topology::named("bank");
    let door = t.inbox_spout("door", || Door);
    t.bolt("bank", Bank::<VERSION>::default).stage("bank").lanes(2).reads(door.local());
    let modes = Arrangement { modes: [("bank".to_owned(), mode)].into(), ..Arrangement::default() };
    t.build().unwrap().arranged(&modes).unwrap()
}

fn exactly_once() -> Topology {
    bank::<1>(DeliveryMode::ExactlyOnce)
}

/// Lanes on a bus that keeps deleted records, like a bus on disk.
fn keeping(seed: u64) -> Lanes {
    let script = Arc::new(FaultScript::default());
    script.ignore_trims();
    Lanes::on(exactly_once(), seed, |bus| Arc::new(FaultyBus::new(Arc::new(bus), script)))
}

/// Returns an account of this lane.
fn account(lane: u32) -> String {
    (0..100).map(|i| format!("a{i}")).find(|key| wire::routing::lane_of(key.as_bytes(), 2) == lane).unwrap()
}

fn give(lanes: &Lanes, account: &str, n: u64, id: &str) {
    let request = Outgoing::keyed(INBOX, account.to_owned(), n.to_string());
    let request = request.with(&Envelope::new(Kind::Request, id, "/test"));
    lanes.write(&[request]);
}

fn read(lanes: &Lanes, topic: &str, lane: u32) -> Vec<Record> {
    lanes.records(topic).into_iter().filter(|record| record.partition == lane).collect()
}

fn published(lanes: &Lanes, lane: u32) -> Vec<String> {
    read(lanes, OUT, lane).iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
}

/// The owner has crashed, and its session has expired.
fn kill(lanes: &mut Lanes) {
    lanes.shards.clear();
    lanes.embedded.expel(INBOX);
}

/// Fifty gifts to one account, each followed by interest.
#[test]
fn a_takeover_replays_only_the_records_after_the_snapshot() {
    let mut lanes = Lanes::of(exactly_once(), 1);
    lanes.join();
    for n in 1..=50 {
        give(&lanes, &account(0), n, &format!("g{n}"));
        lanes.run_ms(100);
    }
    assert!(lanes.count(names::SNAPSHOTS) >= 5);
    let before = published(&lanes, 0);
    assert!(before.len() > 80, "gifts and interest: {before:?}");
    kill(&mut lanes);
    give(&lanes, &account(0), 7, "while nobody was there");
    lanes.join();
    lanes.run_ms(1);
    assert_eq!(lanes.count(names::RESTORED), 2, "the other lane saved its owner record");
    let replayed = lanes.count(names::REPLAYED);
    assert!((1..25).contains(&replayed), "{replayed} records in at most a second");
    assert!(lanes.run_ms(10_000));
    let after = published(&lanes, 0);
    assert_eq!(after[..before.len()], before[..]);
    let sum = (1..=50).sum::<u64>() + 7 + 51;
    assert_eq!(after.last().unwrap(), &format!("{}={sum}", account(0)), "all interest arrived once: {after:?}");
    assert_eq!(after.len(), 102);
}

#[test]
fn a_clean_stop_saves_and_the_next_owner_replays_nothing() {
    for mode in [DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce] {
        let mut lanes = Lanes::of(bank::<1>(mode), 1);
        lanes.join();
        lanes.run_ms(10);
        (1..=5).for_each(|n| give(&lanes, &account(0), n, &format!("g{n}")));
        lanes.run_ms(300);
        let left = Task::stop(Box::new(lanes.shards.remove(0)));
        assert_eq!(left, Vec::<String>::new());
        lanes.join();
        lanes.run_ms(10);
        assert_eq!((lanes.count(names::REPLAYED), lanes.count(names::RESTORED)), (0, 2), "{mode:?}");
        assert!(lanes.run_ms(10_000));
        assert_eq!(published(&lanes, 0).last().unwrap(), &format!("{}=20", account(0)));
    }
}

/// Crashes at random points, in both modes, with a snapshot per commit and at longer intervals,
/// with and without warm standbys. The sums equal those of a run without crashes.
#[test]
fn state_is_identical_after_a_crash_at_any_point() {
    for seed in 0..60_u64 {
        let (mode, snapshot_ms) = (
            [DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce][usize::from(seed % 2 == 0)],
            [0, 30, 1_000][(seed % 3) as usize],
        );
        let mut lanes = Lanes::of(bank::<1>(mode), seed);
        (lanes.recovery.snapshot_ms, lanes.recovery.warm) = (snapshot_ms, seed % 5 < 2);
        lanes.join();
        lanes.join();
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 11) % sides
        };
        let mut given = [0_u64; 2];
        for n in 0..60 {
            let lane = u32::try_from(roll(2)).unwrap();
            give(&lanes, &account(lane), n, &format!("g{n}"));
            given[lane as usize] += n + 1;
            lanes.run_ms(roll(120));
            match roll(8) {
                0 => {
                    // A shard crashes between two polls; its uncommitted work is lost.
                    let place = usize::try_from(roll(lanes.shards.len() as u64)).unwrap();
                    drop(lanes.shards.remove(place));
                    lanes.join();
                }
                1 => {
                    kill(&mut lanes);
                    lanes.join();
                    lanes.join();
                }
                _nobody_dies => {}
            }
        }
        // The sessions of the last crashed shards have not expired yet.
        kill(&mut lanes);
        lanes.join();
        assert!(lanes.run_ms(20_000), "seed {seed}");
        for lane in 0..2 {
            let sums: Vec<u64> =
                published(&lanes, lane).iter().map(|line| line.split_once('=').unwrap().1.parse().unwrap()).collect();
            assert_eq!(*sums.iter().max().unwrap(), given[lane as usize], "seed {seed}, {mode:?}: {sums:?}");
            if mode == DeliveryMode::ExactlyOnce {
                assert!(sums.is_sorted(), "seed {seed}: {sums:?}");
            }
        }
    }
}

/// All sequences of four commit outcomes, each with a snapshot, then a crash.
#[test]
fn failed_and_unknown_commits_never_save_uncommitted_state() {
    let away = || BusError::Unavailable("as the script says".into());
    let all = [
        CommitFault::None,
        CommitFault::Fails(away()),
        CommitFault::UnknownButCommitted,
        CommitFault::UnknownNotCommitted,
    ];
    for script in 0..256_usize {
        let script: Vec<CommitFault> = (0..4).map(|i| all[(script >> (2 * i)) % 4].clone()).collect();
        let fates = Arc::new(FaultScript::default());
        let fated = Arc::clone(&fates);
        let mut lanes = Lanes::on(exactly_once(), 1, |bus| Arc::new(FaultyBus::new(Arc::new(bus), fated)));
        lanes.recovery.snapshot_ms = 0;
        lanes.join();
        lanes.run_ms(10);
        for fate in &script {
            fates.commit(fate.clone());
        }
        for n in 1..=4 {
            give(&lanes, &account(0), n, &format!("g{n}"));
            lanes.run_ms(15);
        }
        kill(&mut lanes);
        lanes.join();
        assert!(lanes.run_ms(10_000), "{script:?}");
        assert_eq!(published(&lanes, 0).last().unwrap(), &format!("{}=14", account(0)), "{script:?}");
        assert_eq!(lanes.count(names::SNAPSHOTS_CORRUPT), 0, "{script:?}");
    }
}

/// Sends gifts, waits for a snapshot, and crashes the owner.
fn saved(seed: u64) -> Lanes {
    let mut lanes = keeping(seed);
    lanes.join();
    for lane in 0..2 {
        (1..=4).for_each(|n| give(&lanes, &account(lane), n, &format!("g{lane}/{n}")));
    }
    assert!(lanes.run_ms(5_000));
    kill(&mut lanes);
    lanes
}

/// As [`Bank`], with accounts that begin with their former sum as a text.
#[derive(Default)]
struct TextBank {
    accounts: StateMap<String, String>,
    due: StateMap<u64, String>,
    next: StateValue<String>,
}

impl Bolt for TextBank {
    type In = (String, u64);
    type Out = ();
    const STATE_VERSION: u32 = 2;

    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.map_since("accounts", &mut self.accounts, 2, |sum: u64| format!("was {sum}"));
        saved.map("due", &mut self.due);
        saved.value_since("next", &mut self.next, 2, |next: u64| format!("was {next}"));
    }

    fn execute(&mut self, (account, n): (String, u64), out: &mut Emitter<()>) {
        let (number, next) = (out.random(), self.next.clone());
        let text = self.accounts.get_or_default(&account);
        *text = format!("{text}, then {n}");
        let mut envelope = Envelope::new(Kind::Answer, format!("{number}"), "/bank");
        envelope.operation = OperationId::new("bank").ok();
        let (topic, route) = (OUT.into(), Route::To(out.lane().lane));
        let body = Bytes::from(format!("{text}; next {next}"));
        out.publish(Message { topic, route, key: None, envelope, expires_after_ms: None, body });
    }
}

/// The converted state is part of the next snapshot, which the owner after that reads as it is.
#[test]
fn state_of_an_older_version_is_converted_once() {
    let mut lanes = saved(1);
    let t = Topology::named("bank");
    let door = t.inbox_spout("door", || Door);
    t.bolt("bank", TextBank::default).stage("bank").lanes(2).reads(door.local());
    lanes.topology = t.build().unwrap();
    lanes.join();
    assert!(lanes.run_ms(5_000));
    kill(&mut lanes);
    lanes.join();
    give(&lanes, &account(0), 10, "more");
    assert!(lanes.run_ms(5_000));
    assert_eq!(published(&lanes, 0).last().unwrap(), "was 14, then 10; next was 4");
    assert_eq!(lanes.count(names::SNAPSHOTS_CORRUPT), 0);
}

#[test]
fn the_inbox_is_not_needed_before_the_snapshot() {
    let mut lanes = saved(1);
    let last = read(&lanes, INBOX, 0).last().unwrap().offset;
    lanes.embedded.delete_records(INBOX, 0, last + 1).unwrap();
    lanes.join();
    give(&lanes, &account(0), 10, "more");
    assert!(lanes.run_ms(5_000));
    assert_eq!(published(&lanes, 0).last().unwrap(), &format!("{}=25", account(0)));
}

/// Replaces the state of the account, like a broken disk.
fn spoil(lanes: &Lanes) {
    let key = format!("bank/accounts/\"{}\"", account(0));
    let old = read(lanes, SNAPSHOTS, 0).into_iter().find(|record| record.key.as_deref() == Some(key.as_bytes()));
    let forged = Outgoing {
        topic: SNAPSHOTS.into(),
        route: Route::To(0),
        key: Some(key.into()),
        headers: old.unwrap().headers,
        value: Bytes::from_static(b"1000000"),
    };
    lanes.write(&[forged]);
}

#[test]
fn a_corrupt_snapshot_is_not_used_and_the_next_one_is_complete() {
    let mut lanes = saved(1);
    spoil(&lanes);
    lanes.join();
    give(&lanes, &account(0), 10, "more");
    assert!(lanes.run_ms(5_000));
    assert_eq!(published(&lanes, 0).last().unwrap(), &format!("{}=25", account(0)));
    assert_eq!((lanes.count(names::SNAPSHOTS_CORRUPT), lanes.count(names::RESTORED)), (1, 1));
    kill(&mut lanes);
    lanes.join();
    assert!(lanes.run_ms(5_000));
    assert_eq!((lanes.count(names::SNAPSHOTS_CORRUPT), lanes.count(names::RESTORED)), (0, 2));
    assert_eq!(published(&lanes, 0).len(), 10, "no effect is repeated");
}

#[test]
fn a_lane_without_intact_snapshot_or_inbox_is_not_started() {
    let mut lanes = saved(1);
    spoil(&lanes);
    lanes.embedded.delete_records(INBOX, 0, 3).unwrap();
    lanes.join();
    assert!(!lanes.run_ms(20_000), "the claim is retried");
    assert_eq!(lanes.shards[0].live(), [1], "the other lane continues");
    let why = "NAVE-0062: the inbox lacks records that its lane needs, see the log";
    assert_eq!(lanes.status.waiting(lanes.clock.mono()), [(0, format!("bank lane 0: recovering at offset 0; {why}"))]);
    let left = lanes.shards[0].unfinished();
    assert_eq!(left, ["bank lane 0: all its operations; it is not taken over yet"]);
}

/// A recreated inbox is shorter than the snapshot. Its new records are not mistaken for the old
/// ones.
#[test]
fn a_recreated_inbox_is_not_mistaken_for_the_saved_one() {
    let lanes = saved(1);
    let fresh = Lanes::of(exactly_once(), 1);
    // The old snapshot and committed offset, with a new inbox.
    let carried: Vec<Outgoing> = read(&lanes, SNAPSHOTS, 0)
        .into_iter()
        .map(|record| Outgoing {
            topic: SNAPSHOTS.into(),
            route: Route::To(0),
            key: record.key,
            headers: record.headers,
            value: record.value,
        })
        .collect();
    fresh.write(&carried);
    let mut fresh = fresh;
    fresh.join();
    give(&fresh, &account(0), 1, "a");
    assert!(!fresh.run_ms(5_000), "the claim is retried");
    let waiting = fresh.status.waiting(fresh.clock.mono());
    assert!(waiting.len() == 1 && waiting[0].1.contains("NAVE-0062"), "{waiting:?}");
    assert_eq!(read(&fresh, INBOX, 0).len(), 1, "the failed claim writes no owner record");
}

#[test]
fn a_lane_saved_by_a_newer_build_waits_for_that_build() {
    let mut newer = Lanes::of(bank::<2>(DeliveryMode::ExactlyOnce), 1);
    newer.join();
    give(&newer, &account(0), 5, "g");
    assert!(newer.run_ms(5_000));
    kill(&mut newer);
    newer.topology = exactly_once();
    newer.join();
    let idle = newer.run_ms(5_000);
    newer.recovery.warm = true;
    let refused = newer.join_stage("bank").unwrap_err().to_string();
    assert!(refused.contains("NAVE-0061") && refused.contains("version 2"), "one that looks does not join: {refused}");
    assert!(!idle && newer.shards[0].live().is_empty(), "an older build takes over no lane");
    newer.shards.clear();
    newer.embedded.expel(INBOX);
    newer.topology = bank::<2>(DeliveryMode::ExactlyOnce);
    newer.join();
    assert!(newer.run_ms(5_000));
    assert_eq!(newer.shards[0].live(), [0, 1]);
    assert_eq!(published(&newer, 0).last().unwrap(), &format!("{}=6", account(0)));
    // A newer build reads the state of an older one.
    let mut lanes = saved(1);
    lanes.topology = bank::<2>(DeliveryMode::ExactlyOnce);
    lanes.join();
    assert!(lanes.run_ms(5_000));
    assert_eq!((lanes.shards[0].live(), lanes.count(names::RESTORED)), (vec![0, 1], 2));
}

#[test]
fn a_component_that_cannot_be_saved_stops_only_its_snapshots() {
    let mut lanes = Lanes::of(exactly_once(), 1);
    lanes.join();
    give(&lanes, &account(0), 1, "a");
    lanes.run_ms(3_000);
    give(&lanes, &account(0), POISON - 2, "poison");
    lanes.run_ms(1_500);
    assert_eq!((lanes.count(names::SNAPSHOTS_FAILED), lanes.count(names::PANICS)), (1, 1));
    give(&lanes, &account(0), 1, "b");
    assert!(lanes.run_ms(5_000));
    assert_eq!(
        published(&lanes, 0).last().unwrap(),
        &format!("{}=669", account(0)),
        "one gift of 1, the poison, another, three interests"
    );
    kill(&mut lanes);
    lanes.join();
    assert!(lanes.run_ms(5_000));
    assert_eq!(published(&lanes, 0).len(), 6);
    assert!(lanes.count(names::REPLAYED) >= 4, "records after the last snapshot are replayed");
}

/// The report comes long before needed records are lost.
#[test]
fn an_inbox_close_to_losing_needed_records_is_reported() {
    let mut lanes = keeping(1);
    lanes.join();
    (1..=20).for_each(|n| give(&lanes, &account(0), n, &format!("g{n}")));
    lanes.run_ms(3_000);
    give(&lanes, &account(0), POISON - 230, "poison");
    lanes.run_ms(3_000);
    let reports = |lanes: &mut Lanes| {
        lanes.clock.advance_ms(61_000);
        give(lanes, &account(0), 1, &format!("at {:?}", lanes.clock.mono()));
        lanes.run_ms(1);
        lanes.run_ms(1);
        lanes.count(names::INBOXES_SHORT)
    };
    assert_eq!(reports(&mut lanes), 0);
    let saved = read(&lanes, SNAPSHOTS, 0).iter().filter(|record| record.key.as_deref() == Some(b".lane")).count();
    assert!(saved > 0 && lanes.count(names::SNAPSHOTS_FAILED) == 1);
    let kept = read(&lanes, INBOX, 0);
    let low = kept.iter().rev().nth(5).unwrap().offset;
    lanes.embedded.delete_records(INBOX, 0, low).unwrap();
    assert_eq!(reports(&mut lanes), 1);
}

/// Settings are part of the snapshot: replayed records see the settings of their time.
#[test]
fn settings_are_restored_with_the_snapshot() {
    let mut lanes = Lanes::of(exactly_once(), 1);
    lanes.settings = Settings::default().with("bank", &10);
    lanes.join();
    lanes.run_ms(10);
    give(&lanes, &account(0), 1, "a");
    lanes.run_ms(1_500);
    give(&lanes, &account(0), 1, "b");
    lanes.run_ms(50);
    kill(&mut lanes);
    lanes.settings = Settings::default().with("bank", &100);
    lanes.join();
    lanes.run_ms(10);
    give(&lanes, &account(0), 1, "c");
    assert!(lanes.run_ms(5_000));
    assert_eq!(published(&lanes, 0).last().unwrap(), &format!("{}=123", account(0)), "10, 10, 100, and interest of 3");
}

#[test]
fn a_lane_whose_next_record_is_gone_is_claimed_again_alone() {
    let script = Arc::new(FaultScript::default());
    let seen = Arc::clone(&script);
    let mut lanes = Lanes::on(exactly_once(), 1, |bus| Arc::new(FaultyBus::new(Arc::new(bus), seen)));
    lanes.join();
    lanes.run_ms(10);
    assert_eq!(lanes.shards[0].live(), [0, 1]);
    script.topic(INBOX, TopicFault::RecreatedWithSameId);
    script.poll(BusError::Gone { topic: INBOX.into(), partition: 0, requested: 1, low: 0 });
    lanes.run_ms(100);
    let waiting = lanes.status.waiting(lanes.clock.mono());
    assert!(waiting.len() == 1 && waiting[0].0 == 0 && waiting[0].1.contains("NAVE-0062"), "{waiting:?}");
    give(&lanes, &account(1), 7, "while lane 0 waits");
    lanes.run_ms(100);
    assert_eq!(published(&lanes, 1), [format!("{}=7", account(1))]);
    // The deleted record is available again.
    script.topic(INBOX, TopicFault::None);
    lanes.run_ms(10_000);
    assert_eq!((lanes.shards[0].live(), lanes.status.waiting(lanes.clock.mono())), (vec![0, 1], vec![]));
}
