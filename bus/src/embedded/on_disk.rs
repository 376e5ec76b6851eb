//! What the disk is told, and asked: nothing here happens where there is none.

use std::sync::Arc;

use raft_engine::LogBatch;

use super::disk::Disk;
use super::disk::code::{self, EntryWriter, Page, Side, StoredPosition, StoredTopic, keys};
use super::disk::tail::{PAGE_BYTES, Piece};
use super::log::{Held, OVERHEAD};
use super::state::{Place, State};
use super::write::Writing;
use crate::{BusError, Cleanup, TopicInfo};

/// A compacted partition may take so much more on disk than twice what is needed of it.
const GARBAGE_BYTES: usize = 1 << 20;
/// So many pages of it are gone through after one batch: together more than a batch brings, and a matter of milliseconds.
const COMPACTED_PAGES: usize = 16;

/// A piece that is being written.
struct Growing {
    entry: EntryWriter,
    piece: Piece,
}

impl Growing {
    fn new(number: u64, end: u64) -> Self {
        Self { entry: EntryWriter::new(number), piece: Piece { number, end, bytes: 0, offsets: Vec::new() } }
    }
}

impl State {
    /// Writes a batch to the disk; `touched` are its partitions. Says which piece was written for each of them.
    pub(super) fn write_to_disk(&mut self, writing: &Writing<'_>, touched: &[Place]) -> Result<Vec<Piece>, BusError> {
        let Some(disk) = &self.disk else { return Ok(Vec::new()) };
        let mut batch = self.batch()?;
        let mut pieces: Vec<Growing> = Vec::with_capacity(touched.len());
        for place in touched {
            let log = self.log_of(*place);
            let number = log.tail.as_ref().map_or(0, super::disk::tail::Tail::next_piece);
            pieces.push(Growing::new(number, log.bounds().end));
        }
        let mut index = 0;
        for (record, place) in writing.records.iter().zip(writing.places) {
            if touched[index] != *place {
                index = touched.iter().position(|touched| touched == place).expect("every place is among them");
            }
            let Growing { entry, piece } = &mut pieces[index];
            entry.push(piece.end, writing.now, record.key.as_ref(), &record.headers, &record.value);
            if self.topics[place.0].cleanup == Cleanup::Compact {
                piece.offsets.push(piece.end);
            }
            piece.end += 1;
            piece.bytes += record.size() + OVERHEAD;
        }
        let mut written = Vec::with_capacity(pieces.len());
        for (place, Growing { entry, mut piece }) in touched.iter().zip(pieces) {
            piece.end += u64::from(writing.gaps);
            let finished = entry.finish(code::number(*place, Side::Near), piece.end, &mut batch);
            finished.map_err(|fault| BusError::Refused(fault.to_string()))?;
            written.push(piece);
        }
        let (group, positions) = writing.positions;
        for position in positions {
            let key =
                keys::key(keys::POSITION, &[&position.partition.to_be_bytes(), self.groups[group].name.as_bytes()]);
            let value = StoredPosition { next: position.next, note: String::from(&*position.note) };
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

    /// A batch that begins with what is to be cut by now.
    fn batch(&self) -> Result<LogBatch, BusError> {
        let mut batch = LogBatch::default();
        let mark = |place| {
            let log = self.log_of(place);
            log.tail.as_ref().map_or_else(code::Watermark::default, |tail| tail.watermark(log.bounds()))
        };
        if let Some(disk) = &self.disk {
            disk.chores.write(&disk.store, &mut batch, mark)?;
        }
        Ok(batch)
    }

    /// Writes a batch that began so.
    fn write_batch(&mut self, mut batch: LogBatch) -> Result<(), BusError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.store.write(&mut batch)?;
        disk.chores.clear();
        disk.written += 1;
        Ok(())
    }

    /// Does now what would be done with the next batch.
    pub(super) fn flush(&mut self) -> Result<(), BusError> {
        if self.disk.as_ref().is_none_or(|disk| disk.chores.is_empty()) {
            return Ok(());
        }
        let batch = self.batch()?;
        self.write_batch(batch)
    }

    /// Whether the disk can still be trusted.
    pub(super) fn intact(&self) -> Result<(), BusError> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.store.intact())
    }

    /// Keeps a topic that is about to be made.
    pub(super) fn keep_topic(&mut self, info: &TopicInfo, cleanup: Cleanup) -> Result<(), BusError> {
        let number = u32::try_from(self.topics.len()).expect("fewer topics than 4 billion");
        let stored = StoredTopic::new(&info.name, &info.id, info.partitions, cleanup);
        self.keep(keys::key(keys::TOPIC, &[&number.to_be_bytes()]), &stored)
    }

    /// Keeps a group that is about to be made: what it has not committed is needed after a restart too.
    pub(super) fn keep_group(&mut self, name: &str, topic: usize) -> Result<(), BusError> {
        self.keep(keys::key(keys::GROUP, &[name.as_bytes()]), &(topic as u64))
    }

    fn keep(&mut self, key: Vec<u8>, value: &impl serde::Serialize) -> Result<(), BusError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let mut batch = self.batch()?;
        disk.store.put(&mut batch, code::META, key, code::write(value, Vec::new()))?;
        self.write_batch(batch)
    }

    /// Moves the oldest records of a partition out of the memory, where it takes more than `keep` bytes. What is below `floor`
    /// is only waited for by readers, and not worth a page.
    pub(super) fn pack(&mut self, place: Place, keep: usize, floor: u64) {
        while self.log_of(place).bytes() > keep.saturating_add(PAGE_BYTES) {
            let log = self.log_of(place);
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
                // It stays in memory; what cannot be written now is not worth more, since no batch can be.
                tracing::debug!(%fault, "no page was written");
                return;
            }
            self.log(place).let_go(end);
        }
    }

    fn write_page(&mut self, place: Place, entry: EntryWriter, page: Page, count: usize) -> Result<(), BusError> {
        let Some(Disk { store, .. }) = &self.disk else { return Ok(()) };
        let store = Arc::clone(store);
        let far = code::number(place, Side::Far);
        let mut batch = self.batch()?;
        entry.finish(far, page.end, &mut batch).map_err(|fault| BusError::Refused(fault.to_string()))?;
        let log = self.log_of(place);
        let (Some(tail), bounds) = (&log.tail, log.bounds()) else { return Ok(()) };
        let (number, mut mark) = (tail.next_page(), tail.watermark(bounds));
        store.put(&mut batch, far, keys::page(number), code::write(&page, Vec::new()))?;
        mark.pieces.0 += count as u64;
        mark.pages.1 += 1;
        super::disk::chores::cut(&store, &mut batch, place, &mark, mark.pages.0)?;
        self.write_batch(batch)?;
        if let Some(tail) = &mut self.log(place).tail {
            tail.drop_pieces(count);
            tail.push_page(page);
        }
        Ok(())
    }

    /// Writes what is needed of the oldest pieces of a compacted partition once more, where most of what it has on disk is not.
    pub(super) fn compact(&mut self, place: Place) {
        for _ in 0..COMPACTED_PAGES {
            let log = self.log_of(place);
            let Some(tail) = &log.tail else { return };
            if tail.bytes() <= 2 * log.bytes() + GARBAGE_BYTES {
                return;
            }
            let Some(pieces) = tail.pageful() else { return };
            let mut again = Growing::new(tail.next_piece(), log.bounds().end);
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
                tracing::debug!(%fault, "a compacted partition was not cleaned up");
                return;
            }
        }
    }

    fn write_again(&mut self, place: Place, again: Growing, count: usize) -> Result<(), BusError> {
        let Some(Disk { store, .. }) = &self.disk else { return Ok(()) };
        let store = Arc::clone(store);
        let Growing { entry, piece } = again;
        let mut batch = self.batch()?;
        let finished = entry.finish(code::number(place, Side::Near), piece.end, &mut batch);
        finished.map_err(|fault| BusError::Refused(fault.to_string()))?;
        let log = self.log_of(place);
        let Some(tail) = &log.tail else { return Ok(()) };
        let mut mark = tail.watermark(log.bounds());
        mark.pieces = (mark.pieces.0 + count as u64, mark.pieces.1 + 1);
        super::disk::chores::cut(&store, &mut batch, place, &mark, mark.pages.0)?;
        self.write_batch(batch)?;
        if let Some(tail) = &mut self.log(place).tail {
            tail.drop_pieces(count);
            tail.push(piece);
        }
        Ok(())
    }

    /// Reads a page, unless it was the last that was read.
    pub(super) fn open_page(&mut self, place: Place, page: u64) -> Result<(), BusError> {
        let (Some(disk), Some(tail)) = (&self.disk, &self.log_of(place).tail) else { return Ok(()) };
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

fn push(entry: &mut EntryWriter, offset: u64, held: &Held) {
    entry.push(offset, held.time, held.key.as_ref(), &held.headers, &held.value);
}
