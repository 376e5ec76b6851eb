//! Answers and views as a hub and a worker would write them.

use bus::Outgoing;
use serde_json::json;
use wire::answer::{Answer, Entry, Operation, PendingCall, Step};
use wire::{CallId, Code, Envelope, Kind, OperationId, Problem, WallTime};

pub(crate) const INBOX: &str = "nave.flows.hub.in";
pub(crate) const EGRESS: &str = "nave.flows.hub.out";
pub(crate) const VIEW: &str = "nave.flows.hub.view";

/// A view of an operation that works.
pub(crate) fn running(operation: &OperationId, happened: u32) -> Operation {
    let call = CallId::new(operation.clone(), 1, 8);
    let pending =
        PendingCall { call, what: "install rule 8 on of:08".into(), service: "speaker".into(), conversation: None };
    Operation {
        operation: operation.clone(),
        key: "test-01".into(),
        workflow: "create-flow".into(),
        state: "installing".into(),
        live: true,
        queue: None,
        step: Some(Step { number: 1, name: "install".into(), calls: 10, done: 9, pending: vec![pending] }),
        until: None,
        signal: None,
        history: (1..=happened).map(|seq| Entry { seq, at: WallTime(1), what: "something".into() }).collect(),
        answer: None,
    }
}

/// The same with its last word.
pub(crate) fn ended(operation: &OperationId, answer: Answer) -> Operation {
    Operation { state: "ended".into(), live: false, step: None, answer: Some(answer), ..running(operation, 3) }
}

/// The flow is there.
pub(crate) fn up(operation: &OperationId, existed: bool) -> Answer {
    let message = "all operation is successful";
    Answer::Done(json!({"message": message, "flowid": "test-01", "operation": operation, "existed": existed}))
}

/// The flow failed with this code.
pub(crate) fn failed(operation: &OperationId, code: Code) -> Answer {
    Answer::Failed(json!({
        "code": code, "message": "error in hub by timeout", "flowid": "test-01", "operation": operation, "origin": "hub",
        "step": "installing", "detail": "rule 5 was lost", "degraded": false, "left": [],
    }))
}

/// It was not accepted.
pub(crate) fn refused(code: Code) -> Answer {
    Answer::Refused(Problem::new(code, "for a reason"))
}

/// A record for the egress or view topic; `causation` is the `ce_id` that is answered.
pub(crate) fn about(kind: Kind, operation: &Operation, causation: &str) -> Outgoing {
    let mut envelope = Envelope::new(kind, "answer", "/nave/flows/hub/0");
    envelope.subject = Some("operation".into());
    envelope.operation = Some(operation.operation.clone());
    envelope.causation = Some(causation.into());
    let topic = if kind == Kind::Answer { EGRESS } else { VIEW };
    let value = serde_json::to_vec(operation).expect("an operation can be written");
    Outgoing::keyed(topic, operation.operation.to_string(), value).with(&envelope)
}
