//! The log of a run. It is only recorded on demand.

use std::collections::VecDeque;
use std::fmt;
use wire::{Kind, header};

use bus::{Arrival, Headers, MonoTime, Outgoing};

/// Maximum number of lines kept, the newest ones. The cause of a failure is mostly within the last
/// hundred.
const LINES: usize = 1_000;
/// Maximum number of records shown per batch.
const MAX_SHOWN: usize = 8;

/// The newest lines of the log of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Story {
    lines: VecDeque<String>,
    /// Number of older lines that were dropped.
    dropped: usize,
    on: bool,
}

impl Story {
    /// Creates a log, which records nothing unless `on` is true.
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Adds a line if the log is on.
    pub(super) fn say(&mut self, at: MonoTime, actor: &str, what: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if self.lines.len() >= LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        let (ms, what) = (at.0 / 1_000_000, what());
        self.lines.push_back(format!("{:>6}.{:03} s  {actor:<14} {what}", ms / 1_000, ms % 1_000));
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} earlier lines omitted)", self.dropped)?;
        }
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Describes records by kind and id. A snapshot takes one line, for its head.
pub(super) fn records(records: &[Outgoing]) -> String {
    let shown = records.iter().filter(|record| !is_view(&record.headers) && !is_state(record));
    let lines: Vec<String> =
        shown.clone().take(MAX_SHOWN).map(|record| one(&record.headers, Some(&record.topic))).collect();
    let more = shown.count() - lines.len();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    if lines.is_empty() { "views".to_owned() } else { lines.join("; ") + &rest }
}

/// Describes the arrivals of one read; empty if there were only views.
pub(super) fn arrivals(arrivals: &[Arrival]) -> String {
    let line = |arrival: &Arrival| match arrival {
        Arrival::Assigned(partitions) => format!("is assigned {partitions:?}"),
        Arrival::Revoking(partitions) => format!("must release {partitions:?}"),
        Arrival::Lost(partitions) => format!("lost {partitions:?}"),
        Arrival::Record(record) => {
            format!("{}/{} {}", record.partition, record.offset, one(&record.headers, None))
        }
    };
    let lines: Vec<String> = arrivals.iter().take(MAX_SHOWN).map(line).collect();
    let more = arrivals.len() - lines.len();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    lines.join("; ") + &rest
}

fn is_view(headers: &Headers) -> bool {
    headers.is(Kind::View)
}

/// True for the records of a snapshot other than its head.
fn is_state(record: &Outgoing) -> bool {
    record.topic.ends_with(".snap") && record.headers.get("nave-covers").is_none()
}

fn one(headers: &Headers, topic: Option<&str>) -> String {
    let text = |name: &str| headers.get(name).map(String::from_utf8_lossy);
    if let (Some(covers), Some(topic)) = (text("nave-covers"), topic) {
        return format!("snapshot up to {covers} -> {topic}");
    }
    let kind = text(header::TYPE).unwrap_or("unreadable".into());
    let kind = kind.strip_prefix("nave.").unwrap_or(&kind).escape_debug().to_string();
    let id = text(header::CAUSATION_ID).filter(|_| ["reply", "refusal", "failure"].contains(&&*kind));
    let id = id.or(text(header::ID)).unwrap_or_default();
    let undoes = text(header::UNDOES)
        .map(|undoes| format!(" of {}", undoes.split(',').map(short).collect::<Vec<_>>().join(",")))
        .unwrap_or_default();
    let to = topic.map(|topic| format!(" -> {topic}")).unwrap_or_default();
    format!("{kind} {}{undoes}{to}", short(&id))
}

/// Shortens long operation ids.
fn short(id: &str) -> String {
    let cut = |part: &str| match part.char_indices().nth(8) {
        Some((end, _)) if part.len() == 36 => part[..end].to_owned(),
        _ => part.to_owned(),
    };
    id.split('/').map(cut).collect::<Vec<_>>().join("/").escape_debug().to_string()
}
