//! What travels: records with a key, headers and a value.

use std::sync::Arc;

use bytes::Bytes;
use wire::{Envelope, WallTime, WireError};

/// The headers of a record in one piece of memory, in order: cheap to pass on, read by walking.
///
/// ```
/// use bus::Headers;
/// let headers: Headers = [("ce_id", "7f3a"), ("ce_type", "nave.request")].into_iter().collect();
/// assert_eq!(headers.get("ce_type"), Some(&b"nave.request"[..]));
/// assert_eq!(headers.iter().count(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// The headers of `envelope`.
    pub fn of(envelope: &Envelope) -> Self {
        let mut buffer = Vec::with_capacity(512);
        envelope.write(|name, value| push(&mut buffer, name, value.as_bytes()));
        Self(buffer.into())
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let name = take(&mut rest)?;
            Some((std::str::from_utf8(name).expect("names are written from text"), take(&mut rest)?))
        })
    }

    /// The value of the first header called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Reads them as an envelope.
    pub fn envelope(&self) -> Result<Envelope, WireError> {
        Envelope::read(self.iter())
    }

    /// Headers that [`Headers::bytes`] gave.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// All of them, as one piece of memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Their size in memory, in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut buffer = Vec::new();
        for (name, value) in headers {
            push(&mut buffer, name.as_ref(), value.as_ref());
        }
        Self(buffer.into())
    }
}

fn push(buffer: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), value] {
        let length = u32::try_from(part.len()).expect("a header is shorter than 4 GiB");
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(part);
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = tail;
    Some(part)
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Its place in the partition. The next record's is larger, not always by one.
    pub offset: u64,
    /// When the bus appended it, on the bus's wall clock.
    pub time: WallTime,
    /// The key; none where the producer gave none.
    pub key: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// The value; empty for a deletion in a compacted topic.
    pub value: Bytes,
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The partition that [`wire::routing::lane_of`] gives for its key; 0 where it has no key.
    ByKey,
    /// This partition.
    To(u32),
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub route: Route,
    /// The key.
    pub key: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// The value. Empty with a key in a compacted topic: delete what the key has.
    pub value: Bytes,
}

impl Record {
    /// Key, headers and value together, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.value.len()
    }
}

impl Outgoing {
    /// A record with a key, routed by it, without headers.
    pub fn keyed(topic: &str, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            route: Route::ByKey,
            key: Some(key.into()),
            headers: Headers::default(),
            value: value.into(),
        }
    }

    /// The same record with these headers.
    #[must_use]
    pub fn with(mut self, envelope: &Envelope) -> Self {
        self.headers = Headers::of(envelope);
        self
    }

    /// The same record for this partition.
    #[must_use]
    pub fn to(mut self, partition: u32) -> Self {
        self.route = Route::To(partition);
        self
    }

    /// Key, headers and value together, in bytes: what limits speak of.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.value.len()
    }
}
