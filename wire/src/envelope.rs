//! The headers of a record: `CloudEvents` 1.0 in the Kafka binary mode.
//!
//! `ce_correlationid`, `ce_causationid` and `ce_expirytime` are published extensions; `ce_callid`, `ce_attempt`,
//! `ce_undoes`, `ce_replyto` and `ce_replypartition` are ours.

use std::fmt;
use std::str::FromStr;

use crate::{CallId, OperationId, WallTime, WireError};

/// What a record is about: `ce_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A client asks for an operation.
    Request,
    /// A worker asks a spoke to do something.
    Call,
    /// A worker asks a spoke to undo something: the calls in `ce_undoes`.
    Undo,
    /// A spoke did what it was asked.
    Reply,
    /// A spoke will not do it, ever.
    Refusal,
    /// A spoke could not do it now: try again.
    Failure,
    /// Somebody outside tells an operation something, or takes it in hand: see [`crate::command`].
    Command,
    /// A deadline has passed.
    Timeout,
    /// An instance of a spoke lives: see [`crate::alive`].
    Heartbeat,
    /// A spoke went up or down, as a shell saw it: see [`crate::alive`].
    Liveness,
    /// An operation has its answer.
    Answer,
    /// How an operation stands.
    View,
    /// A process takes a lane over.
    Owner,
    /// A tuple of a stream that changes lanes.
    Tuple,
    /// A record that could not be handled.
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
            .ok_or_else(|| WireError::new("ce_type", text, "a type of Nave, like nave.request"))
    }
}

/// The headers of a record.
///
/// `time` and `expires` are stamped by the shell that sends, never by lane code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `ce_type`.
    pub kind: Kind,
    /// `ce_id`: the operation, or call id + service + attempt. With `ce_source` unique for each message, kept by its copies.
    pub id: String,
    /// `ce_source`: who sends, like `/nave/flows/hub/3`.
    pub source: String,
    /// `ce_subject`: the thing it is about.
    pub subject: Option<String>,
    /// `ce_time`: when it was sent.
    pub time: Option<WallTime>,
    /// `ce_correlationid`: the operation.
    pub operation: Option<OperationId>,
    /// `ce_causationid`: the `ce_id` that is answered.
    pub causation: Option<String>,
    /// `ce_expirytime`: no use after this.
    pub expires: Option<WallTime>,
    /// `ce_callid`.
    pub call: Option<CallId>,
    /// `ce_attempt`, from 1.
    pub attempt: Option<u32>,
    /// `ce_undoes`: the calls that an undo undoes.
    pub undoes: Vec<CallId>,
    /// `ce_replyto`: the topic for the answer.
    pub reply_to: Option<String>,
    /// `ce_replypartition`: its partition.
    pub reply_partition: Option<u32>,
    /// `traceparent`, as W3C Trace Context has it; passed on, never read.
    pub trace: Option<String>,
}

impl Envelope {
    /// An envelope with what `CloudEvents` demands, and nothing else.
    pub fn new(kind: Kind, id: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            source: source.into(),
            subject: None,
            time: None,
            operation: None,
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

    /// The envelope of an answer of `kind` to this request: what a spoke owes.
    ///
    /// The answer's id is made from the request's, so an answer that is made twice has one id.
    #[must_use]
    pub fn answered(&self, kind: Kind, source: &str) -> Self {
        let mut answer = Self::new(kind, format!("{}:{kind}", self.id), source);
        answer.subject.clone_from(&self.subject);
        answer.operation.clone_from(&self.operation);
        answer.causation = Some(self.id.clone());
        answer.call.clone_from(&self.call);
        answer.attempt = self.attempt;
        answer.trace.clone_from(&self.trace);
        answer
    }

    /// Gives each header to `put`, in a fixed order, name then value.
    pub fn write(&self, mut put: impl FnMut(&str, &str)) {
        put("ce_specversion", "1.0");
        put("ce_id", &self.id);
        put("ce_source", &self.source);
        put("ce_type", self.kind.as_str());
        let mut optional = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                put(name, value);
            }
        };
        optional("ce_subject", self.subject.as_deref());
        optional("ce_time", self.time.map(|time| time.to_string()).as_deref());
        optional("ce_correlationid", self.operation.as_ref().map(OperationId::as_str));
        optional("ce_causationid", self.causation.as_deref());
        optional("ce_expirytime", self.expires.map(|time| time.to_string()).as_deref());
        optional("ce_callid", self.call.as_ref().map(ToString::to_string).as_deref());
        optional("ce_attempt", self.attempt.map(|n| n.to_string()).as_deref());
        if !self.undoes.is_empty() {
            let undoes: Vec<String> = self.undoes.iter().map(ToString::to_string).collect();
            optional("ce_undoes", Some(&undoes.join(",")));
        }
        optional("ce_replyto", self.reply_to.as_deref());
        optional("ce_replypartition", self.reply_partition.map(|n| n.to_string()).as_deref());
        optional("traceparent", self.trace.as_deref());
        optional("content-type", Some("application/json"));
    }

    /// Reads headers. Those it does not know are passed over; of two with one name the first counts.
    ///
    /// # Errors
    /// Names the first header that is missing or that cannot be read.
    pub fn read<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, WireError> {
        let mut found = Found::default();
        for (name, value) in headers {
            found.keep(name, value)?;
        }
        found.finish()
    }
}

/// Headers while they are read.
#[derive(Default)]
struct Found<'a> {
    values: [Option<&'a str>; NAMES.len()],
}

const NAMES: [&str; 15] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "ce_correlationid",
    "ce_causationid",
    "ce_expirytime",
    "ce_callid",
    "ce_attempt",
    "ce_undoes",
    "ce_replyto",
    "ce_replypartition",
    "traceparent",
];

impl<'a> Found<'a> {
    fn keep(&mut self, name: &str, value: &'a [u8]) -> Result<(), WireError> {
        let Some(i) = NAMES.iter().position(|known| *known == name) else { return Ok(()) };
        let text = std::str::from_utf8(value)
            .map_err(|_| WireError::new(NAMES[i], &String::from_utf8_lossy(value), "UTF-8 text"))?;
        self.values[i].get_or_insert(text);
        Ok(())
    }

    fn required(&self, i: usize) -> Result<&'a str, WireError> {
        self.values[i]
            .filter(|value| !value.is_empty())
            .ok_or_else(|| WireError::new(NAMES[i], "", "a text, always given"))
    }

    fn parsed<T: FromStr>(&self, i: usize, allowed: &'static str) -> Result<Option<T>, WireError> {
        self.values[i].map(|value| value.parse().map_err(|_| WireError::new(NAMES[i], value, allowed))).transpose()
    }

    fn text(&self, i: usize) -> Option<String> {
        self.values[i].map(str::to_owned)
    }

    fn finish(&self) -> Result<Envelope, WireError> {
        let version = self.required(0)?;
        if version != "1.0" {
            return Err(WireError::new(NAMES[0], version, "1.0"));
        }
        let undoes = match self.values[11] {
            None | Some("") => Vec::new(),
            Some(list) => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
        };
        Ok(Envelope {
            id: self.required(1)?.to_owned(),
            source: self.required(2)?.to_owned(),
            kind: self.required(3)?.parse()?,
            subject: self.text(4),
            time: self.parsed(5, "an RFC 3339 time in UTC")?,
            operation: self.values[6].map(OperationId::new).transpose()?,
            causation: self.text(7),
            expires: self.parsed(8, "an RFC 3339 time in UTC")?,
            call: self.values[9].map(str::parse).transpose()?,
            attempt: self.parsed(10, "a whole number from 1")?,
            undoes,
            reply_to: self.text(12),
            reply_partition: self.parsed(13, "the number of a partition")?,
            trace: self.text(14),
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

    /// The golden bytes: what stands on the wire, to the letter.
    const GOLDEN: &str = "\
ce_specversion: 1.0
ce_id: 7f3a/2/8/speaker/2
ce_source: /nave/flows/hub/3
ce_type: nave.undo
ce_subject: of:08
ce_time: 2026-11-21T02:00:00.123Z
ce_correlationid: 7f3a
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
    fn an_envelope_is_written_as_agreed() {
        let mut written = Vec::new();
        call().write(|name, value| written.push(format!("{name}: {value}\n")));
        assert_eq!(written.concat(), GOLDEN);
    }

    #[test]
    fn an_envelope_is_read_as_written() {
        assert_eq!(Envelope::read(headers_of(GOLDEN)), Ok(call()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (old, new, field) in [
            ("ce_id: 7f3a/2/8/speaker/2\n", "", "ce_id"),
            ("ce_specversion: 1.0", "ce_specversion: 0.3", "ce_specversion"),
            ("nave.undo", "nave.undone", "ce_type"),
            ("ce_attempt: 2", "ce_attempt: two", "ce_attempt"),
            ("7f3a/1/9", "nine", "ce_callid"),
            ("2026-11-21T02:00:01.000Z", "soon", "ce_expirytime"),
        ] {
            let text = GOLDEN.replace(old, new);
            assert_eq!(Envelope::read(headers_of(&text)).unwrap_err().field, field);
        }
        assert_eq!(Envelope::read([("ce_id", &[0xff_u8][..])]).unwrap_err().field, "ce_id");
    }

    #[test]
    fn an_answer_carries_what_a_spoke_owes() {
        let request = call();
        let answer = request.answered(Kind::Reply, "/spoke/speaker");
        assert_eq!(answer.causation.as_deref(), Some("7f3a/2/8/speaker/2"));
        assert_eq!(answer.call, request.call);
        assert_eq!(answer.operation, request.operation);
        assert_eq!(answer.subject, request.subject);
        assert_eq!(answer, request.answered(Kind::Reply, "/spoke/speaker"));
    }

    #[test]
    fn every_kind_survives_its_text() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
