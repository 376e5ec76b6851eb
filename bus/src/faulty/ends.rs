//! Readers and writers that fare as their fates say.

use std::sync::Arc;
use std::time::Duration;

use super::fates::{AppendFate, Seen};
use super::{Carried, Process};
use crate::{BusError, Outgoing, Reader, Record, Writer};

pub(super) struct FaultyReader {
    pub(super) process: Arc<Process>,
    pub(super) reader: Box<dyn Reader>,
}

impl Reader for FaultyReader {
    fn assign(&mut self, topic: &str, partition: u32, from: u64) -> Result<(), BusError> {
        self.process.alive()?;
        self.reader.assign(topic, partition, from)
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        self.process.alive()?;
        self.process.fates.read()?;
        self.reader.poll(max, wait, out)
    }

    fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.reader.position(topic, partition)
    }
}

pub(super) struct FaultyWriter {
    pub(super) process: Arc<Process>,
    pub(super) writer: Box<dyn Writer>,
}

impl FaultyWriter {
    /// These reach the bus.
    fn pass(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let Carried { now, later } = self.process.carry(records);
        self.writer.append(&now)?;
        self.process.fates.seen(Seen::Appended(records));
        if !later.is_empty() {
            self.process.fates.later(later);
        }
        Ok(())
    }
}

impl Writer for FaultyWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        self.process.alive()?;
        let some = |most: usize| &records[..most.min(records.len())];
        match self.process.fates.append(records) {
            AppendFate::Passes => self.pass(records),
            AppendFate::Fails(error) => Err(error),
            AppendFate::Partly(most) => {
                self.pass(some(most))?;
                Err(BusError::Unavailable("no answer to an append".into()))
            }
            AppendFate::Dies(most) => {
                drop(self.pass(some(most)));
                Err(self.process.die())
            }
        }
    }
}
