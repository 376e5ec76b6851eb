//! Tests specific to the embedded bus; the tests for every bus are in `bus/tests`.

use std::time::Duration;

use wire::{Envelope, Kind, WallTime};

use super::*;
use crate::{
    Arrival, Batch, Cleanup, CommitError, FaultScript, FaultyBus, Follower, IfGone, ManualClock, Position, Record,
    Start,
};

const NOW: Duration = Duration::ZERO;

pub(super) fn open(options: EmbeddedOptions) -> (Embedded, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options), clock)
}

fn poll(member: &mut Box<dyn Member>) -> Vec<Arrival> {
    let mut out = Vec::new();
    member.poll(1000, NOW, &mut out).expect("a poll");
    out
}

fn records(reader: &mut Box<dyn Reader>) -> Vec<Record> {
    let mut out = Vec::new();
    reader.poll(1000, NOW, &mut out).expect("a poll");
    out
}

pub(super) fn fill(bus: &Embedded, topic: &str, count: usize) {
    let record = Outgoing::keyed(topic, "k", vec![b'x'; 1000]);
    bus.writer("w").and_then(|mut writer| writer.append(&vec![record; count])).expect("an append");
}

fn at(partition: u32, next: u64) -> Batch {
    Batch { records: Vec::new(), positions: vec![Position { partition, next, metadata: "".into() }] }
}

#[test]
fn a_session_expires_by_the_monotonic_clock_only() {
    let (bus, clock) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 2)).expect("a topic");
    let mut first = bus.member(&MemberSpec::new("g", "t", "first")).expect("a member");
    let mut second = bus.member(&MemberSpec::new("g", "t", "second")).expect("a member");
    assert_eq!(poll(&mut first), [Arrival::Assigned(vec![0, 1]), Arrival::Revoking(vec![1])]);
    clock.step_wall_ms(3_600_000);
    clock.advance_ms(6_000);
    assert_eq!(poll(&mut second), []);
    clock.advance_ms(1);
    assert_eq!(poll(&mut second), [Arrival::Assigned(vec![0, 1])]);
    assert!(matches!(first.commit(&at(0, 0)), Err(CommitError::Fenced(_))));
    assert_eq!(poll(&mut first), [Arrival::Lost(vec![0, 1])]);
    assert_eq!(poll(&mut second), [Arrival::Revoking(vec![1])], "the returning member gets its share");
    second.release(&[1]).expect("a release");
    assert_eq!(poll(&mut first), [Arrival::Assigned(vec![1])]);
}

#[test]
fn a_dropped_member_counts_as_crashed_until_its_session_expires() {
    let (bus, clock) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    drop(bus.member(&MemberSpec::new("g", "t", "first")).expect("a member"));
    let mut second = bus.member(&MemberSpec::new("g", "t", "second")).expect("a member");
    assert_eq!(poll(&mut second), []);
    clock.advance_ms(6_001);
    assert_eq!(poll(&mut second), [Arrival::Assigned(vec![0])]);
    assert_eq!(bus.0.lock().groups[0].members.len(), 1);
}

#[test]
fn expelled_members_learn_of_the_loss_and_rejoin() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "t", "only")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    bus.expel("g");
    assert!(matches!(member.commit(&at(0, 0)), Err(CommitError::Fenced(_))));
    assert_eq!(poll(&mut member), [Arrival::Lost(vec![0]), Arrival::Assigned(vec![0])]);
    assert_eq!(member.commit(&at(0, 0)), Ok(()));
}

#[test]
fn uncommitted_records_are_kept_and_the_rest_is_cut_to_size() {
    let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "in", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    fill(&bus, "in", 100);
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 100 }));
    member.commit(&at(0, 50)).expect("a commit");
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 50, end: 100 }));
    member.commit(&at(0, 100)).expect("a commit");
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 93, end: 100 }), "7 records of 1,301 bytes fit");
    assert_eq!(
        member.start(0, 50).map_err(|fault| fault.to_string()),
        Err("offset 50 of `in` 0 was deleted; the first available offset is 93".into())
    );
}

#[test]
fn a_slow_reader_of_a_topic_without_groups_gets_one_error() {
    let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("out", 1)).expect("a topic");
    let mut reader = bus.reader().expect("a reader");
    reader.assign("out", 0, 0).expect("an offset");
    fill(&bus, "out", 50);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 0, end: 50 }), "a reader that is slightly behind delays the cut");
    fill(&bus, "out", 50);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 39, end: 100 }), "61 records of 1,301 bytes fit 8 times 10,000");
    let gone = BusError::Gone { topic: "out".into(), partition: 0, requested: 0, low: 39 };
    assert_eq!(reader.poll(10, NOW, &mut Vec::new()), Err(gone));
    reader.assign("out", 0, 39).expect("an offset");
    assert_eq!(records(&mut reader).len(), 61);
    fill(&bus, "out", 1);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 94, end: 101 }));
}

/// A database writer that stands still must not miss answers.
#[test]
fn the_memory_keeps_records_that_a_named_follower_has_not_read() {
    let (bus, clock) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("out", 1).with_cleanup(Cleanup::DeleteAfterMs(1_000))).expect("a topic");
    let mut follower = Follower::named("sql", IfGone::Fail);
    follower.follow(&bus, "out", 0, Start::Low).expect("bounds");
    let mut read = Vec::new();
    follower.poll(20, NOW, &mut read).expect("a poll");
    drop(follower);
    fill(&bus, "out", 60);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 0, end: 60 }));

    let mut follower = Follower::named("sql", IfGone::Fail);
    follower.follow(&bus, "out", 0, Start::End).expect("bounds");
    while read.len() < 40 {
        follower.poll(20, NOW, &mut read).expect("a poll");
    }
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 0, end: 60 }), "it has not saved its position");
    follower.save(&bus).expect("a save");
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 40, end: 60 }));
    drop(follower);
    bus.forget_name("sql", "out").expect("a topic");
    fill(&bus, "out", 1);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 54, end: 61 }), "7 records fit 10,000 bytes");

    follower = Follower::named("late", IfGone::Fail);
    follower.follow(&bus, "out", 0, Start::Low).expect("bounds");
    clock.advance_ms(1_001);
    fill(&bus, "out", 1);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 61, end: 62 }), "the retention time applies");
}

#[test]
fn a_compacted_topic_keeps_deletions_that_a_named_follower_has_not_read() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    bus.save_positions("sql", "view", &[(0, 0)]).expect("a save");
    let append = |value: &str| {
        let record = Outgoing::keyed("view", "k", value.to_owned());
        bus.writer("w").and_then(|mut writer| writer.append(&[record])).expect("an append");
    };
    let held = || {
        let mut reader = bus.reader().expect("a reader");
        reader.assign("view", 0, 0).expect("an offset");
        records(&mut reader).len()
    };
    append("here");
    append("");
    append("");
    assert_eq!(held(), 1, "the last deletion");
    bus.save_positions("sql", "view", &[(0, 3)]).expect("a save");
    assert_eq!(held(), 0);
}

#[test]
fn records_are_deleted_after_their_retention_time() {
    let (bus, clock) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("beats", 1).with_cleanup(Cleanup::DeleteAfterMs(1_000))).expect("a topic");
    fill(&bus, "beats", 3);
    clock.advance_ms(1_001);
    fill(&bus, "beats", 1);
    assert_eq!(bus.bounds("beats", 0), Ok(Bounds { low: 3, end: 4 }));
}

/// Appends requests to a spoke that expire at `expires`.
fn request(bus: &Embedded, count: usize, expires: WallTime) {
    let envelope = Envelope { expires: Some(expires), ..Envelope::new(Kind::Call, "c", "/test") };
    let record = Outgoing::keyed("calls", "k", vec![0; 1_000]).with(&envelope);
    bus.writer("w").and_then(|mut writer| writer.append(&vec![record; count])).expect("an append");
}

/// An absent spoke must not lose requests that it can still answer, and expired ones must not fill
/// the memory.
#[test]
fn unread_records_are_dropped_only_after_they_expired() {
    let (bus, clock) = open(EmbeddedOptions { retention_bytes: Some(20_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("calls", 1).with_cleanup(Cleanup::DeleteAfterMs(3_600_000))).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("spoke", "calls", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    let until = clock.wall().plus_ms(1_000);
    request(&bus, 100, until);
    assert_eq!(bus.bounds("calls", 0), Ok(Bounds { low: 0, end: 100 }), "five times the limit, and none is lost");
    clock.advance_ms(1_001);
    request(&bus, 5, clock.wall().plus_ms(1_000));
    let Bounds { low, end } = bus.bounds("calls", 0).expect("bounds");
    assert_eq!(end, 105);
    assert!((80..100).contains(&low), "expired records are dropped until the rest fits: {low}");
    let position = Position { partition: 0, next: 105, metadata: "".into() };
    member.commit(&Batch { records: vec![], positions: vec![position] }).expect("a commit");
    request(&bus, 100, clock.wall().plus_ms(1_000));
    assert_eq!(
        bus.bounds("calls", 0).map(|bounds| bounds.low),
        Ok(105),
        "committed records are dropped, the others stay"
    );
}

/// A topic without a group has a size limit; a later reader gets an error for the dropped
/// beginning.
#[test]
fn a_topic_with_a_retention_time_and_no_group_has_a_size_limit() {
    let options = EmbeddedOptions { retention_bytes: Some(20_000), ..EmbeddedOptions::default() };
    for keep_bytes in [options.keep_bytes, None] {
        let (bus, _) = open(EmbeddedOptions { keep_bytes, ..options.clone() });
        bus.ensure_topic(&TopicSpec::log("calls", 2).with_cleanup(Cleanup::DeleteAfterMs(3_600_000))).expect("a topic");
        let busy = wire::routing::lane_of(b"k", 2);
        let mut reader = bus.reader().expect("a reader");
        reader.assign("calls", busy, 0).expect("an offset");
        let quiet = Outgoing::keyed("calls", "k", "v").to(1 - busy);
        bus.writer("w").and_then(|mut writer| writer.append(&[quiet])).expect("an append");
        for _ in 0..1_000 {
            fill(&bus, "calls", 10);
            assert!(bus.0.lock().log((0, busy)).bytes() <= 20_000);
        }
        let low = 10_000 - 15;
        assert_eq!(bus.bounds("calls", busy), Ok(Bounds { low, end: 10_000 }), "15 records of 1,301 bytes fit");
        assert_eq!(bus.bounds("calls", 1 - busy), Ok(Bounds { low: 0, end: 1 }), "each partition has its own limit");

        let gone = || Err(BusError::Gone { topic: "calls".into(), partition: busy, requested: 0, low });
        assert_eq!(reader.poll(10, NOW, &mut Vec::new()), gone());
        reader.assign("calls", busy, low).expect("an offset");
        assert_eq!(records(&mut reader).len(), 15);
    }
}

#[test]
fn an_inbox_keeps_everything_that_its_group_has_not_committed() {
    let options =
        EmbeddedOptions { keep_bytes: Some(10_000), retention_bytes: Some(10_000), ..EmbeddedOptions::default() };
    let (bus, _) = open(options);
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    drop(bus.member(&MemberSpec::new("g", "in", "m")).expect("a member"));
    fill(&bus, "in", 100);
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 100 }));
}

/// A takeover replays from the snapshot, not from the committed offset.
#[test]
fn committed_records_since_the_snapshot_are_kept() {
    let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "in", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    fill(&bus, "in", 100);
    let mut commit = |next, snapshot| {
        let metadata =
            wire::owner::OffsetMetadata { transactional_id: "m".into(), snapshot, commit: 0, released: false }
                .to_string();
        let position = Position { partition: 0, next, metadata: metadata.as_str().into() };
        member.commit(&Batch { records: Vec::new(), positions: vec![position] }).expect("a commit");
        bus.bounds("in", 0).expect("a topic").low
    };
    assert_eq!(commit(20, 10), 10);
    assert_eq!(commit(100, 10), 10);
    assert_eq!(commit(100, 40), 40);
    assert_eq!(commit(100, 99), 93, "7 records of 1,301 bytes fit");
}

#[test]
fn a_trim_deletes_at_once_but_only_committed_records() {
    for keep_bytes in [Some(2 << 20), None] {
        let (bus, _) = open(EmbeddedOptions { keep_bytes, ..EmbeddedOptions::default() });
        bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
        let mut member = bus.member(&MemberSpec::new("g", "in", "m")).expect("a member");
        assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
        let trim = |before| {
            bus.trim("in", 0, before).expect("a topic");
            (bus.bounds("in", 0).expect("a topic").low, bus.0.lock().log((0, 0)).bytes())
        };
        for round in 1..=1_000 {
            fill(&bus, "in", 10);
            member.commit(&at(0, 10 * round)).expect("a commit");
            assert_eq!(trim(10 * round - 2), (10 * round - 2, 2 * 1_301));
        }
        fill(&bus, "in", 10);
        assert_eq!(trim(5).0, 9_998, "a lower trim changes nothing");
        assert_eq!(trim(u64::MAX), (10_000, 10 * 1_301), "uncommitted records stay");
        member.commit(&at(0, 10_010)).expect("a commit");
        assert_eq!(trim(u64::MAX), (10_010, 0), "a trim stops at the end");
        assert_eq!(member.start(0, 10_010), Ok(()));

        let faulty = FaultyBus::new(Arc::new(bus.clone()), Arc::new(FaultScript::default()));
        fill(&bus, "in", 1);
        member.commit(&at(0, 10_011)).expect("a commit");
        assert_eq!(faulty.trim("in", 0, 10_011), Ok(()));
        assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 10_011, end: 10_011 }), "a faulty bus forwards the trim");
        faulty.kill();
        assert!(faulty.trim("in", 0, 10_011).is_err(), "a crashed process cannot trim");
    }
    let (bus, _) = open(EmbeddedOptions::default());
    assert_eq!(bus.trim("in", 0, 0), Err(BusError::NoTopic("in".into())));
}

#[test]
fn on_disk_trimming_deletes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = DiskOptions::new(dir.path());
    let bus = Embedded::on_disk(Arc::new(ManualClock::default()), EmbeddedOptions::default(), &disk).expect("a bus");
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    fill(&bus, "in", 10);
    bus.trim("in", 0, 5).expect("a topic");
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 10 }));
}

#[test]
fn a_reader_of_a_value_sees_its_deletion() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("view", 1).with_cleanup(Cleanup::Compact)).expect("a topic");
    let mut writer = bus.writer("w").expect("a writer");
    let mut reader = bus.reader().expect("a reader");
    reader.assign("view", 0, 0).expect("an offset");
    writer.append(&[Outgoing::keyed("view", "a", "1")]).expect("an append");
    assert_eq!(records(&mut reader).len(), 1);
    writer.append(&[Outgoing::keyed("view", "a", "")]).expect("an append");
    writer.append(&[Outgoing::keyed("view", "b", "1")]).expect("an append");
    let seen: Vec<_> = records(&mut reader).into_iter().map(|record| (record.offset, record.value.len())).collect();
    assert_eq!(seen, [(1, 0), (2, 1)]);
    writer.append(&[Outgoing::keyed("view", "b", "2")]).expect("an append");
    reader.assign("view", 0, 0).expect("an offset");
    assert_eq!(records(&mut reader).len(), 1, "nothing is left of the deleted key");
}

#[test]
fn with_offset_gaps_a_commit_uses_one_more_offset() {
    let (bus, _) = open(EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("t", 2)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "t", "m")).expect("a member");
    let records = vec![Outgoing::keyed("t", "k", "v").to(1); 2];
    member.commit(&Batch { records, positions: Vec::new() }).expect("a commit");
    assert_eq!(bus.bounds("t", 0), Ok(Bounds { low: 0, end: 0 }));
    assert_eq!(bus.bounds("t", 1), Ok(Bounds { low: 0, end: 3 }));
}

/// Offsets without records are no backlog, also after all records were deleted.
#[test]
fn with_offset_gaps_a_trimmed_partition_has_no_backlog() {
    let (bus, _) = open(EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "t", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    let record = Outgoing::keyed("t", "k", "v").to(0);
    member.commit(&Batch { records: vec![record], positions: Vec::new() }).expect("a commit");
    let position = Position { partition: 0, next: 1, metadata: "".into() };
    member.commit(&Batch { records: Vec::new(), positions: vec![position] }).expect("a commit");
    assert_eq!(bus.backlog("g", "t"), Ok(vec![0]));
    bus.trim("t", 0, 1).expect("a trim");
    assert_eq!((bus.bounds("t", 0), bus.backlog("g", "t")), (Ok(Bounds { low: 1, end: 2 }), Ok(vec![0])));
}

#[test]
fn a_waiting_reader_is_woken_by_every_append() {
    const ROUNDS: u64 = 2_000;
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("ping", 1)).expect("a topic");
    bus.ensure_topic(&TopicSpec::log("pong", 1)).expect("a topic");
    let play = |bus: &Embedded, hear: &'static str, say: &'static str| {
        let mut reader = bus.reader().expect("a reader");
        reader.assign(hear, 0, 0).expect("an offset");
        let mut writer = bus.writer(say).expect("a writer");
        move || {
            let mut out = Vec::new();
            for round in 0..ROUNDS {
                while out.len() as u64 <= round {
                    // A lost wake-up would make the test wait for a minute.
                    reader.poll(1, Duration::from_mins(1), &mut out).expect("a poll");
                }
                writer.append(&[Outgoing::keyed(say, "k", "v")]).expect("an append");
            }
        }
    };
    let (one, two) = (play(&bus, "ping", "pong"), play(&bus, "pong", "ping"));
    std::thread::scope(|scope| {
        scope.spawn(one);
        scope.spawn(two);
        bus.writer("serve").expect("a writer").append(&[Outgoing::keyed("ping", "k", "v")]).expect("an append");
    });
    assert_eq!(bus.bounds("ping", 0).map(|bounds| bounds.end), Ok(ROUNDS + 1));
}

#[test]
fn a_waiting_member_is_woken_when_another_one_leaves() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let first = bus.member(&MemberSpec::new("g", "t", "first")).expect("a member");
    let mut second = bus.member(&MemberSpec::new("g", "t", "second")).expect("a member");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let mut out = Vec::new();
            // The clock does not move, so no session expires: only the leave ends the wait.
            while out.is_empty() {
                second.poll(1, Duration::from_mins(1), &mut out).expect("a poll");
            }
            out
        });
        first.leave().expect("a leave");
        assert_eq!(waiting.join().expect("it ended"), [Arrival::Assigned(vec![0])]);
    });
}

#[test]
fn on_disk_the_memory_stays_constant_while_the_log_grows() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions { keep_bytes: Some(100_000), ..EmbeddedOptions::default() };
    let bus =
        Embedded::on_disk(Arc::new(ManualClock::default()), options, &DiskOptions::new(dir.path())).expect("a bus");
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    drop(bus.member(&MemberSpec::new("g", "in", "m")).expect("a member"));
    for _ in 0..100 {
        fill(&bus, "in", 50);
        let bytes = bus.0.lock().log((0, 0)).bytes();
        assert!(bytes <= 100_000 + disk::tail::PAGE_BYTES, "{bytes}");
    }
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 5_000 }));
}
