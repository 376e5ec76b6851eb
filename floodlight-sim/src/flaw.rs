//! Corrupt answers: the speaker makes a correct answer, and a flaw corrupts its record.

use bus::{Headers, Outgoing, Route};
use bytes::Bytes;
use wire::header;
use wire::{CallId, Envelope, MessageId};

use crate::fault::{Garbage, WrongIdentity};

/// A flaw of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A wrong identity.
    WrongKey(WrongIdentity),
    /// Unreadable bytes.
    Corrupt(Garbage),
    /// A body of this many bytes.
    Oversized(usize),
}

/// The number of a call that does not exist: no step has this many calls.
const UNKNOWN_CALL: u32 = u32::MAX;

impl Flaw {
    /// Applies the flaw to `record`, which carries `envelope`.
    #[must_use]
    pub fn apply(self, mut envelope: Envelope, mut record: Outgoing) -> Outgoing {
        match self {
            Flaw::WrongKey(WrongIdentity::Call) => {
                envelope.call = envelope.call.map(unknown_call);
                record.with(&envelope)
            }
            Flaw::WrongKey(WrongIdentity::Causation) => {
                envelope.causation = envelope.causation.map(|message| match message.parse::<MessageId>() {
                    Ok(message) => MessageId { call: unknown_call(message.call), ..message }.to_string(),
                    // The id does not have the form of a message id of a worker.
                    Err(_) => format!("{message}-astray"),
                });
                record.with(&envelope)
            }
            Flaw::WrongKey(WrongIdentity::Key) => Outgoing { key: Some(Bytes::from_static(b"astray")), ..record },
            Flaw::WrongKey(WrongIdentity::Partition) => {
                let other = match record.route {
                    Route::To(0) => 1,
                    Route::To(partition) => partition - 1,
                    Route::ByKey | Route::Modulo(_) => 0,
                };
                record.to(other)
            }
            Flaw::Corrupt(Garbage::Body) => Outgoing { value: Bytes::from_static(b"\xff\xfe\x00garbage"), ..record },
            Flaw::Corrupt(Garbage::Json) => Outgoing { value: Bytes::from_static(b"{\"result\":"), ..record },
            Flaw::Corrupt(Garbage::Headers) => {
                record.headers = [("x-garbage", "1")].into_iter().collect();
                record
            }
            Flaw::Corrupt(Garbage::Type) => {
                record.headers = record.headers.iter().filter(|(name, _)| *name != header::TYPE).collect::<Headers>();
                record
            }
            Flaw::Oversized(bytes) => {
                let mut value = record.value.to_vec();
                // JSON allows white space after a value.
                value.resize(bytes.max(value.len()), b' ');
                Outgoing { value: value.into(), ..record }
            }
        }
    }
}

fn unknown_call(call: CallId) -> CallId {
    CallId { n: UNKNOWN_CALL, ..call }
}

#[cfg(test)]
mod tests {
    use wire::Kind;

    use super::*;

    /// An answer without and with this flaw.
    fn with_flaw(flaw: Flaw) -> (Outgoing, Outgoing) {
        let mut envelope = Envelope::new(Kind::Reply, "7f3a/1/2/speaker/1:nave.reply", "/spoke/speaker");
        envelope.causation = Some("7f3a/1/2/speaker/1".into());
        envelope.call = "7f3a/1/2".parse().ok();
        let whole = Outgoing::keyed("in", "of:02", r#"{"result":"removed"}"#).to(3).with(&envelope);
        (whole.clone(), flaw.apply(envelope, whole))
    }

    #[test]
    fn a_wrong_identity_differs_in_one_place_only() {
        let (whole, call) = with_flaw(Flaw::WrongKey(WrongIdentity::Call));
        let (before, after) = (whole.headers.envelope().unwrap(), call.headers.envelope().unwrap());
        assert_eq!(after.call.clone().unwrap().to_string(), "7f3a/1/4294967295");
        assert_eq!(Envelope { call: before.call.clone(), ..after }, before);

        let after = with_flaw(Flaw::WrongKey(WrongIdentity::Causation)).1.headers.envelope().unwrap();
        assert_eq!(after.causation.as_deref(), Some("7f3a/1/4294967295/speaker/1"));
        assert_eq!(Envelope { causation: before.causation.clone(), ..after }, before);

        let (_, key) = with_flaw(Flaw::WrongKey(WrongIdentity::Key));
        assert_eq!((key.key.as_deref(), key.route, &key.headers), (Some(&b"astray"[..]), Route::To(3), &whole.headers));
        let (_, partition) = with_flaw(Flaw::WrongKey(WrongIdentity::Partition));
        assert_eq!((partition.route, &partition.headers), (Route::To(2), &whole.headers));
    }

    #[test]
    fn garbage_is_unreadable() {
        let (whole, body) = with_flaw(Flaw::Corrupt(Garbage::Body));
        assert!(std::str::from_utf8(&body.value).is_err());
        assert_eq!(body.headers, whole.headers);
        let (_, json) = with_flaw(Flaw::Corrupt(Garbage::Json));
        assert!(std::str::from_utf8(&json.value).is_ok());
        assert!(serde_json::from_slice::<serde_json::Value>(&json.value).is_err());
        for garbage in [Garbage::Headers, Garbage::Type] {
            let (_, record) = with_flaw(Flaw::Corrupt(garbage));
            assert!(record.headers.envelope().is_err(), "{garbage:?}");
            assert_eq!(record.value, whole.value, "{garbage:?}");
        }
        assert_eq!(with_flaw(Flaw::Corrupt(Garbage::Type)).1.headers.iter().count(), whole.headers.iter().count() - 1);
    }

    #[test]
    fn an_oversized_body_has_the_same_content_in_more_bytes() {
        let (whole, record) = with_flaw(Flaw::Oversized(10_000));
        assert_eq!(record.value.len(), 10_000);
        let read = |record: &Outgoing| serde_json::from_slice::<serde_json::Value>(&record.value).unwrap();
        assert_eq!(read(&record), read(&whole));
        assert_eq!(with_flaw(Flaw::Oversized(3)).1, whole, "a flaw never shortens a body");
    }
}
