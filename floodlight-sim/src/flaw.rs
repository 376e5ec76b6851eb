//! What is wrong with an answer: it was made in good order, and is spoilt on its way out.

use bus::{Headers, Outgoing, Route};
use bytes::Bytes;
use wire::{CallId, Envelope, MessageId};

use crate::fault::{Astray, Garbage};

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It says that it is another's.
    WrongKey(Astray),
    /// Nobody can read it.
    Corrupt(Garbage),
    /// Its body has so many bytes.
    Oversized(usize),
}

/// The number of a call that nobody makes: no step has so many.
const NOBODY: u32 = u32::MAX;

impl Flaw {
    /// Spoils `record`, which carries `envelope`.
    #[must_use]
    pub fn spoil(self, mut envelope: Envelope, mut record: Outgoing) -> Outgoing {
        match self {
            Flaw::WrongKey(Astray::Call) => {
                envelope.call = envelope.call.map(nobody);
                record.with(&envelope)
            }
            Flaw::WrongKey(Astray::Causation) => {
                envelope.causation = envelope.causation.map(|message| match message.parse::<MessageId>() {
                    Ok(message) => MessageId { call: nobody(message.call), ..message }.to_string(),
                    // The message has an id of its own kind.
                    Err(_) => format!("{message}-astray"),
                });
                record.with(&envelope)
            }
            Flaw::WrongKey(Astray::Key) => Outgoing { key: Some(Bytes::from_static(b"astray")), ..record },
            Flaw::WrongKey(Astray::Partition) => {
                let other = match record.route {
                    Route::To(0) => 1,
                    Route::To(partition) => partition - 1,
                    Route::ByKey => 0,
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
                record.headers = record.headers.iter().filter(|(name, _)| *name != "ce_type").collect::<Headers>();
                record
            }
            Flaw::Oversized(bytes) => {
                let mut value = record.value.to_vec();
                // White space behind a value is JSON still.
                value.resize(bytes.max(value.len()), b' ');
                Outgoing { value: value.into(), ..record }
            }
        }
    }
}

fn nobody(call: CallId) -> CallId {
    CallId { n: NOBODY, ..call }
}

#[cfg(test)]
mod tests {
    use wire::Kind;

    use super::*;

    /// An answer, whole and with this flaw.
    fn spoilt(flaw: Flaw) -> (Outgoing, Outgoing) {
        let mut envelope = Envelope::new(Kind::Reply, "7f3a/1/2/speaker/1:nave.reply", "/spoke/speaker");
        envelope.causation = Some("7f3a/1/2/speaker/1".into());
        envelope.call = "7f3a/1/2".parse().ok();
        let whole = Outgoing::keyed("in", "of:02", r#"{"result":"removed"}"#).to(3).with(&envelope);
        (whole.clone(), flaw.spoil(envelope, whole))
    }

    #[test]
    fn a_wrong_identity_is_wrong_in_one_place_and_right_in_all_others() {
        let (whole, call) = spoilt(Flaw::WrongKey(Astray::Call));
        let (before, after) = (whole.headers.envelope().unwrap(), call.headers.envelope().unwrap());
        assert_eq!(after.call.clone().unwrap().to_string(), "7f3a/1/4294967295");
        assert_eq!(Envelope { call: before.call.clone(), ..after }, before);

        let after = spoilt(Flaw::WrongKey(Astray::Causation)).1.headers.envelope().unwrap();
        assert_eq!(after.causation.as_deref(), Some("7f3a/1/4294967295/speaker/1"));
        assert_eq!(Envelope { causation: before.causation.clone(), ..after }, before);

        let (_, key) = spoilt(Flaw::WrongKey(Astray::Key));
        assert_eq!((key.key.as_deref(), key.route, &key.headers), (Some(&b"astray"[..]), Route::To(3), &whole.headers));
        let (_, partition) = spoilt(Flaw::WrongKey(Astray::Partition));
        assert_eq!((partition.route, &partition.headers), (Route::To(2), &whole.headers));
    }

    #[test]
    fn garbage_cannot_be_read() {
        let (whole, body) = spoilt(Flaw::Corrupt(Garbage::Body));
        assert!(std::str::from_utf8(&body.value).is_err());
        assert_eq!(body.headers, whole.headers);
        let (_, json) = spoilt(Flaw::Corrupt(Garbage::Json));
        assert!(std::str::from_utf8(&json.value).is_ok());
        assert!(serde_json::from_slice::<serde_json::Value>(&json.value).is_err());
        for garbage in [Garbage::Headers, Garbage::Type] {
            let (_, record) = spoilt(Flaw::Corrupt(garbage));
            assert!(record.headers.envelope().is_err(), "{garbage:?}");
            assert_eq!(record.value, whole.value, "{garbage:?}");
        }
        assert_eq!(spoilt(Flaw::Corrupt(Garbage::Type)).1.headers.iter().count(), whole.headers.iter().count() - 1);
    }

    #[test]
    fn an_oversized_body_says_the_same_in_more_bytes() {
        let (whole, record) = spoilt(Flaw::Oversized(10_000));
        assert_eq!(record.value.len(), 10_000);
        let read = |record: &Outgoing| serde_json::from_slice::<serde_json::Value>(&record.value).unwrap();
        assert_eq!(read(&record), read(&whole));
        assert_eq!(spoilt(Flaw::Oversized(3)).1, whole, "never shorter than it is");
    }
}
