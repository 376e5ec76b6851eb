//! The log of a process: at most one line per second of each kind, with the number of suppressed
//! lines.
//!
//! A kind is a place in the code, plus the lane, topic, service or similar that the line names. So
//! a thousand refused requests give one line per second, and two held lanes give two lines.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bus::{Clock, MonoTime};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt as lines};

use crate::names;

/// Interval between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of distinct kinds: some 200 places in the code, times the lanes and topics of a
/// process. Further kinds share one limit.
const KINDS: usize = 4_096;

/// The fields that distinguish kinds. They have few values, unlike `operation` or `key`.
const KIND_FIELDS: [&str; 8] = ["topology", "stage", "lane", "partition", "topic", "service", "spoke", "phase"];

/// Writes log lines that pass `filter` to the standard error.
pub(super) fn to_stderr(filter: &str, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log = {filter}"))?;
    let layer = lines::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let limiter = Limiter { clock, kinds: Mutex::default() };
    tracing_subscriber::registry().with(filter).with(layer.with_filter(limiter)).init();
    Ok(())
}

/// Passes one WARN or ERROR line of each kind per second. Lower levels pass: the user enabled them.
struct Limiter {
    clock: Arc<dyn Clock>,
    kinds: Mutex<Kinds>,
}

/// Time of the last line of each kind, and the number of lines suppressed since.
#[derive(Default)]
struct Kinds(HashMap<u64, (MonoTime, u64)>);

impl Kinds {
    /// Returns how many lines of this kind were suppressed before this one; none if this one is
    /// suppressed.
    fn admit(&mut self, kind: u64, now: MonoTime) -> Option<u64> {
        let kind = if self.0.len() < KINDS || self.0.contains_key(&kind) { kind } else { 0 };
        match self.0.get_mut(&kind) {
            Some((last, suppressed)) if now.since(*last) < INTERVAL => {
                *suppressed += 1;
                None
            }
            Some((last, suppressed)) => {
                *last = now;
                Some(std::mem::take(suppressed))
            }
            None => {
                self.0.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

impl<S: Subscriber> Filter<S> for Limiter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let admitted = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.admit(kind_of(event), self.clock.mono())
        };
        match admitted {
            Some(0) => true,
            Some(suppressed) => {
                eprintln!("  ... {suppressed} more lines like the next one were suppressed");
                true
            }
            None => {
                metrics::counter!(names::LOG_LINES_SUPPRESSED).increment(1);
                false
            }
        }
    }
}

/// Returns the hash of the place in the code and the values of [`KIND_FIELDS`].
fn kind_of(event: &Event<'_>) -> u64 {
    let mut kind = Kind(DefaultHasher::new());
    event.metadata().callsite().hash(&mut kind.0);
    event.record(&mut kind);
    kind.0.finish()
}

struct Kind(DefaultHasher);

impl Visit for Kind {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if KIND_FIELDS.contains(&field.name()) {
            (field.name(), format!("{value:?}")).hash(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::default().plus_ms(ms)
    }

    #[test]
    fn one_line_of_a_kind_passes_per_second_with_the_number_suppressed() {
        let mut kinds = Kinds::default();
        assert_eq!(kinds.admit(1, at(0)), Some(0));
        assert_eq!((0..736).filter_map(|_| kinds.admit(1, at(999))).count(), 0);
        assert_eq!(kinds.admit(2, at(999)), Some(0), "another kind");
        assert_eq!(kinds.admit(1, at(1_000)), Some(736));
        assert_eq!(kinds.admit(1, at(1_001)), None);
        assert_eq!(kinds.admit(1, at(2_500)), Some(1));
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut kinds = Kinds::default();
        let admitted = (1..=10_000).filter(|kind| kinds.admit(*kind, at(0)).is_some()).count();
        assert_eq!((admitted, kinds.0.len()), (KINDS + 1, KINDS + 1));
        assert_eq!(kinds.admit(1, at(1_000)), Some(0));
    }
}
