//! Creating, checking and describing topics.

use std::time::Duration;

use bus::{Bounds, BusError, Cleanup, CommitError, MemberSpec, Outgoing, Reader, TopicSpec};

use super::fixture::Fixture;

pub(crate) fn a_topic_is_created_once_and_found_again(on: &impl Fixture) {
    let name = on.name("t");
    assert_eq!(on.bus().topic(&name), Ok(None));
    let made = on.bus().ensure_topic(&TopicSpec::log(&name, 3)).expect("a topic");
    assert_eq!((made.name.as_str(), made.partitions), (name.as_str(), 3));
    assert!(!made.id.is_empty());
    assert_eq!(on.bus().ensure_topic(&TopicSpec::log(&name, 3)), Ok(made.clone()));
    assert_eq!(on.bus().topic(&name), Ok(Some(made)));
    for cleanup in [Cleanup::Compact, Cleanup::DeleteAfterMs(3_600_000)] {
        let spec = TopicSpec::log(&on.name("t"), 1).with_cleanup(cleanup);
        let made = on.bus().ensure_topic(&spec);
        assert!(made.is_ok());
        assert_eq!(on.bus().ensure_topic(&spec), made);
    }
}

pub(crate) fn a_topic_with_another_partition_count_is_refused(on: &impl Fixture) {
    let name = on.topic(3);
    let refused = on.bus().ensure_topic(&TopicSpec::log(&name, 4));
    let expected = BusError::WrongTopic { topic: name, field: "partitions", found: "3".into(), needed: "4".into() };
    assert_eq!(refused, Err(expected));
    assert!(matches!(on.bus().ensure_topic(&TopicSpec::log(&on.name("t"), 0)), Err(BusError::Refused(_))));
}

/// Operators may choose how long deletable records stay.
pub(crate) fn a_topic_with_an_unsuitable_cleanup_policy_is_refused(on: &impl Fixture) {
    let kinds = [Cleanup::Keep, Cleanup::Compact, Cleanup::DeleteAfterMs(3_600_000), Cleanup::DeleteAfterMs(7_200_000)];
    for made in kinds {
        let name = on.name("t");
        on.bus().ensure_topic(&TopicSpec::log(&name, 1).with_cleanup(made)).expect("a topic");
        for needed in kinds {
            let found = on.bus().ensure_topic(&TopicSpec::log(&name, 1).with_cleanup(needed));
            let satisfied = match needed {
                Cleanup::DeleteAfterMs(_) => made != Cleanup::Compact,
                Cleanup::Keep | Cleanup::Compact => made == needed,
            };
            assert_eq!(found.is_ok(), satisfied, "{made:?}, {needed:?}: {found:?}");
            assert!(satisfied || matches!(found, Err(BusError::WrongTopic { .. })), "{made:?}, {needed:?}: {found:?}");
        }
    }
}

pub(crate) fn a_compacted_topic_is_known_as_such(on: &impl Fixture) {
    for (cleanup, is_compacted) in [(Cleanup::Keep, false), (Cleanup::Compact, true)] {
        let name = on.name("t");
        assert!(on.bus().is_compacted(&name).is_err(), "it does not exist");
        on.bus().ensure_topic(&TopicSpec::log(&name, 1).with_cleanup(cleanup)).expect("a topic");
        assert_eq!(on.bus().is_compacted(&name), Ok(is_compacted));
    }
}

pub(crate) fn only_ensure_topic_creates_a_topic(on: &impl Fixture) {
    let name = on.name("t");
    let unknown = || BusError::NoTopic(name.clone());
    let mut writer = on.bus().writer("w").expect("a writer");
    let before = on.bus().clock().mono();
    assert_eq!(writer.append(&[Outgoing::keyed(&name, "k", "v")]), Err(unknown()));
    assert!(on.bus().clock().mono().since(before) < Duration::from_secs(5), "an unknown topic is reported at once");
    assert_eq!(on.bus().member(&MemberSpec::new(&on.name("g"), &name, &on.name("m"))).err(), Some(unknown()));
    assert_eq!(on.bus().reader().expect("a reader").assign(&name, 0, 0), Err(unknown()));
    assert_eq!(on.bus().bounds(&name, 0), Err(unknown()));
    assert_eq!(on.bus().topic(&name), Ok(None));
}

/// Callers name the topics of their answers. A name that no topic can have, or that nobody may write,
/// is one that does not exist: it must not stop the writer.
pub(crate) fn an_impossible_topic_name_is_an_unknown_topic(on: &impl Fixture) {
    let inbox = on.topic(1);
    on.append(&inbox, &["a"]);
    let mut owner = on.join(&on.name("g"), &inbox);
    owner.until_owned(1);
    let mut writer = on.bus().writer("w").expect("a writer");
    let long = "x".repeat(250);
    for name in ["", ".", "..", "bad topic name!", "\u{e4}", &long, "__consumer_offsets"] {
        let unknown = || BusError::NoTopic(name.to_owned());
        let record = || Outgoing::keyed(name, "k", "v");
        assert_eq!(writer.append(&[record()]), Err(unknown()), "{name:?}");
        let committed = owner.member.commit(&owner.at(0, 1, vec![record()]));
        assert_eq!(committed, Err(CommitError::Failed(unknown())), "{name:?}");
    }
    owner.member.commit(&owner.at(0, 1, Vec::new())).expect("a commit");
}

pub(crate) fn an_unknown_partition_is_an_error(on: &impl Fixture) {
    let topic = on.topic(2);
    let unknown = || BusError::NoPartition { topic: topic.clone(), partition: 2 };
    let mut writer = on.bus().writer("w").expect("a writer");
    assert_eq!(writer.append(&[Outgoing::keyed(&topic, "k", "v").to(2)]), Err(unknown()));
    let mut reader: Box<dyn Reader> = on.bus().reader().expect("a reader");
    assert_eq!(reader.assign(&topic, 2, 0), Err(unknown()));
    assert_eq!(on.bus().bounds(&topic, 2), Err(unknown()));
}

pub(crate) fn bounds_are_the_low_watermark_and_the_end(on: &impl Fixture) {
    let topic = on.topic(2);
    assert_eq!(on.bus().bounds(&topic, 0), Ok(Bounds { low: 0, end: 0 }));
    on.append(&topic, &["a", "b", "c"]);
    assert_eq!(on.bus().bounds(&topic, 0), Ok(Bounds { low: 0, end: 3 }));
    on.delete_records(&topic, 0, 2);
    assert_eq!(on.bus().bounds(&topic, 0), Ok(Bounds { low: 2, end: 3 }));
    assert_eq!(on.bus().bounds(&topic, 1), Ok(Bounds { low: 0, end: 0 }));
}
