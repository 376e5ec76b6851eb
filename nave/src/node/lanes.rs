//! The lanes of one thread: whether the thread takes part in its stage, and whether its lanes are drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bus::{BusError, Clock, MonoTime, PollOutcome, Task};
use topology::Shard;

use super::RETRY_MS;
use super::deployment::Deployment;

/// Time without work and without open operations after which lanes count as drained, in
/// milliseconds: records that were under way have arrived.
const QUIET_MS: u64 = 500;

/// The orders of the node to a thread, and the progress of the thread with its draining.
#[derive(Debug, Default)]
pub(super) struct ThreadControl {
    leaves: AtomicBool,
    is_watched: AtomicBool,
    drained: AtomicBool,
    unfinished: AtomicUsize,
}

impl ThreadControl {
    /// Lets the thread join its stage, or leave it.
    pub(super) fn set_joined(&self, joined: bool) {
        self.leaves.store(!joined, Ordering::Release);
    }

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

/// The lanes of a thread: a shard while it takes part in its stage.
pub(super) struct Lanes {
    deployment: Arc<Deployment>,
    clock: Arc<dyn Clock>,
    stage: String,
    member: String,
    control: Arc<ThreadControl>,
    shard: Option<Shard>,
    /// Number of shards so far: each has a name of its own.
    shards: u32,
    /// When to try again to join, because the bus did not answer.
    retry_at: Option<MonoTime>,
    quiet: Option<MonoTime>,
}

impl Lanes {
    /// Makes the lanes of a thread, which joins `stage` when it is polled. The names of its members
    /// begin with `member`.
    pub(super) fn new(
        deployment: Arc<Deployment>,
        clock: Arc<dyn Clock>,
        stage: String,
        member: String,
        control: Arc<ThreadControl>,
    ) -> Self {
        Self { deployment, clock, stage, member, control, shard: None, shards: 0, retry_at: None, quiet: None }
    }

    /// Joins or leaves the stage, as the node ordered. Returns true if it did.
    fn obey(&mut self) -> Result<bool, BusError> {
        if self.control.leaves.load(Ordering::Acquire) {
            let left = self.shard.take().map(|shard| Box::new(shard).stop());
            for fault in left.iter().flatten() {
                tracing::warn!(member = self.member, fault, "a thread did not leave its stage cleanly");
            }
            return Ok(left.is_some());
        }
        let now = self.clock.mono();
        if self.shard.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return Ok(false);
        }
        self.retry_at = None;
        match self.deployment.shard(&self.stage, &format!("{}-{}", self.member, self.shards)) {
            Ok(shard) => {
                self.shards += 1;
                self.shard = Some(shard);
                Ok(true)
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(member = self.member, why, "a thread cannot join its stage yet; retrying");
                self.retry_at = Some(now.plus_ms(RETRY_MS));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Task for Lanes {
    fn name(&self) -> &str {
        &self.member
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let obeyed = self.obey()?;
        let is_watched = self.control.is_watched.load(Ordering::Acquire);
        let Some(shard) = &mut self.shard else {
            self.control.unfinished.store(0, Ordering::Release);
            self.control.drained.store(is_watched, Ordering::Release);
            if !obeyed {
                let now = self.clock.mono();
                std::thread::park_timeout(self.retry_at.map_or(wait, |at| wait.min(at.since(now))));
            }
            return Ok(PollOutcome { worked: obeyed, next: self.retry_at });
        };
        let mut polled = shard.poll(wait)?;
        polled.worked |= obeyed;
        if is_watched && !self.control.is_drained() {
            let (now, unfinished) = (self.clock.mono(), shard.unfinished().len());
            self.control.unfinished.store(unfinished, Ordering::Release);
            if polled.worked || unfinished > 0 {
                self.quiet = None;
            } else {
                let until = self.quiet.get_or_insert(now).plus_ms(QUIET_MS);
                self.control.drained.store(until <= now, Ordering::Release);
                polled.next = polled.next.into_iter().chain((until > now).then_some(until)).min();
            }
        }
        Ok(polled)
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        let Some(shard) = self.shard else { return Vec::new() };
        self.control.unfinished.store(shard.unfinished().len(), Ordering::Release);
        Box::new(shard).stop()
    }
}
