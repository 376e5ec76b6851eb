//! Records: key, headers and value.

use std::sync::Arc;

use bytes::Bytes;
use wire::{Envelope, EnvelopeRef, Kind, WallTime, WireError, header};

/// The headers of a record in one buffer, in order. Cheap to clone; a lookup scans the buffer.
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
    /// Encodes `envelope` as headers.
    pub fn of(envelope: &Envelope) -> Self {
        let mut buffer = Vec::with_capacity(HEADERS);
        write(&mut buffer, envelope);
        Self(buffer.into())
    }

    /// Iterates over names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw().map(|(name, value)| (std::str::from_utf8(name).expect("names are written from text"), value))
    }

    /// Returns the value of the first header called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.raw().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// True if the header `ce_type` names this kind.
    pub fn is(&self, kind: Kind) -> bool {
        self.get(header::TYPE) == Some(kind.as_str().as_bytes())
    }

    /// Parses the headers as an envelope.
    pub fn envelope(&self) -> Result<Envelope, WireError> {
        self.head().map(|head| head.owned())
    }

    /// Parses the headers as an envelope that borrows from them.
    pub fn head(&self) -> Result<EnvelopeRef<'_>, WireError> {
        EnvelopeRef::parse(self.raw())
    }

    fn raw(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }

    /// Wraps bytes that [`Headers::bytes`] returned.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns all headers as one buffer.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the size in memory, in bytes.
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

/// Typical upper limit for the size of the headers, in bytes.
const HEADERS: usize = 512;

fn write(buffer: &mut Vec<u8>, envelope: &Envelope) {
    envelope.write(|name, value| push(buffer, name, value.as_bytes()));
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
    /// The offset in the partition. Offsets increase, but not always by one.
    pub offset: u64,
    /// When the bus appended the record, on the bus's wall clock.
    pub time: WallTime,
    /// The key; `None` if the producer sent none.
    pub key: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// The value; empty for a deletion in a compacted topic.
    pub value: Bytes,
}

/// How the partition of a record is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By [`wire::routing::lane_of`] from the key; partition 0 without a key.
    ByKey,
    /// This partition.
    To(u32),
    /// This number modulo the number of partitions: for a topic whose number of partitions the
    /// writer does not know.
    Modulo(u64),
}

/// Returns the partition of [`Route::Modulo`].
pub(crate) fn modulo(number: u64, partitions: u32) -> u32 {
    u32::try_from(number % u64::from(partitions)).expect("it is less than the number of partitions")
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// The routing.
    pub route: Route,
    /// The key.
    pub key: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// The value. In a compacted topic an empty value deletes the key.
    pub value: Bytes,
}

impl Record {
    /// Returns the size of key, headers and value, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.value.len()
    }
}

/// Values up to this size, in bytes, are copied into one buffer with their headers.
const COPIED: usize = 4 << 10;

impl Outgoing {
    /// Creates a record in one buffer if its value is small: one allocation, one deallocation,
    /// contiguous reads.
    pub fn packed(topic: Arc<str>, route: Route, key: Option<&[u8]>, envelope: &Envelope, value: Bytes) -> Self {
        Self::pack(topic, route, key, value, HEADERS, |buffer| write(buffer, envelope))
    }

    /// Like [`Outgoing::packed`], with these headers.
    pub fn packed_with(topic: Arc<str>, route: Route, key: &str, headers: &[(&str, &str)], value: Bytes) -> Self {
        let size = headers.iter().map(|(name, value)| 2 * size_of::<u32>() + name.len() + value.len()).sum();
        Self::pack(topic, route, Some(key.as_bytes()), value, size, |buffer| {
            for (name, value) in headers {
                push(buffer, name, value.as_bytes());
            }
        })
    }

    /// `size` is the expected number of bytes that `write` appends.
    fn pack(
        topic: Arc<str>,
        route: Route,
        key: Option<&[u8]>,
        value: Bytes,
        size: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let short = Some(&value[..]).filter(|value| value.len() <= COPIED).unwrap_or_default();
        let ends_key = key.map_or(0, <[u8]>::len);
        let ends_value = ends_key + short.len();
        let mut buffer = Vec::with_capacity(ends_value + size);
        buffer.extend_from_slice(key.unwrap_or_default());
        buffer.extend_from_slice(short);
        write(&mut buffer);
        let whole = Bytes::from(buffer);
        Self {
            topic,
            route,
            key: key.map(|_| whole.slice(..ends_key)),
            headers: Headers(whole.slice(ends_value..)),
            value: if value.len() == short.len() { whole.slice(ends_key..ends_value) } else { value },
        }
    }

    /// Creates a record that is routed by its key, without headers.
    pub fn keyed(topic: &str, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            route: Route::ByKey,
            key: Some(key.into()),
            headers: Headers::default(),
            value: value.into(),
        }
    }

    /// Replaces the headers.
    #[must_use]
    pub fn with(mut self, envelope: &Envelope) -> Self {
        self.headers = Headers::of(envelope);
        self
    }

    /// Routes the record to this partition.
    #[must_use]
    pub fn to(mut self, partition: u32) -> Self {
        self.route = Route::To(partition);
        self
    }

    /// Returns the size of key, headers and value, in bytes. Size limits refer to it.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.headers.size() + self.value.len()
    }
}
