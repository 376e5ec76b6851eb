//! Takeover of a partition: reads the last owner's state and ends its open transaction.
//!
//! After a crash within a transaction, the committed offset is not final until that transaction
//! ends, and `read_committed` readers cannot pass it. Its timeout is as long as a session.
//! Claiming its transactional id ends it in less than a second. The offset metadata names that id,
//! and can be read without waiting.

use std::collections::BTreeSet;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::cluster::Cluster;
use super::options::{KafkaOptions, REQUEST};
use super::probe::Probe;
use super::transactions::{NoGroup, Transactions};
use super::{convert, fault};
use crate::{Bounds, BusError, Committed, MemberSpec, Takeover};

/// Maximum number of reads of the committed offset while a transaction that includes it is open. It
/// was aborted a moment ago, so one of the first responses is final. With pauses of 10 ms this is
/// about ten seconds.
const MAX_READS: u32 = 1000;

/// Reads the state that owners left.
pub(super) struct TakeoverReader {
    options: KafkaOptions,
    spec: MemberSpec,
    /// Reads committed offsets at once, even if a transaction is pending.
    unstable: Probe,
    /// Reads committed offsets that are final.
    stable: Probe,
    /// Transactional ids that were ended since the last assignment: one owner leaves many
    /// partitions.
    ended: BTreeSet<String>,
}

impl TakeoverReader {
    /// Connects, with the member's group id.
    pub(super) fn open(options: &KafkaOptions, spec: &MemberSpec) -> Result<Self, BusError> {
        let connect = |committed_only| Probe::open(options.probe(Some(&spec.group), committed_only));
        let (unstable, stable) = (connect(false)?, connect(true)?);
        Ok(Self { options: options.clone(), spec: spec.clone(), unstable, stable, ended: BTreeSet::new() })
    }

    /// Forgets the ended ids after an assignment: the partitions may come from other owners.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
    }

    /// Ends the last owner's open transaction, then reads its committed offset.
    pub(super) fn take_over(
        &mut self,
        cluster: &Cluster,
        own: &mut Transactions,
        partition: u32,
    ) -> Result<Takeover, BusError> {
        // After a commit with unknown outcome our own transaction may be open.
        own.claim(&mut NoGroup)?;
        let hint = committed(&self.unstable, &self.spec, partition)?;
        if let CommittedOffset::Final(Some(committed)) = hint
            && let Some(metadata) = committed.parsed()
            && !metadata.released
            && !metadata.transactional_id.is_empty()
        {
            self.end(own, &metadata.transactional_id)?;
        }
        for _ in 0..MAX_READS {
            if let CommittedOffset::Final(committed) = committed(&self.stable, &self.spec, partition)? {
                let Bounds { low, end } = cluster.bounds(&self.spec.topic, partition)?;
                return Ok(Takeover { committed, low, end });
            }
            cluster.pause();
        }
        let MemberSpec { topic, .. } = &self.spec;
        Err(BusError::Unavailable(format!("the committed offset of `{topic}` {partition} is not final yet")))
    }

    fn end(&mut self, own: &mut Transactions, id: &str) -> Result<(), BusError> {
        // Our own id was claimed when our producer started.
        if id != own.id() && !self.ended.contains(id) {
            tracing::info!(transactional_id = id, "ending a transaction that the last owner may have left open");
            Transactions::new(&self.options, id, self.spec.session_timeout).claim(&mut NoGroup)?;
            self.ended.insert(id.to_owned());
        }
        Ok(())
    }
}

/// The response to a read of the committed offset.
enum CommittedOffset {
    /// The committed offset; `None` if the group never committed.
    Final(Option<Committed>),
    /// Read again: a transaction that includes the offset is open, or the group is moving to
    /// another broker.
    NotYet,
}

/// Reads the committed offset of a partition.
fn committed(probe: &Probe, spec: &MemberSpec, partition: u32) -> Result<CommittedOffset, BusError> {
    let what = || format!("cannot read the committed offset of `{}` {partition}", spec.topic);
    let list = convert::listed(&spec.topic, convert::raw_partition(partition), None);
    let list = match probe.request(|client| client.committed_offsets(list, REQUEST)) {
        Ok(list) => list,
        Err(fault) if not_yet(&fault) => return Ok(CommittedOffset::NotYet),
        Err(fault) => return Err(fault::bus(&what(), &fault)),
    };
    let elements = list.elements();
    let element = elements.first().expect("one was requested");
    match element.error() {
        Ok(()) => {}
        Err(fault) if not_yet(&fault) => return Ok(CommittedOffset::NotYet),
        Err(fault) => return Err(fault::bus(&what(), &fault)),
    }
    Ok(CommittedOffset::Final(match element.offset() {
        Offset::Offset(next) => {
            Some(Committed { next: convert::offset(next), metadata: element.metadata().to_owned() })
        }
        Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => None,
    }))
}

/// True if a retry may succeed: the group is moving to another broker, or a transaction includes
/// its offsets.
pub(super) fn not_yet(fault: &KafkaError) -> bool {
    let code = fault::code(fault);
    matches!(
        code,
        Some(
            RDKafkaErrorCode::UnstableOffsetCommit
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::NotCoordinator
        )
    )
}
