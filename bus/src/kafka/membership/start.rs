//! Where a member reads a partition.

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::super::options::REQUEST;
use super::super::{convert, fault};
use super::{Membership, POLLS};
use crate::{Arrival, BusError};

/// Number of failed seeks after which a partition is reassigned. A freshly assigned partition
/// accepts a seek after some milliseconds.
const SEEKS_BEFORE_REASSIGN: u32 = 50;

impl Membership {
    /// See [`crate::Member::start`].
    pub(in crate::kafka) fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.check_owned(partition)?;
        self.cluster.check_start(&self.topic, partition, from)?;
        self.waiting.retain(|arrival| !matches!(arrival, Arrival::Record(record) if record.partition == partition));
        self.places.insert(partition, None);
        self.seek(partition, from)?;
        self.places.insert(partition, Some(from));
        Ok(())
    }

    /// Moves a partition. Pauses it meanwhile, which drops prefetched records.
    pub(super) fn seek(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        let what = || format!("cannot start `{}` {partition} at {from}", self.spec.topic);
        let list = convert::listed(&self.topic, convert::raw_partition(partition), None);
        self.consumer.pause(&list).map_err(|fault| fault::bus(&what(), &fault))?;
        let mut target = list.clone();
        let offset = Offset::Offset(convert::raw_offset(from));
        target.set_all_offsets(offset).map_err(|fault| fault::bus(&what(), &fault))?;
        for attempt in 1..=POLLS {
            if attempt == SEEKS_BEFORE_REASSIGN {
                self.reassign(&list, &target).map_err(|fault| fault::bus(&what(), &fault))?;
            }
            let moved = self.consumer.seek_partitions(target.clone(), REQUEST);
            let moved = moved.and_then(|list| list.elements().first().map_or(Ok(()), TopicPartitionListElem::error));
            match moved {
                Ok(()) => {
                    self.paused.remove(&partition);
                    return self.consumer.resume(&list).map_err(|fault| fault::bus(&what(), &fault));
                }
                // It was assigned a moment ago, and the client is not reading it yet.
                Err(fault) if is_too_early(&fault) => self.cluster.pause(),
                Err(fault) => return Err(fault::bus(&what(), &fault)),
            }
        }
        Err(BusError::Unavailable(format!("{}: the client does not read it yet", what())))
    }

    /// Unassigns and reassigns one partition. librdkafka 2.12.1 stops reading a partition whose
    /// next offset does not exist, for example in a recreated topic, and then rejects every seek.
    /// The group does not notice the change.
    fn reassign(&self, partition: &TopicPartitionList, target: &TopicPartitionList) -> Result<(), KafkaError> {
        self.consumer.incremental_unassign(partition)?;
        self.consumer.incremental_assign(target)
    }
}

fn is_too_early(fault: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(fault::code(fault), Some(Code::State | Code::PreviousInProgress | Code::UnknownPartition))
}
