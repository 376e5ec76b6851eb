//! Reads the topics of every topology and passes the records on.

mod subscriptions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Backoff, Bus, BusError, Clock, Gap, MonoTime, PollOutcome, Record, Task};
use wire::control::Submitted;

use self::subscriptions::{Source, Subscriptions};
use crate::{Directory, Gateway};

/// Maximum number of records per poll.
const MAX_RECORDS: usize = 512;

/// Interval of checks for missing topics and for topologies whose time is over.
const LOOK_MS: u64 = 1_000;

/// Reads answers, views, heartbeats and submissions, and passes them on.
///
/// It reads all partitions of the topics, from offsets that are fixed before the first request is
/// accepted, so that no answer to a later request can be missed. Each northbound reads everything:
/// northbounds share no state.
pub struct Outlet {
    directory: Arc<Directory>,
    subscriptions: Subscriptions,
    clock: Arc<dyn Clock>,
    ready: Arc<AtomicBool>,
    pause: Backoff,
    /// The version of the directory that is followed.
    version: Option<u64>,
    /// Time of the next check for missing topics.
    look: MonoTime,
    records: Vec<Record>,
}

impl Outlet {
    /// Follows the topology of `gateway`. Fixes the start offsets: views from the beginning,
    /// answers from as far back as the gateway caches operations.
    ///
    /// # Errors
    /// If one of the topics does not exist, or the bus does not answer.
    pub fn open(bus: Arc<dyn Bus>, gateway: Arc<Gateway>) -> Result<Self, BusError> {
        let directory = Directory::of(gateway, bus.clock());
        let mut outlet = Self::new(bus, Arc::new(directory), false);
        outlet.version = Some(outlet.directory.version());
        let entries = outlet.directory.all();
        outlet.subscriptions.topologies(&entries)?;
        match outlet.subscriptions.missing() {
            [] => Ok(outlet),
            [topic, ..] => Err(BusError::NoTopic(topic.clone())),
        }
    }

    /// Follows the control topic, and every topology in it or in `directory`.
    ///
    /// # Errors
    /// If the bus does not answer. Missing topics are checked every second.
    pub fn follow(bus: Arc<dyn Bus>, directory: Arc<Directory>) -> Result<Self, BusError> {
        let mut outlet = Self::new(bus, directory, true);
        outlet.resubscribe()?;
        Ok(outlet)
    }

    fn new(bus: Arc<dyn Bus>, directory: Arc<Directory>, control: bool) -> Self {
        let clock = bus.clock();
        let look = clock.mono().plus_ms(LOOK_MS);
        let subscriptions = Subscriptions::new(bus, directory.topics().clone(), control);
        let (ready, pause, records) = (Arc::default(), Backoff::default(), Vec::new());
        Self { directory, subscriptions, clock, ready, pause, version: None, look, records }
    }

    /// True while answers are read: from the first successful poll without missing topics until a
    /// failure.
    pub fn ready(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// The directory that it fills.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    fn read(&mut self, wait: Duration) -> Result<(), BusError> {
        let now = self.clock.mono();
        if self.pause.holds(now) {
            let left = self.pause.until().map_or(wait, |until| wait.min(until.since(now)));
            std::thread::park_timeout(left);
            return Ok(());
        }
        // New topics are read at once, without waiting.
        let result = self.look(now).and_then(|looked| {
            self.subscriptions.poll(MAX_RECORDS, if looked { Duration::ZERO } else { wait }, &mut self.records)
        });
        if !matches!(result, Ok(None)) {
            self.ready.store(false, Ordering::Release);
        }
        match result {
            Ok(None) => self.pause.over(),
            Ok(Some(Gap { topic, partition, requested, low })) => {
                tracing::error!(
                    topic,
                    partition,
                    requested,
                    low,
                    "answers or views were deleted before they were read"
                );
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(why, "cannot read answers; retrying");
                self.pause.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Follows new topics, and checks missing ones from time to time. True if there may be new
    /// ones.
    fn look(&mut self, now: MonoTime) -> Result<bool, BusError> {
        let mut again = self.version != Some(self.directory.version());
        if self.look <= now {
            self.look = now.plus_ms(LOOK_MS);
            self.directory.drop_ended();
            again |= self.subscriptions.has_missing();
        }
        if again {
            self.resubscribe()?;
        }
        Ok(again)
    }

    fn resubscribe(&mut self) -> Result<(), BusError> {
        let version = self.directory.version();
        let (entries, services) = (self.directory.all(), self.directory.services());
        self.subscriptions.control()?;
        self.subscriptions.topologies(&entries)?;
        self.subscriptions.services(&services)?;
        self.directory.spokes().keep(|service| services.contains(service));
        self.version = Some(version);
        Ok(())
    }

    fn dispatch(&mut self) {
        // Resources first, then answers: a client that learns of a resource from an answer must
        // find it.
        self.records.sort_by_key(|record| self.subscriptions.is_egress(&record.topic));
        for record in self.records.drain(..) {
            match self.subscriptions.source(&record.topic) {
                Some(Source::Topology(gateway)) => gateway.on_record(&record),
                Some(Source::Heartbeats(service)) => {
                    let is_fresh = self.subscriptions.is_fresh(&record);
                    self.directory.spokes().on_record(service, &record, is_fresh, &*self.clock);
                }
                Some(Source::Control) => apply_submission(&self.directory, &record),
                // Its topology was dropped after the poll.
                None => {}
            }
        }
    }
}

/// Applies a record of the control topic.
fn apply_submission(directory: &Directory, record: &Record) {
    let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    if record.value.is_empty() {
        return directory.remove(&key);
    }
    let submitted = serde_json::from_slice::<Submitted>(&record.value).map_err(|error| error.to_string());
    let named = submitted.and_then(|submitted| {
        let named = submitted.name == key;
        named.then_some(submitted).ok_or_else(|| "its key differs from its name".to_owned())
    });
    if let Err(why) = named.and_then(|submitted| directory.take(submitted)) {
        tracing::error!(topology = &*key, why, "a submitted topology cannot be followed");
        crate::metrics::unreadable();
    }
}

impl Task for Outlet {
    fn name(&self) -> &'static str {
        "northbound outlet"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        self.read(wait)?;
        let worked = !self.records.is_empty();
        self.dispatch();
        if self.pause.until().is_none() && !self.ready.load(Ordering::Acquire) {
            // Topologies that were submitted before the start are followed before the outlet
            // reports ready.
            let is_new = self.version != Some(self.directory.version());
            let ready = !is_new && (self.subscriptions.has_read_control() || !worked);
            self.ready.store(ready, Ordering::Release);
        }
        Ok(PollOutcome { worked, next: self.pause.until() })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.ready.store(false, Ordering::Release);
        match self.directory.unanswered() {
            0 => Vec::new(),
            requests => vec![format!("northbound: {requests} requests are unanswered; their operations continue")],
        }
    }
}
