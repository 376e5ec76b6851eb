//! Named followers: their positions are saved, and hold back the deletion of records.

use std::time::Duration;

use bus::follower::MAX_NAMES;
use bus::{BusError, Follower, IfGone, Outgoing, Start};

use super::fixture::{Fixture, PATIENCE_MS, values};

/// Follows a partition under a name, and reads `count` records.
fn read_as(on: &impl Fixture, name: &str, topic: &str, start: Start, count: usize) -> (Follower, Vec<String>) {
    let mut follower = Follower::named(name, IfGone::Fail);
    follower.follow(on.bus(), topic, 0, start).expect("bounds");
    let (clock, mut records) = (on.bus().clock(), Vec::new());
    let end = clock.mono().plus_ms(PATIENCE_MS);
    while records.len() < count {
        assert!(clock.mono() < end, "no {count} records in time: {records:?}");
        follower.poll(count - records.len(), Duration::from_millis(50), &mut records).expect("a poll");
    }
    let values = values(&records).into_iter().map(str::to_owned).collect();
    (follower, values)
}

fn saved(on: &impl Fixture, name: &str, topic: &str, partition: u32) -> Option<u64> {
    on.bus().saved_position(name, topic, partition).expect("an answer")
}

pub(crate) fn a_named_follower_continues_at_its_saved_position(on: &impl Fixture) {
    let (topic, other) = (on.topic(2), on.topic(1));
    on.append(&topic, &["a", "b", "c", "d"]);
    assert_eq!(saved(on, "sql", &topic, 0), None);
    let (mut first, read) = read_as(on, "sql", &topic, Start::Low, 3);
    assert_eq!(read, ["a", "b", "c"]);
    assert_eq!(saved(on, "sql", &topic, 0), Some(0), "it saved where it began");
    drop(first);
    (first, _) = read_as(on, "sql", &topic, Start::End, 2);
    first.save(on.bus()).expect("a save");
    first.save(on.bus()).expect("nothing has changed");
    assert_eq!([saved(on, "sql", &topic, 0), saved(on, "sql", &topic, 1)], [Some(2), None]);
    assert_eq!([saved(on, "sql", &other, 0), saved(on, "another", &topic, 0)], [None, None]);
    assert_eq!(read_as(on, "sql", &topic, Start::Low, 2).1, ["c", "d"]);
    assert_eq!(read_as(on, "another", &topic, Start::Last(1), 1).1, ["d"], "each name has its own position");
    assert_eq!(read_as(on, "sql", &topic, Start::Offset(1), 3).1, ["b", "c", "d"], "an offset overrides it");
    assert_eq!(saved(on, "sql", &topic, 0), Some(1));

    on.delete_records(&topic, 0, 3);
    let follow = |start| Follower::named("sql", IfGone::Fail).follow(on.bus(), &topic, 0, start).map(drop);
    let gone = |requested| Err(BusError::Gone { topic: topic.clone(), partition: 0, requested, low: 3 });
    assert_eq!([follow(Start::Low), follow(Start::Low), follow(Start::Offset(0))], [gone(1), gone(1), gone(0)]);
    assert!(matches!(follow(Start::Offset(9)), Err(BusError::Refused(_))));
    assert_eq!(saved(on, "sql", &topic, 0), Some(1), "a failure moves no position");
}

/// The bus decides how much a trim deletes.
pub(crate) fn a_trim_passes_no_saved_position(on: &impl Fixture) {
    let topic = on.topic(2);
    let records: Vec<_> = (0..10).map(|n| Outgoing::keyed(&topic, "k", n.to_string()).to(n % 2)).collect();
    on.bus().writer("w").and_then(|mut writer| writer.append(&records)).expect("an append");
    let low = |partition| on.bus().bounds(&topic, partition).expect("bounds").low;
    let (mut follower, _) = read_as(on, "sql", &topic, Start::Low, 2);
    follower.save(on.bus()).expect("a save");
    for partition in [0, 1] {
        on.bus().trim(&topic, partition, 4).expect("a topic");
    }
    assert!(low(0) <= 2, "{}", low(0));
    assert!(low(1) <= 4, "{}: the name does not hold a partition without a position", low(1));
    assert_eq!(read_as(on, "sql", &topic, Start::End, 3).1, ["4", "6", "8"]);
    on.bus().forget_name("sql", &topic).expect("an answer");
    on.bus().trim(&topic, 0, 4).expect("a topic");
    assert!(low(0) <= 4, "{}", low(0));
}

pub(crate) fn the_number_of_names_of_a_topic_is_limited(on: &impl Fixture) {
    let (topic, other) = (on.topic(1), on.topic(1));
    let save = |name: &str| on.bus().save_positions(name, &topic, &[(0, 0)]);
    for n in 0..MAX_NAMES {
        save(&format!("f{n}")).expect("a save");
    }
    let refused = save("one-more");
    assert!(
        matches!(&refused, Err(BusError::Refused(why)) if why.contains("one-more") && why.contains("f7")),
        "{refused:?}"
    );
    save("f3").expect("it is known");
    on.bus().save_positions("one-more", &other, &[(0, 0)]).expect("each topic has its own names");
    on.bus().forget_name("f3", &topic).expect("an answer");
    on.bus().forget_name("f3", &topic).expect("it is not known any more");
    assert_eq!(saved(on, "f3", &topic, 0), None);
    save("one-more").expect("there is room");
    for name in ["", "a.b", "ä", &"x".repeat(65)] {
        let refused = on.bus().save_positions(name, &other, &[(0, 0)]);
        assert!(matches!(refused, Err(BusError::Refused(_))), "`{name}`: {refused:?}");
    }
    let unknown = on.bus().save_positions("one-more", &other, &[(1, 0)]);
    assert_eq!(unknown, Err(BusError::NoPartition { topic: other.clone(), partition: 1 }));
}
