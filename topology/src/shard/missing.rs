//! Holds the commits of a shard while a topic that they write to does not exist.

use bus::MonoTime;
use wire::Code;

use super::Shard;
use super::owned::Phase;

/// Interval between two looks for a missing topic: each is a request to the bus.
const LOOK_MS: u64 = 1_000;

/// Interval between two log lines about a missing topic.
const LOG_MS: u64 = 60_000;

/// The topic for which commits are held.
#[derive(Debug)]
pub(super) struct MissingTopic {
    topic: String,
    /// When the next log line is due.
    log_at: MonoTime,
}

impl Shard {
    /// Holds the failed commit, and with it all lanes, until this topic exists.
    pub(super) fn hold_commits(&mut self, topic: String, now: MonoTime) {
        let known = self.queue.missing.take().filter(|known| known.topic == topic);
        self.queue.missing = Some(known.unwrap_or(MissingTopic { topic, log_at: now }));
        self.still_missing(now);
    }

    /// Returns true if no topic is known to be missing. Looks for a missing one, and continues if it
    /// exists again.
    pub(super) fn has_topics(&mut self) -> bool {
        let Some(MissingTopic { topic, .. }) = &self.queue.missing else { return true };
        let now = self.context.clock.mono();
        match self.context.bus.topic(topic) {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.still_missing(now);
                return false;
            }
            Err(error) => {
                tracing::warn!(stage = %self.context.options.stage, topic, %error, "cannot look for a missing topic; retrying");
                self.queue.retry_at(now.plus_ms(LOOK_MS));
                return false;
            }
        }
        tracing::info!(stage = %self.context.options.stage, topic, "a missing topic exists again: the lanes continue");
        self.queue.missing = None;
        self.mark_lanes(None);
        true
    }

    fn still_missing(&mut self, now: MonoTime) {
        self.queue.retry_at(now.plus_ms(LOOK_MS));
        self.mark_lanes(Some(&Code::NoTopic));
        if let Some(MissingTopic { topic, log_at }) = &mut self.queue.missing
            && *log_at <= now
        {
            *log_at = now.plus_ms(LOG_MS);
            let (stage, code) = (&self.context.options.stage, Code::NoTopic);
            let code = code.as_str();
            tracing::error!(
                stage,
                topic,
                code,
                "the stage writes to a topic that does not exist: its lanes are held until the topic is created"
            );
        }
    }

    /// Sets the condition that blocks the lanes. A claim sets that of its lane itself.
    fn mark_lanes(&self, why: Option<&Code>) {
        let claimed = self.owned.iter().filter(|(_, owned)| !matches!(owned.phase, Phase::Claiming { .. }));
        claimed.for_each(|(lane, _)| self.context.status.blocked(*lane, why));
    }
}
