//! Records of the inbox, as components see them.

use bus::Record;
use wire::{EnvelopeRef, RawHeaders};

/// A record of the inbox that cannot be handled.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// The readable headers.
    pub texts: RawHeaders<'a>,
    /// The record.
    pub record: &'a Record,
    /// The reason, which names the bad header.
    pub reason: &'a str,
}

/// A record of the inbox with its parsed headers.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The headers.
    pub envelope: &'a EnvelopeRef<'a>,
    /// The record.
    pub record: &'a Record,
}

impl Delivery<'_> {
    /// Parses the body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Unreadable> {
        let cut = |error: serde_json::Error| error.to_string().chars().take(Unreadable::MAX_CHARS).collect();
        serde_json::from_slice(&self.record.value).map_err(|error| Unreadable(cut(error)))
    }
}

/// The reason why a record or a saved state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

impl Unreadable {
    /// Maximum length in characters of a reason that quotes its input: a body may be one text of a
    /// megabyte.
    pub const MAX_CHARS: usize = 500;
}
