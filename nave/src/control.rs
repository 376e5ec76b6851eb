//! The control topic: which topologies there are. One record for each name, the last one counts; one without a body says that
//! the topology is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Bus, BusError, Cleanup, Outgoing, Reader, Record, TopicSpec};
use wire::control::Submitted;
use wire::topics::Topics;

/// So many records are read in one turn: a topology is a few kilobytes, and there are few.
const TAKEN: usize = 256;
/// Whoever has to know all that was submitted waits so long for it.
const PATIENCE_MS: u64 = 10_000;

/// The topic as it is needed.
pub fn topic(topics: &Topics) -> TopicSpec {
    TopicSpec::log(&topics.control(), 1).cleaned(Cleanup::Compact)
}

/// Follows the control topic.
pub struct ControlReader {
    topic: String,
    reader: Box<dyn Reader>,
    known: BTreeMap<String, Submitted>,
    /// The offset after the last record that was read.
    position: u64,
    records: Vec<Record>,
}

impl ControlReader {
    /// Begins at the beginning. Makes the topic where it is missing.
    ///
    /// # Errors
    /// Where the bus does not answer, or the topic is not as it should be.
    pub fn open(bus: &dyn Bus, topics: &Topics) -> Result<Self, BusError> {
        bus.ensure_topic(&topic(topics))?;
        let topic = topics.control();
        let low = bus.bounds(&topic, 0)?.low;
        let mut reader = bus.reader()?;
        reader.assign(&topic, 0, low)?;
        Ok(Self { topic, reader, known: BTreeMap::new(), position: low, records: Vec::new() })
    }

    /// What was submitted, by name.
    pub fn known(&self) -> &BTreeMap<String, Submitted> {
        &self.known
    }

    /// Reads on, waiting at most `wait`; true where something came.
    ///
    /// # Errors
    /// Where the bus does not answer.
    pub fn poll(&mut self, wait: Duration) -> Result<bool, BusError> {
        match self.reader.poll(TAKEN, wait, &mut self.records) {
            Ok(()) => {}
            // Compaction took what was not read: the last record of each name is still there.
            Err(BusError::Gone { low, .. }) => self.reader.assign(&self.topic, 0, low)?,
            Err(error) => return Err(error),
        }
        let came = !self.records.is_empty();
        for record in std::mem::take(&mut self.records) {
            self.position = record.offset + 1;
            self.take(&record);
        }
        Ok(came)
    }

    fn take(&mut self, record: &Record) {
        let key = record.key.as_deref().unwrap_or_default();
        let Ok(name) = std::str::from_utf8(key) else {
            tracing::warn!(offset = record.offset, "a record of the control topic has a key that is no name");
            return;
        };
        if record.value.is_empty() {
            self.known.remove(name);
            return;
        }
        match serde_json::from_slice::<Submitted>(&record.value) {
            Ok(submitted) if submitted.name == name => drop(self.known.insert(name.to_owned(), submitted)),
            Ok(other) => tracing::warn!(
                key = name,
                name = other.name,
                "a record of the control topic names another than its key"
            ),
            Err(error) => tracing::warn!(key = name, %error, "a record of the control topic cannot be read"),
        }
    }

    /// Reads all that there is now.
    ///
    /// # Errors
    /// Where the bus does not answer in time.
    pub fn catch_up(&mut self, bus: &dyn Bus) -> Result<(), BusError> {
        let (clock, end) = (bus.clock(), bus.bounds(&self.topic, 0)?.end);
        let until = clock.mono().plus_ms(PATIENCE_MS);
        // Only the last record of a name is sure to be kept, and the last of all is the last of its name.
        while self.position < end {
            let came = self.poll(Duration::from_millis(100))?;
            if !came && clock.mono() > until {
                return Err(BusError::Unavailable(format!("`{}` could not be read to its end", self.topic)));
            }
        }
        Ok(())
    }
}

/// Writes what is wanted of a topology.
///
/// # Errors
/// Where the bus does not take it.
pub fn write(bus: &dyn Bus, topics: &Topics, submitted: &Submitted) -> Result<(), BusError> {
    let body = serde_json::to_vec(submitted).expect("a submission is plain data");
    bus.writer("control")?.append(&[Outgoing::keyed(&topics.control(), submitted.name.clone(), body)])
}

/// Says that a topology is gone: its name is free.
///
/// # Errors
/// Where the bus does not take it.
pub fn delete(bus: &dyn Bus, topics: &Topics, name: &str) -> Result<(), BusError> {
    bus.writer("control")?.append(&[Outgoing::keyed(&topics.control(), name.to_owned(), Vec::new())])
}

/// How many members still run a stage of this topology, in all processes.
///
/// # Errors
/// Where the bus does not answer.
pub fn members(bus: &dyn Bus, topics: &Topics, submitted: &Submitted) -> Result<usize, BusError> {
    let of = |stage: &wire::control::SubmittedStage| bus.members(&topics.inbox(&submitted.name, &stage.name));
    submitted.stages.iter().map(of).sum()
}
