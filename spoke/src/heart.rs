//! Heartbeats: a record at an interval, and a last one at a clean stop.

use bus::{BusError, MonoTime, Outgoing, Writer};
use wire::alive::Heartbeat;
use wire::{Envelope, Kind, WallTime};

/// Sends heartbeats whenever its task is polled, so a task that hangs does not look alive.
pub(crate) struct Heart {
    topic: String,
    instance: String,
    every_ms: u64,
    source: String,
    writer: Box<dyn Writer>,
    due: MonoTime,
    /// Heartbeats sent so far.
    count: u64,
    /// The last heartbeat failed, and a warning was logged.
    failing: bool,
}

impl Heart {
    /// Heartbeats of `instance`, one every `every_ms` milliseconds; the first is due at `now`.
    pub(crate) fn new(
        topic: String,
        instance: &str,
        every_ms: u64,
        source: &str,
        writer: Box<dyn Writer>,
        now: MonoTime,
    ) -> Self {
        let (instance, source) = (instance.into(), source.into());
        Self { topic, instance, every_ms, source, writer, due: now, count: 0, failing: false }
    }

    /// When the next heartbeat is due.
    pub(crate) fn due(&self) -> MonoTime {
        self.due
    }

    /// Sends a heartbeat if one is due and they are not `stopped`. A heartbeat that cannot be sent
    /// is lost: the next one says the same.
    pub(crate) fn beat(&mut self, now: MonoTime, wall: WallTime, stopped: bool) {
        if now < self.due {
            return;
        }
        self.due = now.plus_ms(self.every_ms);
        if stopped {
            return;
        }
        match self.send(wall, false) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(%error, "a heartbeat cannot be sent"),
            Err(error) => {
                self.failing = true;
                tracing::warn!(%error, topic = self.topic, "heartbeats cannot be sent; retrying");
            }
        }
    }

    /// Sends the last heartbeat: this instance stops.
    pub(crate) fn bye(mut self, wall: WallTime) -> Result<(), BusError> {
        self.send(wall, true)
    }

    fn send(&mut self, wall: WallTime, bye: bool) -> Result<(), BusError> {
        self.count += 1;
        let Self { topic, instance, every_ms, .. } = &*self;
        let mut envelope = Envelope::new(Kind::Heartbeat, format!("{instance}/{}", self.count), &self.source);
        envelope.time = Some(wall);
        let body = Heartbeat { instance: instance.clone(), every_ms: *every_ms, bye };
        let body = serde_json::to_vec(&body).expect("strings and numbers can be written as JSON");
        let beat = Outgoing::keyed(topic, instance.clone(), body).with(&envelope);
        self.writer.append(&[beat])
    }
}
