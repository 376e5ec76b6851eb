//! The recipient of a record: the lane itself, an edge, a timer's bolt or a spout.

use std::sync::Arc;

use bus::{Record, Route};
use wire::header;
use wire::owner::OwnerRecord;
use wire::{EnvelopeRef, Kind, WireError};

use super::{Lane, LaneNode};
use crate::input::{Delivery, Unreadable};
use crate::names;
use crate::node::guarded;
use crate::outbox::{Message, Timeout};
use crate::place::{LaneInfo, Place};
use crate::settings::Settings;
use wire::graph::ComponentKind;

impl Lane {
    /// Passes a record to the component that handles it.
    ///
    /// # Errors
    /// If none does.
    pub(super) fn receive(&mut self, envelope: &EnvelopeRef<'_>, record: &Record) -> Result<(), Unreadable> {
        match envelope.kind {
            Kind::Owner => return self.take_settings(record),
            Kind::Tuple => return self.receive_tuple(envelope, record),
            Kind::Request | Kind::Command if self.is_misrouted(record) => return self.forward(envelope, record),
            Kind::Request
            | Kind::Command
            | Kind::Call
            | Kind::Undo
            | Kind::Reply
            | Kind::Refusal
            | Kind::Failure
            | Kind::Timeout
            | Kind::Heartbeat
            | Kind::Liveness
            | Kind::Answer
            | Kind::View
            | Kind::Dead => {}
        }
        if let Some(timed_out) = self.time_out(envelope, record) {
            return timed_out;
        }
        self.receive_by_spout(envelope, record)
    }

    /// Passes a record to the first spout that accepts it.
    fn receive_by_spout(&mut self, envelope: &EnvelopeRef<'_>, record: &Record) -> Result<(), Unreadable> {
        let node = (0..).zip(&mut self.nodes).find(|(_, lane_node)| lane_node.node.accepts(envelope));
        let (number, lane_node) = node.ok_or_else(|| Unreadable(not_accepted(envelope)))?;
        if let Err(Unreadable(reason)) = lane_node.node.receive(&Delivery { envelope, record }) {
            // A spout that emitted a tuple has already notified the sender.
            if self.context.ready.borrow().is_empty() {
                self.reject(record, &reason);
            }
            self.context.fail(Place::Component(number), reason, 1);
        }
        Ok(())
    }

    /// Calls the bolt whose own timer is due. `None` if the record is not such a timeout. The timeouts
    /// of a bolt that keeps timers for others go to its spout.
    fn time_out(&mut self, envelope: &EnvelopeRef<'_>, record: &Record) -> Option<Result<(), Unreadable>> {
        let component = envelope.subject.filter(|_| envelope.kind == Kind::Timeout)?;
        let bolt = |LaneNode { name, kind, node, .. }: &&mut LaneNode| {
            **name == *component && *kind == ComponentKind::Bolt && node.timer_for(0, 0).is_none()
        };
        let lane_node = self.nodes.iter_mut().find(bolt)?;
        let timeout = Delivery { envelope, record }.json();
        Some(timeout.map(|Timeout { timer, .. }| lane_node.node.on_timer(timer)))
    }

    fn take_settings(&mut self, record: &Record) -> Result<(), Unreadable> {
        let owner: OwnerRecord =
            serde_json::from_slice(&record.value).map_err(|error| Unreadable(error.to_string()))?;
        self.configure(Settings::new(owner.settings));
        self.nodes.iter_mut().for_each(|lane_node| lane_node.node.start());
        Ok(())
    }

    /// Applies new settings.
    pub(crate) fn configure(&mut self, settings: Settings) {
        if settings != self.settings {
            for LaneNode { node, .. } in &mut self.nodes {
                node.configure(&settings);
            }
            self.settings = settings;
        }
    }

    fn receive_tuple(&mut self, envelope: &EnvelopeRef<'_>, record: &Record) -> Result<(), Unreadable> {
        self.context.sent_time.set(envelope.time);
        let edge = envelope.subject.unwrap_or_default();
        let Some(decoder) = self.decoders.get(edge) else { return self.receive_by_spout(envelope, record) };
        let decoded = guarded(&self.context, || decoder.decode(&record.value, &self.context));
        if let Err(Unreadable(reason)) = decoded.unwrap_or_else(|panic| Err(Unreadable(panic))) {
            self.context.fail(Place::Edge(edge.into()), reason, 1);
        }
        Ok(())
    }

    /// True if the key of an external request belongs to another lane. Tuples, replies and timeouts
    /// name their lane.
    fn is_misrouted(&self, record: &Record) -> bool {
        let info = &self.context.info;
        record.key.as_ref().is_some_and(|key| wire::routing::lane_of(key, info.lanes) != info.lane)
    }

    /// Forwards a misrouted request to its lane with the same id, at most once: `ce_attempt` marks
    /// it.
    fn forward(&mut self, envelope: &EnvelopeRef<'_>, record: &Record) -> Result<(), Unreadable> {
        if envelope.attempt.is_some() {
            let LaneInfo { lane, lanes, .. } = self.context.info;
            let own = wire::routing::lane_of(record.key.as_deref().unwrap_or_default(), lanes);
            let attempt = envelope.attempt.unwrap_or_default();
            let reason = format!(
                "`ce_attempt` is `{attempt}`, so the request is not forwarded, and lane {lane} of {lanes} is not the lane of its key, \
                 which is {own}; leave `ce_attempt` out, or write to partition {own}"
            );
            return Err(Unreadable(reason));
        }
        if record.value.len() > Self::FORWARD_BYTES {
            return Err(Unreadable("it is in the wrong lane, and too large to forward".into()));
        }
        self.context.count(names::FORWARDED, Vec::new(), 1);
        let mut envelope = envelope.owned();
        envelope.attempt = Some(1);
        self.context.effects.borrow_mut().messages.push(Message {
            topic: Arc::clone(&self.context.info.inbox),
            route: Route::ByKey,
            key: record.key.clone(),
            envelope,
            expires_after_ms: None,
            body: record.value.clone(),
        });
        Ok(())
    }
}

/// Explains why no spout accepts a record with these headers.
fn not_accepted(envelope: &EnvelopeRef<'_>) -> String {
    let kind = envelope.kind;
    match (kind, envelope.causation) {
        (Kind::Reply | Kind::Refusal | Kind::Failure, None) => WireError::missing(header::CAUSATION_ID).to_string(),
        (Kind::Reply | Kind::Refusal | Kind::Failure, Some(message)) => {
            let allowed = "the ce_id of a request to a spoke of this stage: operation/step/n/service/attempt";
            WireError::new(header::CAUSATION_ID, message, allowed).to_string()
        }
        (Kind::Tuple, _) => {
            let name = envelope.subject.unwrap_or_default();
            format!("there is no edge and no source for clients of the name `{name}`")
        }
        _other => format!("no component takes {kind}"),
    }
}
