//! Headers of a record: `CloudEvents` 1.0 in the Kafka binary mode.
//!
//! `ce_correlationid`, `ce_causationid` and `ce_expirytime` are published extensions.
//! `ce_operation`, `ce_idempotencykey`, `ce_callid`, `ce_attempt`, `ce_undoes`, `ce_replyto` and
//! `ce_replypartition` are extensions of Nave.
//!
//! `ce_correlationid` belongs to the client: answers and calls pass it on, and no decision depends
//! on it. Two requests may share it.

use std::fmt;
use std::str::FromStr;

use crate::header;
use crate::ids::{RequestName, push_number};
use crate::{CallId, OperationId, WallTime, WireError};

/// The type of a record: `ce_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A client requests an operation.
    Request,
    /// A worker asks a spoke to do something.
    Call,
    /// A worker asks a spoke to undo something: the calls in `ce_undoes`.
    Undo,
    /// A spoke did what the call requested.
    Reply,
    /// A spoke refuses the call permanently.
    Refusal,
    /// A spoke failed for now: the worker tries again.
    Failure,
    /// A command to an operation from outside: see [`crate::command`].
    Command,
    /// A deadline passed.
    Timeout,
    /// A heartbeat of an instance of a spoke: see [`crate::alive`].
    Heartbeat,
    /// A service went up or down: see [`crate::alive`].
    Liveness,
    /// The answer of an operation or to a command.
    Answer,
    /// The state of an operation, a lane or a resource.
    View,
    /// A process takes over a lane.
    Owner,
    /// A tuple of a stream that changes lanes.
    Tuple,
    /// A record in the dead-letter topic.
    Dead,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Kind; 15] = [
        Kind::Request,
        Kind::Call,
        Kind::Undo,
        Kind::Reply,
        Kind::Refusal,
        Kind::Failure,
        Kind::Command,
        Kind::Timeout,
        Kind::Heartbeat,
        Kind::Liveness,
        Kind::Answer,
        Kind::View,
        Kind::Owner,
        Kind::Tuple,
        Kind::Dead,
    ];

    /// The value of `ce_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Request => "nave.request",
            Kind::Call => "nave.call",
            Kind::Undo => "nave.undo",
            Kind::Reply => "nave.reply",
            Kind::Refusal => "nave.refusal",
            Kind::Failure => "nave.failure",
            Kind::Command => "nave.command",
            Kind::Timeout => "nave.timeout",
            Kind::Heartbeat => "nave.heartbeat",
            Kind::Liveness => "nave.liveness",
            Kind::Answer => "nave.answer",
            Kind::View => "nave.view",
            Kind::Owner => "nave.owner",
            Kind::Tuple => "nave.tuple",
            Kind::Dead => "nave.dead",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| WireError::new(header::TYPE, text, "a Nave type such as nave.request"))
    }
}

/// Headers of a record, with owned texts, or as [`EnvelopeRef`] with borrowed ones.
///
/// A shard or a program outside sets `time` and `expires` when it sends, never lane code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<T = String> {
    /// `ce_type`.
    pub kind: Kind,
    /// `ce_id`: the operation, or call id + service + attempt. Unique for each message together
    /// with `ce_source`; copies keep it.
    pub id: T,
    /// `ce_source`: the sender, such as `/nave/flows/hub/3`.
    pub source: T,
    /// `ce_subject`: the resource, such as a switch.
    pub subject: Option<T>,
    /// `ce_time`: the time of sending.
    pub time: Option<WallTime>,
    /// `ce_operation`: the operation. Not set in a request: see [`Envelope::requested_operation`].
    pub operation: Option<OperationId>,
    /// `ce_idempotencykey`: the client's name for a request, the same in each repeat.
    pub idempotency_key: Option<T>,
    /// `ce_correlationid`: opaque.
    pub correlation: Option<T>,
    /// `ce_causationid`: the `ce_id` of the record that this one answers.
    pub causation: Option<T>,
    /// `ce_expirytime`: the record is useless after this time.
    pub expires: Option<WallTime>,
    /// `ce_callid`.
    pub call: Option<CallId>,
    /// `ce_attempt`, from 1.
    pub attempt: Option<u32>,
    /// `ce_undoes`: the calls that an undo undoes.
    pub undoes: Vec<CallId>,
    /// `ce_replyto`: the topic for the answer.
    pub reply_to: Option<T>,
    /// `ce_replypartition`: its partition.
    pub reply_partition: Option<u32>,
    /// `traceparent` of W3C Trace Context; passed on unread.
    pub trace: Option<T>,
}

/// Borrowed headers of a record. Reading them copies only ids: a lane reads them for every record.
pub type EnvelopeRef<'a> = Envelope<&'a str>;

impl Envelope {
    /// An envelope with only the headers that `CloudEvents` requires.
    pub fn new(kind: Kind, id: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            source: source.into(),
            subject: None,
            time: None,
            operation: None,
            idempotency_key: None,
            correlation: None,
            causation: None,
            expires: None,
            call: None,
            attempt: None,
            undoes: Vec::new(),
            reply_to: None,
            reply_partition: None,
            trace: None,
        }
    }

    /// The envelope of an answer of `kind` to this request.
    ///
    /// The id of the answer is derived from the request's id, so a repeated answer has the same id.
    #[must_use]
    pub fn answered(&self, kind: Kind, source: &str) -> Self {
        self.clone().into_answer(kind, source)
    }

    /// The same as [`Envelope::answered`], but consumes the request.
    #[must_use]
    pub fn into_answer(self, kind: Kind, source: &str) -> Self {
        let mut answer = Self::new(kind, [&*self.id, ":", kind.as_str()].concat(), source);
        answer.subject = self.subject;
        answer.operation = self.operation;
        answer.correlation = self.correlation;
        answer.causation = Some(self.id);
        answer.call = self.call;
        answer.attempt = self.attempt;
        answer.trace = self.trace;
        answer
    }

    /// Reads headers. Ignores unknown ones; of several with one name the first counts.
    ///
    /// # Errors
    /// Names the first header that is missing or invalid.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, WireError> {
        EnvelopeRef::parse(headers).map(|head| head.owned())
    }
}

impl<'a> EnvelopeRef<'a> {
    /// Reads headers like [`Envelope::read`]. Names that are not UTF-8 are ignored.
    ///
    /// # Errors
    /// Names the first header that is missing or invalid.
    pub fn parse<N: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, &'a [u8])>) -> Result<Self, WireError> {
        let mut found = Found::default();
        for (name, value) in headers {
            found.keep(name.as_ref(), value)?;
        }
        found.finish()
    }

    /// A copy with owned texts, which outlives the record.
    #[must_use]
    pub fn owned(&self) -> Envelope {
        Envelope {
            kind: self.kind,
            id: self.id.to_owned(),
            source: self.source.to_owned(),
            subject: self.subject.map(str::to_owned),
            time: self.time,
            operation: self.operation.clone(),
            idempotency_key: self.idempotency_key.map(str::to_owned),
            correlation: self.correlation.map(str::to_owned),
            causation: self.causation.map(str::to_owned),
            expires: self.expires,
            call: self.call.clone(),
            attempt: self.attempt,
            undoes: self.undoes.clone(),
            reply_to: self.reply_to.map(str::to_owned),
            reply_partition: self.reply_partition,
            trace: self.trace.map(str::to_owned),
        }
    }
}

impl<T: AsRef<str>> Envelope<T> {
    /// The operation of this request about `key`: the same for each repeat, another one for each
    /// other request.
    ///
    /// The key is part of it, so two requests with different keys never share an operation, even if
    /// all their headers are equal.
    pub fn requested_operation(&self, topology: &str, key: &str) -> OperationId {
        let event = RequestName::Event { source: self.source.as_ref(), id: self.id.as_ref() };
        let given = self.idempotency_key.as_ref().map(|name| RequestName::IdempotencyKey(name.as_ref()));
        OperationId::requested(topology, key, given.unwrap_or(event))
    }

    /// Passes the name and value of each header to `put`, in a fixed order.
    pub fn write(&self, mut put: impl FnMut(&str, &str)) {
        put(header::SPEC_VERSION, "1.0");
        put(header::ID, self.id.as_ref());
        put(header::SOURCE, self.source.as_ref());
        put(header::TYPE, self.kind.as_str());
        // One buffer for all values that have to be formatted.
        let mut made = String::with_capacity(128);
        if let Some(subject) = &self.subject {
            put(header::SUBJECT, subject.as_ref());
        }
        if let Some(time) = self.time {
            time.push_to(&mut made);
            put(header::TIME, &made);
        }
        if let Some(operation) = &self.operation {
            put(header::OPERATION, operation.as_str());
        }
        if let Some(key) = &self.idempotency_key {
            put(header::IDEMPOTENCY_KEY, key.as_ref());
        }
        if let Some(correlation) = &self.correlation {
            put(header::CORRELATION_ID, correlation.as_ref());
        }
        if let Some(causation) = &self.causation {
            put(header::CAUSATION_ID, causation.as_ref());
        }
        if let Some(expires) = self.expires {
            made.clear();
            expires.push_to(&mut made);
            put(header::EXPIRY_TIME, &made);
        }
        if let Some(call) = &self.call {
            made.clear();
            call.push_to(&mut made);
            put(header::CALL_ID, &made);
        }
        if let Some(attempt) = self.attempt {
            made.clear();
            push_number(&mut made, attempt);
            put(header::ATTEMPT, &made);
        }
        if let Some((first, more)) = self.undoes.split_first() {
            made.clear();
            first.push_to(&mut made);
            for call in more {
                made.push(',');
                call.push_to(&mut made);
            }
            put(header::UNDOES, &made);
        }
        if let Some(topic) = &self.reply_to {
            put(header::REPLY_TO, topic.as_ref());
        }
        if let Some(partition) = self.reply_partition {
            made.clear();
            push_number(&mut made, partition);
            put(header::REPLY_PARTITION, &made);
        }
        if let Some(trace) = &self.trace {
            put("traceparent", trace.as_ref());
        }
        put("content-type", "application/json");
    }
}

/// Headers of a record that [`EnvelopeRef::parse`] refuses: each one that is UTF-8 by itself.
/// Enough to answer the sender.
#[derive(Debug)]
pub struct RawHeaders<'a>(Found<'a>);

impl<'a> RawHeaders<'a> {
    /// Reads the known headers among `headers`.
    pub fn of<N: AsRef<[u8]>>(headers: impl IntoIterator<Item = (N, &'a [u8])>) -> Self {
        let mut found = Found::default();
        for (name, value) in headers {
            // Invalid ones are ignored: the others may suffice.
            drop(found.keep(name.as_ref(), value));
        }
        Self(found)
    }

    /// The text of a header; none if it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let i = header::ALL.iter().position(|known| *known == name)?;
        self.0.values[i].filter(|value| !value.is_empty())
    }
}

/// Header values during parsing.
#[derive(Debug, Default)]
struct Found<'a> {
    values: [Option<&'a str>; header::ALL.len()],
    /// Index of the next expected name; headers mostly come in the order of [`Envelope::write`].
    next: usize,
}

impl<'a> Found<'a> {
    fn keep(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), WireError> {
        let known = |known: &&str| known.as_bytes() == name;
        let after = header::ALL[self.next..].iter().position(known).map(|i| self.next + i);
        let Some(i) = after.or_else(|| header::ALL[..self.next].iter().position(known)) else { return Ok(()) };
        let text = std::str::from_utf8(value)
            .map_err(|_| WireError::new(header::ALL[i], &String::from_utf8_lossy(value), "UTF-8 text"))?;
        self.values[i].get_or_insert(text);
        self.next = i + 1;
        Ok(())
    }

    fn required(&self, i: usize) -> Result<&'a str, WireError> {
        self.values[i].filter(|value| !value.is_empty()).ok_or(WireError::missing(header::ALL[i]))
    }

    fn parsed<T: FromStr>(&self, i: usize, allowed: &'static str) -> Result<Option<T>, WireError> {
        self.values[i]
            .map(|value| value.parse().map_err(|_| WireError::new(header::ALL[i], value, allowed)))
            .transpose()
    }

    fn finish(&self) -> Result<EnvelopeRef<'a>, WireError> {
        let version = self.required(0)?;
        if version != "1.0" {
            return Err(WireError::new(header::ALL[0], version, "1.0"));
        }
        let (id, source, kind) = (self.required(1)?, self.required(2)?, self.required(3)?.parse()?);
        let time = self.parsed(5, WallTime::ALLOWED)?;
        let named = |i: usize| move |error: WireError| WireError { field: header::ALL[i], ..error };
        let operation = self.values[6].map(OperationId::new).transpose().map_err(named(6))?;
        let expires = self.parsed(10, WallTime::ALLOWED)?;
        let call = self.values[11].map(|call| CallId::read(call, operation.as_ref())).transpose().map_err(named(11))?;
        let undoes = match self.values[13] {
            None | Some("") => Vec::new(),
            Some(list) => list.split(',').map(str::parse).collect::<Result<_, _>>().map_err(named(13))?,
        };
        Ok(Envelope {
            kind,
            id,
            source,
            subject: self.values[4],
            time,
            operation,
            idempotency_key: self.values[7],
            correlation: self.values[8],
            causation: self.values[9],
            expires,
            call,
            attempt: self.parsed(12, "a whole number from 1")?,
            undoes,
            reply_to: self.values[14],
            reply_partition: self.parsed(15, "a partition number")?,
            trace: self.values[16],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Envelope {
        let operation = OperationId::new("7f3a").unwrap();
        let call = CallId::new(operation.clone(), 2, 8);
        Envelope {
            subject: Some("of:08".into()),
            time: Some(WallTime(1_795_226_400_123)),
            operation: Some(operation.clone()),
            idempotency_key: Some("monday".into()),
            correlation: Some("order 7/2".into()),
            causation: Some("7f3a".into()),
            expires: Some(WallTime(1_795_226_401_000)),
            call: Some(call),
            attempt: Some(2),
            undoes: vec![CallId::new(operation.clone(), 1, 8), CallId::new(operation, 1, 9)],
            reply_to: Some("nave.flows.hub.in".into()),
            reply_partition: Some(3),
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            ..Envelope::new(Kind::Undo, "7f3a/2/8/speaker/2", "/nave/flows/hub/3")
        }
    }

    /// The exact bytes on the wire.
    const GOLDEN: &str = "\
ce_specversion: 1.0
ce_id: 7f3a/2/8/speaker/2
ce_source: /nave/flows/hub/3
ce_type: nave.undo
ce_subject: of:08
ce_time: 2026-11-21T02:00:00.123Z
ce_operation: 7f3a
ce_idempotencykey: monday
ce_correlationid: order 7/2
ce_causationid: 7f3a
ce_expirytime: 2026-11-21T02:00:01.000Z
ce_callid: 7f3a/2/8
ce_attempt: 2
ce_undoes: 7f3a/1/8,7f3a/1/9
ce_replyto: nave.flows.hub.in
ce_replypartition: 3
traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
content-type: application/json
";

    fn headers_of(golden: &str) -> Vec<(&str, &[u8])> {
        golden
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name, value.as_bytes()))
            .collect()
    }

    #[test]
    fn an_envelope_is_written_as_documented() {
        let mut written = Vec::new();
        call().write(|name, value| written.push(format!("{name}: {value}\n")));
        assert_eq!(written.concat(), GOLDEN);
    }

    #[test]
    fn an_envelope_is_read_as_written() {
        assert_eq!(Envelope::read(headers_of(GOLDEN)), Ok(call()));
    }

    #[test]
    fn a_missing_or_invalid_header_is_named() {
        for (old, new, field) in [
            ("ce_id: 7f3a/2/8/speaker/2\n", "", "ce_id"),
            ("ce_specversion: 1.0", "ce_specversion: 0.3", "ce_specversion"),
            ("nave.undo", "nave.undone", "ce_type"),
            ("ce_attempt: 2", "ce_attempt: two", "ce_attempt"),
            ("7f3a/1/9", "nine", "ce_undoes"),
            ("ce_operation: 7f3a", "ce_operation: 7 f", "ce_operation"),
            ("ce_callid: 7f3a/2/8", "ce_callid: 7 f/2/8", "ce_callid"),
            ("2026-11-21T02:00:01.000Z", "soon", "ce_expirytime"),
        ] {
            let text = GOLDEN.replace(old, new);
            assert_eq!(Envelope::read(headers_of(&text)).unwrap_err().field, field);
        }
        assert_eq!(Envelope::read([("ce_id", &[0xff_u8][..])]).unwrap_err().field, "ce_id");
    }

    #[test]
    fn an_answer_carries_the_ids_of_its_request() {
        let request = call();
        let answer = request.answered(Kind::Reply, "/spoke/speaker");
        assert_eq!(answer.causation.as_deref(), Some("7f3a/2/8/speaker/2"));
        assert_eq!(answer.call, request.call);
        assert_eq!(answer.operation, request.operation);
        assert_eq!((answer.correlation.as_deref(), answer.idempotency_key), (Some("order 7/2"), None));
        assert_eq!(answer.subject, request.subject);
        assert_eq!(request.answered(Kind::Reply, "/spoke/speaker"), request.into_answer(Kind::Reply, "/spoke/speaker"));
    }

    #[test]
    fn each_valid_header_of_an_unreadable_record_is_available() {
        let text = GOLDEN.replace("nave.undo", "nave.undone").replace("ce_source: /nave/flows/hub/3\n", "");
        let headers = headers_of(&text).into_iter().chain([("ce_subject", &[0xff_u8][..])]);
        let texts = RawHeaders::of(headers);
        assert_eq!((texts.get("ce_type"), texts.get("ce_source")), (Some("nave.undone"), None));
        assert_eq!((texts.get("ce_subject"), texts.get("other")), (Some("of:08"), None));
    }

    #[test]
    fn every_kind_survives_a_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
