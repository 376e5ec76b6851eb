//! Heartbeats: a record every so often, and a last one at an orderly end.

use bus::{BusError, MonoTime, Outgoing, Writer};
use wire::alive::Heartbeat;
use wire::{Envelope, Kind, WallTime};

use super::options::Heartbeats;
use crate::answer::SOURCE;

/// Beats while its part is turned, so one that is stuck is not taken for alive.
pub(super) struct Heart {
    options: Heartbeats,
    writer: Box<dyn Writer>,
    due: MonoTime,
    beats: u64,
    /// The last one could not be told; said once.
    failing: bool,
}

impl Heart {
    /// The first beat is due at `now`.
    pub(super) fn new(options: Heartbeats, writer: Box<dyn Writer>, now: MonoTime) -> Self {
        Self { options, writer, due: now, beats: 0, failing: false }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> MonoTime {
        self.due
    }

    /// Beats where it is time; with `stopped` it lets the time pass. A beat that cannot be told is lost: the next one says
    /// the same.
    pub(super) fn beat(&mut self, now: MonoTime, wall: WallTime, stopped: bool) {
        if now < self.due {
            return;
        }
        self.due = now.plus_ms(self.options.every_ms);
        if stopped {
            return;
        }
        match self.tell(wall, false) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(%error, "a heartbeat cannot be told"),
            Err(error) => {
                self.failing = true;
                tracing::warn!(%error, topic = self.options.topic, "heartbeats cannot be told; trying again");
            }
        }
    }

    /// The last one.
    pub(super) fn bye(mut self, wall: WallTime) -> Result<(), BusError> {
        self.tell(wall, true)
    }

    fn tell(&mut self, wall: WallTime, bye: bool) -> Result<(), BusError> {
        let Heartbeats { topic, instance, every_ms } = &self.options;
        self.beats += 1;
        let mut envelope = Envelope::new(Kind::Heartbeat, format!("{instance}/{}", self.beats), SOURCE);
        envelope.time = Some(wall);
        let body = Heartbeat { instance: instance.clone(), every_ms: *every_ms, bye };
        let body = serde_json::to_vec(&body).expect("texts and numbers can be written as JSON");
        self.writer.append(&[Outgoing::keyed(topic, instance.clone(), body).with(&envelope)])
    }
}
