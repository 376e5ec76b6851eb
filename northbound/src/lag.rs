//! Queries how far lanes are behind: silent ones, and those with a full inbox.
//!
//! A separate task, so that a partition that does not answer does not delay the answers of others.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, PollOutcome, Task};

use crate::Directory;

/// Interval between queries: two per stage, and one per silent lane.
const LOOK_MS: u64 = 1_000;

/// Queries how far lanes are behind.
pub struct Lag {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    directory: Arc<Directory>,
    look: MonoTime,
}

impl Lag {
    /// Queries the lanes of all topologies of `directory`.
    pub fn new(bus: Arc<dyn Bus>, directory: Arc<Directory>) -> Self {
        let clock = bus.clock();
        Self { bus, look: clock.mono(), clock, directory }
    }
}

impl Task for Lag {
    fn name(&self) -> &'static str {
        "northbound lag"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let now = self.clock.mono();
        if now < self.look {
            std::thread::park_timeout(wait.min(self.look.since(now)));
        } else {
            for entry in self.directory.all() {
                entry.gateway.query_inbox_ends(&*self.bus);
                entry.gateway.query_backlog(&*self.bus);
            }
            self.look = self.clock.mono().plus_ms(LOOK_MS);
        }
        Ok(PollOutcome { worked: false, next: Some(self.look) })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}
