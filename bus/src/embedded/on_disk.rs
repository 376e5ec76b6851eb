//! Disk writes and reads of the bus state. All of them do nothing if there is no disk.

use std::sync::Arc;

use raft_engine::LogBatch;

use super::disk::Disk;
use super::disk::code::{self, EntryWriter, LogKind, Page, StoredPosition, StoredTopic, keys};
use super::disk::tail::{PAGE_BYTES, Piece};
use super::log::{OVERHEAD, StoredRecord};
use super::state::{BusState, PartitionRef};
use super::write::BusWrite;
use crate::{BusError, Cleanup, TopicInfo};

/// A compacted partition is compacted on disk beyond twice its live data plus this many bytes.
const GARBAGE_BYTES: usize = 1 << 20;
/// Maximum number of rewrites of old pieces after one batch, each of [`PAGE_BYTES`]: more than a
/// batch adds, and a matter of milliseconds.
const COMPACTED_PAGES: usize = 16;

/// A piece under construction.
struct NewPiece {
    entry: EntryWriter,
    piece: Piece,
}

impl NewPiece {
    fn new(number: u64, end: u64) -> Self {
        Self { entry: EntryWriter::new(number), piece: Piece { number, end, bytes: 0, offsets: Vec::new() } }
    }
}

impl BusState {
    /// Writes a batch to the disk; `touched` are its partitions. Returns the piece written for
    /// each.
    pub(super) fn write_to_disk(
        &mut self,
        writing: &BusWrite<'_>,
        touched: &[PartitionRef],
    ) -> Result<Vec<Piece>, BusError> {
        let Some(disk) = &self.disk else { return Ok(Vec::new()) };
        let mut batch = self.batch()?;
        let mut pieces: Vec<NewPiece> = Vec::with_capacity(touched.len());
        for place in touched {
            let log = self.log_ref(*place);
            let number = log.tail.as_ref().map_or(0, super::disk::tail::Tail::next_piece);
            pieces.push(NewPiece::new(number, log.bounds().end));
        }
        let mut index = 0;
        for (record, place) in writing.records.iter().zip(writing.places) {
            if touched[index] != *place {
                index = touched.iter().position(|touched| touched == place).expect("touched holds every partition");
            }
            let NewPiece { entry, piece } = &mut pieces[index];
            entry.push(piece.end, writing.now, record.key.as_ref(), &record.headers, &record.value);
            if self.topics[place.0].cleanup == Cleanup::Compact {
                piece.offsets.push(piece.end);
            }
            piece.end += 1;
            piece.bytes += record.size() + OVERHEAD;
        }
        let mut written = Vec::with_capacity(pieces.len());
        for (place, NewPiece { entry, mut piece }) in touched.iter().zip(pieces) {
            piece.end += u64::from(writing.gaps);
            let finished = entry.finish(code::number(*place, LogKind::Near), piece.end, &mut batch);
            finished.map_err(|fault| BusError::Refused(fault.to_string()))?;
            written.push(piece);
        }
        let (group, positions) = writing.positions;
        for position in positions {
            let key =
                keys::key(keys::POSITION, &[&position.partition.to_be_bytes(), self.groups[group].name.as_bytes()]);
            let value = StoredPosition { next: position.next, metadata: String::from(&*position.metadata) };
            disk.store.put(&mut batch, code::META, key, code::write(&value, Vec::new()))?;
        }
        if batch.is_empty() {
            return Ok(written);
        }
        self.write_batch(batch)?;
        if let Some(disk) = &mut self.disk {
            disk.dirty.extend(touched);
        }
        Ok(written)
    }

    /// Starts a store batch with the pending cuts.
    fn batch(&self) -> Result<LogBatch, BusError> {
        let mut batch = LogBatch::default();
        let mark = |place| {
            let log = self.log_ref(place);
            log.tail.as_ref().map_or_else(code::Watermark::default, |tail| tail.watermark(log.bounds()))
        };
        if let Some(disk) = &self.disk {
            disk.cuts.write(&disk.store, &mut batch, mark)?;
        }
        Ok(batch)
    }

    /// Writes a store batch from [`BusState::batch`].
    fn write_batch(&mut self, mut batch: LogBatch) -> Result<(), BusError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.store.write(&mut batch)?;
        disk.cuts.clear();
        disk.written += 1;
        Ok(())
    }

    /// Writes pending cuts now instead of with the next batch.
    pub(super) fn flush(&mut self) -> Result<(), BusError> {
        if self.disk.as_ref().is_none_or(|disk| disk.cuts.is_empty()) {
            return Ok(());
        }
        let batch = self.batch()?;
        self.write_batch(batch)
    }

    /// Fails after a failed sync.
    pub(super) fn intact(&self) -> Result<(), BusError> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.store.intact())
    }

    /// Stores a topic before it is created.
    pub(super) fn keep_topic(&mut self, info: &TopicInfo, cleanup: Cleanup) -> Result<(), BusError> {
        let number = u32::try_from(self.topics.len()).expect("fewer topics than 4 billion");
        let stored = StoredTopic::new(&info.name, &info.id, info.partitions, cleanup);
        self.keep(keys::key(keys::TOPIC, &[&number.to_be_bytes()]), &stored)
    }

    /// Stores a group before it is created: its uncommitted records are needed after a restart too.
    pub(super) fn keep_group(&mut self, name: &str, topic: usize) -> Result<(), BusError> {
        self.keep(keys::key(keys::GROUP, &[name.as_bytes()]), &(topic as u64))
    }

    /// Stores the positions of a named follower; none means that it is forgotten. The pair stays,
    /// since the store may restore deleted ones.
    pub(super) fn store_named(&mut self, name: &str, topic: usize, saved: &[Option<u64>]) -> Result<(), BusError> {
        let number = u32::try_from(topic).expect("fewer topics than 4 billion");
        self.keep(keys::key(keys::NAMED, &[&number.to_be_bytes(), name.as_bytes()]), &saved)
    }

    fn keep(&mut self, key: Vec<u8>, value: &impl serde::Serialize) -> Result<(), BusError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let mut batch = self.batch()?;
        disk.store.put(&mut batch, code::META, key, code::write(value, Vec::new()))?;
        self.write_batch(batch)
    }

    /// Moves the oldest records of a partition from memory to pages if it exceeds `keep` bytes.
    /// Records below `floor` are kept for readers only, and not worth a page.
    pub(super) fn pack(&mut self, place: PartitionRef, keep: usize, floor: u64) {
        while self.log_ref(place).bytes() > keep.saturating_add(PAGE_BYTES) {
            let log = self.log_ref(place);
            let Some(tail) = &log.tail else { return };
            let Some(pieces) = tail.pageful() else { return };
            let (count, end) = pieces.fold((0, 0), |(count, _), piece| (count + 1, piece.end));
            if end <= floor {
                return;
            }
            let last = log.held_below(end).last().map_or(0, |(_, held)| held.time.0);
            let page = Page { end, last };
            let mut entry = EntryWriter::new(tail.next_page());
            log.held_below(end).for_each(|(offset, held)| push(&mut entry, offset, held));
            if let Err(fault) = self.write_page(place, entry, page, count) {
                // The records stay in memory: if no page can be written, no batch can be either.
                tracing::debug!(%fault, "cannot write a page");
                return;
            }
            self.log(place).evict(end);
        }
    }

    fn write_page(
        &mut self,
        place: PartitionRef,
        entry: EntryWriter,
        page: Page,
        count: usize,
    ) -> Result<(), BusError> {
        let Some(Disk { store, .. }) = &self.disk else { return Ok(()) };
        let store = Arc::clone(store);
        let far = code::number(place, LogKind::Far);
        let mut batch = self.batch()?;
        entry.finish(far, page.end, &mut batch).map_err(|fault| BusError::Refused(fault.to_string()))?;
        let log = self.log_ref(place);
        let (Some(tail), bounds) = (&log.tail, log.bounds()) else { return Ok(()) };
        let (number, mut mark) = (tail.next_page(), tail.watermark(bounds));
        store.put(&mut batch, far, keys::page(number), code::write(&page, Vec::new()))?;
        mark.pieces.0 += count as u64;
        mark.pages.1 += 1;
        super::disk::cuts::cut(&store, &mut batch, place, &mark, mark.pages.0)?;
        self.write_batch(batch)?;
        if let Some(tail) = &mut self.log(place).tail {
            tail.drop_pieces(count);
            tail.push_page(page);
        }
        Ok(())
    }

    /// Rewrites the live records of the oldest pieces of a compacted partition if most of its data
    /// on disk is garbage.
    pub(super) fn compact(&mut self, place: PartitionRef) {
        for _ in 0..COMPACTED_PAGES {
            let log = self.log_ref(place);
            let Some(tail) = &log.tail else { return };
            if tail.bytes() <= 2 * log.bytes() + GARBAGE_BYTES {
                return;
            }
            let Some(pieces) = tail.pageful() else { return };
            let mut again = NewPiece::new(tail.next_piece(), log.bounds().end);
            let mut count = 0;
            for old in pieces {
                count += 1;
                for (offset, held) in old.offsets.iter().filter_map(|offset| Some((*offset, log.held(*offset)?))) {
                    push(&mut again.entry, offset, held);
                    again.piece.offsets.push(offset);
                    again.piece.bytes += held.size() + OVERHEAD;
                }
            }
            if let Err(fault) = self.write_again(place, again, count) {
                tracing::debug!(%fault, "cannot compact a partition on disk");
                return;
            }
        }
    }

    fn write_again(&mut self, place: PartitionRef, again: NewPiece, count: usize) -> Result<(), BusError> {
        let Some(Disk { store, .. }) = &self.disk else { return Ok(()) };
        let store = Arc::clone(store);
        let NewPiece { entry, piece } = again;
        let mut batch = self.batch()?;
        let finished = entry.finish(code::number(place, LogKind::Near), piece.end, &mut batch);
        finished.map_err(|fault| BusError::Refused(fault.to_string()))?;
        let log = self.log_ref(place);
        let Some(tail) = &log.tail else { return Ok(()) };
        let mut mark = tail.watermark(log.bounds());
        mark.pieces = (mark.pieces.0 + count as u64, mark.pieces.1 + 1);
        super::disk::cuts::cut(&store, &mut batch, place, &mark, mark.pages.0)?;
        self.write_batch(batch)?;
        if let Some(tail) = &mut self.log(place).tail {
            tail.drop_pieces(count);
            tail.push(piece);
        }
        Ok(())
    }

    /// Reads a page unless it is the open one.
    pub(super) fn open_page(&mut self, place: PartitionRef, page: u64) -> Result<(), BusError> {
        let (Some(disk), Some(tail)) = (&self.disk, &self.log_ref(place).tail) else { return Ok(()) };
        if tail.is_open(page) {
            return Ok(());
        }
        let records = disk.page(place, page, &self.topics[place.0].name)?;
        if let Some(tail) = &mut self.log(place).tail {
            tail.opened(page, records);
        }
        Ok(())
    }
}

fn push(entry: &mut EntryWriter, offset: u64, held: &StoredRecord) {
    entry.push(offset, held.time, held.key.as_ref(), &held.headers, &held.value);
}
