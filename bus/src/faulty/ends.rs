//! Readers and writers with fault injection.

use std::sync::Arc;
use std::time::Duration;

use super::faults::{AppendFault, BusEvent};
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

    fn unassign(&mut self, topic: &str, partition: u32) -> Result<(), BusError> {
        self.process.alive()?;
        self.reader.unassign(topic, partition)
    }

    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Record>) -> Result<(), BusError> {
        self.process.alive()?;
        self.process.faults.read()?;
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
    /// Appends the records to the bus.
    fn pass(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let Carried { now, delayed } = self.process.transmit(records);
        self.writer.append(&now)?;
        self.process.faults.observe(BusEvent::Appended(records));
        if !delayed.is_empty() {
            self.process.faults.delay(delayed);
        }
        Ok(())
    }
}

impl Writer for FaultyWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        self.process.alive()?;
        let some = |limit: usize| &records[..limit.min(records.len())];
        match self.process.faults.append(records) {
            AppendFault::None => self.pass(records),
            AppendFault::Fails(error) => Err(error),
            AppendFault::Partial(limit) => {
                self.pass(some(limit))?;
                Err(BusError::Unavailable("no response to an append".into()))
            }
            AppendFault::Crash(limit) => {
                drop(self.pass(some(limit)));
                Err(self.process.crash())
            }
        }
    }
}
