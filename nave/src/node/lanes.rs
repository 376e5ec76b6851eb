//! The lanes of one thread, and whether they are drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bus::{BusError, Clock, MonoTime, Part, Turn};
use topology::Shard;

/// Lanes that had nothing to do for so long, and have nothing unfinished, are drained: what was on its way has come.
const QUIET_MS: u64 = 500;

/// How a thread stands with its draining.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    asked: AtomicBool,
    drained: AtomicBool,
    unfinished: AtomicUsize,
}

impl Gauge {
    /// From now on the thread looks whether it is drained.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Number of operations that are not over, as of its last poll while it drains, or of its stop.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Acquire)
    }
}

/// A shard that is watched while it drains.
pub(super) struct Lanes {
    pub(super) shard: Shard,
    pub(super) gauge: Arc<Gauge>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) quiet: Option<MonoTime>,
}

impl Part for Lanes {
    fn name(&self) -> &str {
        self.shard.name()
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        let mut turn = self.shard.turn(wait)?;
        if self.gauge.asked.load(Ordering::Acquire) && !self.gauge.is_drained() {
            let (now, unfinished) = (self.clock.mono(), self.shard.unfinished().len());
            self.gauge.unfinished.store(unfinished, Ordering::Release);
            if turn.worked || unfinished > 0 {
                self.quiet = None;
            } else {
                let until = self.quiet.get_or_insert(now).plus_ms(QUIET_MS);
                self.gauge.drained.store(until <= now, Ordering::Release);
                turn.next = turn.next.into_iter().chain((until > now).then_some(until)).min();
            }
        }
        Ok(turn)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.gauge.unfinished.store(self.shard.unfinished().len(), Ordering::Release);
        Box::new(self.shard).stop()
    }
}
