//! The pure core: from a request to a record, and from an answer to who waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bus::{Clock, Outgoing, Record};
use dashmap::DashMap;
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;
use wire::answer::{Answer, Conversations, Operation, Until};
use wire::request::Request;
use wire::routing::lane_of;
use wire::{Code, Envelope, Kind, OperationId, Problem};

use crate::known::Known;
use crate::metrics;
use crate::silence::{self, Silence};
use crate::ticket::{Place, Ticket, Told};

/// Who sends: the `ce_source` of every request.
pub const SOURCE: &str = "/nave/northbound";

/// The namespace in which an operation's id is made from its key and its idempotency key. It never changes: a repeat that
/// comes after an upgrade must find its operation.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e61_7665_6f70_4572_8a74_696f_6e2e_6964);

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// The topic that requests go to.
    pub inbox: String,
    /// The topic that answers come from.
    pub egress: String,
    /// The topic that the hub's views come from.
    pub view: String,
    /// Topics of more views: those of workers in stages of their own.
    pub more_views: Vec<String>,
    /// How many lanes were recorded for the inbox: its partitions.
    pub lanes: u32,
    /// So many requests of a lane may be unanswered; the next is told that the lane is busy. 256 is a quarter of a second
    /// at a thousand operations a second for each lane: enough to keep it at work, few enough that none waits long.
    pub max_unanswered_per_lane: usize,
    /// So many operations are known, the newest: at some 2 KB each, 20 MB.
    pub known_operations: usize,
    /// So long a request waits for its answer before it is told where to look for it: as long as the seed's northbound did.
    pub patience: Duration,
}

impl GatewayOptions {
    /// The options as they are unless somebody says otherwise.
    pub fn new(inbox: &str, egress: &str, view: &str, lanes: u32) -> Self {
        Self {
            inbox: inbox.into(),
            egress: egress.into(),
            view: view.into(),
            more_views: Vec::new(),
            lanes,
            max_unanswered_per_lane: 256,
            known_operations: 10_000,
            patience: Duration::from_secs(10),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission<'a> {
    /// The workflow's name.
    pub workflow: &'a str,
    /// The thing it is about: the record's key.
    pub key: &'a str,
    /// What the workflow is asked.
    pub request: Value,
    /// The client's name for this request, if it gave one.
    pub idempotency_key: Option<&'a str>,
    /// `traceparent`, passed on.
    pub trace: Option<String>,
    /// The id of this one HTTP request, fresh for each.
    pub http_id: Uuid,
}

/// Makes records of requests, and gives answers to those who wait.
pub struct Gateway {
    options: GatewayOptions,
    inbox: Arc<str>,
    clock: Arc<dyn Clock>,
    /// How many requests of each lane are unanswered.
    unanswered: Vec<AtomicUsize>,
    /// Who waits for which operation. As many as the places of all lanes, at most.
    waiters: DashMap<OperationId, Vec<Waiter>>,
    known: Known,
    silence: Silence,
}

#[derive(Debug)]
struct Waiter {
    id: Arc<str>,
    tell: oneshot::Sender<Told>,
}

impl Gateway {
    /// A gateway that knows nothing yet.
    ///
    /// # Panics
    /// Where there are no lanes, which no topology that was built has.
    pub fn new(options: GatewayOptions, clock: Arc<dyn Clock>) -> Self {
        assert!(options.lanes > 0, "a topology has at least one lane");
        Self {
            inbox: options.inbox.as_str().into(),
            unanswered: (0..options.lanes).map(|_| AtomicUsize::new(0)).collect(),
            waiters: DashMap::new(),
            known: Known::newest(options.known_operations),
            silence: Silence::new(options.lanes),
            options,
            clock,
        }
    }

    /// How it was set up.
    pub fn options(&self) -> &GatewayOptions {
        &self.options
    }

    /// Accepts a request: gives it an operation, a record and a place among those that wait. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Code::Busy`] where its lane has too many unanswered requests.
    pub fn submit(self: &Arc<Self>, submission: Submission<'_>) -> Result<Ticket, Problem> {
        let Submission { workflow, key, request, idempotency_key, trace, http_id } = submission;
        let operation = operation_of(key, idempotency_key, http_id);
        let lane = lane_of(key.as_bytes(), self.options.lanes);
        // Made first: from here on, whatever way this function ends, the place is given back.
        let place = self.take_place(lane, &operation, http_id)?;

        let mut envelope = Envelope::new(Kind::Request, place.id.as_ref(), SOURCE);
        envelope.subject = Some(key.into());
        envelope.time = Some(self.clock.wall());
        envelope.operation = Some(operation.clone());
        envelope.trace = trace;
        let body = Request { workflow: workflow.into(), request };
        let value = serde_json::to_vec(&body).expect("a JSON value can be written as JSON");
        let mut record = Outgoing::keyed("", key.as_bytes().to_vec(), value).with(&envelope).to(lane);
        record.topic = Arc::clone(&self.inbox);

        self.silence.asked(lane, self.clock.mono());
        let (tell, answer) = oneshot::channel();
        self.waiters.entry(operation.clone()).or_default().push(Waiter { id: Arc::clone(&place.id), tell });
        Ok(Ticket { operation, record, answer, place })
    }

    fn take_place(self: &Arc<Self>, lane: u32, operation: &OperationId, http_id: Uuid) -> Result<Place, Problem> {
        let most = self.options.max_unanswered_per_lane;
        let lane = lane as usize;
        let took = self.unanswered[lane]
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then_some(taken + 1));
        if took.is_err() {
            metrics::busy();
            return Err(Problem::new(
                Code::Busy,
                format!("{most} requests of lane {lane} are unanswered; try again later"),
            ));
        }
        metrics::unanswered(1.0);
        let id = http_id.to_string().into();
        Ok(Place { gateway: Arc::clone(self), lane, operation: operation.clone(), id })
    }

    pub(crate) fn give_back(&self, lane: usize, operation: &OperationId, id: &str) {
        self.take_waiters(operation, |waiter| &*waiter.id == id);
        self.unanswered[lane].fetch_sub(1, Ordering::AcqRel);
        metrics::unanswered(-1.0);
    }

    /// Takes those out who wait for `operation` and match.
    fn take_waiters(&self, operation: &OperationId, matches: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let Some(mut waiters) = self.waiters.get_mut(operation) else { return Vec::new() };
        let (taken, kept) = std::mem::take(&mut *waiters).into_iter().partition(matches);
        *waiters = kept;
        drop(waiters);
        self.waiters.remove_if(operation, |_, waiters| waiters.is_empty());
        taken
    }

    /// Tells the request `id` of `operation` that nobody can say what becomes of it.
    pub fn fail(&self, operation: &OperationId, id: &str, problem: &Problem) {
        for waiter in self.take_waiters(operation, |waiter| &*waiter.id == id) {
            tell(waiter, Err(problem.clone()));
        }
    }

    /// How many requests are unanswered, in all lanes.
    pub fn unanswered(&self) -> usize {
        self.unanswered.iter().map(|taken| taken.load(Ordering::Acquire)).sum()
    }

    /// How an operation stands, as far as is known here. Where its lane is silent, that is what it waits for.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        let mut operation = self.known.operation(id)?;
        let lane = lane_of(operation.key.as_bytes(), self.options.lanes);
        if let Some(silent) = self.silence.of(lane, self.clock.mono()).filter(|_| operation.live) {
            operation.until = Some(Until { what: silence::line(lane, silent), at: None });
        }
        Some(operation)
    }

    /// A line for each lane that was asked something and says nothing.
    pub fn silent_lanes(&self) -> Vec<String> {
        self.silence.lines(self.clock.mono())
    }

    /// What the request of `ticket` is shown when patience ends: the newest view, or that it was requested. From then on the
    /// operation is known here.
    pub fn so_far(&self, ticket: &Ticket, workflow: &str, key: &str) -> Operation {
        self.known.operation(&ticket.operation).unwrap_or_else(|| {
            let requested = Operation {
                operation: ticket.operation.clone(),
                key: key.into(),
                workflow: workflow.into(),
                state: "requested".into(),
                live: true,
                step: None,
                until: None,
                signal: None,
                history: Vec::new(),
                answer: None,
            };
            self.known.view(requested.clone(), self.clock.wall());
            requested
        })
    }

    /// Takes a record of the egress or of the view topic. One that cannot be read is counted and passed over.
    pub fn on_record(&self, record: &Record) {
        if let Err(why) = self.take(record) {
            let (topic, partition, offset) = (&*record.topic, record.partition, record.offset);
            tracing::warn!(topic, partition, offset, why, "a record cannot be read");
            metrics::unreadable();
        }
    }

    fn take(&self, record: &Record) -> Result<(), String> {
        let envelope = record.headers.envelope().map_err(|error| error.to_string())?;
        // Lanes of other stages have numbers of their own.
        if *record.topic == *self.options.egress || *record.topic == *self.options.view {
            self.silence.heard(record.partition);
        }
        let unreadable = |error: serde_json::Error| error.to_string();
        match (envelope.kind, envelope.subject.as_deref()) {
            (Kind::Answer, Some("operation")) => {
                let operation = serde_json::from_slice(&record.value).map_err(unreadable)?;
                self.answer(operation, &envelope, record);
            }
            (Kind::View, Some("operation")) if record.value.is_empty() => {
                self.known.forget(&named(envelope)?);
            }
            (Kind::View, Some("operation")) => {
                self.known.view(serde_json::from_slice(&record.value).map_err(unreadable)?, record.time);
            }
            (Kind::View, Some("conversations")) => {
                let key = record.key.clone().unwrap_or_default();
                if record.value.is_empty() {
                    self.known.conversations(&named(envelope)?, key, Vec::new());
                } else {
                    let view: Conversations = serde_json::from_slice(&record.value).map_err(unreadable)?;
                    self.known.conversations(&view.operation, key, view.calls);
                }
            }
            (Kind::View, Some("lane")) => {}
            (kind, subject) => return Err(format!("{kind} about {subject:?} is not for a northbound")),
        }
        Ok(())
    }

    /// A refusal concerns the one request that it names, and says nothing of the operation; any other answer is everybody's
    /// who waits for the operation.
    fn answer(&self, operation: Operation, envelope: &Envelope, record: &Record) {
        let id = operation.operation.clone();
        let refused = matches!(operation.answer, Some(Answer::Refused(_)));
        let causation = envelope.causation.as_deref();
        let waiters = self.take_waiters(&id, |waiter| !refused || Some(&*waiter.id) == causation);
        for waiter in waiters {
            tell(waiter, Ok(operation.clone()));
        }
        if !refused {
            self.known.answer(operation, record.time);
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("options", &self.options)
            .field("unanswered", &self.unanswered())
            .finish_non_exhaustive()
    }
}

/// The operation of a request: the same for each repeat with the same idempotency key.
fn operation_of(key: &str, idempotency_key: Option<&str>, http_id: Uuid) -> OperationId {
    let id = match idempotency_key {
        Some(name) => Uuid::new_v5(&NAMESPACE, format!("{key}\n{name}").as_bytes()),
        None => http_id,
    };
    OperationId::new(&id.to_string()).expect("a UUID is an operation id")
}

fn named(envelope: Envelope) -> Result<OperationId, String> {
    envelope.operation.ok_or_else(|| "ce_correlationid is missing".into())
}

fn tell(waiter: Waiter, told: Told) {
    // Who has given up waiting is told nothing, and that is no fault: the view stays.
    drop(waiter.tell.send(told));
}
