//! What is particular to the embedded bus; what every bus must do is in `bus/tests`.

use std::time::Duration;

use wire::{Envelope, Kind, WallTime};

use super::*;
use crate::{Arrival, Batch, Cleanup, CommitError, Faulty, ManualClock, Position, Record, Script};

const NOW: Duration = Duration::ZERO;

fn open(options: EmbeddedOptions) -> (Embedded, Arc<ManualClock>) {
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

fn fill(bus: &Embedded, topic: &str, count: usize) {
    let record = Outgoing::keyed(topic, "k", vec![b'x'; 1000]);
    bus.writer("w").and_then(|mut writer| writer.append(&vec![record; count])).expect("an append");
}

fn at(partition: u32, next: u64) -> Batch {
    Batch { records: Vec::new(), positions: vec![Position { partition, next, note: "".into() }] }
}

#[test]
fn a_session_ends_on_the_monotonic_clock_whatever_the_wall_clock_does() {
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
    assert_eq!(poll(&mut second), [Arrival::Revoking(vec![1])], "the one who came back gets its share");
    second.release(&[1]).expect("a release");
    assert_eq!(poll(&mut first), [Arrival::Assigned(vec![1])]);
}

#[test]
fn a_dropped_member_counts_as_crashed_and_is_forgotten_with_its_session() {
    let (bus, clock) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    drop(bus.member(&MemberSpec::new("g", "t", "first")).expect("a member"));
    let mut second = bus.member(&MemberSpec::new("g", "t", "second")).expect("a member");
    assert_eq!(poll(&mut second), []);
    clock.advance_ms(6_001);
    assert_eq!(poll(&mut second), [Arrival::Assigned(vec![0])]);
    assert_eq!(bus.0.lock().groups[0].seats.len(), 1);
}

#[test]
fn an_expelled_group_hears_of_it_and_joins_again() {
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
fn what_a_group_has_not_committed_is_kept_and_the_rest_is_cut_to_size() {
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
        Err("partition 0 of `in` starts at 93; 50 is gone".into())
    );
}

#[test]
fn a_topic_without_groups_is_cut_from_the_front_and_a_slow_reader_is_told_once() {
    let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("out", 1)).expect("a topic");
    let mut reader = bus.reader().expect("a reader");
    reader.assign("out", 0, 0).expect("an offset");
    fill(&bus, "out", 50);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 0, end: 50 }), "a reader that is a little behind is waited for");
    fill(&bus, "out", 50);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 39, end: 100 }), "61 records of 1,301 bytes fit 8 times 10,000");
    let gone = BusError::Gone { topic: "out".into(), partition: 0, asked: 0, low: 39 };
    assert_eq!(reader.poll(10, NOW, &mut Vec::new()), Err(gone));
    reader.assign("out", 0, 39).expect("an offset");
    assert_eq!(records(&mut reader).len(), 61);
    fill(&bus, "out", 1);
    assert_eq!(bus.bounds("out", 0), Ok(Bounds { low: 94, end: 101 }));
}

#[test]
fn records_are_deleted_after_their_time() {
    let (bus, clock) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("beats", 1).cleaned(Cleanup::DeleteAfterMs(1_000))).expect("a topic");
    fill(&bus, "beats", 3);
    clock.advance_ms(1_001);
    fill(&bus, "beats", 1);
    assert_eq!(bus.bounds("beats", 0), Ok(Bounds { low: 3, end: 4 }));
}

/// Appends requests to a spoke that are of use until `expires`.
fn request(bus: &Embedded, count: usize, expires: WallTime) {
    let envelope = Envelope { expires: Some(expires), ..Envelope::new(Kind::Call, "c", "/test") };
    let record = Outgoing::keyed("calls", "k", vec![0; 1_000]).with(&envelope);
    bus.writer("w").and_then(|mut writer| writer.append(&vec![record; count])).expect("an append");
}

/// A spoke that is away must not lose what it may still answer, and must not fill the memory with what it may not.
#[test]
fn what_a_group_has_not_read_goes_only_once_it_has_expired() {
    let (bus, clock) = open(EmbeddedOptions { retention_bytes: Some(20_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("calls", 1).cleaned(Cleanup::DeleteAfterMs(3_600_000))).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("spoke", "calls", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    let until = clock.wall().plus_ms(1_000);
    request(&bus, 100, until);
    assert_eq!(bus.bounds("calls", 0), Ok(Bounds { low: 0, end: 100 }), "five times the bound, and none is lost");
    clock.advance_ms(1_001);
    request(&bus, 5, clock.wall().plus_ms(1_000));
    let Bounds { low, end } = bus.bounds("calls", 0).expect("bounds");
    assert_eq!(end, 105);
    assert!((80..100).contains(&low), "what has expired goes until the rest fits: {low}");
    let position = Position { partition: 0, next: 105, note: "".into() };
    member.commit(&Batch { records: vec![], positions: vec![position] }).expect("a commit");
    request(&bus, 100, clock.wall().plus_ms(1_000));
    assert_eq!(bus.bounds("calls", 0).map(|bounds| bounds.low), Ok(105), "what is read goes, what is not stays");
}

/// A topic without a group has a bound by size; a reader that comes later is told that its beginning is gone.
#[test]
fn what_is_deleted_after_a_time_has_a_bound_by_size_where_no_group_reads_it() {
    let options = EmbeddedOptions { retention_bytes: Some(20_000), ..EmbeddedOptions::default() };
    for keep_bytes in [options.keep_bytes, None] {
        let (bus, _) = open(EmbeddedOptions { keep_bytes, ..options.clone() });
        bus.ensure_topic(&TopicSpec::log("calls", 2).cleaned(Cleanup::DeleteAfterMs(3_600_000))).expect("a topic");
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
        assert_eq!(bus.bounds("calls", 1 - busy), Ok(Bounds { low: 0, end: 1 }), "the other one has its own bound");

        let gone = || Err(BusError::Gone { topic: "calls".into(), partition: busy, asked: 0, low });
        assert_eq!(reader.poll(10, NOW, &mut Vec::new()), gone());
        reader.assign("calls", busy, low).expect("an offset");
        assert_eq!(records(&mut reader).len(), 15);
    }
}

#[test]
fn an_inbox_has_no_bound_but_what_its_group_has_committed() {
    let options =
        EmbeddedOptions { keep_bytes: Some(10_000), retention_bytes: Some(10_000), ..EmbeddedOptions::default() };
    let (bus, _) = open(options);
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    drop(bus.member(&MemberSpec::new("g", "in", "m")).expect("a member"));
    fill(&bus, "in", 100);
    assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 0, end: 100 }));
}

/// Who takes over begins at the snapshot, not where the last owner stood.
#[test]
fn what_came_since_the_snapshot_is_kept_although_it_is_committed() {
    let (bus, _) = open(EmbeddedOptions { keep_bytes: Some(10_000), ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "in", "m")).expect("a member");
    assert_eq!(poll(&mut member), [Arrival::Assigned(vec![0])]);
    fill(&bus, "in", 100);
    let mut commit = |next, snapshot| {
        let note = wire::owner::Note { transactional_id: "m".into(), snapshot, released: false }.to_string();
        let position = Position { partition: 0, next, note: note.as_str().into() };
        member.commit(&Batch { records: Vec::new(), positions: vec![position] }).expect("a commit");
        bus.bounds("in", 0).expect("a topic").low
    };
    assert_eq!(commit(20, 10), 10);
    assert_eq!(commit(100, 10), 10);
    assert_eq!(commit(100, 40), 40);
    assert_eq!(commit(100, 99), 93, "7 records of 1,301 bytes fit");
}

#[test]
fn what_nobody_needs_goes_at_once_and_what_is_not_committed_stays() {
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
        assert_eq!(trim(5).0, 9_998, "what is gone does not come back");
        assert_eq!(trim(u64::MAX), (10_000, 10 * 1_301), "what is not committed stays, whatever anybody says");
        member.commit(&at(0, 10_010)).expect("a commit");
        assert_eq!(trim(u64::MAX), (10_010, 0), "and nothing is there beyond the end");
        assert_eq!(member.start(0, 10_010), Ok(()));

        let faulty = Faulty::new(Arc::new(bus.clone()), Arc::new(Script::default()));
        fill(&bus, "in", 1);
        member.commit(&at(0, 10_011)).expect("a commit");
        assert_eq!(faulty.trim("in", 0, 10_011), Ok(()));
        assert_eq!(bus.bounds("in", 0), Ok(Bounds { low: 10_011, end: 10_011 }), "who stands between passes it on");
        faulty.kill();
        assert!(faulty.trim("in", 0, 10_011).is_err(), "unless it is dead");
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
fn a_reader_that_saw_the_value_sees_its_deletion_before_that_goes() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("view", 1).cleaned(Cleanup::Compact)).expect("a topic");
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
    assert_eq!(records(&mut reader).len(), 1, "the key that was deleted has left nothing");
}

#[test]
fn a_commit_uses_up_an_offset_like_a_marker_where_it_is_told_to() {
    let (bus, _) = open(EmbeddedOptions { offset_gaps: true, ..EmbeddedOptions::default() });
    bus.ensure_topic(&TopicSpec::log("t", 2)).expect("a topic");
    let mut member = bus.member(&MemberSpec::new("g", "t", "m")).expect("a member");
    let records = vec![Outgoing::keyed("t", "k", "v").to(1); 2];
    member.commit(&Batch { records, positions: Vec::new() }).expect("a commit");
    assert_eq!(bus.bounds("t", 0), Ok(Bounds { low: 0, end: 0 }));
    assert_eq!(bus.bounds("t", 1), Ok(Bounds { low: 0, end: 3 }));
}

#[test]
fn a_sleeping_reader_is_woken_by_its_own_partition_again_and_again() {
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
                    // A lost wake-up would cost a minute, and the test its patience.
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
fn a_sleeping_member_is_woken_by_what_another_one_leaves() {
    let (bus, _) = open(EmbeddedOptions::default());
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let first = bus.member(&MemberSpec::new("g", "t", "first")).expect("a member");
    let mut second = bus.member(&MemberSpec::new("g", "t", "second")).expect("a member");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let mut out = Vec::new();
            // The clock stands, so that no session ends: the naps are cut short by the leave alone.
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
fn on_disk_the_memory_stays_flat_while_the_log_grows() {
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
