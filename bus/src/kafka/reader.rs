//! A reader outside all groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::context::ReaderContext;
use super::options::{KafkaOptions, POLL};
use super::{convert, fault};
use crate::{Bounds, BusError, Reader, Record};

/// A consumer of assigned partitions.
pub(super) struct KafkaReader {
    cluster: Arc<Cluster>,
    options: KafkaOptions,
    consumer: BaseConsumer<ReaderContext>,
    places: BTreeMap<(Arc<str>, u32), ReadPosition>,
}

/// The read position in a partition.
#[derive(Clone, Copy)]
struct ReadPosition {
    /// The offset of the next record.
    next: u64,
    /// The end of the partition when it was assigned. When the client reports an end, it has passed
    /// this offset: it drops end reports of an earlier assignment. The offsets between the last
    /// record and this one have no record (transaction markers, for example).
    end: u64,
}

impl KafkaReader {
    /// Creates a reader without partitions.
    pub(super) fn open(cluster: Arc<Cluster>, options: &KafkaOptions) -> Result<Self, BusError> {
        Ok(Self { cluster, consumer: connect(options)?, options: options.clone(), places: BTreeMap::new() })
    }

    /// Sets the client's partitions and offsets to ours. Drops prefetched records, so that no old
    /// record can arrive.
    fn assign_all(&self) -> Result<(), BusError> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), place) in &self.places {
            let offset = Offset::Offset(convert::raw_offset(place.next));
            let added = list.add_partition_offset(topic, convert::raw_partition(*partition), offset);
            added.map_err(|fault| fault::bus("cannot assign", &fault))?;
        }
        self.consumer.assign(&list).map_err(|fault| fault::bus("cannot assign", &fault))
    }

    /// Collects what is available. Returns false if that is nothing: the client's queue is empty
    /// then. An end report counts, because the caller may want to know the position now.
    fn collect(&mut self, max: usize, out: &mut Vec<Record>) -> Result<bool, BusError> {
        let full = out.len() + max;
        let mut any = false;
        while out.len() < full {
            let Some(found) = self.consumer.poll(Duration::ZERO) else {
                if self.consumer.context().wakeup.take_handled() {
                    continue;
                }
                break;
            };
            let message = match found {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.at_end(convert::partition(partition));
                    any = true;
                    continue;
                }
                Err(fault) if stopped(&fault) => {
                    self.find_gone()?;
                    continue;
                }
                Err(fault) => {
                    check_read_error(&fault)?;
                    continue;
                }
            };
            let (partition, offset) = (convert::partition(message.partition()), convert::offset(message.offset()));
            let place =
                self.places.iter_mut().find(|((topic, own), _)| *own == partition && **topic == *message.topic());
            let Some(((topic, _), place)) = place.filter(|(_, place)| offset >= place.next) else { continue };
            place.next = offset + 1;
            out.push(convert::record(topic, &message));
            any = true;
        }
        Ok(any)
    }

    /// Finds the partition where the client cannot continue; the client does not say which.
    fn find_gone(&mut self) -> Result<(), BusError> {
        let places: Vec<_> = self.places.iter().map(|(of, place)| (of.clone(), place.next)).collect();
        for ((topic, partition), next) in places {
            if let Err(fault) = self.cluster.check_next(&topic, partition, next) {
                // After a failed check the position stays: the client will report the error again.
                if matches!(fault, BusError::Gone { .. }) {
                    self.places.remove(&(topic, partition));
                }
                self.assign_all()?;
                return Err(fault);
            }
        }
        self.assign_all()
    }

    /// Handles an end report for this partition number; the client does not name the topic.
    fn at_end(&mut self, partition: u32) {
        let mut places = self.places.iter_mut().filter(|((_, number), _)| *number == partition);
        if let (Some((_, place)), None) = (places.next(), places.next()) {
            place.next = place.next.max(place.end);
        }
    }
}

fn connect(options: &KafkaOptions) -> Result<BaseConsumer<ReaderContext>, BusError> {
    let consumer = options.reader().create_with_context(ReaderContext::default());
    let mut consumer: BaseConsumer<ReaderContext> =
        consumer.map_err(|fault| fault::bus("cannot set up a client", &fault))?;
    Arc::clone(&consumer.context().wakeup).attach(&mut consumer);
    Ok(consumer)
}

impl Reader for KafkaReader {
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        let Bounds { end, .. } = self.cluster.check_start(topic, partition, from)?;
        let assigned = self.places.keys().find(|(own, _)| **own == *topic).map(|(own, _)| Arc::clone(own));
        let of = (assigned.unwrap_or_else(|| topic.into()), partition);
        if self.places.insert(of, ReadPosition { next: from, end }).is_some() {
            return self.assign_all();
        }
        let mut list = convert::listed(topic, convert::raw_partition(partition), None);
        list.set_all_offsets(Offset::Offset(convert::raw_offset(from)))
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|fault| fault::bus(&format!("cannot read `{topic}` {partition}"), &fault))
    }

    fn unassign(&mut self, topic: &str, partition: u32) -> Result<(), BusError> {
        if self.position(topic, partition).is_none() {
            return Ok(());
        }
        let list = convert::listed(topic, convert::raw_partition(partition), None);
        let removed = self.consumer.incremental_unassign(&list);
        removed.map_err(|fault| fault::bus(&format!("cannot stop reading `{topic}` {partition}"), &fault))?;
        self.places.retain(|(own, number), _| *number != partition || **own != *topic);
        Ok(())
    }

    fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        let mut places = self.places.iter();
        places.find(|((own, number), _)| *number == partition && **own == *topic).map(|(_, place)| place.next)
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        if self.consumer.context().brokers.are_lost() {
            tracing::warn!("reader has lost all brokers; recreating its client");
            self.consumer = connect(&self.options)?;
            self.assign_all()?;
        }
        self.consumer.context().wakeup.register();
        if !self.collect(max, out)? && !wait.is_zero() {
            thread::park_timeout(wait.min(POLL));
            self.collect(max, out)?;
        }
        Ok(())
    }
}

/// True if the client stopped reading a partition because its next offset does not exist.
pub(super) fn stopped(fault: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(fault::code(fault), Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation))
}

/// Logs temporary read errors, from which the client recovers by itself. Returns permanent ones.
pub(super) fn check_read_error(fault: &KafkaError) -> Result<(), BusError> {
    let meaning = fault::bus("cannot read", fault);
    if matches!(meaning, BusError::Refused(_)) {
        return Err(meaning);
    }
    tracing::warn!(%fault, "temporary read error; the client retries");
    Ok(())
}
