//! What the last owner of a partition left, and how an open end of it is closed.
//!
//! After a crash in the middle of a transaction the committed offset is not final until that transaction has ended, and its
//! partitions are hidden from those who read what is committed. To wait for its timeout takes as long as a session; to take
//! its transactional id over ends it in less than a second. The note beside the committed offset says which id that is,
//! and can be read without waiting.

use std::collections::BTreeSet;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::cluster::Cluster;
use super::options::{KafkaOptions, REQUEST};
use super::probe::Probe;
use super::transactions::{Nowhere, Transactions};
use super::{convert, fault};
use crate::{Bounds, BusError, Committed, MemberSpec, Takeover};

/// How often the committed offset is asked for while a transaction that names it has not ended: it was aborted a moment ago,
/// so that one of the first answers is final. With pauses of 10 ms these are some ten seconds.
const QUESTIONS: u32 = 1000;

/// Reads what owners left.
pub(super) struct Succession {
    options: KafkaOptions,
    spec: MemberSpec,
    /// Sees committed offsets at once, pending transactions or not.
    hasty: Probe,
    /// Sees them when they are final.
    patient: Probe,
    /// The transactional ids that were ended since partitions were last assigned: one owner leaves many partitions.
    ended: BTreeSet<String>,
}

impl Succession {
    /// Connects, in the name of the member's group.
    pub(super) fn open(options: &KafkaOptions, spec: &MemberSpec) -> Result<Self, BusError> {
        let connect = |committed_only| Probe::open(options.probe(Some(&spec.group), committed_only));
        let (hasty, patient) = (connect(false)?, connect(true)?);
        Ok(Self { options: options.clone(), spec: spec.clone(), hasty, patient, ended: BTreeSet::new() })
    }

    /// Partitions were assigned: their last owners may be others than those that were asked about before.
    pub(super) fn forget(&mut self) {
        self.ended.clear();
    }

    /// Ends what the last owner left open, then reads its committed offset.
    pub(super) fn take_over(
        &mut self,
        cluster: &Cluster,
        own: &mut Transactions,
        partition: u32,
    ) -> Result<Takeover, BusError> {
        // After a commit with unknown outcome it is our own transaction that may be open.
        own.claim(&mut Nowhere)?;
        let hint = committed(&self.hasty, &self.spec, partition)?;
        if let Answer::Final(Some(committed)) = hint
            && let Some(note) = committed.parsed()
            && !note.released
            && !note.transactional_id.is_empty()
        {
            self.end(own, &note.transactional_id)?;
        }
        for _ in 0..QUESTIONS {
            if let Answer::Final(committed) = committed(&self.patient, &self.spec, partition)? {
                let Bounds { low, end } = cluster.bounds(&self.spec.topic, partition)?;
                return Ok(Takeover { committed, low, end });
            }
            cluster.pause();
        }
        let MemberSpec { topic, .. } = &self.spec;
        Err(BusError::Unavailable(format!("the committed offset of `{topic}` {partition} is not final yet")))
    }

    fn end(&mut self, own: &mut Transactions, id: &str) -> Result<(), BusError> {
        // Our own predecessor's end came when our producer began.
        if id != own.id() && !self.ended.contains(id) {
            tracing::info!(transactional_id = id, "ends what the last owner may have left open");
            Transactions::new(&self.options, id, self.spec.session_timeout).claim(&mut Nowhere)?;
            self.ended.insert(id.to_owned());
        }
        Ok(())
    }
}

/// What the cluster says of a committed offset.
enum Answer {
    /// This is it; none where the group never committed.
    Final(Option<Committed>),
    /// Ask again: a transaction that names it has not ended, or the group is just moving to another broker.
    NotYet,
}

/// The committed offset of a partition.
fn committed(probe: &Probe, spec: &MemberSpec, partition: u32) -> Result<Answer, BusError> {
    let what = || format!("cannot read the committed offset of `{}` {partition}", spec.topic);
    let list = convert::listed(&spec.topic, convert::raw_partition(partition), None);
    let list = match probe.ask(|client| client.committed_offsets(list, REQUEST)) {
        Ok(list) => list,
        Err(fault) if not_yet(&fault) => return Ok(Answer::NotYet),
        Err(fault) => return Err(fault::bus(&what(), &fault)),
    };
    let elements = list.elements();
    let element = elements.first().expect("one was asked for");
    match element.error() {
        Ok(()) => {}
        Err(fault) if not_yet(&fault) => return Ok(Answer::NotYet),
        Err(fault) => return Err(fault::bus(&what(), &fault)),
    }
    Ok(Answer::Final(match element.offset() {
        Offset::Offset(next) => Some(Committed { next: convert::offset(next), note: element.metadata().to_owned() }),
        Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => None,
    }))
}

/// Whether the group is just moving to another broker, or a transaction names its offsets: the next answer may be better.
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
