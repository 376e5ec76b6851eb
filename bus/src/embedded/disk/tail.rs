//! The index of one partition on disk: its pieces and pages.

use std::collections::VecDeque;

use super::code::{Page, Watermark};
use crate::{Bounds, Record};

/// A partition moves its oldest records to a page when it exceeds its memory limit by this many
/// bytes. A page is read in less than a millisecond, and the index of 10 GiB takes some 6 MiB of
/// memory.
pub(in crate::embedded) const PAGE_BYTES: usize = 256 << 10;

/// The pieces and pages of a partition.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Tail {
    /// The pieces, oldest first; their records are in memory.
    pieces: VecDeque<Piece>,
    next_piece: u64,
    /// Size of all pieces when they were written, in bytes.
    bytes: usize,
    /// The pages, oldest first; all older than the pieces.
    pages: VecDeque<Page>,
    next_page: u64,
    /// The page that was read last. A replay reads page after page, each in several polls.
    open: Option<(u64, Vec<Record>)>,
}

/// An entry of the near log.
#[derive(Debug)]
pub(in crate::embedded) struct Piece {
    /// The number.
    pub(in crate::embedded) number: u64,
    /// The offset after it.
    pub(in crate::embedded) end: u64,
    /// Memory size of its records, in bytes.
    pub(in crate::embedded) bytes: usize,
    /// Offsets of its records, in a compacted partition. Some records may be superseded, and
    /// rewritten pieces hold old records.
    pub(in crate::embedded) offsets: Vec<u64>,
}

impl Tail {
    /// Restores the index from these pieces, pages and next numbers.
    pub(in crate::embedded) fn restore(pieces: Vec<Piece>, pages: Vec<Page>, next_piece: u64, next_page: u64) -> Self {
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        Self { pieces: pieces.into(), next_piece, bytes, pages: pages.into(), next_page, open: None }
    }

    /// Returns the number of the next piece.
    pub(in crate::embedded) fn next_piece(&self) -> u64 {
        self.next_piece
    }

    /// Returns the number of the next page.
    pub(in crate::embedded) fn next_page(&self) -> u64 {
        self.next_page
    }

    /// Returns the size of all pieces when they were written, in bytes.
    pub(in crate::embedded) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a written piece.
    pub(in crate::embedded) fn push(&mut self, piece: Piece) {
        self.next_piece = piece.number + 1;
        self.bytes += piece.bytes;
        self.pieces.push_back(piece);
    }

    /// Returns the oldest pieces that fill a page; `None` if there are too few.
    pub(in crate::embedded) fn pageful(&self) -> Option<impl Iterator<Item = &Piece>> {
        let mut bytes = 0;
        let last = self.pieces.iter().position(|piece| {
            bytes += piece.bytes;
            bytes >= PAGE_BYTES
        })?;
        Some(self.pieces.range(..=last))
    }

    /// Removes the first `count` pieces.
    pub(in crate::embedded) fn drop_pieces(&mut self, count: usize) {
        self.bytes -= self.pieces.drain(..count).map(|piece| piece.bytes).sum::<usize>();
    }

    /// Adds a written page.
    pub(in crate::embedded) fn push_page(&mut self, page: Page) {
        self.pages.push_back(page);
        self.next_page += 1;
    }

    /// Returns the oldest page.
    pub(in crate::embedded) fn first_page(&self) -> Option<&Page> {
        self.pages.front()
    }

    /// Returns the number of the oldest page, or of the next one.
    pub(in crate::embedded) fn first_page_number(&self) -> u64 {
        self.next_page - self.pages.len() as u64
    }

    /// Removes the entries below `low`.
    pub(in crate::embedded) fn settle(&mut self, low: u64) {
        while self.pages.pop_front_if(|page| page.end <= low).is_some() {}
        let gone = self.pieces.iter().take_while(|piece| piece.end <= low).count();
        self.drop_pieces(gone);
        if self.open.as_ref().is_some_and(|(number, _)| *number < self.first_page_number()) {
            self.open = None;
        }
    }

    /// Returns the page that holds `offset`; `None` if it is in memory.
    pub(in crate::embedded) fn page_of(&self, offset: u64) -> Option<u64> {
        let index = self.pages.partition_point(|page| page.end <= offset);
        (index < self.pages.len()).then(|| self.first_page_number() + index as u64)
    }

    /// True if this page is open.
    pub(in crate::embedded) fn is_open(&self, page: u64) -> bool {
        self.open.as_ref().is_some_and(|(number, _)| *number == page)
    }

    /// Sets the open page.
    pub(in crate::embedded) fn opened(&mut self, page: u64, records: Vec<Record>) {
        self.open = Some((page, records));
    }

    /// Reads up to `max` records of the open page with offsets in `from..until`. Returns the next
    /// offset, and whether the page was read to its end; then the page is closed.
    pub(in crate::embedded) fn read_open(
        &mut self,
        from: u64,
        max: usize,
        until: u64,
        out: &mut impl FnMut(Record),
    ) -> (u64, bool) {
        let Some((number, records)) = &self.open else { return (from, true) };
        let rest = &records[records.partition_point(|record| record.offset < from)..];
        let taken = rest.partition_point(|record| record.offset < until).min(max);
        rest[..taken].iter().for_each(|record| out(record.clone()));
        if taken < rest.len() {
            return (taken.checked_sub(1).map_or(from, |last| rest[last].offset + 1), false);
        }
        let index = usize::try_from(number - self.first_page_number()).expect("a page is an index");
        self.open = None;
        (self.pages[index].end.max(from), true)
    }

    /// Returns the watermark of a partition with these bounds.
    pub(in crate::embedded) fn watermark(&self, bounds: Bounds) -> Watermark {
        let first = self.pieces.front().map_or(self.next_piece, |piece| piece.number);
        Watermark {
            low: bounds.low,
            end: bounds.end,
            pieces: (first, self.next_piece),
            pages: (self.first_page_number(), self.next_page),
        }
    }
}
