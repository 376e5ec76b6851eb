//! Options of a spoke.

use wire::topics::Topics;

/// Options of a [`crate::SpokeTask`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpokeOptions {
    /// Heartbeats; without them workers judge the service by its answers. A test that polls until
    /// everything is idle never ends with heartbeats.
    pub heartbeats: Option<Heartbeats>,
}

/// How an instance says that it is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// The topic of the heartbeats, see [`Topics::alive`]. The submission of a topology creates it.
    pub topic: String,
    /// The instance: unique among all that are alive, such as the name of the member.
    pub instance: String,
    /// Interval in milliseconds.
    pub every_ms: u64,
}

impl Heartbeats {
    /// Three missing heartbeats mean down: at 500 ms that is well within the timeout of a call.
    pub const EVERY_MS: u64 = 500;

    /// Heartbeats of `instance` of `service`, one every [`Heartbeats::EVERY_MS`].
    pub fn new(names: &Topics, service: &str, instance: &str) -> Self {
        Self { topic: names.alive(service), instance: instance.into(), every_ms: Self::EVERY_MS }
    }
}
