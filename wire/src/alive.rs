//! Which spokes live, and the one rule by which they are judged.
//!
//! Heartbeats are optional. They travel on a topic of their own ([`crate::topics::Topics::alive`]) and stay outside lanes:
//! only a change, up or down, enters an inbox.
//!
//! | an instance of a spoke | is |
//! |---|---|
//! | sent a heartbeat less than [`Instances::MISSED`] of its own intervals ago | up |
//! | sent none for that long | down |
//! | said goodbye | not known any more |
//!
//! | a service | is |
//! |---|---|
//! | has an instance that is up | up |
//! | has none that is up, and heard from one in the last ten minutes ([`Instances::FORGOTTEN_MS`]) | down |
//! | heard from none for longer, or never, or from nobody but instances that said goodbye | not judged: by its answers alone |
//!
//! A service that stopped in order may come back as one that sends no heartbeats, so a goodbye makes none compulsory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Head, Kind, WireError};

/// The body of `nave.heartbeat`. The record's key is `instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Which instance of the spoke: unique among all that live.
    pub instance: String,
    /// The next heartbeat comes within so many milliseconds, at the latest.
    pub every_ms: u64,
    /// True: it stops now, in order, and there is no next one.
    #[serde(default)]
    pub bye: bool,
}

/// The body of `nave.liveness`: what a shell tells each of its lanes when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Which service.
    pub service: String,
    /// True where an instance lives, false where none does; none where heartbeats do not say, and its answers decide.
    pub up: Option<bool>,
}

/// The instances of one service, as their heartbeats say. All times are milliseconds of one clock of the caller's.
///
/// ```
/// use wire::alive::{Heartbeat, Instances};
///
/// let mut instances = Instances::default();
/// assert_eq!(instances.up(0), None);
/// instances.hear(&Heartbeat { instance: "speaker-1".into(), every_ms: 500, bye: false }, 10_000, 0);
/// assert_eq!((instances.up(11_499), instances.up(11_500)), (Some(true), Some(false)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Instances(BTreeMap<String, Heard>);

/// The last heartbeat of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// When it was sent; negative where that was before the clock began.
    pub at_ms: i64,
    /// Within how many milliseconds of it the next one comes.
    pub every_ms: u64,
    /// The instance is up until then.
    until_ms: u64,
    /// From then on the heartbeat says nothing any more.
    forgotten_ms: u64,
}

impl Heard {
    /// True where the instance is up.
    pub fn is_up(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

impl Instances {
    /// Number of heartbeats in a row that are missing when an instance is down: one may be late, and one lost.
    pub const MISSED: u64 = 3;
    /// A heartbeat that is older says nothing: the instance that sent it may have been replaced by one that sends none. Ten minutes are longer than
    /// a restart takes.
    pub const FORGOTTEN_MS: u64 = 600_000;
    /// Maximum number of instances; one more, and the one that was silent for longest is forgotten. More than a service has, and few enough
    /// to be listed.
    pub const MOST: usize = 1_000;

    /// Takes a record of the topic of heartbeats that is read now and was sent `age_ms` ago. Everybody who judges a service reads
    /// its heartbeats here, so that no two come to different verdicts.
    ///
    /// # Errors
    /// Why it is no heartbeat, in words. Nothing has changed then.
    pub fn take(
        &mut self,
        head: Result<Head<'_>, WireError>,
        key: Option<&[u8]>,
        body: &[u8],
        now_ms: u64,
        age_ms: u64,
    ) -> Result<(), String> {
        let key = key.and_then(|key| std::str::from_utf8(key).ok()).ok_or("its key is no text")?;
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
        self.hear(&beat, now_ms, age_ms);
        Ok(())
    }

    /// Takes a heartbeat that is heard now, and was sent `age_ms` ago.
    pub fn hear(&mut self, beat: &Heartbeat, now_ms: u64, age_ms: u64) {
        if beat.bye {
            return self.forget(&beat.instance);
        }
        let lives_ms = beat.every_ms.saturating_mul(Self::MISSED);
        let known_ms = lives_ms.max(Self::FORGOTTEN_MS);
        if age_ms >= known_ms {
            return;
        }
        let after = |ms: u64| now_ms.saturating_add(ms.saturating_sub(age_ms));
        let heard = Heard {
            at_ms: now_ms.cast_signed().saturating_sub_unsigned(age_ms),
            every_ms: beat.every_ms,
            until_ms: after(lives_ms),
            forgotten_ms: after(known_ms),
        };
        self.0.insert(beat.instance.clone(), heard);
        if self.0.len() > Self::MOST {
            let oldest = self.0.iter().min_by_key(|(_, heard)| heard.at_ms).map(|(instance, _)| instance.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
    }

    /// Nothing is known of an instance any more.
    pub fn forget(&mut self, instance: &str) {
        self.0.remove(instance);
    }

    /// Whether the service is up; none where it is not judged.
    pub fn up(&self, now_ms: u64) -> Option<bool> {
        let is_known = self.0.values().any(|heard| now_ms < heard.forgotten_ms);
        is_known.then(|| self.0.values().any(|heard| heard.is_up(now_ms)))
    }

    /// When the next instance goes down, unless it is heard.
    pub fn next_down_ms(&self, now_ms: u64) -> Option<u64> {
        self.0.values().filter(|heard| heard.is_up(now_ms)).map(|heard| heard.until_ms).min()
    }

    /// Every instance that is known, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Heard)> {
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
    fn an_instance_is_down_when_three_of_its_own_heartbeats_are_missing() {
        let mut instances = Instances::default();
        instances.hear(&beat("slow", 1_000), 0, 0);
        instances.hear(&beat("quick", 100), 0, 0);
        assert_eq!((ups(&instances, 299), ups(&instances, 300)), (vec!["quick", "slow"], vec!["slow"]));
        assert_eq!((instances.next_down_ms(0), instances.next_down_ms(300)), (Some(300), Some(3_000)));
        assert_eq!((instances.up(2_999), instances.up(3_000)), (Some(true), Some(false)));
        instances.hear(&beat("quick", 100), 2_950, 0);
        assert_eq!(instances.up(3_000), Some(true), "one is enough");
        assert_eq!(instances.next_down_ms(9_000), None);
    }

    #[test]
    fn the_age_of_a_heartbeat_counts() {
        let mut instances = Instances::default();
        instances.hear(&beat("one", 1_000), 500, 2_900);
        assert_eq!((instances.up(599), instances.up(600)), (Some(true), Some(false)));
        assert_eq!(instances.all().map(|(_, heard)| heard.at_ms).collect::<Vec<_>>(), [-2_400]);
        instances.hear(&beat("one", 1_000), 700, 5_000);
        assert_eq!(instances.up(700), Some(false));
    }

    #[test]
    fn an_instance_that_says_goodbye_is_not_judged_and_up_when_it_is_heard_again() {
        let mut instances = Instances::default();
        instances.hear(&beat("one", 1_000), 0, 0);
        instances.hear(&Heartbeat { bye: true, ..beat("one", 1_000) }, 10, 0);
        assert_eq!(instances.up(10), None);
        instances.hear(&beat("silent", 1), 10, 0);
        instances.hear(&Heartbeat { bye: true, ..beat("one", 1_000) }, 20, 0);
        assert_eq!(instances.up(20), Some(false), "the other one did not say goodbye");
        instances.forget("silent");
        instances.hear(&beat("one", 1_000), 20, 0);
        assert_eq!(instances.up(20), Some(true));
        instances.forget("one");
        assert_eq!(instances.up(20), None);
    }

    #[test]
    fn a_service_that_was_not_heard_for_ten_minutes_is_not_judged() {
        let mut instances = Instances::default();
        assert_eq!(instances.up(0), None, "it never sent any");
        instances.hear(&beat("old", 1_000), 0, Instances::FORGOTTEN_MS);
        assert_eq!(instances.up(0), None);
        instances.hear(&beat("one", 1_000), 0, 0);
        assert_eq!((instances.up(599_999), instances.up(600_000)), (Some(false), None));
        // One that beats every five minutes is down after fifteen, and not forgotten before.
        instances.hear(&beat("rare", 300_000), 0, 0);
        assert_eq!((instances.up(899_999), instances.up(900_000)), (Some(true), None));
    }

    #[test]
    fn the_number_of_instances_is_bounded_and_who_was_silent_longest_goes() {
        let mut instances = Instances::default();
        for n in 0..=Instances::MOST as u64 {
            instances.hear(&beat(&format!("i{n}"), 1_000), n, 0);
        }
        assert_eq!(instances.all().count(), Instances::MOST);
        assert!(instances.all().all(|(instance, _)| instance != "i0"));
    }

    /// Readers that parse heartbeats differently would judge a service differently.
    #[test]
    fn what_is_no_heartbeat_is_named_and_changes_nothing() {
        let envelope = |kind| crate::Envelope::new(kind, "one/1", "/spoke/speaker");
        let good = r#"{"instance":"one","every_ms":500,"bye":false}"#;
        let take = |kind: Kind, key: Option<&[u8]>, body: &str| {
            let mut instances = Instances::default();
            let mut headers = Vec::new();
            envelope(kind).write(|name, value| headers.push((name.to_owned(), value.to_owned())));
            let head = Head::of(headers.iter().map(|(name, value)| (name, value.as_bytes())));
            let taken = instances.take(head, key, body.as_bytes(), 0, 0);
            assert_eq!(instances.up(0), taken.is_ok().then_some(true), "{taken:?}");
            taken
        };
        let one: Option<&[u8]> = Some(b"one");
        assert_eq!(take(Kind::Heartbeat, one, good), Ok(()));
        for (kind, key, body, why) in [
            (Kind::Reply, one, good, "`ce_type` is `nave.reply`"),
            (Kind::Heartbeat, None, good, "its key is no text"),
            (Kind::Heartbeat, Some(&b"two"[..]), good, "`instance` is `one`"),
            (Kind::Heartbeat, one, "null", "its body"),
            (Kind::Heartbeat, one, r#"{"instance":"one"}"#, "`every_ms`"),
            (Kind::Heartbeat, one, r#"{"instance":"one","every_ms":0}"#, "`every_ms` is 0"),
            (Kind::Heartbeat, one, r#"{"instance":"one","every_ms":5,"by":true}"#, "`by`"),
        ] {
            let told = take(kind, key, body).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let no_headers = Head::of([] as [(&str, &[u8]); 0]);
        let told = Instances::default().take(no_headers, one, good.as_bytes(), 0, 0).unwrap_err();
        assert_eq!(told, "`ce_specversion` is missing");
    }

    #[test]
    fn an_interval_of_any_length_overflows_nothing() {
        let mut instances = Instances::default();
        instances.hear(&beat("one", u64::MAX), u64::MAX - 1, 5);
        assert_eq!(instances.up(u64::MAX - 1), Some(true));
    }
}
