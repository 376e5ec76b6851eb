//! The lanes of one thread, and whether they are drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bus::{BusError, Clock, MonoTime, PollOutcome, Task};
use topology::Shard;

/// Time without work and without open operations after which lanes count as drained, in
/// milliseconds: records that were under way have arrived.
const QUIET_MS: u64 = 500;

/// The progress of a thread with its draining.
#[derive(Debug, Default)]
pub(super) struct DrainGauge {
    is_watched: AtomicBool,
    drained: AtomicBool,
    unfinished: AtomicUsize,
}

impl DrainGauge {
    /// Starts the measurement.
    pub(super) fn watch(&self) {
        self.is_watched.store(true, Ordering::Release);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Number of operations that are not over, as of the last poll while draining, or of the stop.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Acquire)
    }
}

/// A shard with its drain gauge.
pub(super) struct Lanes {
    pub(super) shard: Shard,
    pub(super) gauge: Arc<DrainGauge>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) quiet: Option<MonoTime>,
}

impl Task for Lanes {
    fn name(&self) -> &str {
        self.shard.name()
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let mut polled = self.shard.poll(wait)?;
        if self.gauge.is_watched.load(Ordering::Acquire) && !self.gauge.is_drained() {
            let (now, unfinished) = (self.clock.mono(), self.shard.unfinished().len());
            self.gauge.unfinished.store(unfinished, Ordering::Release);
            if polled.worked || unfinished > 0 {
                self.quiet = None;
            } else {
                let until = self.quiet.get_or_insert(now).plus_ms(QUIET_MS);
                self.gauge.drained.store(until <= now, Ordering::Release);
                polled.next = polled.next.into_iter().chain((until > now).then_some(until)).min();
            }
        }
        Ok(polled)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.gauge.unfinished.store(self.shard.unfinished().len(), Ordering::Release);
        Box::new(self.shard).stop()
    }
}
