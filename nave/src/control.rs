//! The control topic: which topologies there are. One record for each name, the last one counts; one without a body says that
//! the topology is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Bus, BusError, Cleanup, Outgoing, Reader, Record, TopicSpec};
use wire::control::Submitted;
use wire::topics::Topics;

/// Maximum number of records per poll: a topology is a few kilobytes, and there are few.
const TAKEN: usize = 256;
/// How long a broker may send nothing before the control topic counts as unreadable: as long as one request to it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The topic as it is needed.
pub fn topic(topics: &Topics) -> TopicSpec {
    TopicSpec::log(&topics.control(), 1).cleaned(Cleanup::Compact)
}

/// Follows the control topic.
pub struct ControlReader {
    topic: String,
    reader: Box<dyn Reader>,
    known: BTreeMap<String, Submitted>,
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
        Ok(Self { topic, reader, known: BTreeMap::new() })
    }

    /// What was submitted, by name.
    pub fn known(&self) -> &BTreeMap<String, Submitted> {
        &self.known
    }

    /// Reads what came, waiting at most `wait` for it; true where something came.
    ///
    /// # Errors
    /// Where the bus does not answer.
    pub fn poll(&mut self, wait: Duration) -> Result<bool, BusError> {
        let mut records = Vec::new();
        let polled = self.reader.poll(TAKEN, wait, &mut records);
        for record in &records {
            take(&mut self.known, record);
        }
        match polled {
            Err(BusError::Gone { low, .. }) => self.go_on_at(low)?,
            polled => polled?,
        }
        Ok(!records.is_empty())
    }

    /// Reads everything that was submitted before this call.
    ///
    /// # Errors
    /// Where the bus does not answer in time.
    pub fn catch_up(&mut self, bus: &dyn Bus) -> Result<(), BusError> {
        let end = bus.bounds(&self.topic, 0)?.end;
        loop {
            let Self { topic, reader, known } = self;
            match bus::catch_up(&mut **reader, topic, [(0, end)], PATIENCE, |record| take(known, &record)) {
                Err(BusError::Gone { low, .. }) => self.go_on_at(low)?,
                read => return read,
            }
        }
    }

    /// Records were deleted before they were read: the last record of each name is still there.
    fn go_on_at(&mut self, low: u64) -> Result<(), BusError> {
        self.reader.assign(&self.topic, 0, low)
    }
}

fn take(known: &mut BTreeMap<String, Submitted>, record: &Record) {
    let key = record.key.as_deref().unwrap_or_default();
    let Ok(name) = std::str::from_utf8(key) else {
        tracing::warn!(offset = record.offset, "the key of a record of the control topic is not a name");
        return;
    };
    if record.value.is_empty() {
        known.remove(name);
        return;
    }
    match serde_json::from_slice::<Submitted>(&record.value) {
        Ok(submitted) if submitted.name == name => drop(known.insert(name.to_owned(), submitted)),
        Ok(other) => {
            tracing::warn!(key = name, name = other.name, "key and name of a record of the control topic differ");
        }
        Err(error) => tracing::warn!(key = name, %error, "a record of the control topic cannot be read"),
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
