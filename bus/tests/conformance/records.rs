//! Records arrive unchanged, in order, in the right partition.

use bus::{BusError, Headers, Outgoing, Route};
use bytes::Bytes;
use wire::routing::lane_of;
use wire::{CallId, Envelope, Kind, OperationId, WallTime};

use super::fixture::{Fixture, read};

pub(crate) fn keys_are_routed_as_the_java_client_routes_them(on: &impl Fixture) {
    let topic = on.topic(5);
    let keys: Vec<String> = (0..100).map(|i| format!("flow-{i}-ü")).collect();
    let records: Vec<_> = keys.iter().map(|key| Outgoing::keyed(&topic, key.clone(), "v")).collect();
    on.bus().writer("w").and_then(|mut writer| writer.append(&records)).expect("an append");
    let mut reader = on.bus().reader().expect("a reader");
    for partition in 0..5 {
        reader.assign(&topic, partition, 0).expect("an offset");
    }
    let records = read(&*on.bus().clock(), &mut *reader, keys.len());
    for record in records {
        assert_eq!(record.partition, lane_of(record.key.as_deref().expect("a key"), 5), "{:?}", record.key);
    }
}

pub(crate) fn a_record_goes_to_its_partition_or_without_key_to_partition_0(on: &impl Fixture) {
    let topic = on.topic(3);
    let bare = Outgoing { key: None, ..Outgoing::keyed(&topic, "", "bare") };
    let routed = Outgoing::keyed(&topic, "k", "routed").to(2);
    let both = Outgoing { key: None, route: Route::To(1), ..Outgoing::keyed(&topic, "", "both") };
    on.bus().writer("w").and_then(|mut writer| writer.append(&[bare, routed, both])).expect("an append");
    for (partition, value, key) in [(0, "bare", None), (1, "both", None), (2, "routed", Some("k"))] {
        let records = on.read(&topic, partition, 0, 1);
        assert_eq!((&records[0].value[..], records[0].partition), (value.as_bytes(), partition));
        assert_eq!(records[0].key, key.map(Bytes::from));
        assert_eq!(*records[0].topic, *topic);
    }
}

pub(crate) fn key_headers_and_value_arrive_byte_for_byte(on: &impl Fixture) {
    let topic = on.topic(1);
    let all: Vec<u8> = (0..=255).collect();
    let headers: Headers = [
        ("plain", &b"text"[..]),
        ("empty", b""),
        ("plain", b"again"),
        ("bytes", &all),
        ("schlüssel", "größe".as_bytes()),
    ]
    .into_iter()
    .collect();
    let record = |key: Option<&[u8]>, headers: &Headers, value: &[u8]| Outgoing {
        topic: topic.as_str().into(),
        route: Route::ByKey,
        key: key.map(Bytes::copy_from_slice),
        headers: headers.clone(),
        value: Bytes::copy_from_slice(value),
    };
    let none = Headers::default();
    let sent = [
        record(Some(&all), &headers, &all),
        record(Some(b""), &none, b"the key is empty"),
        record(None, &none, b"there is no key"),
        record(Some(b"k"), &headers, b""),
        record(Some(b"\0"), &none, b"\0\0"),
    ];
    on.bus().writer("w").and_then(|mut writer| writer.append(&sent)).expect("an append");
    let found = on.read(&topic, 0, 0, sent.len());
    for (sent, found) in sent.iter().zip(found) {
        assert_eq!((&sent.key, &sent.headers, &sent.value), (&found.key, &found.headers, &found.value));
    }
}

pub(crate) fn an_envelope_survives_the_bus(on: &impl Fixture) {
    let operation = OperationId::new("7f3a").expect("an id");
    let call = CallId::new(operation.clone(), 2, 7);
    let envelope = Envelope {
        subject: Some("flow-ü".into()),
        time: Some(WallTime(1_795_226_400_123)),
        operation: Some(operation),
        causation: Some("7f3a/2/6/speaker/1".into()),
        expires: Some(WallTime(1_795_226_401_123)),
        call: Some(call.clone()),
        attempt: Some(1),
        undoes: vec![call],
        reply_to: Some("nave.flows.hub.in".into()),
        reply_partition: Some(3),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..Envelope::new(Kind::Call, "7f3a/2/7/speaker/1", "/nave/flows/hub/3")
    };
    let topic = on.topic(1);
    let sent = Outgoing::keyed(&topic, "flow-ü", "{}").with(&envelope);
    on.bus().writer("w").and_then(|mut writer| writer.append(std::slice::from_ref(&sent))).expect("an append");
    let found = on.read(&topic, 0, 0, 1).remove(0);
    assert_eq!(found.headers.envelope(), Ok(envelope));
    assert_eq!(found.headers, sent.headers);
    assert_eq!(found.headers.get("ce_id"), Some(&b"7f3a/2/7/speaker/1"[..]));
    assert_eq!(found.headers.get("ce_time"), Some(&b"2026-11-21T02:00:00.123Z"[..]));
}

pub(crate) fn records_of_a_partition_keep_their_order(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut writer = on.bus().writer("w").expect("a writer");
    for batch in 0..20 {
        let record = |i| Outgoing::keyed(&topic, format!("k{i}"), format!("{}", batch * 100 + i));
        writer.append(&(0..100).map(record).collect::<Vec<_>>()).expect("an append");
    }
    let records = on.read(&topic, 0, 0, 2_000);
    assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert!((0..).zip(&records).all(|(i, record): (u32, _)| record.value == i.to_string().as_bytes()));
}

pub(crate) fn a_record_carries_the_time_of_its_append(on: &impl Fixture) {
    let topic = on.topic(1);
    let before = on.bus().clock().wall();
    on.append(&topic, &["a"]);
    let after = on.bus().clock().wall();
    let time = on.read(&topic, 0, 0, 1)[0].time;
    assert!(before <= time && time <= after, "{before} <= {time} <= {after}");
}

pub(crate) fn a_too_large_record_fails_the_whole_append(on: &impl Fixture) {
    let topic = on.topic(1);
    let mut writer = on.bus().writer("w").expect("a writer");
    let large = Outgoing::keyed(&topic, "k", vec![b'x'; 2 << 20]);
    let size = large.size();
    let refused = writer.append(&[Outgoing::keyed(&topic, "k", "small"), large]);
    let Err(BusError::TooLarge { topic: named, size: reported, limit }) = refused else { panic!("{refused:?}") };
    assert_eq!((named, reported), (topic.clone(), size));
    assert!(limit >= 900_000, "answers of 900 kB must go through: {limit}");
    let largest = Outgoing::keyed(&topic, "k", vec![b'x'; limit - 1]);
    writer.append(&[largest]).expect("a record at the limit is accepted");
    assert_eq!(on.read(&topic, 0, 0, 1)[0].value.len(), limit - 1, "the small one was not written");
}
