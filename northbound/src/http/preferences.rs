//! Request headers with preferences, deadline and names.
//!
//! | header | meaning |
//! |---|---|
//! | `Prefer: respond-async` | do not wait: 202 as soon as the request is durable (RFC 7240) |
//! | `Prefer: wait=N` | wait at most N seconds, maximum 60; alone it is the client's deadline too; 0 means `respond-async` |
//! | `X-Request-Timeout-Ms` | the client's deadline: the hub refuses a request that cannot start before |
//! | `Idempotency-Key` | the client's name for the request; makes it safe to repeat |
//! | `traceparent` | passed on |
//!
//! Unknown or unreadable preferences are ignored (RFC 7240).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use wire::Problem;

/// Maximum wait: proxies between client and northbound cut longer ones.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Maximum deadline of a client: one day.
pub(super) const MAX_DEADLINE_MS: u64 = 24 * 3_600 * 1_000;

/// The header with the client's deadline.
pub(super) const TIMEOUT: &str = "X-Request-Timeout-Ms";
/// The header with the client's name for a request.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The preferences of a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    asynchronous: bool,
    wait: Option<Duration>,
    timeout: Option<Duration>,
}

impl Preferences {
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut preferences = Self { timeout: timeout(headers)?, ..Self::default() };
        let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            // Ignores parameters after a semicolon.
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                ("respond-async", "") => preferences.asynchronous = true,
                // Only the first one counts.
                ("wait", seconds) if preferences.wait.is_none() => {
                    let seconds = seconds.parse::<u64>().ok();
                    preferences.wait = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT));
                }
                // Ignores unknown preferences (RFC 7240, section 2).
                (_unknown, _) => {}
            }
        }
        Ok(preferences)
    }

    /// The client's deadline, if any.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.timeout.or(self.wait.filter(|wait| !self.asynchronous && !wait.is_zero()))
    }

    /// Time to wait for the answer; `patience` is the default. Zero: do not wait.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        match (self.asynchronous, self.wait) {
            (_, Some(wait)) => wait,
            (true, None) => Duration::ZERO,
            (false, None) => self.timeout.map_or(patience, |timeout| timeout.min(MAX_WAIT)),
        }
    }

    /// The value of `Preference-Applied` for an answer with `status`.
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
    let ms = ms.filter(|ms| (1..=MAX_DEADLINE_MS).contains(ms));
    let allowed = format!("a whole number of milliseconds from 1 to {MAX_DEADLINE_MS}");
    ms.map(|ms| Some(Duration::from_millis(ms))).ok_or_else(|| Problem::field(TIMEOUT, &shown(value), &allowed))
}

/// The client's name for its request, if any.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    name(headers, IDEMPOTENCY_KEY)
}

/// A client-defined name in a header.
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

/// A valid `traceparent`: version, trace, parent and flags have 55 characters in all.
pub(super) fn trace(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    (value.len() == 55 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preferences(headers: &[(&'static str, &str)]) -> Result<Preferences, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Preferences::read(&map)
    }

    const TEN: Duration = Duration::from_secs(10);

    /// Headers; the wait and the deadline in seconds, and `Preference-Applied` of a 202.
    #[test]
    fn preferences_are_read_as_rfc_7240_says() {
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
            let preferences = preferences(headers).unwrap();
            let said = preferences.applied(StatusCode::ACCEPTED).map(|(_, value)| value);
            let waited =
                (preferences.patience(TEN).as_secs(), preferences.deadline().map(|deadline| deadline.as_secs()));
            assert_eq!((waited, said), ((waits, deadline), applied.map(HeaderValue::from_static)), "{headers:?}");
        }
        for bad in ["", "0", "-1", "soon", "86400001"] {
            assert!(preferences(&[("x-request-timeout-ms", bad)]).is_err(), "{bad}");
        }
    }
}
