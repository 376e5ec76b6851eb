//! Sync modes: which clients wait for a sync, and the effects of a failed sync.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use bus::{Arrival, Bus, BusError, Member, MemberSpec, Outgoing, Reader, Sync, TopicSpec};

use super::fixture::{Home, all, append, at, numbers, owner};

/// Longest wait for a wake-up.
const LONG: Duration = Duration::from_mins(1);

fn started(bus: &dyn Bus, group: &str, outside: bool) -> Box<dyn Member> {
    let spec = MemberSpec { outside, ..MemberSpec::new(group, "t", group) };
    let mut member = bus.member(&spec).expect("a member");
    assert!(matches!(&poll(&mut *member)[..], [Arrival::Assigned(_)]));
    member.start(0, 0).expect("a start");
    member
}

fn poll(member: &mut dyn Member) -> Vec<Arrival> {
    let mut out = Vec::new();
    member.poll(10, Duration::ZERO, &mut out).expect("a poll");
    out
}

fn reader(bus: &dyn Bus) -> Box<dyn Reader> {
    let mut reader = bus.reader().expect("a reader");
    reader.assign("t", 0, 0).expect("an offset");
    reader
}

#[test]
fn lanes_write_and_read_while_outside_clients_wait_for_a_sync() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let (mut lane, mut spoke) = (started(&bus, "lane", false), started(&bus, "spoke", true));
    let mut outlets = [reader(&bus), reader(&bus), reader(&bus)];
    let faults = &home.disk.faults;
    faults.hold_syncs();
    lane.commit(&at(0, 0, vec![Outgoing::keyed("t", "k", "1")])).expect("a commit");
    let outside = thread::scope(|scope| {
        let spoke = scope.spawn(|| poll(&mut *spoke));
        let outlets: Vec<_> = outlets
            .iter_mut()
            .map(|outlet| {
                scope.spawn(|| {
                    let mut out = Vec::new();
                    outlet.poll(10, Duration::ZERO, &mut out).expect("a poll");
                    out.len()
                })
            })
            .collect();
        faults.wait_for_a_sync();
        assert_eq!(poll(&mut *lane).len(), 1, "a lane sees unsynced records");
        lane.commit(&at(1, 0, vec![Outgoing::keyed("t", "k", "2")])).expect("a commit does not wait");
        assert_eq!(poll(&mut *lane).len(), 1);
        assert!(!spoke.is_finished() && outlets.iter().all(|outlet| !outlet.is_finished()));
        faults.release_syncs();
        let outlets: Vec<usize> = outlets.into_iter().map(|outlet| outlet.join().expect("it ended")).collect();
        (spoke.join().expect("it ended").len(), outlets)
    });
    assert!((1..=2).contains(&outside.0) && outside.1.iter().all(|seen| (1..=2).contains(seen)), "{outside:?}");
    assert_eq!(numbers(&all(&bus, "t", 0)), [1, 2]);
}

#[test]
fn unsynced_records_never_leave_the_process() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    append(&bus, "t", 0..1);
    let (mut lane, mut spoke, mut outlet) = (started(&bus, "lane", false), started(&bus, "spoke", true), reader(&bus));
    home.disk.faults.fail_syncs();
    lane.commit(&at(0, 0, vec![Outgoing::keyed("t", "k", "1")])).expect("a commit");
    assert_eq!(poll(&mut *lane).len(), 2);
    assert_eq!(poll(&mut *spoke).len(), 1, "synced records are visible");
    let mut out = Vec::new();
    outlet.poll(10, Duration::ZERO, &mut out).expect("a poll");
    assert_eq!(numbers(&out), [0]);

    let refused = |fault: &BusError| matches!(fault, BusError::Refused(why) if why.contains("could not be synced"));
    let fault = outlet.poll(10, Duration::ZERO, &mut out).expect_err("the disk does not sync");
    assert!(refused(&fault), "{fault}");
    assert_eq!(out.len(), 1);
    // After the failure every operation fails.
    for member in [&mut spoke, &mut lane] {
        let fault = member.poll(10, Duration::ZERO, &mut Vec::new()).expect_err("the disk does not sync");
        assert!(refused(&fault), "{fault}");
    }
    assert!(lane.commit(&at(1, 0, vec![])).is_err());
    assert!(bus.writer("w").and_then(|mut writer| writer.append(&[Outgoing::keyed("t", "k", "2")])).is_err());
}

#[test]
fn an_append_succeeds_only_if_it_is_durable() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    home.disk.faults.fail_syncs();
    let append = bus.writer("w").and_then(|mut writer| writer.append(&[Outgoing::keyed("t", "k", "1")]));
    assert!(matches!(append, Err(BusError::Refused(_))), "{append:?}");
}

#[test]
fn a_failed_sync_wakes_the_threads_of_all_polls() {
    let home = Home::new();
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    bus.ensure_topic(&TopicSpec::log("idle", 1)).expect("a topic");
    let (mut member, mut idle) = (owner(&bus, "g", "idle"), bus.reader().expect("a reader"));
    idle.assign("idle", 0, 0).expect("an offset");
    let (says, heard) = sync_channel(2);
    thread::scope(|scope| {
        let said = says.clone();
        scope.spawn(move || {
            said.send(member.poll(1, Duration::ZERO, &mut Vec::new())).expect("the test waits for it");
            thread::park_timeout(LONG);
            said.send(member.poll(1, Duration::ZERO, &mut Vec::new())).expect("the test waits for it");
        });
        scope.spawn(move || {
            says.send(idle.poll(1, Duration::ZERO, &mut Vec::new())).expect("the test waits for it");
            thread::park_timeout(LONG);
            says.send(idle.poll(1, Duration::ZERO, &mut Vec::new())).expect("the test waits for it");
        });
        for _ in 0..2 {
            assert_eq!(heard.recv(), Ok(Ok(())));
        }
        home.disk.faults.fail_syncs();
        let append = bus.writer("w").and_then(|mut writer| writer.append(&[Outgoing::keyed("t", "k", "1")]));
        assert!(append.is_err(), "{append:?}");
        for _ in 0..2 {
            let polled = heard.recv_timeout(LONG / 2);
            assert!(matches!(polled, Ok(Err(BusError::Refused(_)))), "{polled:?}");
        }
    });
}

#[test]
fn with_a_sync_interval_no_poll_syncs_before_it_has_passed() {
    let mut home = Home::new();
    home.disk = home.disk.synced(Sync::INTERVAL);
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut outlet = reader(&bus);
    home.disk.faults.fail_syncs();
    append(&bus, "t", 0..2);
    let mut out = Vec::new();
    outlet.poll(10, Duration::ZERO, &mut out).expect("a poll does not sync");
    home.clock.advance_ms(99);
    append(&bus, "t", 2..3);
    home.clock.advance_ms(1);
    assert!(outlet.poll(10, Duration::ZERO, &mut out).is_err(), "the sync is due, and fails");
}

#[test]
fn a_bus_without_syncs_syncs_when_it_is_closed() {
    let mut home = Home::new();
    home.disk = home.disk.synced(Sync::Never);
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    home.disk.faults.hold_syncs();
    append(&bus, "t", 0..3);
    home.clock.advance_ms(3_600_000);
    assert_eq!(numbers(&all(&bus, "t", 0)), [0, 1, 2], "a sync would hang here");
    thread::scope(|scope| {
        scope.spawn(|| drop(bus));
        home.disk.faults.wait_for_a_sync();
        home.disk.faults.release_syncs();
    });
    assert_eq!(numbers(&all(&home.open(), "t", 0)), [0, 1, 2]);
}
