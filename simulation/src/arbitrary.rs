//! Records built from arbitrary bytes, for fuzzing and its tests.

use bus::{Headers, Outgoing, Route};
use wire::Kind;
use wire::header;

/// The headers that lane code reads.
const NAMES: [&str; 17] = [
    header::SPEC_VERSION,
    header::ID,
    header::SOURCE,
    header::TYPE,
    header::SUBJECT,
    header::TIME,
    header::OPERATION,
    header::CAUSATION_ID,
    header::EXPIRY_TIME,
    header::CALL_ID,
    header::ATTEMPT,
    header::UNDOES,
    header::REPLY_TO,
    header::REPLY_PARTITION,
    "traceparent",
    header::IDEMPOTENCY_KEY,
    header::CORRELATION_ID,
];

/// Builds a record for lane 0 of `inbox` from `bytes`. The bytes are split into chunks, each with a
/// length byte in front: the key, then the headers in the order of `NAMES`. The rest is the body.
/// A `ce_type` of one byte selects one of [`Kind::ALL`], so that most inputs pass the first check.
pub fn record(inbox: &str, bytes: &[u8]) -> Outgoing {
    let mut rest = bytes;
    let mut chunk = || {
        let (length, tail) = rest.split_first()?;
        let length = usize::from(*length).min(tail.len());
        let (chunk, tail) = tail.split_at(length);
        rest = tail;
        Some(chunk)
    };
    let key = chunk().map(<[u8]>::to_vec);
    let mut headers: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in NAMES {
        let Some(value) = chunk() else { break };
        match (name, value) {
            (_, []) => {}
            (header::TYPE, [kind]) => {
                let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
                headers.push((name, kind.as_str().into()));
            }
            (header::SPEC_VERSION, [_]) => headers.push((name, b"1.0".to_vec())),
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
