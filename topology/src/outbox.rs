//! The decisions of a step: effects as data, which the shard performs.

use std::borrow::Cow;
use std::sync::Arc;

use bus::Route;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wire::answer::Resource;
use wire::{Envelope, Kind, OperationId};

use crate::counts::Counts;
use crate::place::LaneInfo;

/// A record to write. The shard sets its time and its expiry when it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub route: Route,
    /// The key.
    pub key: Option<Bytes>,
    /// The headers without `ce_time`. If `ce_expirytime` is set, the record expires then or
    /// earlier.
    pub envelope: Envelope,
    /// Lifetime of the record in milliseconds. It starts when the record is sent or, if a tuple of
    /// another stage caused the record, when that tuple was sent.
    pub expires_after_ms: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// Returns a record that publishes a resource outside operations in the views of the lane's
    /// stage.
    pub fn resource_view(resource: &Resource, lane: &LaneInfo) -> Self {
        let name = format!("resource/{}/{}", resource.kind, resource.key);
        let mut envelope = Envelope::new(Kind::View, name.as_str(), lane.source());
        envelope.subject = Some("resource".into());
        let body = resource.value.as_ref().map(|_| serde_json::to_vec(resource).expect("a resource is plain data"));
        Self {
            topic: lane.names.view(&lane.topology, &lane.stage).into(),
            route: Route::To(lane.lane),
            key: Some(Bytes::from(name)),
            envelope,
            expires_after_ms: None,
            body: body.unwrap_or_default().into(),
        }
    }
}

/// A change of a lane's timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerEffect {
    /// Appends a timeout to the inbox `after_ms` after the commit of this effect. Arming an armed
    /// timer replaces it.
    Arm {
        /// The number of the timer in its component.
        timer: u64,
        /// Returned with the timeout; distinguishes the timer from earlier ones with the same
        /// number.
        generation: u64,
        /// The delay, in milliseconds.
        after_ms: u64,
    },
    /// Disarms a timer. Disarming a timer that is not armed has no effect.
    Disarm {
        /// The number of the timer in its component.
        timer: u64,
    },
}

/// The body of a timeout record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// The number of the timer in its component.
    pub timer: u64,
    /// The generation with which it was armed.
    pub generation: u64,
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Details for debugging.
    Debug,
    /// Normal events: at most a few lines per operation.
    Info,
    /// A recovered error.
    Warn,
    /// An error that needs a person.
    Error,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// The operation that it concerns.
    pub operation: Option<OperationId>,
    /// The text.
    pub text: Cow<'static, str>,
}

/// A change of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewChange {
    /// The component that has the view.
    pub component: u16,
    /// The key.
    pub key: Arc<str>,
    /// True for the last change: the published view is deleted in the same commit.
    pub last: bool,
}

/// All decisions of one or more steps. A replay uses only `timers` and `views`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Records to write, in order.
    pub messages: Vec<Message>,
    /// Timers to arm and disarm, in order, each with the number of its component.
    pub timers: Vec<(u16, TimerEffect)>,
    /// Changed views.
    pub views: Vec<ViewChange>,
    /// Increments of counters.
    pub counts: Counts,
    /// Log lines, at most [`Effects::LINES`] per step.
    pub lines: Vec<Line>,
}

impl Effects {
    /// Maximum number of log lines per step; more are dropped.
    pub const LINES: usize = 64;

    /// True if there are no decisions.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.timers.is_empty()
            && self.views.is_empty()
            && self.counts.is_empty()
            && self.lines.is_empty()
    }
}
