//! The output: answers.

use bus::{Outgoing, Route};
use bytes::Bytes;
use flow_messages::speaker::{Refusal, Reply};
use wire::{Envelope, Kind, WallTime};

use crate::flaw::Flaw;

/// The `ce_source` of every answer.
pub const SOURCE: &str = "/spoke/speaker";

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The key of the request.
    pub key: Option<Bytes>,
    /// The envelope of the request.
    pub request: Envelope,
    /// The content.
    pub body: Body,
    /// The flaw that an injected fault adds.
    pub flaw: Option<Flaw>,
}

/// The content of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The command was executed.
    Reply(Reply),
    /// The command was not executed, and never will be.
    Refusal(Refusal),
    /// The command was not executed; the worker should retry.
    Failure(Refusal),
}

impl Answer {
    /// Returns the record of the answer, or `None` if the request has no reply address.
    pub fn outgoing(self, wall: WallTime) -> Option<Outgoing> {
        let Self { key, mut request, body, flaw } = self;
        let (kind, value) = match &body {
            Body::Reply(reply) => (Kind::Reply, serde_json::to_vec(reply)),
            Body::Refusal(refusal) => (Kind::Refusal, serde_json::to_vec(refusal)),
            Body::Failure(refusal) => (Kind::Failure, serde_json::to_vec(refusal)),
        };
        let topic = request.reply_to.take()?;
        let route = request.reply_partition.map_or(Route::ByKey, Route::To);
        let mut envelope = request.into_answer(kind, SOURCE);
        envelope.time = Some(wall);
        let value = value.expect("texts and numbers can be written as JSON");
        let outgoing = Outgoing::packed(topic.into(), route, key.as_deref(), &envelope, value.into());
        Some(match flaw {
            None => outgoing,
            Some(flaw) => flaw.apply(envelope, outgoing),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_the_reply_address_and_names_its_request() {
        let mut request = Envelope::new(Kind::Call, "7f3a/1/1/speaker/2", "/nave/flows/hub/3");
        request.reply_to = Some("nave.flows.hub.in".into());
        request.reply_partition = Some(3);
        request.attempt = Some(2);
        let key = Some(Bytes::from_static(b"of:01"));
        let answer =
            Answer { key: key.clone(), request, body: Body::Reply(Reply::Removed { existed: true }), flaw: None };
        let record = answer.outgoing(WallTime(7)).unwrap();
        let envelope = record.headers.envelope().unwrap();
        assert_eq!((record.topic.as_ref(), record.route, record.key), ("nave.flows.hub.in", Route::To(3), key));
        assert_eq!((envelope.kind, envelope.source.as_str()), (Kind::Reply, SOURCE));
        assert_eq!(envelope.causation.as_deref(), Some("7f3a/1/1/speaker/2"));
        assert_eq!((envelope.attempt, envelope.time), (Some(2), Some(WallTime(7))));
        assert_eq!(record.value, r#"{"result":"removed","existed":true}"#);
    }

    #[test]
    fn an_answer_without_a_reply_address_has_no_record() {
        let request = Envelope::new(Kind::Call, "7f3a/1/1/speaker/2", "/nave/flows/hub/3");
        let answer = Answer { key: None, request, body: Body::Reply(Reply::Found { rule: None }), flaw: None };
        assert_eq!(answer.outgoing(WallTime(7)), None);
    }
}
