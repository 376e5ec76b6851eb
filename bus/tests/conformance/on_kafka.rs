//! Tests that apply to Kafka only.

use std::time::Duration;

use bus::{Arrival, BusError, CommitError, MemberSpec, Outgoing, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::fixture::{Fixture, OnKafka, values};

const LONG: Duration = Duration::from_secs(30);

/// Creates a producer that begins a transaction with a record and an offset, and never ends it. Its
/// timeout is a minute.
fn open_transaction(on: &OnKafka, id: &str, group: &str, topic: &str, next: i64) -> BaseProducer {
    let client = || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &on.brokers);
        config
    };
    let producer: BaseProducer =
        client().set("transactional.id", id).set("transaction.timeout.ms", "60000").create().expect("a producer");
    producer.init_transactions(LONG).expect("an id");
    producer.begin_transaction().expect("a transaction");
    producer.send(BaseRecord::to(topic).partition(0).key("k").payload("never committed")).expect("a record");
    producer.flush(LONG).expect("a flush");
    // A consumer outside the group may add its offsets: the broker checks only requests that name a
    // generation.
    let bystander: BaseConsumer = client().set("group.id", group).create().expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(next)).expect("an offset");
    let place = bystander.group_metadata().expect("a place");
    producer.send_offsets_to_transaction(&offsets, &place, LONG).expect("offsets");
    producer
}

#[test]
fn the_next_owner_ends_the_open_transaction_of_a_dead_owner() {
    let on = OnKafka::open();
    let (topic, group) = (on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b"]);
    let mut owner = on.join(&group, &topic);
    owner.until_owned(1);
    owner.member.commit(&owner.at(0, 1, vec![])).expect("a commit");
    let name = owner.name.clone();
    drop(owner);
    let dead = open_transaction(&on, &name, &group, &topic, 3);
    on.append(&topic, &["c"]);
    let mut next = on.join(&group, &topic);
    next.until_owned(1);
    let before = on.bus().clock().mono();
    assert_eq!(next.resume(0), 1, "uncommitted offsets do not count, and the lane does not start at 0");
    assert_eq!(values(&next.until_records(2)), ["b", "c"]);
    let took = on.bus().clock().mono().since(before);
    assert!(took < Duration::from_secs(10), "the transaction would have lasted a minute; this took {took:?}");
    drop(dead);
}

#[test]
fn a_returning_owner_ends_its_own_open_transaction() {
    let on = OnKafka::open();
    let (topic, group) = (on.topic(1), on.name("g"));
    on.append(&topic, &["a", "b"]);
    let mut owner = on.join(&group, &topic);
    owner.until_owned(1);
    owner.member.commit(&owner.at(0, 1, vec![])).expect("a commit");
    let name = owner.name.clone();
    drop(owner);
    let dead = open_transaction(&on, &name, &group, &topic, 3);
    let mut again = on.join_as(&group, &topic, &name);
    again.until_owned(1);
    assert_eq!(again.resume(0), 1);
    assert_eq!(values(&again.until_records(1)), ["b"]);
    again.member.commit(&again.at(0, 2, vec![Outgoing::keyed(&topic, "k", "c")])).expect("a commit");
    assert_eq!(values(&again.until_records(2)), ["b", "c"]);
    drop(dead);
}

#[test]
fn an_owner_whose_transactional_id_was_taken_is_fenced_only_once() {
    let on = OnKafka::open();
    let (topic, out, group) = (on.topic(1), on.topic(1), on.name("g"));
    let mut owner = on.join(&group, &topic);
    owner.until_owned(1);
    owner.member.commit(&owner.at(0, 0, vec![])).expect("a commit");
    let thief = open_transaction(&on, &owner.name.clone(), &on.name("g"), &out, 0);
    let record = |value: &str| vec![Outgoing::keyed(&out, "k", value.to_owned())];
    let fenced = owner.member.commit(&owner.at(0, 0, record("fenced")));
    assert!(matches!(fenced, Err(bus::CommitError::Fenced(_))), "{fenced:?}");
    owner.member.commit(&owner.at(0, 0, record("mine again"))).expect("it is still the owner");
    assert_eq!(values(&on.read(&out, 0, 0, 1)), ["mine again"]);
    drop(thief);
}

#[test]
fn a_topic_with_producer_timestamps_is_refused() {
    let on = OnKafka::open();
    let (name, made) = (on.name("t"), on.topic(1));
    assert!(on.bus().topic(&made).expect("an answer").is_some());
    make_with_create_time(&on, &name);
    let refused = on.bus().ensure_topic(&TopicSpec::log(&name, 1));
    let field = "message.timestamp.type";
    let expected =
        BusError::WrongTopic { topic: name.clone(), field, found: "CreateTime".into(), needed: "LogAppendTime".into() };
    assert_eq!(refused, Err(expected));
    let others = on.bus().topics_without_append_time(&[&made, &name, &on.name("nowhere")]);
    assert_eq!(others, Ok(vec![name]), "it is found among others, and unknown topics are skipped");
}

#[test]
fn a_deleted_topic_is_no_longer_found_by_clients_that_cached_it() {
    let on = OnKafka::open();
    let topic = on.topic(1);
    assert!(on.bus().topic(&topic).expect("an answer").is_some());
    on.delete_topic(&topic).expect("a deletion");
    assert_eq!(on.bus().topic(&topic), Ok(None));
    assert!(on.delete_topic(&topic).is_err(), "it no longer exists");
}

/// The client knows the topic from the records before.
#[test]
fn a_record_for_a_deleted_topic_says_so_until_the_topic_exists_again() {
    let on = OnKafka::open();
    let (topic, out) = (on.topic(1), on.topic(1));
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    owner.resume(0);
    let mut writer = on.bus().writer("w").expect("a writer");
    let records = || vec![Outgoing::keyed(&out, "k", "v")];
    owner.member.commit(&owner.at(0, 0, records())).expect("a commit");
    writer.append(&records()).expect("an append");
    on.delete_topic(&out).expect("a deletion");
    // The first attempt may get no response.
    let committed: Vec<_> = (0..2).map(|_| owner.member.commit(&owner.at(0, 0, records()))).collect();
    assert_eq!(committed[1], Err(CommitError::Failed(BusError::NoTopic(out.clone()))), "{committed:?}");
    assert_eq!(writer.append(&records()), Err(BusError::NoTopic(out.clone())));
    on.bus().ensure_topic(&TopicSpec::log(&out, 1)).expect("the topic again");
    owner.member.commit(&owner.at(0, 0, records())).expect("a commit");
    writer.append(&records()).expect("an append");
    on.delete_topic(&out).expect("a deletion");
    let appended: Vec<_> = (0..2).map(|_| writer.append(&records())).collect();
    assert_eq!(appended[1], Err(BusError::NoTopic(out)), "{appended:?}");
}

#[test]
fn a_member_reads_a_topic_that_was_recreated_meanwhile() {
    let on = OnKafka::open();
    let topic = on.topic(1);
    let spec = MemberSpec::new(&on.name("g"), &topic, "m");
    let mut member = on.bus().member(&spec).expect("a member");
    let mut writer = on.bus().writer("w").expect("a writer");
    for n in 0..3 {
        writer.append(&[Outgoing::keyed(&topic, "k", format!("before {n}"))]).expect("an append");
    }
    let (mut seen, mut gone) = (Vec::new(), false);
    let mut until = |is_so: &dyn Fn(&[String], bool) -> bool| {
        let clock = on.bus().clock();
        let begun = clock.mono();
        while !is_so(&seen, gone) {
            assert!(clock.mono().since(begun) < LONG * 2, "timed out: {seen:?}");
            let mut arrivals = Vec::new();
            let is_gone = match member.poll(100, Duration::from_millis(20), &mut arrivals) {
                Ok(()) => false,
                Err(BusError::Gone { .. }) => true,
                Err(BusError::Unavailable(_)) => continue,
                Err(fault) => panic!("a poll: {fault}"),
            };
            gone |= is_gone;
            let has_place = arrivals.iter().any(|arrival| matches!(arrival, Arrival::Assigned(_)));
            if has_place || is_gone {
                let low = member.take_over(0).expect("a takeover").low;
                member.start(0, low).expect("a start");
            }
            let values = arrivals.iter().filter_map(|arrival| match arrival {
                Arrival::Record(record) => Some(String::from_utf8_lossy(&record.value).into_owned()),
                Arrival::Assigned(_) | Arrival::Revoking(_) | Arrival::Lost(_) => None,
            });
            seen.extend(values);
        }
    };
    until(&|seen, _| seen.len() == 3);
    on.delete_topic(&topic).expect("a deletion");
    on.bus().ensure_topic(&TopicSpec::log(&topic, 1)).expect("the topic again");
    until(&|_, gone| gone);
    writer.append(&[Outgoing::keyed(&topic, "k", "after")]).expect("an append");
    until(&|seen, _| seen.last().is_some_and(|last| last == "after"));
}

fn make_with_create_time(on: &OnKafka, name: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &on.brokers).create().expect("a client");
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let mut making = std::pin::pin!(admin.create_topics([&topic], &AdminOptions::new()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while making.as_mut().poll(&mut context).is_pending() {
        // Each request takes the broker a moment; the first response arrives meanwhile.
        drop(on.bus().topic(name));
    }
}

/// A trim is asynchronous, and sent only when enough records can be deleted.
#[test]
fn a_trim_deletes_an_inbox_up_to_the_given_offset() {
    let on = OnKafka::open();
    let topic = on.topic(1);
    let values: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    on.append(&topic, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let mut owner = on.join(&on.name("g"), &topic);
    owner.until_owned(1);
    let low = || on.bus().bounds(&topic, 0).expect("bounds").low;
    on.bus().trim(&topic, 0, 9_999).expect("a topic");
    owner.poll_more();
    assert_eq!(low(), 0, "too few for a request");
    on.bus().trim(&topic, 0, 10_000).expect("a topic");
    owner.until("the deletion", |_| low() == 10_000);
}

#[test]
fn a_trim_does_not_pass_a_named_follower() {
    let on = OnKafka::open();
    let topic = on.topic(2);
    let values: Vec<String> = (0..25_000).map(|n| n.to_string()).collect();
    on.append(&topic, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let mut witness = on.join(&on.name("g"), &topic);
    let low = || on.bus().bounds(&topic, 0).expect("bounds").low;
    on.bus().save_positions("slow", &topic, &[(0, 11_000)]).expect("a save");
    on.bus().save_positions("fast", &topic, &[(0, 24_000)]).expect("a save");
    on.bus().save_positions("elsewhere", &topic, &[(1, 0)]).expect("a save");
    on.bus().trim(&topic, 0, 24_500).expect("a topic");
    witness.until("the deletion up to the slower one", |_| low() == 11_000);
    on.bus().forget_name("slow", &topic).expect("an answer");
    witness.until("the deletion up to the other one", |_| {
        // The positions of followers are read once per second.
        on.bus().trim(&topic, 0, 24_500).expect("a topic");
        low() == 24_000
    });
}
