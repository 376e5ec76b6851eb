//! Liveness of spokes: heartbeats, and the rule that derives a verdict from them.
//!
//! Heartbeats are optional. They travel on a separate topic ([`crate::topics::Topics::alive`]) and
//! stay outside lanes: only a change, up or down, enters an inbox.
//!
//! | instance of a spoke | verdict |
//! |---|---|
//! | last heartbeat less than [`Instances::MISSED`] of its own intervals ago | up |
//! | no heartbeat for that long | down |
//! | sent its last heartbeat with `bye` | forgotten |
//!
//! | service | verdict |
//! |---|---|
//! | at least one instance is up | up |
//! | no instance is up, last heartbeat less than ten minutes ago ([`Instances::FORGOTTEN_MS`]) | down |
//! | no heartbeat for longer, or never, or all its instances said `bye` | none: workers judge it by its answers |
//!
//! After a `bye` the verdict is none, not down: the next instance may send no heartbeats.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EnvelopeRef, Kind, WireError};

/// The body of `nave.heartbeat`. The record's key is `instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Unique name of the instance among all live ones.
    pub instance: String,
    /// Maximum time until the next heartbeat.
    pub every_ms: u64,
    /// True for the last heartbeat of an instance that stops cleanly.
    #[serde(default)]
    pub bye: bool,
}

/// The body of `nave.liveness`: sent by a shard to each of its lanes when the verdict changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// The service.
    pub service: String,
    /// True: an instance is up. False: none is up. None: no verdict, the answers of the service
    /// decide.
    pub up: Option<bool>,
}

/// The last heartbeats of the instances of one service. All times are milliseconds of one clock,
/// chosen by the caller.
///
/// ```
/// use wire::alive::{Heartbeat, Instances};
///
/// let mut instances = Instances::default();
/// assert_eq!(instances.up(0), None);
/// instances.record(&Heartbeat { instance: "speaker-1".into(), every_ms: 500, bye: false }, 10_000, 0);
/// assert_eq!((instances.up(11_499), instances.up(11_500)), (Some(true), Some(false)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Instances(BTreeMap<String, LastHeartbeat>);

/// The last heartbeat of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastHeartbeat {
    /// Time of sending; negative if before the clock began.
    pub at_ms: i64,
    /// Maximum time until the next heartbeat.
    pub every_ms: u64,
    /// The instance is up until this time.
    until_ms: u64,
    /// The heartbeat is ignored from this time on.
    forgotten_ms: u64,
}

impl LastHeartbeat {
    /// True while the instance is up.
    pub fn is_up(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

impl Instances {
    /// Number of consecutive missing heartbeats after which an instance is down: one may be late,
    /// and one lost.
    pub const MISSED: u64 = 3;
    /// Age at which a heartbeat is ignored: an instance without heartbeats may have replaced its
    /// sender. Ten minutes are longer than a restart takes.
    pub const FORGOTTEN_MS: u64 = 600_000;
    /// Maximum number of instances; beyond it the one with the oldest heartbeat is dropped. More
    /// than a service has, and few enough to list.
    pub const MAX: usize = 1_000;

    /// Reads a record of the heartbeat topic that was sent `age_ms` ago. All readers use this
    /// function, so that they reach the same verdict.
    ///
    /// # Errors
    /// The reason why the record is not a heartbeat. Nothing has changed then.
    pub fn read(
        &mut self,
        head: Result<EnvelopeRef<'_>, WireError>,
        key: Option<&[u8]>,
        body: &[u8],
        now_ms: u64,
        age_ms: u64,
    ) -> Result<(), String> {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).ok_or("its key is not UTF-8")?;
        if body.is_empty() {
            self.forget(key);
            return Ok(());
        }
        let kind = head.map_err(|error| error.to_string())?.kind;
        if kind != Kind::Heartbeat {
            return Err(format!("`ce_type` is `{kind}`; allowed is {}", Kind::Heartbeat));
        }
        let beat: Heartbeat = serde_json::from_slice(body).map_err(|error| format!("its body: {error}"))?;
        if beat.instance.is_empty() || beat.instance != key {
            return Err(format!("`instance` is `{}`; allowed is the record's key, `{key}`, not empty", beat.instance));
        }
        if beat.every_ms == 0 {
            return Err("`every_ms` is 0; allowed is a number of milliseconds from 1".to_owned());
        }
        self.record(&beat, now_ms, age_ms);
        Ok(())
    }

    /// Records a heartbeat that was sent `age_ms` ago.
    pub fn record(&mut self, beat: &Heartbeat, now_ms: u64, age_ms: u64) {
        if beat.bye {
            return self.forget(&beat.instance);
        }
        let lives_ms = beat.every_ms.saturating_mul(Self::MISSED);
        let known_ms = lives_ms.max(Self::FORGOTTEN_MS);
        if age_ms >= known_ms {
            return;
        }
        let after = |ms: u64| now_ms.saturating_add(ms.saturating_sub(age_ms));
        let heard = LastHeartbeat {
            at_ms: now_ms.cast_signed().saturating_sub_unsigned(age_ms),
            every_ms: beat.every_ms,
            until_ms: after(lives_ms),
            forgotten_ms: after(known_ms),
        };
        self.0.insert(beat.instance.clone(), heard);
        if self.0.len() > Self::MAX {
            let oldest = self.0.iter().min_by_key(|(_, heard)| heard.at_ms).map(|(instance, _)| instance.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
    }

    /// Removes an instance.
    pub fn forget(&mut self, instance: &str) {
        self.0.remove(instance);
    }

    /// True: the service is up. False: it is down. None: no verdict.
    pub fn up(&self, now_ms: u64) -> Option<bool> {
        let is_known = self.0.values().any(|heard| now_ms < heard.forgotten_ms);
        is_known.then(|| self.0.values().any(|heard| heard.is_up(now_ms)))
    }

    /// Time at which the next instance goes down unless it sends a heartbeat.
    pub fn next_down_ms(&self, now_ms: u64) -> Option<u64> {
        self.0.values().filter(|heard| heard.is_up(now_ms)).map(|heard| heard.until_ms).min()
    }

    /// All known instances, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &LastHeartbeat)> {
        self.0.iter().map(|(instance, heard)| (instance.as_str(), heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(instance: &str, every_ms: u64) -> Heartbeat {
        Heartbeat { instance: instance.into(), every_ms, bye: false }
    }

    fn ups(instances: &Instances, now_ms: u64) -> Vec<&str> {
        instances.all().filter(|(_, heard)| heard.is_up(now_ms)).map(|(instance, _)| instance).collect()
    }

    #[test]
    fn an_instance_is_down_after_three_missing_heartbeats() {
        let mut instances = Instances::default();
        instances.record(&beat("slow", 1_000), 0, 0);
        instances.record(&beat("quick", 100), 0, 0);
        assert_eq!((ups(&instances, 299), ups(&instances, 300)), (vec!["quick", "slow"], vec!["slow"]));
        assert_eq!((instances.next_down_ms(0), instances.next_down_ms(300)), (Some(300), Some(3_000)));
        assert_eq!((instances.up(2_999), instances.up(3_000)), (Some(true), Some(false)));
        instances.record(&beat("quick", 100), 2_950, 0);
        assert_eq!(instances.up(3_000), Some(true), "one live instance is enough");
        assert_eq!(instances.next_down_ms(9_000), None);
    }

    #[test]
    fn the_age_of_a_heartbeat_counts_towards_its_interval() {
        let mut instances = Instances::default();
        instances.record(&beat("one", 1_000), 500, 2_900);
        assert_eq!((instances.up(599), instances.up(600)), (Some(true), Some(false)));
        assert_eq!(instances.all().map(|(_, heard)| heard.at_ms).collect::<Vec<_>>(), [-2_400]);
        instances.record(&beat("one", 1_000), 700, 5_000);
        assert_eq!(instances.up(700), Some(false));
    }

    #[test]
    fn an_instance_is_forgotten_by_its_bye_and_up_after_its_next_heartbeat() {
        let mut instances = Instances::default();
        instances.record(&beat("one", 1_000), 0, 0);
        instances.record(&Heartbeat { bye: true, ..beat("one", 1_000) }, 10, 0);
        assert_eq!(instances.up(10), None);
        instances.record(&beat("silent", 1), 10, 0);
        instances.record(&Heartbeat { bye: true, ..beat("one", 1_000) }, 20, 0);
        assert_eq!(instances.up(20), Some(false), "the other instance did not say bye");
        instances.forget("silent");
        instances.record(&beat("one", 1_000), 20, 0);
        assert_eq!(instances.up(20), Some(true));
        instances.forget("one");
        assert_eq!(instances.up(20), None);
    }

    #[test]
    fn a_service_without_heartbeats_for_ten_minutes_is_not_judged() {
        let mut instances = Instances::default();
        assert_eq!(instances.up(0), None, "no heartbeat was ever sent");
        instances.record(&beat("old", 1_000), 0, Instances::FORGOTTEN_MS);
        assert_eq!(instances.up(0), None);
        instances.record(&beat("one", 1_000), 0, 0);
        assert_eq!((instances.up(599_999), instances.up(600_000)), (Some(false), None));
        // An interval of five minutes means down after fifteen, and no verdict only then.
        instances.record(&beat("rare", 300_000), 0, 0);
        assert_eq!((instances.up(899_999), instances.up(900_000)), (Some(true), None));
    }

    #[test]
    fn the_number_of_instances_is_bounded_and_the_oldest_heartbeat_is_dropped() {
        let mut instances = Instances::default();
        for n in 0..=Instances::MAX as u64 {
            instances.record(&beat(&format!("i{n}"), 1_000), n, 0);
        }
        assert_eq!(instances.all().count(), Instances::MAX);
        assert!(instances.all().all(|(instance, _)| instance != "i0"));
    }

    /// One parser for all readers: readers that parse differently would reach different verdicts.
    #[test]
    fn a_record_that_is_not_a_heartbeat_is_refused_and_changes_nothing() {
        let envelope = |kind| crate::Envelope::new(kind, "one/1", "/spoke/speaker");
        let good = r#"{"instance":"one","every_ms":500,"bye":false}"#;
        let take = |kind: Kind, key: Option<&[u8]>, body: &str| {
            let mut instances = Instances::default();
            let mut headers = Vec::new();
            envelope(kind).write(|name, value| headers.push((name.to_owned(), value.to_owned())));
            let head = EnvelopeRef::parse(headers.iter().map(|(name, value)| (name, value.as_bytes())));
            let taken = instances.read(head, key, body.as_bytes(), 0, 0);
            assert_eq!(instances.up(0), taken.is_ok().then_some(true), "{taken:?}");
            taken
        };
        let one: Option<&[u8]> = Some(b"one");
        assert_eq!(take(Kind::Heartbeat, one, good), Ok(()));
        for (kind, key, body, why) in [
            (Kind::Reply, one, good, "`ce_type` is `nave.reply`"),
            (Kind::Heartbeat, None, good, "its key is not UTF-8"),
            (Kind::Heartbeat, Some(&b"two"[..]), good, "`instance` is `one`"),
            (Kind::Heartbeat, one, "null", "its body"),
            (Kind::Heartbeat, one, r#"{"instance":"one"}"#, "`every_ms`"),
            (Kind::Heartbeat, one, r#"{"instance":"one","every_ms":0}"#, "`every_ms` is 0"),
            (Kind::Heartbeat, one, r#"{"instance":"one","every_ms":5,"by":true}"#, "`by`"),
        ] {
            let error = take(kind, key, body).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let no_headers = EnvelopeRef::parse([] as [(&str, &[u8]); 0]);
        let error = Instances::default().read(no_headers, one, good.as_bytes(), 0, 0).unwrap_err();
        assert_eq!(error, "`ce_specversion` is missing");
    }

    #[test]
    fn an_interval_of_any_length_does_not_overflow() {
        let mut instances = Instances::default();
        instances.record(&beat("one", u64::MAX), u64::MAX - 1, 5);
        assert_eq!(instances.up(u64::MAX - 1), Some(true));
    }
}
