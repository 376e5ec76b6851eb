//! Records and tuples that a lane cannot handle: notices to their senders, and dead letters.

use std::sync::Arc;

use bus::{Record, Route};
use bytes::Bytes;
use wire::{Envelope, EnvelopeRef, Kind, RawHeaders};

use super::{Lane, head_bytes};
use crate::input::{Rejected, Unreadable};
use crate::names;
use crate::outbox::{Level, Message};

/// Tuples to send to the dead-letter topic.
#[derive(Clone, Copy)]
pub(super) struct DeadTuples<'a> {
    /// The record of the step; `None` if a spout of the lane emitted the tuples.
    pub(super) record: Option<&'a Record>,
    pub(super) head: Option<&'a EnvelopeRef<'a>>,
    /// The component or the edge; `None` if the lane found no recipient for the record.
    pub(super) place: Option<&'a str>,
    pub(super) reason: &'a str,
    pub(super) tuples: usize,
}

impl Lane {
    /// Maximum length in bytes of the record's value in its dead letter.
    pub const DEAD_BYTES: usize = 64 << 10;

    /// Lets a spout notify the sender that its record cannot be handled. Records with oversized
    /// headers get no notification.
    pub(super) fn reject(&mut self, record: &Record, reason: &str) {
        if head_bytes(record) > Self::HEAD_BYTES {
            return;
        }
        let rejected = Rejected { texts: RawHeaders::of(record.headers.iter()), record, reason };
        let _told = self.nodes.iter_mut().any(|lane_node| lane_node.node.reject(&rejected));
    }

    /// Sends the failures of a step to the dead-letter topic: one letter per component or edge, and one
    /// for each record that a spout could not read.
    pub(super) fn reject_failures(&mut self, record: Option<&Record>, head: Option<&EnvelopeRef<'_>>) {
        for failure in self.context.take_failures() {
            let place = self.name_of(&failure.place);
            let (place, reason, tuples) = (Some(&*place), failure.reason.as_str(), failure.tuples);
            let (record, head) = match &failure.record {
                Some(record) => (Some(record), None),
                None => (record, head),
            };
            self.send_to_dead_letters(&DeadTuples { record, head, place, reason, tuples });
        }
    }

    /// Writes a dead letter: a reference to the record, the place, the reason and the truncated
    /// record.
    pub(super) fn send_to_dead_letters(&mut self, rejected: &DeadTuples<'_>) {
        let DeadTuples { record, head, place, reason, tuples } = *rejected;
        let origin = record.map(|record| format!("{}/{}/{}", record.topic, record.partition, record.offset));
        let operation = head.and_then(|head| head.operation.clone());
        self.context.count(names::DEAD_LETTERS, Vec::new(), 1);
        let (recipient, cause) = (place.unwrap_or("the lane"), origin.as_deref().unwrap_or("its own spouts"));
        let text = format!("{recipient} cannot handle {tuples} tuple(s) of {cause}: {reason}");
        self.context.line(Level::Warn, operation.as_ref(), text.into());
        let body = serde_json::json!({
            "topic": record.map(|record| &*record.topic),
            "partition": record.map(|record| record.partition),
            "offset": record.map(|record| record.offset),
            "place": place,
            "tuples": tuples,
            "reason": reason.chars().take(Unreadable::MAX_CHARS).collect::<String>(),
            "headers": record.filter(|record| head_bytes(record) <= Self::HEAD_BYTES).map(headers_of),
            "record": record.map(|record| {
                String::from_utf8_lossy(&record.value[..record.value.len().min(Self::DEAD_BYTES)])
            }),
        });
        let source = self.context.info.source();
        let id = match (origin, place) {
            (Some(origin), None) => origin,
            (Some(origin), Some(place)) => format!("{origin}/{place}"),
            (None, place) => {
                self.rejected += 1;
                format!("{source}/{}/rejected/{}", place.unwrap_or_default(), self.rejected)
            }
        };
        let mut letter = Envelope::new(Kind::Dead, id, source);
        letter.operation = operation;
        letter.causation = head.map(|head| head.id.to_owned());
        self.context.effects.borrow_mut().messages.push(Message {
            topic: Arc::clone(&self.dead),
            route: Route::To(0),
            key: record.and_then(|record| record.key.clone()).filter(|key| key.len() <= Self::HEAD_BYTES),
            envelope: letter,
            expires_after_ms: None,
            body: Bytes::from(body.to_string()),
        });
    }
}

/// Returns the headers for a dead letter, in order.
fn headers_of(record: &Record) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    record.headers.iter().map(|(name, value)| (text(name.as_ref()), text(value))).collect()
}
