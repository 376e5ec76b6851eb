//! What a step decides: effects as data, performed by the shell around the lane.

use std::borrow::Cow;
use std::sync::Arc;

use bus::Route;
use bytes::Bytes;
use wire::answer::Resource;
use wire::{Envelope, Kind, OperationId};

use crate::component::LaneInfo;
use crate::counts::Counts;

/// A record to be written. The shell stamps its time and its expiry when it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// Which partition.
    pub route: Route,
    /// The key.
    pub key: Option<Bytes>,
    /// The headers, but for `ce_time`. Where it has a `ce_expirytime`, the record expires then or earlier.
    pub envelope: Envelope,
    /// The record is of no use so many milliseconds after it was sent; where a tuple of another stage asks for it, after that was.
    pub expires_after_ms: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// A record for those who follow what there is: a thing outside operations, in the views of the lane's stage.
    pub fn shown(resource: &Resource, lane: &LaneInfo) -> Self {
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
    /// Append a timeout to the inbox, `after_ms` from the commit of this effect. A timer that is armed already is armed anew.
    Arm {
        /// Which timer of the component.
        timer: u64,
        /// Comes back with the timeout, to tell a timer from the one that had its number before.
        generation: u32,
        /// In milliseconds.
        after_ms: u64,
    },
    /// Forget a timer. One that is not armed is no fault.
    Disarm {
        /// Which timer of the component.
        timer: u64,
    },
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For those who look for something.
    Debug,
    /// Worth a line: at most a few for each operation.
    Info,
    /// Went wrong, and was recovered.
    Warn,
    /// A person is needed.
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// The operation it is about.
    pub operation: Option<OperationId>,
    /// What happened.
    pub text: Cow<'static, str>,
}

/// That the view of a key has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewChange {
    /// The component whose view it is.
    pub component: u16,
    /// The key.
    pub key: Arc<str>,
    /// True for the last change: what was published is deleted in the same commit.
    pub last: bool,
}

/// All that one or more steps decided. On replay, all but `timers` and `views` is dropped.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// Records to be written, in order.
    pub messages: Vec<Message>,
    /// Timers to arm and to disarm, in order, each with the number of its component.
    pub timers: Vec<(u16, TimerEffect)>,
    /// Views that have changed.
    pub views: Vec<ViewChange>,
    /// Counters that have grown.
    pub counts: Counts,
    /// Lines for the log, bounded by [`Effects::LINES`] a step.
    pub lines: Vec<Line>,
}

impl Effects {
    /// More lines than this in one step say nothing new: the rest is counted, not written.
    pub const LINES: usize = 64;

    /// True where nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.timers.is_empty()
            && self.views.is_empty()
            && self.counts.is_empty()
            && self.lines.is_empty()
    }
}
