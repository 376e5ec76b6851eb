//! Test harness: one northbound or several on one bus, without a hub.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request};
use bus::{Bus, Cleanup, Clock, Embedded, EmbeddedOptions, ManualClock, Outgoing, Reader, Record, Task, TopicSpec};
use northbound::{Directory, Gateway, GatewayLimits, Inlet, Northbound, Outlet, control_record, router};
use serde_json::{Value, json};
use tower::ServiceExt;
use wire::answer::Answer;
use wire::control::{DeliveryMode, DesiredState, Submitted, SubmittedStage, WorkflowType};
use wire::topics::Topics;
use wire::{Code, Envelope, Kind, OperationId, WallTime};

use crate::support::{EGRESS, INBOX, VIEW, about, ended};

pub(crate) const LANES: u32 = 2;

/// One northbound without a hub.
pub(crate) struct Harness {
    pub(crate) bus: Embedded,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) inlet: Box<Inlet>,
    pub(crate) outlet: Box<Outlet>,
    pub(crate) state: Northbound,
    inbox: Box<dyn Reader>,
}

pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A topology with one stage.
pub(crate) fn submitted(name: &str, workflows: &[&str]) -> Submitted {
    let workflow = |workflow: &&str| WorkflowType {
        name: (*workflow).to_owned(),
        stage: "hub".into(),
        request: json!({"type": "object"}),
    };
    Submitted {
        name: name.into(),
        graph: wire::graph::Graph::default(),
        build: "test".into(),
        at: WallTime(1),
        desired: DesiredState::Run,
        threads: None,
        stages: vec![SubmittedStage {
            name: "hub".into(),
            lanes: LANES,
            mode: DeliveryMode::ExactlyOnce,
            topics: Vec::new(),
        }],
        settings: Value::Null,
        workflows: workflows.iter().map(workflow).collect(),
        services: vec!["speaker".into()],
        description: format!("topology {name}"),
    }
}

/// A northbound on a bus, after its first polls.
pub(crate) fn northbound(bus: &Embedded) -> (Box<Inlet>, Box<Outlet>, Northbound) {
    let directory = Arc::new(Directory::new(Topics::default(), GatewayLimits::default(), bus.clock()));
    let inlet = Inlet::open(bus).unwrap();
    let mut outlet = Outlet::follow(Arc::new(bus.clone()), Arc::clone(&directory)).unwrap();
    for _ in 0..3 {
        outlet.poll(Duration::ZERO).unwrap();
    }
    let mut state = Northbound::new(directory, inlet.handle());
    state.routes = [flows::rest_routes()].into();
    state.metrics = Arc::new(|| "nave_up 1\n".to_owned());
    (Box::new(inlet), Box::new(outlet), state)
}

impl Harness {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
        for topic in [INBOX, EGRESS, VIEW] {
            bus.ensure_topic(&TopicSpec::log(topic, LANES)).unwrap();
        }
        bus.ensure_topic(&TopicSpec::log("nave.control", 1).with_cleanup(Cleanup::Compact)).unwrap();
        let flows = submitted("flows", &["create-flow", "remove-flow", "trip"]);
        bus.writer("up").unwrap().append(&[control_record(&Topics::default(), &flows)]).unwrap();
        let (inlet, outlet, state) = northbound(&bus);
        let gateway = Arc::clone(&state.directory.topology("flows").unwrap().gateway);
        let mut inbox = bus.reader().unwrap();
        for lane in 0..LANES {
            inbox.assign(INBOX, lane, 0).unwrap();
        }
        Self { bus, clock, gateway, inlet, outlet, state, inbox }
    }

    pub(crate) fn write(&self, records: &[Outgoing]) {
        self.bus.writer("hub").unwrap().append(records).unwrap();
    }

    /// The new records of the inbox.
    pub(crate) fn new_requests(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.inbox.poll(100, Duration::ZERO, &mut records).unwrap();
        records
    }

    /// Polls everything once.
    pub(crate) fn poll(&mut self, hub: &mut impl FnMut(Envelope) -> Vec<Outgoing>) {
        self.inlet.poll(Duration::ZERO).unwrap();
        for record in self.new_requests() {
            self.write(&hub(request_headers(&record, "flows")));
        }
        self.outlet.poll(Duration::ZERO).unwrap();
    }

    /// Sends a request. `hub` gets each record of the inbox, and its results are written.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
        mut hub: impl FnMut(Envelope) -> Vec<Outgoing>,
    ) -> HttpReply {
        let mut response = pin!(router(self.state.clone()).oneshot(request));
        let mut done = None;
        // Ten polls are enough for all immediate reactions of the hub.
        for _ in 0..10 {
            if done.is_none() {
                done = poll_once(&mut response).await;
            }
            self.poll(&mut hub);
        }
        let response = match done {
            Some(response) => response,
            None => response.await,
        };
        let (parts, body) = response.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
        HttpReply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Sends a request and answers it.
    pub(crate) async fn send_answered(
        &mut self,
        request: Request<Body>,
        answer: impl Fn(&OperationId) -> Answer,
    ) -> HttpReply {
        self.send(request, |request| {
            let operation = request.operation.unwrap();
            vec![about(Kind::Answer, &ended(&operation, answer(&operation)), &request.id)]
        })
        .await
    }

    /// Sends a valid request to create a flow and answers it.
    pub(crate) async fn create(&mut self, answer: impl Fn(&OperationId) -> Answer) -> HttpReply {
        self.send_answered(flow(GOOD), answer).await
    }

    /// Sends a request that must not reach the hub.
    pub(crate) async fn send_local(&mut self, request: Request<Body>) -> HttpReply {
        self.send(request, |request| panic!("{request:?} must not reach the hub")).await
    }
}

/// Polls a future once. Returns its output if it is ready.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut *future).poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Polls a response once: up to the point where it waits for the inlet or the hub.
pub(crate) async fn poll_pending<F: Future + Unpin>(response: &mut F) {
    assert!(poll_once(response).await.is_none(), "there is an answer, although no hub runs");
}

pub(crate) const GOOD: &str = r#"{"flowid": "test-01", "length": 10, "error": null}"#;

pub(crate) fn request(method: &str, path: &str) -> Builder {
    Request::builder().method(method).uri(path)
}

pub(crate) fn post() -> Builder {
    request("POST", "/flow")
}

pub(crate) fn flow(body: &str) -> Request<Body> {
    post().body(Body::from(body.to_owned())).unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    bare("GET", path)
}

/// A request without a body.
pub(crate) fn bare(method: &str, path: &str) -> Request<Body> {
    request(method, path).body(Body::empty()).unwrap()
}

/// Asserts that the response is a problem with this status and code.
pub(crate) fn assert_problem(reply: &HttpReply, status: u16, code: &Code) {
    let HttpReply { body, headers, .. } = reply;
    assert_eq!(
        (reply.status, &body["code"], &body["status"]),
        (status, &json!(code.as_str()), &json!(status)),
        "{body}"
    );
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!((&body["type"], &body["title"]), (&json!(format!("urn:nave:{code}")), &json!(code.title())));
    assert!(body["detail"].is_string(), "{body}");
    assert_eq!(headers.contains_key("retry-after"), status == 429 || *code == Code::Overloaded);
    assert!(headers.contains_key("x-correlation-id"));
}

/// The headers of a request or a command, with its operation.
pub(crate) fn request_headers(record: &Record, topology: &str) -> Envelope {
    let mut envelope = record.headers.envelope().unwrap();
    if envelope.operation.is_none() {
        let key = std::str::from_utf8(record.key.as_deref().unwrap()).unwrap();
        envelope.operation = Some(envelope.requested_operation(topology, key));
    }
    envelope
}
