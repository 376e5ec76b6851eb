//! Records, from and to Kafka's.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders, Timestamp};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use wire::WallTime;

use crate::{Headers, Outgoing, Record};

/// A copy of a message. A value that is null there is empty here.
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

/// The headers of a message. The client panics on a header's name that is not text, which any producer can send, and one
/// such record must not end a lane: it arrives without headers.
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
            "the headers of a record have names that are no text"
        );
        Headers::default()
    })
}

/// A record to be sent to `partition`. An empty value is sent as null, which deletes the key in a compacted topic and is
/// read as empty elsewhere.
/// Its report names `queue`.
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

/// An offset of Kafka's, which is never negative where a record or a watermark has it.
pub(super) fn offset(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or(0)
}

/// An offset for Kafka.
pub(super) fn raw_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// A partition of Kafka's, which is never negative either.
pub(super) fn partition(raw: i32) -> u32 {
    u32::try_from(raw).unwrap_or(0)
}

/// A partition for Kafka.
pub(super) fn raw_partition(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// A list with one partition and, where it is given, an offset with its metadata.
pub(super) fn listed(topic: &str, partition: i32, at: Option<(u64, &str)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    add(&mut list, topic, partition, at);
    list
}

/// Adds one partition to a list likewise.
pub(super) fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, at: Option<(u64, &str)>) {
    let mut element = list.add_partition(topic, partition);
    if let Some((offset, metadata)) = at {
        element.set_offset(Offset::Offset(raw_offset(offset))).expect("an absolute offset can be set");
        element.set_metadata(metadata);
    }
}
