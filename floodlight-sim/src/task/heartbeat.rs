//! Heartbeats: a record at an interval, and a last one at an orderly stop.

use bus::{BusError, MonoTime, Outgoing, Writer};
use wire::alive::Heartbeat;
use wire::{Envelope, Kind, WallTime};

use super::options::Heartbeats;
use crate::answer::SOURCE;

/// Sends heartbeats from the poll of the task, so that a stuck task sends none.
pub(super) struct HeartbeatTimer {
    options: Heartbeats,
    writer: Box<dyn Writer>,
    due: MonoTime,
    beats: u64,
    /// The last heartbeat failed. The log reports only the first failure in a row.
    failing: bool,
}

impl HeartbeatTimer {
    /// Creates the timer. The first heartbeat is due at `now`.
    pub(super) fn new(options: Heartbeats, writer: Box<dyn Writer>, now: MonoTime) -> Self {
        Self { options, writer, due: now, beats: 0, failing: false }
    }

    /// The time of the next heartbeat.
    pub(super) fn due(&self) -> MonoTime {
        self.due
    }

    /// Sends a heartbeat if it is due and not `stopped`. A failed heartbeat is not repeated: the
    /// next one replaces it.
    pub(super) fn beat(&mut self, now: MonoTime, wall: WallTime, stopped: bool) {
        if now < self.due {
            return;
        }
        self.due = now.plus_ms(self.options.every_ms);
        if stopped {
            return;
        }
        match self.send(wall, false) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(%error, "cannot send a heartbeat"),
            Err(error) => {
                self.failing = true;
                tracing::warn!(%error, topic = self.options.topic, "cannot send heartbeats; retrying");
            }
        }
    }

    /// Sends the last heartbeat.
    pub(super) fn bye(mut self, wall: WallTime) -> Result<(), BusError> {
        self.send(wall, true)
    }

    fn send(&mut self, wall: WallTime, bye: bool) -> Result<(), BusError> {
        let Heartbeats { topic, instance, every_ms } = &self.options;
        self.beats += 1;
        let mut envelope = Envelope::new(Kind::Heartbeat, format!("{instance}/{}", self.beats), SOURCE);
        envelope.time = Some(wall);
        let body = Heartbeat { instance: instance.clone(), every_ms: *every_ms, bye };
        let body = serde_json::to_vec(&body).expect("texts and numbers can be written as JSON");
        self.writer.append(&[Outgoing::keyed(topic, instance.clone(), body).with(&envelope)])
    }
}
