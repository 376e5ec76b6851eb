//! A spout over an iterator.

use std::iter::Fuse;

use crate::component::Spout;
use crate::emitter::Emitter;
use crate::place::SourceContext;

/// Emits the items of an iterator that belong to its lane.
pub(super) struct Items<I: IntoIterator, F> {
    make: F,
    /// The remaining items; `None` before the first call.
    left: Option<Fuse<I::IntoIter>>,
    lane: usize,
    lanes: usize,
}

impl<I: IntoIterator, F> Items<I, F> {
    pub(super) fn new(make: F) -> Self {
        Self { make, left: None, lane: 0, lanes: 1 }
    }
}

impl<I, F> Spout for Items<I, F>
where
    I: IntoIterator<Item: 'static, IntoIter: 'static> + 'static,
    F: Fn() -> I + 'static,
{
    type Out = I::Item;
    /// The number of items that this lane has emitted.
    type Position = usize;

    fn open(&mut self, source: &SourceContext) {
        (self.lane, self.lanes) = (source.lane.lane as usize, source.lane.lanes as usize);
    }

    fn next(&mut self, position: &mut usize, out: &mut Emitter<I::Item>) -> bool {
        let skipped = if self.left.is_none() { self.lane + *position * self.lanes } else { self.lanes - 1 };
        let Some(item) = self.left.get_or_insert_with(|| (self.make)().into_iter().fuse()).nth(skipped) else {
            return false;
        };
        *position += 1;
        out.emit(item);
        true
    }
}
