//! The input: a command in its envelope, or an unreadable message.

use bus::{Headers, Record};
use bytes::Bytes;
use flow_messages::speaker::{Action, Command, Refusal};
use wire::header;
use wire::{Envelope, Kind, OperationId};

use crate::{Answer, Body};

/// A command with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The key of the record; the answer has the same.
    pub key: Option<Bytes>,
    /// The envelope, with the sender and the reply address.
    pub envelope: Envelope,
    /// The command.
    pub command: Command,
}

/// An unreadable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The reason, in a sentence.
    pub detail: String,
    /// The refusal, if the message has a reply address.
    pub answer: Option<Answer>,
}

impl Request {
    /// Reads a record.
    ///
    /// # Errors
    /// [`Unreadable`] if the envelope or the body is invalid or incomplete.
    pub fn read(record: &Record) -> Result<Self, Box<Unreadable>> {
        let unreadable = |detail: String, envelope: Option<Envelope>| {
            let answer = envelope.filter(|envelope| envelope.reply_to.is_some()).map(|envelope| Answer {
                key: record.key.clone(),
                request: envelope,
                body: Body::Refusal(Refusal { error: "unreadable".into(), detail: detail.clone() }),
                flaw: None,
            });
            Box::new(Unreadable { detail, answer })
        };
        let envelope = match record.headers.envelope() {
            Ok(envelope) => envelope,
            Err(error) => return Err(unreadable(error.to_string(), salvage(&record.headers))),
        };
        let command: Command = match serde_json::from_slice(&record.value) {
            Ok(command) => command,
            Err(error) => return Err(unreadable(format!("the body is not a command: {error}"), Some(envelope))),
        };
        if let Some(reason) = invalid(&envelope, &command) {
            return Err(unreadable(reason, Some(envelope)));
        }
        Ok(Self { key: record.key.clone(), envelope, command })
    }
}

/// Returns the reason why a speaker cannot handle this command, if any.
fn invalid(envelope: &Envelope, command: &Command) -> Option<String> {
    match (envelope.kind, &command.action) {
        _ if envelope.call.is_none() => Some("ce_callid is missing; it identifies repeats".into()),
        (Kind::Call, Action::Install { .. } | Action::Read { .. } | Action::Remove { .. })
        | (Kind::Undo, Action::Remove { .. }) => None,
        (Kind::Undo, action) => Some(format!("an undo cannot {}; it can only remove", action.name())),
        (kind, _) => Some(format!("ce_type is {kind}; a speaker accepts nave.call and nave.undo")),
    }
}

/// Reads the valid headers of an invalid envelope, to address a refusal.
fn salvage(headers: &Headers) -> Option<Envelope> {
    let text = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let mut envelope = Envelope::new(Kind::Call, text(header::ID)?, text(header::SOURCE).unwrap_or("unknown"));
    envelope.subject = text(header::SUBJECT).map(str::to_owned);
    envelope.operation = text(header::OPERATION).and_then(|id| OperationId::new(id).ok());
    envelope.correlation = text(header::CORRELATION_ID).map(str::to_owned);
    envelope.call = text(header::CALL_ID).and_then(|id| id.parse().ok());
    envelope.attempt = text(header::ATTEMPT).and_then(|attempt| attempt.parse().ok());
    envelope.reply_to = text(header::REPLY_TO).map(str::to_owned);
    envelope.reply_partition = text(header::REPLY_PARTITION).and_then(|partition| partition.parse().ok());
    Some(envelope)
}

#[cfg(test)]
mod tests {
    use wire::WallTime;

    use super::*;

    const READ: &str = r#"{"command":"read","switch":"of:01","cookie":17}"#;

    fn record(headers: &[(&str, &str)], value: &'static str) -> Record {
        Record {
            topic: "nave.spoke.speaker".into(),
            partition: 0,
            offset: 0,
            time: WallTime(0),
            key: Some(Bytes::from_static(b"of:01")),
            headers: headers.iter().copied().collect(),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    const HEADERS: [(&str, &str); 6] = [
        ("ce_specversion", "1.0"),
        ("ce_id", "7f3a/1/1/speaker/1"),
        ("ce_source", "/nave/flows/hub/0"),
        ("ce_type", "nave.call"),
        ("ce_callid", "7f3a/1/1"),
        ("ce_replyto", "nave.flows.hub.in"),
    ];

    #[test]
    fn a_message_without_the_field_error_is_valid() {
        let request = Request::read(&record(&HEADERS, READ)).unwrap();
        assert_eq!(request.command.error, None);
        assert_eq!(request.key.as_deref(), Some(&b"of:01"[..]));
    }

    #[test]
    fn an_unreadable_message_with_a_reply_address_is_refused() {
        let with = |name: &str, value: &'static str| {
            HEADERS.map(|(header, old)| if header == name { (header, value) } else { (header, old) })
        };
        let without_call = HEADERS.map(|header| if header.0 == "ce_callid" { ("other", "") } else { header });
        for (headers, value) in [
            (HEADERS, "null"),
            (HEADERS, "{"),
            (HEADERS, ""),
            (HEADERS, r#"{"command":"polish"}"#),
            (with("ce_specversion", "0.3"), READ),
            (with("ce_callid", "nine"), READ),
            (with("ce_type", "nave.answer"), READ),
            (with("ce_type", "nave.undo"), READ),
            (without_call, READ),
        ] {
            let unreadable = Request::read(&record(&headers, value)).unwrap_err();
            let answer = unreadable.answer.expect("the message has ce_replyto");
            assert_eq!(answer.request.id, "7f3a/1/1/speaker/1", "{headers:?} {value}");
            assert!(matches!(answer.body, Body::Refusal(refusal) if refusal.error == "unreadable"));
        }
    }

    #[test]
    fn an_unreadable_message_without_a_reply_address_is_not_answered() {
        let without_reply_to = HEADERS.map(|header| if header.0 == "ce_replyto" { ("other", "") } else { header });
        assert_eq!(Request::read(&record(&without_reply_to, "null")).unwrap_err().answer, None);
        assert_eq!(Request::read(&record(&[], "null")).unwrap_err().answer, None);
    }
}
