//! Reads the content of the store when it is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_engine::LogBatch;
use serde::de::DeserializeOwned;

use super::super::log::{Log, OVERHEAD};
use super::super::state::{BusState, PartitionRef};
use super::code::{self, LogKind, META, Page, StoredPosition, StoredTopic, Watermark, keys};
use super::cuts;
use super::store::Store;
use super::tail::{Piece, Tail};
use crate::{Bounds, BusError, Cleanup, Committed, Record, TopicInfo};

/// Returns all topics, groups, named followers and positions, and the records that belong in memory.
pub(super) fn state(store: &Store) -> Result<BusState, BusError> {
    let mut state = BusState::default();
    let pairs = store.pairs(META)?;
    let of = |kind| pairs.iter().filter_map(move |(key, value)| Some((key.strip_prefix(&[kind])?, value)));
    for (_, value) in of(keys::TOPIC) {
        let topic: StoredTopic = read(store, value)?;
        let cleanup = topic.cleanup();
        state.add_topic(TopicInfo { name: topic.name, partitions: topic.partitions, id: topic.id }, cleanup);
    }
    for (name, value) in of(keys::GROUP) {
        let topic = usize::try_from(read::<u64>(store, value)?).ok().filter(|topic| *topic < state.topics.len());
        let topic = topic.ok_or_else(|| store.refuse("has a group without a topic"))?;
        state.add_group(text(store, name)?, topic);
    }
    for (key, value) in of(keys::POSITION) {
        let (partition, name) =
            key.split_first_chunk().ok_or_else(|| store.refuse("has a position without a partition"))?;
        let position: StoredPosition = read(store, value)?;
        let partition = u32::from_be_bytes(*partition);
        let share = state.find_group(text(store, name)?).and_then(|group| group.share_mut(partition));
        let share = share.ok_or_else(|| store.refuse("has a position without a group"))?;
        share.committed = Some(Committed { next: position.next, metadata: position.metadata });
    }
    for (key, value) in of(keys::NAMED) {
        let saved: Vec<Option<u64>> = read(store, value)?;
        if saved.is_empty() {
            continue;
        }
        let (topic, name) = key.split_first_chunk().ok_or_else(|| store.refuse("has a name without a topic"))?;
        let topic = usize::try_from(u32::from_be_bytes(*topic)).ok().and_then(|index| state.topics.get_mut(index));
        let topic = topic.filter(|topic| topic.partitions.len() == saved.len());
        let topic = topic.ok_or_else(|| store.refuse("has a named follower without its topic"))?;
        topic.named.insert(text(store, name)?.to_owned(), saved);
    }
    // New ids differ from those of the last run even if the clock has not moved.
    state.last_id = state.topics.len() as u64;
    let mut batch = LogBatch::default();
    for topic in 0..state.topics.len() {
        let compacted = state.topics[topic].cleanup == Cleanup::Compact;
        let name = Arc::clone(&state.topics[topic].name);
        for (partition, log) in (0..).zip(&mut state.topics[topic].partitions) {
            let empty = Log::new(Arc::clone(&name), partition, compacted);
            *log =
                PartitionReader { store, place: (topic, partition), name: &name }.log(empty, compacted, &mut batch)?;
        }
    }
    if !batch.is_empty() {
        store.write(&mut batch)?;
    }
    Ok(state)
}

/// One partition to read.
struct PartitionReader<'a> {
    store: &'a Store,
    place: PartitionRef,
    name: &'a Arc<str>,
}

impl PartitionReader<'_> {
    /// Reads the partition's entries into `log`. Cuts invalid entries again in `batch`.
    fn log(&self, mut log: Log, compacted: bool, batch: &mut LogBatch) -> Result<Log, BusError> {
        let near = code::number(self.place, LogKind::Near);
        let mark = self.store.pairs(near)?.into_iter().find(|(key, _)| key == keys::WATERMARK);
        let mark: Watermark = mark.map_or_else(|| Ok(Watermark::default()), |(_, value)| read(self.store, &value))?;
        let (pages, stale) = self.pages(&mark)?;
        let next_page = mark.pages.0 + pages.len() as u64;
        let numbers = self.numbers(near, mark.pieces)?;
        let next_piece = numbers.end;
        if let Some(stale) = stale {
            cuts::cut(self.store, batch, self.place, &mark, stale)?;
        }
        let mut end = pages.last().map_or(mark.end, |page| page.end.max(mark.end));
        let (mut pieces, mut last) = (Vec::new(), BTreeMap::new());
        for number in numbers {
            let entry = self.store.entry(near, number)?;
            let read = self.decode(entry)?;
            end = end.max(read.end);
            let mut piece = Piece { number, end: read.end, bytes: 0, offsets: Vec::new() };
            for record in read.records {
                piece.bytes += record.size() + OVERHEAD;
                if compacted {
                    piece.offsets.push(record.offset);
                }
                if record.offset >= mark.low {
                    last.insert(record.offset, record);
                }
            }
            pieces.push(piece);
        }
        for record in last.into_values() {
            log.put(record);
        }
        // There are no readers yet.
        log.forget_deletions(u64::MAX);
        let bounds = Bounds { low: mark.low, end };
        Ok(log.on_disk(Tail::restore(pieces, pages, next_piece, next_page), bounds))
    }

    /// Returns the valid pages, and the number of the first page that was cut but is back.
    fn pages(&self, mark: &Watermark) -> Result<(Vec<Page>, Option<u64>), BusError> {
        let far = code::number(self.place, LogKind::Far);
        let mut pages = BTreeMap::new();
        for (key, value) in self.store.pairs(far)? {
            if let Some(number) = keys::page_number(&key) {
                pages.insert(number, read::<Page>(self.store, &value)?);
            }
        }
        let stale = pages.keys().next().copied().filter(|first| *first < mark.pages.0);
        let pages = pages.split_off(&mark.pages.0);
        let numbers = self.numbers(far, mark.pages)?;
        if !numbers.clone().eq(pages.keys().copied()) {
            return Err(self.missing());
        }
        Ok((pages.into_values().collect(), stale))
    }

    /// Returns the valid entries of a log; fails if one is missing.
    fn numbers(&self, log: u64, (first, next): (u64, u64)) -> Result<std::ops::Range<u64>, BusError> {
        match self.store.span(log) {
            Some((begin, last)) if begin <= first && last + 1 >= next => Ok(first..(last + 1).max(first)),
            None if first == next => Ok(first..next),
            Some((_, last)) if first == next && last < first => Ok(first..next),
            Some(_) | None => Err(self.missing()),
        }
    }

    fn decode(&self, entry: Vec<u8>) -> Result<code::EntryRead, BusError> {
        code::decode(entry, self.name, self.place.1).map_err(|fault| unreadable(self.store, &fault))
    }

    fn missing(&self) -> BusError {
        self.store.refuse(&format!("is missing records of `{}` {}", self.name, self.place.1))
    }
}

impl super::Disk {
    /// Reads the records of a page.
    pub(in crate::embedded) fn page(
        &self,
        place: PartitionRef,
        page: u64,
        name: &Arc<str>,
    ) -> Result<Vec<Record>, BusError> {
        let store = &*self.store;
        let entry = store.aside(|| store.entry(code::number(place, LogKind::Far), page))?;
        let read = code::decode(entry, name, place.1).map_err(|fault| unreadable(store, &fault))?;
        Ok(read.records)
    }
}

fn read<T: DeserializeOwned>(store: &Store, value: &[u8]) -> Result<T, BusError> {
    postcard::from_bytes(value).map_err(|fault| unreadable(store, &fault))
}

fn text<'a>(store: &Store, name: &'a [u8]) -> Result<&'a str, BusError> {
    std::str::from_utf8(name).map_err(|_| store.refuse("has a name that is not UTF-8"))
}

fn unreadable(store: &Store, fault: &postcard::Error) -> BusError {
    store.refuse(&format!("has data that this build cannot read: {fault}"))
}
