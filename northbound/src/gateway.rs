//! The pure core: from a request to a record, and from an answer to who waits for it.

mod hearing;
pub mod options;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bus::{Bounds, Bus, Clock, Outgoing};
use dashmap::DashMap;
use serde_json::Value;
use tokio::sync::oneshot;
use uuid::Uuid;
use wire::answer::{Operation, SERVICE_SHOWN, ServiceShown, Until};
use wire::command::Command;
use wire::request::Request;
use wire::routing::lane_of;
use wire::{Code, Envelope, Kind, OperationId, Problem, WallTime};

pub use self::options::{GatewayLimits, GatewayOptions, StageOptions};
use crate::known::Known;
use crate::metrics;
use crate::shown::Shown;
use crate::silence::Silence;
use crate::ticket::{CommandTicket, Place, Ticket, Told, ToldCommand};
use crate::waiting::Waiting;
use crate::watch::Watchers;

/// Who sends: the `ce_source` of every request.
pub const SOURCE: &str = "/nave/northbound";

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
    /// Where the client sent it, like `POST /flow`: a repeat with the same name has the same route.
    pub route: &'a str,
    /// `traceparent`, passed on.
    pub trace: Option<String>,
    /// The client's `X-Correlation-ID`, passed on as `ce_correlationid`.
    pub correlation: Option<&'a str>,
    /// The client has no use for the answer after this.
    pub expires: Option<WallTime>,
    /// The id of this one HTTP request, fresh for each.
    pub http_id: Uuid,
}

impl<'a> Submission<'a> {
    /// A request with nothing but what every request has.
    pub fn new(workflow: &'a str, key: &'a str, request: Value, http_id: Uuid) -> Self {
        let (idempotency_key, trace, correlation, expires) = (None, None, None, None);
        Self { workflow, key, request, idempotency_key, route: "", trace, correlation, expires, http_id }
    }
}

/// What somebody tells an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<'a> {
    /// The operation.
    pub operation: &'a OperationId,
    /// The operation's workflow.
    pub workflow: &'a str,
    /// The operation's key.
    pub key: &'a str,
    /// What it is told.
    pub command: &'a Command,
    /// The client's `X-Correlation-ID`, passed on as `ce_correlationid`.
    pub correlation: Option<&'a str>,
    /// The id of this one HTTP request, fresh for each.
    pub http_id: Uuid,
}

/// Makes records of requests, and gives answers to those who wait.
pub struct Gateway {
    options: GatewayOptions,
    clock: Arc<dyn Clock>,
    stages: Vec<Stage>,
    /// Who waits for which operation. As many as the places of all lanes, at most.
    waiters: DashMap<OperationId, Vec<Waiter>>,
    /// Who waits for what becomes of a command, by its `ce_id`. Each holds a place too.
    commanders: DashMap<Arc<str>, oneshot::Sender<ToldCommand>>,
    known: Known,
    shown: Shown,
    watchers: Arc<Watchers>,
}

/// A stage, as it stands.
struct Stage {
    inbox: Arc<str>,
    /// How many requests of each lane are unanswered.
    unanswered: Vec<AtomicUsize>,
    /// How many records behind each lane is whose inbox is full; 0 where it has room.
    full: Vec<AtomicU64>,
    silence: Silence,
}

#[derive(Debug)]
struct Waiter {
    id: Arc<str>,
    /// None where the client was told that its request was taken, and went: then only its place is held.
    tell: Option<oneshot::Sender<Told>>,
    stage: usize,
    lane: usize,
}

impl Gateway {
    /// A gateway that knows nothing yet.
    ///
    /// # Panics
    /// Where a stage has no lanes, which none of a topology that was built has.
    pub fn new(options: GatewayOptions, clock: Arc<dyn Clock>) -> Self {
        let stage = |stage: &StageOptions| {
            assert!(stage.lanes > 0, "a stage has at least one lane");
            Stage {
                inbox: stage.inbox.as_str().into(),
                unanswered: (0..stage.lanes).map(|_| AtomicUsize::new(0)).collect(),
                full: (0..stage.lanes).map(|_| AtomicU64::new(0)).collect(),
                silence: Silence::new(stage.lanes),
            }
        };
        Self {
            stages: options.stages.iter().map(stage).collect(),
            waiters: DashMap::new(),
            commanders: DashMap::new(),
            known: Known::newest(options.limits.known_operations),
            shown: Shown::at_most(options.limits.shown_bytes),
            watchers: Arc::new(Watchers::at_most(options.limits.watchers)),
            options,
            clock,
        }
    }

    /// How it was set up.
    pub fn options(&self) -> &GatewayOptions {
        &self.options
    }

    // ---- requests and commands ----------------------------------------------------------------------------------------

    /// Accepts a request: gives it an operation, a record and a place among those that wait. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Code::UnknownWorkflow`]; [`Code::NotReady`] where its time is over; [`Code::Busy`] where its lane has too many
    /// unanswered requests.
    pub fn submit(self: &Arc<Self>, submission: Submission<'_>) -> Result<Ticket, Problem> {
        let Submission { workflow, key, request, idempotency_key, route, trace, correlation, expires, http_id } =
            submission;
        let stage = self.stage_of(workflow)?;
        let now = self.clock.wall();
        if expires.is_some_and(|expires| expires <= now) {
            return Err(too_late());
        }
        let mut envelope = Envelope::new(Kind::Request, http_id.to_string(), SOURCE);
        envelope.idempotency_key = idempotency_key.map(str::to_owned);
        let operation = envelope.requested_operation(&self.options.topology, key);
        // Made first: from here on, whatever way this function ends, the place is given back.
        let place = self.take_place(stage, key, &operation, http_id)?;
        self.known.ask_again(&operation);

        envelope.subject = Some(key.into());
        envelope.time = Some(now);
        envelope.correlation = correlation.map(str::to_owned);
        envelope.expires = expires;
        envelope.trace = trace;
        let body = Request { workflow: workflow.into(), request, route: route.into() };
        let value = serde_json::to_vec(&body).expect("a JSON value can be written as JSON");
        let record = self.record(&place, key, &envelope, value);

        let (tell, answer) = oneshot::channel();
        let waiter = Waiter { id: Arc::clone(&place.id), tell: Some(tell), stage, lane: place.lane };
        self.waiters.entry(operation.clone()).or_default().push(waiter);
        Ok(Ticket { operation, record, expires, answer, place })
    }

    /// Makes a record of a command, and a place for what becomes of it. Nothing is sent yet.
    ///
    /// # Errors
    /// As for [`Gateway::submit`].
    pub fn command(self: &Arc<Self>, order: &Order<'_>) -> Result<CommandTicket, Problem> {
        let Order { operation, workflow, key, command, correlation, http_id } = order;
        let stage = self.stage_of(workflow)?;
        let place = self.take_place(stage, key, operation, *http_id)?;
        let mut envelope = Envelope::new(Kind::Command, place.id.as_ref(), SOURCE);
        envelope.subject = Some((*key).to_owned());
        envelope.time = Some(self.clock.wall());
        envelope.operation = Some((*operation).clone());
        envelope.correlation = correlation.map(str::to_owned);
        let value = serde_json::to_vec(command).expect("a command is plain data");
        let record = self.record(&place, key, &envelope, value);
        let (tell, outcome) = oneshot::channel();
        self.commanders.insert(Arc::clone(&place.id), tell);
        Ok(CommandTicket { record, outcome, place })
    }

    fn stage_of(&self, workflow: &str) -> Result<usize, Problem> {
        self.options.stage_of(workflow).ok_or_else(|| {
            let known: Vec<&str> = self.options.workflows.keys().map(String::as_str).collect();
            let (topology, known) = (&self.options.topology, known.join(", "));
            let shown: String = workflow.chars().take(80).collect();
            Problem::new(Code::UnknownWorkflow, format!("topology `{topology}` has no `{shown}`; it has: {known}"))
        })
    }

    fn record(&self, place: &Place, key: &str, envelope: &Envelope, value: Vec<u8>) -> Outgoing {
        let stage = &self.stages[place.stage];
        let lane = u32::try_from(place.lane).expect("lanes are counted in 32 bits");
        let mut record = Outgoing::keyed("", key.as_bytes().to_vec(), value).with(envelope).to(lane);
        record.topic = Arc::clone(&stage.inbox);
        stage.silence.asked(lane, self.clock.mono());
        record
    }

    fn take_place(
        self: &Arc<Self>,
        stage: usize,
        key: &str,
        operation: &OperationId,
        http_id: Uuid,
    ) -> Result<Place, Problem> {
        let most = self.options.limits.max_unanswered_per_lane;
        let lane = lane_of(key.as_bytes(), self.options.stages[stage].lanes) as usize;
        let behind = self.stages[stage].full[lane].load(Ordering::Acquire);
        if behind > 0 {
            metrics::busy();
            let limit = self.options.limits.max_behind;
            let text = format!("lane {lane} is {behind} records behind, limit {limit}; try again later");
            return Err(Problem::new(Code::Busy, text));
        }
        let took = self.stages[stage].unanswered[lane]
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
        Ok(Place { gateway: Arc::clone(self), stage, lane, operation: operation.clone(), id, detached: false })
    }

    pub(crate) fn give_back(&self, place: &Place) {
        self.commanders.remove(&place.id);
        drop(self.take_waiters(&place.operation, |waiter| waiter.id == place.id));
        self.free(place.stage, place.lane);
    }

    fn free(&self, stage: usize, lane: usize) {
        self.stages[stage].unanswered[lane].fetch_sub(1, Ordering::AcqRel);
        metrics::unanswered(-1.0);
    }

    /// The client of this place does not wait any more. It is held until the hub says a first word of the operation: from then
    /// on the hub's own bounds hold. So who asks and goes cannot ask more of a lane than who waits.
    pub(crate) fn detach(&self, place: &Place) {
        let waits = self.waiters.get_mut(&place.operation).is_some_and(|mut waiters| {
            let waiter = waiters.iter_mut().find(|waiter| waiter.id == place.id);
            waiter.map(|waiter| waiter.tell = None).is_some()
        });
        if !waits {
            // It was answered between two looks, and nothing else will give the place back.
            return self.free(place.stage, place.lane);
        }
        if self.known.is_of_hub(&place.operation) {
            self.heard_of(&place.operation);
        }
    }

    /// The hub said something about an operation: those who went need no place any more.
    fn heard_of(&self, operation: &OperationId) {
        for gone in self.take_waiters(operation, |waiter| waiter.tell.is_none()) {
            self.free(gone.stage, gone.lane);
        }
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
            self.tell(waiter, Err(problem.clone()));
        }
        if let Some((_, tell)) = self.commanders.remove(id) {
            drop(tell.send(Err(problem.clone())));
        }
    }

    fn tell(&self, waiter: Waiter, told: Told) {
        match waiter.tell {
            // Who has given up waiting is told nothing, and that is no fault: the view stays.
            Some(tell) => drop(tell.send(told)),
            None => self.free(waiter.stage, waiter.lane),
        }
    }

    /// How many requests are unanswered, in all lanes.
    pub fn unanswered(&self) -> usize {
        let lanes = self.stages.iter().flat_map(|stage| &stage.unanswered);
        lanes.map(|taken| taken.load(Ordering::Acquire)).sum()
    }

    // ---- what is known ------------------------------------------------------------------------------------------------

    /// How an operation stands, as far as is known here. Where its lane is silent, that is what it waits for.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        let mut operation = self.known.operation(id)?;
        let stage = self.options.stage_of(&operation.workflow).unwrap_or_default();
        let lanes = self.options.stages.get(stage).map(|stage| stage.lanes)?;
        let lane = lane_of(operation.key.as_bytes(), lanes);
        let silence = &self.stages[stage].silence;
        if let Some(what) = silence.line(lane, self.clock.mono()).filter(|_| operation.live) {
            operation.until = Some(Until { what, at: None });
        }
        Some(operation)
    }

    /// What is known of operations, to be listed.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// What workflows show.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// How the workers of this topology judge a service, by stage and lane.
    pub(crate) fn workers_of(&self, service: &str) -> Vec<ServiceShown> {
        let lanes: usize = self.stages.iter().map(|stage| stage.unanswered.len()).sum();
        let from = format!("{service}/");
        let page = self.shown.page(SERVICE_SHOWN, Some(&from), lanes);
        let of_service = page.things.into_iter().take_while(|(key, _)| key.starts_with(&from));
        of_service.filter_map(|(_, thing)| serde_json::from_str(&thing).ok()).collect()
    }

    /// Who watches operations.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    /// Each lane whose inbox is full: requests to it are refused as busy.
    pub fn full_lanes(&self) -> Vec<Waiting> {
        let limit = self.options.limits.max_behind;
        let of_stage = |stage: &Stage| {
            let full = (0..).zip(&stage.full).map(|(lane, full): (u32, _)| (lane, full.load(Ordering::Acquire)));
            let line = |(lane, behind)| {
                Waiting::held_up(format!(
                    "inbox `{}` is full: lane {lane} is {behind} records behind, limit {limit}",
                    stage.inbox
                ))
            };
            full.filter(|(_, behind)| *behind > 0).map(line).collect::<Vec<_>>()
        };
        self.stages.iter().flat_map(of_stage).collect()
    }

    /// Each lane that was asked something and says nothing.
    pub fn silent_lanes(&self) -> Vec<Waiting> {
        let now = self.clock.mono();
        let of = |stage: &Stage| {
            let lines = stage.silence.lines(now);
            lines.map(|(lane, line)| Waiting::of_lane(&stage.inbox, lane, line)).collect::<Vec<_>>()
        };
        self.stages.iter().flat_map(of).collect()
    }

    /// Asks how far the lanes are behind. One whose inbox is full takes requests again at half of the limit.
    pub(crate) fn ask_backlog(&self, bus: &dyn Bus) {
        let limit = self.options.limits.max_behind;
        for stage in &self.stages {
            match bus.backlog(&stage.inbox, &stage.inbox) {
                Ok(backlog) => {
                    for (full, behind) in stage.full.iter().zip(backlog) {
                        let bound = if full.load(Ordering::Acquire) > 0 { limit / 2 + 1 } else { limit };
                        full.store(if behind >= bound { behind } else { 0 }, Ordering::Release);
                    }
                }
                // The last known value stands.
                Err(error) => tracing::debug!(inbox = &*stage.inbox, %error, "how far it is behind is not known"),
            }
        }
    }

    /// Asks the bus for the end of the inbox of each lane that has said nothing for some time.
    pub(crate) fn ask_ends(&self, bus: &dyn Bus) {
        let now = self.clock.mono();
        for stage in &self.stages {
            for lane in stage.silence.to_ask(now) {
                match bus.bounds(&stage.inbox, lane) {
                    Ok(Bounds { end, .. }) => stage.silence.ends_at(lane, end),
                    // Keep the last known end.
                    Err(error) => tracing::debug!(inbox = &*stage.inbox, lane, %error, "its end is not known"),
                }
            }
        }
    }

    /// The lane that runs `workflow` about `key`: the inbox, and the partition of it.
    ///
    /// # Errors
    /// [`Code::UnknownWorkflow`].
    pub fn lane_of(&self, workflow: &str, key: &str) -> Result<(&str, u32), Problem> {
        let stage = &self.options.stages[self.stage_of(workflow)?];
        Ok((&stage.inbox, lane_of(key.as_bytes(), stage.lanes)))
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
                queue: None,
                step: None,
                until: None,
                signal: None,
                history: Vec::new(),
                answer: None,
            };
            self.known.requested(requested.clone(), self.clock.wall());
            requested
        })
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

/// The client's deadline passed before its request was written. No hub has seen the request, so its key may ask again: this
/// is not [`Code::TooLate`], the outcome of an operation.
pub(crate) fn too_late() -> Problem {
    let detail = "the client's deadline passed before the request could be written; nothing was done. Send it again with more time";
    Problem::new(Code::NotReady, detail)
}
