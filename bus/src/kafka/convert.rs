//! Conversions between our records and Kafka's.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders, Timestamp};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use wire::WallTime;

use crate::{Headers, Outgoing, Record};

/// Copies a message. A null value becomes an empty one.
pub(super) fn record(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let time = match message.timestamp() {
        Timestamp::LogAppendTime(ms) | Timestamp::CreateTime(ms) => u64::try_from(ms).unwrap_or(0),
        Timestamp::NotAvailable => 0,
    };
    Record {
        topic: Arc::clone(topic),
        partition: partition(message.partition()),
        offset: offset(message.offset()),
        time: WallTime(time),
        key: message.key().map(Bytes::copy_from_slice),
        headers: headers(message),
        value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
    }
}

/// Copies the headers of a message. The client panics on a header name that is not UTF-8, which any
/// producer can send. Such a record must not stop a lane, so it arrives without headers.
fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let read = || {
        let Some(headers) = message.headers() else { return Headers::default() };
        headers.iter().map(|header| (header.key, header.value.unwrap_or_default())).collect()
    };
    panic::catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let (partition, offset) = (message.partition(), message.offset());
        tracing::warn!(
            topic = message.topic(),
            partition,
            offset,
            "record has header names that are not UTF-8; its headers are dropped"
        );
        Headers::default()
    })
}

/// Converts a record for `partition`. An empty value is sent as null, which deletes the key in a
/// compacted topic and reads as empty elsewhere. The delivery report carries `queue`.
pub(super) fn outgoing(record: &Outgoing, partition: i32, queue: usize) -> BaseRecord<'_, [u8], [u8], usize> {
    let mut sent = BaseRecord::with_opaque_to(&record.topic, queue).partition(partition);
    sent.key = record.key.as_deref();
    sent.payload = Some(&*record.value).filter(|value| !value.is_empty());
    if record.headers.size() > 0 {
        let insert = |headers: OwnedHeaders, (key, value)| headers.insert(Header { key, value: Some(value) });
        sent.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), insert));
    }
    sent
}

/// Converts a Kafka offset. Offsets of records and watermarks are never negative.
pub(super) fn offset(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or(0)
}

/// Converts an offset for Kafka.
pub(super) fn raw_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// Converts a Kafka partition, which is never negative.
pub(super) fn partition(raw: i32) -> u32 {
    u32::try_from(raw).unwrap_or(0)
}

/// Converts a partition for Kafka.
pub(super) fn raw_partition(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Creates a list of one partition, optionally with an offset and its metadata.
pub(super) fn listed(topic: &str, partition: i32, at: Option<(u64, &str)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    add(&mut list, topic, partition, at);
    list
}

/// Adds one partition to a list, optionally with an offset and its metadata.
pub(super) fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, at: Option<(u64, &str)>) {
    let mut element = list.add_partition(topic, partition);
    if let Some((offset, metadata)) = at {
        element.set_offset(Offset::Offset(raw_offset(offset))).expect("an absolute offset can be set");
        element.set_metadata(metadata);
    }
}
