//! What goes out.

use bus::{Outgoing, Route};
use bytes::Bytes;
use wire::speaker::{Refusal, Reply};
use wire::{Envelope, Kind, WallTime};

use crate::flaw::Flaw;

/// Who speaks: the `ce_source` of every answer.
pub const SOURCE: &str = "/spoke/speaker";

/// What is told to somebody who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The key of the request.
    pub key: Option<Bytes>,
    /// The envelope of the request.
    pub request: Envelope,
    /// What is said.
    pub body: Body,
    /// What a fault makes wrong with it.
    pub flaw: Option<Flaw>,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// It was done.
    Reply(Reply),
    /// It was not done and will not be.
    Refusal(Refusal),
    /// It was not done: try again.
    Failure(Refusal),
}

impl Answer {
    /// The record that tells it; none where the request did not say whom to tell.
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
            Some(flaw) => flaw.spoil(envelope, outgoing),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_where_the_request_says_and_names_it() {
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
    fn an_answer_to_nobody_is_no_record() {
        let request = Envelope::new(Kind::Call, "7f3a/1/1/speaker/2", "/nave/flows/hub/3");
        let answer = Answer { key: None, request, body: Body::Reply(Reply::Found { rule: None }), flaw: None };
        assert_eq!(answer.outgoing(WallTime(7)), None);
    }
}
