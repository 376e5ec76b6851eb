//! One partition on disk: its entries, and which of its records are only in pages.

use std::collections::VecDeque;

use super::code::{Page, Watermark};
use crate::{Bounds, Record};

/// A partition moves its oldest records out of the memory when it has so many bytes more than it may keep there. A page of so
/// much is read in less than a millisecond, and 10 GiB of them are known by some 6 MiB of memory.
pub(in crate::embedded) const PAGE_BYTES: usize = 256 << 10;

/// The entries of a partition.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Tail {
    /// Those of the near log, oldest first: what they hold is in memory.
    pieces: VecDeque<Piece>,
    next_piece: u64,
    /// What all pieces together took when they were written.
    bytes: usize,
    /// Those of the far log, oldest first: all older than the pieces.
    pages: VecDeque<Page>,
    next_page: u64,
    /// The page that was read last. Who replays reads page after page, in several polls each.
    open: Option<(u64, Vec<Record>)>,
}

/// An entry of the near log.
#[derive(Debug)]
pub(in crate::embedded) struct Piece {
    /// Its number.
    pub(in crate::embedded) number: u64,
    /// The offset after it.
    pub(in crate::embedded) end: u64,
    /// What its records take in memory.
    pub(in crate::embedded) bytes: usize,
    /// The offsets of its records, in a compacted partition: some are gone, and some pieces hold old records again.
    pub(in crate::embedded) offsets: Vec<u64>,
}

impl Tail {
    /// As it was left: with these pieces and pages, and these numbers for the next ones.
    pub(in crate::embedded) fn restore(pieces: Vec<Piece>, pages: Vec<Page>, next_piece: u64, next_page: u64) -> Self {
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        Self { pieces: pieces.into(), next_piece, bytes, pages: pages.into(), next_page, open: None }
    }

    /// The number of the next piece.
    pub(in crate::embedded) fn next_piece(&self) -> u64 {
        self.next_piece
    }

    /// The number of the next page.
    pub(in crate::embedded) fn next_page(&self) -> u64 {
        self.next_page
    }

    /// What all pieces together took when they were written.
    pub(in crate::embedded) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A piece was written.
    pub(in crate::embedded) fn push(&mut self, piece: Piece) {
        self.next_piece = piece.number + 1;
        self.bytes += piece.bytes;
        self.pieces.push_back(piece);
    }

    /// The oldest pieces that fill a page; none where there are not enough.
    pub(in crate::embedded) fn pageful(&self) -> Option<impl Iterator<Item = &Piece>> {
        let mut bytes = 0;
        let last = self.pieces.iter().position(|piece| {
            bytes += piece.bytes;
            bytes >= PAGE_BYTES
        })?;
        Some(self.pieces.range(..=last))
    }

    /// The first `count` pieces are not needed any more.
    pub(in crate::embedded) fn drop_pieces(&mut self, count: usize) {
        self.bytes -= self.pieces.drain(..count).map(|piece| piece.bytes).sum::<usize>();
    }

    /// A page was written.
    pub(in crate::embedded) fn push_page(&mut self, page: Page) {
        self.pages.push_back(page);
        self.next_page += 1;
    }

    /// The oldest page.
    pub(in crate::embedded) fn first_page(&self) -> Option<&Page> {
        self.pages.front()
    }

    /// The number of the oldest page, or of the next one.
    pub(in crate::embedded) fn first_page_number(&self) -> u64 {
        self.next_page - self.pages.len() as u64
    }

    /// Lets go of the entries that are below `low`.
    pub(in crate::embedded) fn settle(&mut self, low: u64) {
        while self.pages.pop_front_if(|page| page.end <= low).is_some() {}
        let gone = self.pieces.iter().take_while(|piece| piece.end <= low).count();
        self.drop_pieces(gone);
        if self.open.as_ref().is_some_and(|(number, _)| *number < self.first_page_number()) {
            self.open = None;
        }
    }

    /// The page that has what is at `offset`; none where that is in memory.
    pub(in crate::embedded) fn page_of(&self, offset: u64) -> Option<u64> {
        let index = self.pages.partition_point(|page| page.end <= offset);
        (index < self.pages.len()).then(|| self.first_page_number() + index as u64)
    }

    /// True where this page is the one that was read last.
    pub(in crate::embedded) fn is_open(&self, page: u64) -> bool {
        self.open.as_ref().is_some_and(|(number, _)| *number == page)
    }

    /// A page was read.
    pub(in crate::embedded) fn opened(&mut self, page: u64, records: Vec<Record>) {
        self.open = Some((page, records));
    }

    /// Up to `max` records of the open page with offsets from `from` on and below `until`. Says where to read on, and whether
    /// the page was read to its end; then it is let go of.
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

    /// What must survive of a partition with these bounds.
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
