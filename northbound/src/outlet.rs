//! The way back: from the topics of every topology to those who wait.

mod follow;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusError, Clock, MonoTime, Part, Pause, Record, Turn};
use wire::control::Submitted;

use self::follow::{Followed, Source};
use crate::{Directory, Gateway};

/// So many records are read in one turn.
const TAKEN: usize = 512;

/// So often is looked for topics that were not there, and for topologies whose time is over.
const LOOK_MS: u64 = 1_000;

/// Reads answers, views, heartbeats and what was submitted, and gives them to whom they concern.
///
/// It reads all partitions of the topics, from offsets that are fixed before the first request is taken: no answer to a
/// request that is handed in afterwards can be missed. Each northbound reads everything, so there is nothing to be shared
/// between two of them.
pub struct Outlet {
    directory: Arc<Directory>,
    followed: Followed,
    clock: Arc<dyn Clock>,
    ready: Arc<AtomicBool>,
    pause: Pause,
    /// The directory's version that is followed.
    version: Option<u64>,
    /// When to look again for what was not there.
    look: MonoTime,
    records: Vec<Record>,
}

impl Outlet {
    /// Follows the one topology of `gateway`. Fixes where to read: views from the first there is, answers from so far back as
    /// the gateway can know operations.
    ///
    /// # Errors
    /// Where one of the topics does not exist, or the bus does not answer.
    pub fn open(bus: Arc<dyn Bus>, gateway: Arc<Gateway>) -> Result<Self, BusError> {
        let directory = Directory::of(gateway, bus.clock());
        let mut outlet = Self::new(bus, Arc::new(directory), false)?;
        outlet.version = Some(outlet.directory.version());
        let entries = outlet.directory.all();
        outlet.followed.topologies(&entries)?;
        match outlet.followed.missing() {
            [] => Ok(outlet),
            [topic, ..] => Err(BusError::NoTopic(topic.clone())),
        }
    }

    /// Follows the control topic, and every topology that stands there or that `directory` knows already.
    ///
    /// # Errors
    /// Where the bus does not answer. What is not there is looked for every second.
    pub fn follow(bus: Arc<dyn Bus>, directory: Arc<Directory>) -> Result<Self, BusError> {
        let mut outlet = Self::new(bus, directory, true)?;
        outlet.look_again()?;
        Ok(outlet)
    }

    fn new(bus: Arc<dyn Bus>, directory: Arc<Directory>, control: bool) -> Result<Self, BusError> {
        let clock = bus.clock();
        let look = clock.mono().plus_ms(LOOK_MS);
        let followed = Followed::new(bus, directory.topics().clone(), control)?;
        let (ready, pause, records) = (Arc::default(), Pause::default(), Vec::new());
        Ok(Self { directory, followed, clock, ready, pause, version: None, look, records })
    }

    /// True while answers are read: from the first turn that went well and found nothing missing, until one that does not.
    pub fn ready(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }

    /// The directory that it keeps.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    fn poll(&mut self, wait: Duration) -> Result<(), BusError> {
        let now = self.clock.mono();
        if self.pause.holds(now) {
            let left = self.pause.until().map_or(wait, |until| wait.min(until.since(now)));
            std::thread::park_timeout(left);
            return Ok(());
        }
        // What was followed just now is read at once, so that nobody waits for it.
        let result = self.look(now).and_then(|looked| {
            self.followed.poll(TAKEN, if looked { Duration::ZERO } else { wait }, &mut self.records)
        });
        if result.is_err() {
            self.ready.store(false, Ordering::Release);
        }
        match result {
            Ok(()) => self.pause.over(),
            Err(BusError::Gone { topic, partition, asked, low }) => {
                tracing::error!(topic, partition, asked, low, "answers or views were deleted before they were read");
                self.followed.skip(topic, partition, low);
            }
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(why, "cannot read answers; trying again");
                self.pause.failed(now);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Follows what is new, and looks from time to time for what was not there. True where something may be new.
    fn look(&mut self, now: MonoTime) -> Result<bool, BusError> {
        let mut again = self.version != Some(self.directory.version());
        if self.look <= now {
            self.look = now.plus_ms(LOOK_MS);
            self.directory.drop_ended();
            again |= self.followed.lacks_something();
        }
        if again {
            self.look_again()?;
        }
        Ok(again)
    }

    fn look_again(&mut self) -> Result<(), BusError> {
        let version = self.directory.version();
        let (entries, services) = (self.directory.all(), self.directory.services());
        self.followed.control()?;
        self.followed.topologies(&entries)?;
        self.followed.services(&services)?;
        self.directory.spokes().keep(|service| services.contains(service));
        self.version = Some(version);
        Ok(())
    }

    fn give(&mut self) {
        // What is shown first, then answers: who is told that a thing is there finds it.
        self.records.sort_by_key(|record| self.followed.is_egress(&record.topic));
        for record in self.records.drain(..) {
            match self.followed.source(&record.topic) {
                Some(Source::Topology(gateway)) => gateway.on_record(&record),
                Some(Source::Heartbeats(service)) => {
                    let is_fresh = self.followed.is_fresh(&record);
                    self.directory.spokes().on_record(service, &record, is_fresh, &*self.clock);
                }
                Some(Source::Control) => take_control(&self.directory, &record),
                // Its topology was dropped between poll and here.
                None => {}
            }
        }
    }
}

/// Takes a record of the control topic.
fn take_control(directory: &Directory, record: &Record) {
    let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    if record.value.is_empty() {
        return directory.remove(&key);
    }
    let submitted = serde_json::from_slice::<Submitted>(&record.value).map_err(|error| error.to_string());
    let named = submitted.and_then(|submitted| {
        let named = submitted.name == key;
        named.then_some(submitted).ok_or_else(|| "its key is not its name".to_owned())
    });
    if let Err(why) = named.and_then(|submitted| directory.take(submitted)) {
        tracing::error!(topology = &*key, why, "a submitted topology cannot be followed");
        crate::metrics::unreadable();
    }
}

impl Part for Outlet {
    fn name(&self) -> &'static str {
        "northbound outlet"
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        self.poll(wait)?;
        let worked = !self.records.is_empty();
        self.give();
        if self.pause.until().is_none() && !self.ready.load(Ordering::Acquire) {
            // What was submitted before the start is followed before anybody is told that answers are.
            let is_new = self.version != Some(self.directory.version());
            let ready = !is_new && (self.followed.knows_control() || !worked);
            self.ready.store(ready, Ordering::Release);
        }
        Ok(Turn { worked, next: self.pause.until() })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.ready.store(false, Ordering::Release);
        match self.directory.unanswered() {
            0 => Vec::new(),
            requests => vec![format!("northbound: {requests} requests are unanswered; their operations go on")],
        }
    }
}
