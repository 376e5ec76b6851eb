//! The log of a process: at most one line per second of each kind, with the number of lines that were suppressed.
//!
//! A kind is a place in the code, and where the line concerns one of several, which of them: a lane, a topic, a service. So a
//! thousand refused requests are one line a second, and two lanes that are held are two lines.

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

/// Maximum number of kinds that are told apart: some 200 places in the code, with the lanes and topics of a process. Kinds beyond
/// it share one limit.
const KINDS: usize = 4_096;

/// The fields that say which of several a line concerns. Their values are few; those of `operation` or `key` are not.
const WHICH: [&str; 8] = ["topology", "stage", "lane", "partition", "topic", "service", "spoke", "phase"];

/// Writes log lines to the standard error, those that `filter` lets pass.
pub(super) fn to_stderr(filter: &str, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log = {filter}"))?;
    let layer = lines::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let limiter = Limiter { clock, kinds: Mutex::default() };
    tracing_subscriber::registry().with(filter).with(layer.with_filter(limiter)).init();
    Ok(())
}

/// Lets one WARN or ERROR line of each kind pass in a second. Lines of lower levels are asked for by name and pass.
struct Limiter {
    clock: Arc<dyn Clock>,
    kinds: Mutex<Kinds>,
}

/// When a line of each kind was written last, and how many were suppressed since.
#[derive(Default)]
struct Kinds(HashMap<u64, (MonoTime, u64)>);

impl Kinds {
    /// Returns how many lines of this kind were suppressed before this one; none where it is suppressed as well.
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
                eprintln!("  ... {suppressed} more lines of the next kind were suppressed");
                true
            }
            None => {
                metrics::counter!(names::LOG_LINES_SUPPRESSED).increment(1);
                false
            }
        }
    }
}

/// The place in the code, and the values of [`WHICH`].
fn kind_of(event: &Event<'_>) -> u64 {
    let mut kind = Kind(DefaultHasher::new());
    event.metadata().callsite().hash(&mut kind.0);
    event.record(&mut kind);
    kind.0.finish()
}

struct Kind(DefaultHasher);

impl Visit for Kind {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if WHICH.contains(&field.name()) {
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
    fn one_line_of_a_kind_passes_in_a_second_and_says_how_many_did_not() {
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
