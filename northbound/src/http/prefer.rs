//! What a client says beside its request: how long it waits, what it calls the request, and what it calls the whole.
//!
//! | header | what it says |
//! |---|---|
//! | `Prefer: respond-async` | do not wait: 202 as soon as the request is safe (RFC 7240) |
//! | `Prefer: wait=N` | wait N seconds, at most 60; alone it is the client's deadline too; 0 means `respond-async` |
//! | `X-Request-Timeout-Ms` | the client's deadline: the hub refuses what cannot begin before it |
//! | `Idempotency-Key` | the client's name for the request, so that it can be sent again |
//! | `traceparent` | passed on |
//!
//! Preferences that are not known, or that cannot be read, are passed over, as RFC 7240 has it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use wire::Problem;

/// Nobody is waited for longer: whatever is between client and northbound cuts longer waits by itself.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The longest deadline that a client may give: a day.
pub(super) const LONGEST_DEADLINE_MS: u64 = 24 * 3_600 * 1_000;

/// The header of the client's deadline.
pub(super) const TIMEOUT: &str = "X-Request-Timeout-Ms";
/// The header by which a client names a request, so that it can be sent again.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// How a client wants to be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    asynchronous: bool,
    wait: Option<Duration>,
    timeout: Option<Duration>,
}

impl Wishes {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut wishes = Self { timeout: timeout(headers)?, ..Self::default() };
        let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            // Parameters after a semicolon say nothing that we know.
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                ("respond-async", "") => wishes.asynchronous = true,
                // The first one counts.
                ("wait", seconds) if wishes.wait.is_none() => {
                    let seconds = seconds.parse::<u64>().ok();
                    wishes.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
                }
                // One that we do not know is as if it were not said (RFC 7240, section 2).
                (_unknown, _) => {}
            }
        }
        Ok(wishes)
    }

    /// The client's deadline, where it has one.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.timeout.or(self.wait.filter(|wait| !self.asynchronous && !wait.is_zero()))
    }

    /// How long to wait for the answer, where `patience` is what a client waits that says nothing. Zero: not at all.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        match (self.asynchronous, self.wait) {
            (_, Some(wait)) => wait,
            (true, None) => Duration::ZERO,
            (false, None) => self.timeout.map_or(patience, |timeout| timeout.min(LONGEST_WAIT)),
        }
    }

    /// What was done as the client prefers, for an answer with `status`.
    pub(super) fn applied(&self, status: StatusCode) -> Option<(HeaderName, HeaderValue)> {
        let asynchronous = self.asynchronous && status == StatusCode::ACCEPTED;
        let mut applied: Vec<String> = Vec::new();
        applied.extend(asynchronous.then(|| "respond-async".to_owned()));
        applied.extend(self.wait.map(|wait| format!("wait={}", wait.as_secs())));
        let value = HeaderValue::from_str(&applied.join(", ")).ok().filter(|value| !value.is_empty())?;
        Some((HeaderName::from_static("preference-applied"), value))
    }
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = once(headers, TIMEOUT)? else { return Ok(None) };
    let ms = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let ms = ms.filter(|ms| (1..=LONGEST_DEADLINE_MS).contains(ms));
    let allowed = format!("a whole number of milliseconds from 1 to {LONGEST_DEADLINE_MS}");
    ms.map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| Problem::field(TIMEOUT, &shown(value), &allowed))
}

/// The client's name for its request, if it gave one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    name(headers, IDEMPOTENCY_KEY)
}

/// A name that a client gives in a header.
pub(super) fn name<'a>(headers: &'a HeaderMap, header: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = once(headers, header)? else { return Ok(None) };
    let name = value.to_str().unwrap_or_default();
    if (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(name));
    }
    Err(Problem::field(header, &shown(value), "1 to 128 visible ASCII characters"))
}

fn once<'a>(headers: &'a HeaderMap, header: &str) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(header).iter();
    let value = values.next();
    match values.next() {
        Some(_) => Err(Problem::field(header, "given twice", "to give it once")),
        None => Ok(value),
    }
}

fn shown(value: &HeaderValue) -> String {
    let shown: String = String::from_utf8_lossy(value.as_bytes()).chars().take(80).collect();
    format!("\"{shown}\"")
}

/// `traceparent`, where it is one: version, trace, parent and flags have 55 characters in all.
pub(super) fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    (value.len() == 55 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(headers: &[(&'static str, &str)]) -> Result<Wishes, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Wishes::read(&map)
    }

    const TEN: Duration = Duration::from_secs(10);

    /// Headers; how long it waits, the deadline in seconds, and what is said of it with a 202.
    #[test]
    fn preferences_are_read_as_rfc_7240_has_them() {
        for (headers, waits, deadline, applied) in [
            (&[][..], 10, None, None),
            (&[("prefer", "respond-async")][..], 0, None, Some("respond-async")),
            (&[("prefer", "Respond-Async, wait=5")][..], 5, None, Some("respond-async, wait=5")),
            (&[("prefer", "wait=5")][..], 5, Some(5), Some("wait=5")),
            (&[("prefer", "wait=\"7\"; strict"), ("prefer", "wait=9")][..], 7, Some(7), Some("wait=7")),
            (&[("prefer", "wait=100000")][..], 60, Some(60), Some("wait=60")),
            (&[("prefer", "wait=soon, return=minimal, ,=,;")][..], 10, None, None),
            (&[("prefer", "wait=0")][..], 0, None, Some("wait=0")),
            (&[("x-request-timeout-ms", "3000")][..], 3, Some(3), None),
            (&[("x-request-timeout-ms", "90000")][..], 60, Some(90), None),
            (&[("x-request-timeout-ms", "3000"), ("prefer", "respond-async")][..], 0, Some(3), Some("respond-async")),
        ] {
            let wishes = wishes(headers).unwrap();
            let said = wishes.applied(StatusCode::ACCEPTED).map(|(_, value)| value);
            let waited = (wishes.patience(TEN).as_secs(), wishes.deadline().map(|deadline| deadline.as_secs()));
            assert_eq!((waited, said), ((waits, deadline), applied.map(HeaderValue::from_static)), "{headers:?}");
        }
        for bad in ["", "0", "-1", "soon", "86400001"] {
            assert!(wishes(&[("x-request-timeout-ms", bad)]).is_err(), "{bad}");
        }
    }
}
