//! What happened, in lines: written only where somebody will read it.

use std::collections::VecDeque;
use std::fmt;

use bus::{Arrival, Headers, MonoTime, Outgoing};

/// So many lines are kept, the newest: what broke is mostly seen within the last hundred.
pub const LINES: usize = 1_000;
/// So many records of one batch are told.
const SHOWN: usize = 8;

/// The newest lines of what happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Story {
    lines: VecDeque<String>,
    /// So many older ones are not kept.
    gone: usize,
    on: bool,
}

impl Story {
    /// A story that is told, or one of which nothing is kept.
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Adds a line, if anybody wants to read it.
    pub(super) fn say(&mut self, at: MonoTime, who: &str, what: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if self.lines.len() >= LINES {
            self.lines.pop_front();
            self.gone += 1;
        }
        let (ms, what) = (at.0 / 1_000_000, what());
        self.lines.push_back(format!("{:>6}.{:03} s  {who:<14} {what}", ms / 1_000, ms % 1_000));
    }

    /// Its lines, the oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gone > 0 {
            writeln!(f, "({} lines before these are not kept)", self.gone)?;
        }
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Records in words: what kind, and which. Of a snapshot there is one line, of its head.
pub(super) fn records(records: &[Outgoing]) -> String {
    let told = records.iter().filter(|record| !is_view(&record.headers) && !is_state(record));
    let lines: Vec<String> = told.clone().take(SHOWN).map(|record| one(&record.headers, Some(&record.topic))).collect();
    let more = told.count() - lines.len();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    if lines.is_empty() { "views".to_owned() } else { lines.join("; ") + &rest }
}

/// What a poll brought, in words; none where it brought views alone.
pub(super) fn arrivals(arrivals: &[Arrival]) -> String {
    let line = |arrival: &Arrival| match arrival {
        Arrival::Assigned(partitions) => format!("is given {partitions:?}"),
        Arrival::Revoking(partitions) => format!("is asked to give {partitions:?} back"),
        Arrival::Lost(partitions) => format!("has lost {partitions:?}"),
        Arrival::Record(record) => {
            format!("{}/{} {}", record.partition, record.offset, one(&record.headers, None))
        }
    };
    let lines: Vec<String> = arrivals.iter().take(SHOWN).map(line).collect();
    let more = arrivals.len() - lines.len();
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    lines.join("; ") + &rest
}

fn is_view(headers: &Headers) -> bool {
    headers.get("ce_type") == Some(b"nave.view")
}

/// Part of a snapshot, which is told by its head.
fn is_state(record: &Outgoing) -> bool {
    record.topic.ends_with(".snap") && record.headers.get("nave-covers").is_none()
}

fn one(headers: &Headers, topic: Option<&str>) -> String {
    let text = |name: &str| headers.get(name).map(String::from_utf8_lossy);
    if let (Some(covers), Some(topic)) = (text("nave-covers"), topic) {
        return format!("snapshot up to {covers} -> {topic}");
    }
    let kind = text("ce_type").unwrap_or("something unreadable".into());
    let kind = kind.strip_prefix("nave.").unwrap_or(&kind).escape_debug().to_string();
    let id = text("ce_causationid").filter(|_| ["reply", "refusal", "failure"].contains(&&*kind));
    let id = id.or(text("ce_id")).unwrap_or_default();
    let undoes = text("ce_undoes")
        .map(|undoes| format!(" of {}", undoes.split(',').map(short).collect::<Vec<_>>().join(",")))
        .unwrap_or_default();
    let to = topic.map(|topic| format!(" -> {topic}")).unwrap_or_default();
    format!("{kind} {}{undoes}{to}", short(&id))
}

/// A long operation id, shortened.
fn short(id: &str) -> String {
    let cut = |part: &str| match part.char_indices().nth(8) {
        Some((end, _)) if part.len() == 36 => part[..end].to_owned(),
        _ => part.to_owned(),
    };
    id.split('/').map(cut).collect::<Vec<_>>().join("/").escape_debug().to_string()
}
