//! The way back: from the egress and view topics to those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusError, Clock, Part, Pause, Reader, Record, Turn};

use crate::Gateway;

/// So many records are read in one turn.
const TAKEN: usize = 512;

/// Reads answers and views, and gives them to the gateway.
///
/// It reads all partitions of both topics, from offsets that are fixed when it is opened: no answer to a request that is
/// handed in afterwards can be missed. Each northbound reads everything, so there is nothing to be shared between two of
/// them.
pub struct Outlet {
    gateway: Arc<Gateway>,
    reader: Box<dyn Reader>,
    clock: Arc<dyn Clock>,
    ready: Arc<AtomicBool>,
    pause: Pause,
    /// Partitions to be read from another offset on, since what they were read from is gone.
    behind: Vec<(String, u32, u64)>,
    records: Vec<Record>,
}

impl Outlet {
    /// Fixes where to read: views from the first there is, answers from so far back as the gateway can know operations.
    ///
    /// # Errors
    /// Where one of the topics does not exist, or the bus does not answer.
    pub fn open(bus: &dyn Bus, gateway: Arc<Gateway>) -> Result<Self, BusError> {
        let mut reader = bus.reader()?;
        let options = gateway.options();
        for view in options.more_views.iter().chain([&options.view]) {
            for partition in 0..partitions_of(bus, view)? {
                reader.assign(view, partition, bus.bounds(view, partition)?.low)?;
            }
        }
        let partitions = partitions_of(bus, &options.egress)?;
        let back = options.known_operations as u64 / u64::from(partitions.max(1));
        for partition in 0..partitions {
            let bounds = bus.bounds(&options.egress, partition)?;
            reader.assign(&options.egress, partition, bounds.low.max(bounds.end.saturating_sub(back)))?;
        }
        let ready = Arc::new(AtomicBool::new(false));
        let (pause, behind, records) = (Pause::default(), Vec::new(), Vec::new());
        Ok(Self { reader, clock: bus.clock(), ready, pause, behind, records, gateway })
    }

    /// True while answers are read: from the first turn that went well, until one that does not.
    pub fn ready(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    fn poll(&mut self, wait: Duration) -> Result<(), BusError> {
        let now = self.clock.mono();
        if self.pause.holds(now) {
            let left = self.pause.until().map_or(wait, |until| wait.min(until.since(now)));
            std::thread::park_timeout(left);
            return Ok(());
        }
        let result = self.catch_up().and_then(|()| self.reader.poll(TAKEN, wait, &mut self.records));
        self.ready.store(result.is_ok(), Ordering::Release);
        match result {
            Ok(()) => self.pause.over(),
            Err(BusError::Gone { topic, partition, asked, low }) => {
                tracing::error!(topic, partition, asked, low, "answers or views were deleted before they were read");
                self.behind.push((topic, partition, low));
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(why, "cannot read answers; trying again");
                self.pause.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes on where records are left, in partitions whose next ones were deleted.
    fn catch_up(&mut self) -> Result<(), BusError> {
        while let Some((topic, partition, from)) = self.behind.last() {
            let assigned = self.reader.assign(topic, *partition, *from);
            // Where more was deleted meanwhile, `Gone` says from where to read now, and this entry has had its day.
            if matches!(assigned, Ok(()) | Err(BusError::Gone { .. })) {
                self.behind.pop();
            }
            assigned?;
        }
        Ok(())
    }
}

/// How many partitions `topic` has.
fn partitions_of(bus: &dyn Bus, topic: &str) -> Result<u32, BusError> {
    Ok(bus.topic(topic)?.ok_or_else(|| BusError::NoTopic(topic.into()))?.partitions)
}

impl Part for Outlet {
    fn name(&self) -> &'static str {
        "northbound outlet"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        self.poll(wait)?;
        let worked = !self.records.is_empty();
        for record in self.records.drain(..) {
            self.gateway.on_record(&record);
        }
        Ok(Turn { worked, next: self.pause.until() })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.ready.store(false, Ordering::Release);
        match self.gateway.unanswered() {
            0 => Vec::new(),
            requests => vec![format!("northbound: {requests} requests are unanswered; their operations go on")],
        }
    }
}
