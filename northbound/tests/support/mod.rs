//! Answers and views, as written by a hub and a worker.

use bus::Outgoing;
use serde_json::json;
use wire::answer::{Answer, HistoryEntry, Operation, PendingCall, Step};
use wire::{CallId, Code, Envelope, Kind, OperationId, Problem, WallTime};

pub(crate) const INBOX: &str = "nave.flows.hub.in";
pub(crate) const EGRESS: &str = "nave.flows.hub.out";
pub(crate) const VIEW: &str = "nave.flows.hub.view";

/// The view of a running operation.
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
        history: (1..=happened).map(|seq| HistoryEntry { seq, at: WallTime(1), what: "something".into() }).collect(),
        answer: None,
    }
}

/// The view of an ended operation.
pub(crate) fn ended(operation: &OperationId, answer: Answer) -> Operation {
    Operation { state: "ended".into(), live: false, step: None, answer: Some(answer), ..running(operation, 3) }
}

/// The answer of a created or existing flow.
pub(crate) fn up(operation: &OperationId, existed: bool) -> Answer {
    let message = "all operation is successful";
    Answer::Done(json!({"message": message, "flowid": "test-01", "operation": operation, "existed": existed}))
}

/// The answer of a flow that failed with this code.
pub(crate) fn failed(operation: &OperationId, code: Code) -> Answer {
    let more = json!({
        "message": "error in hub by timeout", "flowid": "test-01", "operation": operation, "origin": "hub",
        "step": "installing", "degraded": false, "left": [],
    });
    Answer::failed(code, "rule 5 was lost", more)
}

/// The answer of a refused request.
pub(crate) fn refused(code: Code) -> Answer {
    Answer::Refused(Problem::new(code, "for a reason"))
}

/// A record of the egress or view topic; `causation` is the `ce_id` of the answered record.
pub(crate) fn about(kind: Kind, operation: &Operation, causation: &str) -> Outgoing {
    let mut envelope = Envelope::new(kind, "answer", "/nave/flows/hub/0");
    envelope.subject = Some("operation".into());
    envelope.operation = Some(operation.operation.clone());
    envelope.causation = Some(causation.into());
    let topic = if kind == Kind::Answer { EGRESS } else { VIEW };
    let value = serde_json::to_vec(operation).expect("an operation can be written");
    Outgoing::keyed(topic, operation.operation.to_string(), value).with(&envelope)
}
