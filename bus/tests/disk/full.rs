//! A disk without room.

use bus::{Bus, BusError, CommitError, Outgoing, TopicSpec};

use super::fixture::{Home, all, append, at, left, numbers, owner};

#[test]
fn a_full_disk_refuses_whole_batches_until_there_is_room() {
    for room in [0, 1, 100, 500] {
        let home = Home::new();
        let bus = home.open();
        bus.ensure_topic(&TopicSpec::log("in", 1)).expect("a topic");
        bus.ensure_topic(&TopicSpec::log("out", 1)).expect("a topic");
        append(&bus, "in", 0..10);
        let mut member = owner(&bus, "g", "in");
        member.commit(&at(5, 0, vec![Outgoing::keyed("out", "k", "1")])).expect("a commit");
        home.disk.faults.leave_room(room);
        let large = || at(10, 0, vec![Outgoing::keyed("out", "k", format!("{:0600}", 2))]);
        for _ in 0..3 {
            let Err(CommitError::Failed(BusError::Unavailable(why))) = member.commit(&large()) else {
                panic!("there is no room")
            };
            assert!(why.contains(".raftlog cannot be written: no storage space"), "{why}");
            let full = bus.writer("w").and_then(|mut writer| writer.append(&large().records));
            assert!(matches!(full, Err(BusError::Unavailable(_))), "{full:?}");
            let made = bus.ensure_topic(&TopicSpec::log(&format!("{:0600}", 0), 1));
            assert!(matches!(made, Err(BusError::Unavailable(_))), "{made:?}");
        }
        assert_eq!(bus.topic(&format!("{:0600}", 0)), Ok(None));
        assert_eq!(numbers(&all(&bus, "out", 0)), [1], "nothing of the batch is visible, and earlier records are");
        assert_eq!(member.take_over(0).expect("a takeover").committed.map(|left| left.next), Some(5));
        // A crash at this point leaves nothing of it either.
        let crashed = home.copy().open();
        assert_eq!(numbers(&all(&crashed, "out", 0)), [1]);
        assert_eq!(left(&crashed, "g", "in").committed.map(|left| left.next), Some(5));
        home.disk.faults.free();
        member.commit(&large()).expect("there is room again");
        drop((member, bus));
        let bus = home.open();
        assert_eq!(numbers(&all(&bus, "out", 0)), [1, 2]);
        assert_eq!(left(&bus, "g", "in").committed.map(|left| left.next), Some(10));
    }
}

#[test]
fn a_disk_that_is_full_at_a_file_boundary_recovers_too() {
    let mut home = Home::new();
    home.disk.file_bytes = 2 << 10;
    let bus = home.open();
    bus.ensure_topic(&TopicSpec::log("t", 1)).expect("a topic");
    let mut confirmed = Vec::new();
    for i in 0..400_u64 {
        // A few bytes more each time, so that the disk becomes full at every position.
        home.disk.faults.leave_room(i * 3);
        let record = Outgoing::keyed("t", "k", i.to_string());
        if bus.writer("w").and_then(|mut writer| writer.append(&[record])).is_ok() {
            confirmed.push(i);
        }
    }
    home.disk.faults.free();
    assert!((1..400).contains(&confirmed.len()), "{}", confirmed.len());
    assert_eq!(numbers(&all(&bus, "t", 0)), confirmed);
    drop(bus);
    assert_eq!(numbers(&all(&home.open(), "t", 0)), confirmed);
}
