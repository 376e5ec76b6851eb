//! Records made of any bytes: what fuzzing and its tests feed to a lane.

use bus::{Headers, Outgoing, Route};
use wire::Kind;

/// The headers that lane code reads.
const NAMES: [&str; 17] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "ce_operation",
    "ce_causationid",
    "ce_expirytime",
    "ce_callid",
    "ce_attempt",
    "ce_undoes",
    "ce_replyto",
    "ce_replypartition",
    "traceparent",
    "ce_idempotencykey",
    "ce_correlationid",
];

/// A record for lane 0 of `inbox`, made of `bytes`: parts, each a byte for its length and so many bytes, are its key, its
/// headers in the order of their names, and what is left is its body. A type that is one byte is a kind of ours, so that most
/// bytes get further than the first check.
pub fn record(inbox: &str, bytes: &[u8]) -> Outgoing {
    let mut rest = bytes;
    let mut part = || {
        let (length, tail) = rest.split_first()?;
        let length = usize::from(*length).min(tail.len());
        let (part, tail) = tail.split_at(length);
        rest = tail;
        Some(part)
    };
    let key = part().map(<[u8]>::to_vec);
    let mut headers: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in NAMES {
        let Some(value) = part() else { break };
        match (name, value) {
            (_, []) => {}
            ("ce_type", [kind]) => {
                let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
                headers.push((name, kind.as_str().into()));
            }
            ("ce_specversion", [_]) => headers.push((name, b"1.0".to_vec())),
            (name, value) => headers.push((name, value.to_vec())),
        }
    }
    Outgoing {
        topic: inbox.into(),
        route: Route::To(0),
        key: key.map(Into::into),
        headers: headers.into_iter().collect::<Headers>(),
        value: rest.to_vec().into(),
    }
}
