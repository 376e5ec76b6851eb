//! Reading a topic to its end.

use std::time::Duration;

use crate::{BusError, Reader, Record};

/// Maximum number of records per poll: at some 2 KB each, 2 MB.
const TAKEN: usize = 1_024;

/// Wait of one poll: the duration of an empty fetch on Kafka.
const WAIT: Duration = Duration::from_millis(100);

/// Polls `reader`, which must be assigned to these partitions of `topic`, until its position
/// reaches each end offset. Passes every record to `take`. Take the end offsets from
/// [`crate::Bus::bounds`] first.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use bus::{Bus, Cleanup, Embedded, EmbeddedOptions, ManualClock, Outgoing, TopicSpec};
///
/// let bus = Embedded::open(Arc::new(ManualClock::default()), EmbeddedOptions::default());
/// bus.ensure_topic(&TopicSpec::log("names", 1).with_cleanup(Cleanup::Compact))?;
/// bus.writer("doc")?.append(&[Outgoing::keyed("names", "bob", "here"), Outgoing::keyed("names", "bob", "")])?;
///
/// let (bounds, mut reader) = (bus.bounds("names", 0)?, bus.reader()?);
/// reader.assign("names", 0, bounds.low)?;
/// bus::catch_up(&mut *reader, "names", [(0, bounds.end)], Duration::from_secs(10), |_| ())?;
/// assert_eq!(reader.position("names", 0), Some(2));
/// # Ok::<(), bus::BusError>(())
/// ```
///
/// # Errors
/// [`BusError::Unavailable`] if no record arrives for `patience` before every end is reached. Else
/// the error of [`Reader::poll`], after the records that came with it.
pub fn catch_up(
    reader: &mut dyn Reader,
    topic: &str,
    ends: impl IntoIterator<Item = (u32, u64)>,
    patience: Duration,
    mut take: impl FnMut(Record),
) -> Result<(), BusError> {
    let mut ends: Vec<(u32, u64)> = ends.into_iter().collect();
    let (mut records, mut silent, mut wait) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    loop {
        ends.retain(|(partition, end)| reader.position(topic, *partition).is_none_or(|position| position < *end));
        let Some((partition, end)) = ends.first().copied() else { return Ok(()) };
        if silent >= patience {
            let position = reader.position(topic, partition).unwrap_or_default();
            let seconds = patience.as_secs_f64();
            return Err(BusError::Unavailable(format!(
                "`{topic}` {partition}: read up to offset {position} of {end}, then no record for {seconds:.1} s"
            )));
        }
        let polled = reader.poll(TAKEN, wait, &mut records);
        silent = if records.is_empty() { silent + wait } else { Duration::ZERO };
        records.drain(..).for_each(&mut take);
        polled?;
        wait = WAIT;
    }
}
