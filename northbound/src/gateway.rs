//! The pure core: turns requests into records, and records into answers for waiting requests.

pub mod options;
mod records;
mod submission;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bus::{Bounds, Bus, Clock, Outgoing};
use dashmap::DashMap;
use tokio::sync::oneshot;
use uuid::Uuid;
use wire::answer::{Operation, SERVICE_KIND, ServiceView, Until};
use wire::request::Request;
use wire::routing::lane_of;
use wire::{Code, Envelope, Kind, OperationId, Problem};

pub use self::options::{GatewayLimits, GatewayOptions, StageOptions};
pub use self::submission::{OperationCommand, PostedTuple, Submission};
use crate::metrics;
use crate::operation_cache::OperationCache;
use crate::resource_cache::ResourceCache;
use crate::silence::Silence;
use crate::ticket::{CommandResult, CommandTicket, Place, RequestResult, Ticket};
use crate::waiting::Waiting;
use crate::watch::Watchers;

/// The sender: the `ce_source` of every request.
pub const SOURCE: &str = "/nave/northbound";

/// Creates the records of requests, and passes answers to the requests that wait for them.
pub struct Gateway {
    options: GatewayOptions,
    clock: Arc<dyn Clock>,
    stages: Vec<Stage>,
    /// Waiting requests by operation. Bounded by the places of all lanes.
    waiters: DashMap<OperationId, Vec<Waiter>>,
    /// Waiting commands by `ce_id`. Each holds a place too.
    pending_commands: DashMap<Arc<str>, oneshot::Sender<CommandResult>>,
    operations: OperationCache,
    resources: ResourceCache,
    watchers: Arc<Watchers>,
}

/// The state of a stage.
struct Stage {
    inbox: Arc<str>,
    /// Number of unanswered requests per lane.
    unanswered: Vec<AtomicUsize>,
    /// Number of records that a lane with a full inbox is behind; 0 if the inbox has room.
    full: Vec<AtomicU64>,
    silence: Silence,
}

#[derive(Debug)]
struct Waiter {
    id: Arc<str>,
    /// None once the client got a 202 and left: then only its place is held.
    tell: Option<oneshot::Sender<RequestResult>>,
    stage: usize,
    lane: usize,
}

impl Gateway {
    /// A gateway with empty caches.
    ///
    /// # Panics
    /// If a stage has no lanes, which a built topology never has.
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
            pending_commands: DashMap::new(),
            operations: OperationCache::new(options.limits.cached_operations),
            resources: ResourceCache::with_limit(options.limits.shown_bytes),
            watchers: Arc::new(Watchers::with_limit(options.limits.watchers)),
            options,
            clock,
        }
    }

    /// The configuration of the gateway.
    pub fn options(&self) -> &GatewayOptions {
        &self.options
    }

    // ---- requests and commands -------------------------------------------------------------------

    /// Accepts a request: assigns an operation, a record and a place in its lane. Sends nothing
    /// yet.
    ///
    /// # Errors
    /// [`Code::UnknownWorkflow`]; [`Code::NotReady`] if its deadline has passed; [`Code::Busy`] if
    /// its lane has too many unanswered requests.
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
        // Taken first: every return below gives the place back.
        let place = self.take_place(stage, key, &operation, http_id)?;
        self.operations.request_repeated(&operation);

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

    /// Creates the record of a command, and a place for its outcome. Sends nothing yet.
    ///
    /// # Errors
    /// As for [`Gateway::submit`].
    pub fn command(self: &Arc<Self>, order: &OperationCommand<'_>) -> Result<CommandTicket, Problem> {
        let OperationCommand { operation, workflow, key, command, correlation, http_id } = order;
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
        self.pending_commands.insert(Arc::clone(&place.id), tell);
        Ok(CommandTicket { record, outcome, place })
    }

    /// Creates the record of a tuple for a source in `stage`. Sends nothing yet.
    ///
    /// # Errors
    /// [`Code::NotReady`] without such a stage; [`Code::Busy`] if the inbox of its lane is full.
    pub fn tuple(&self, stage: &str, tuple: PostedTuple<'_>) -> Result<Outgoing, Problem> {
        let PostedTuple { source, key, body, trace, correlation, http_id } = tuple;
        let stage = self.options.stages.iter().position(|known| known.name == stage).ok_or_else(|| {
            Problem::new(Code::NotReady, format!("stage `{stage}` of source `{source}` is not known here"))
        })?;
        let lane = self.lane_with_room(stage, key)?;
        let mut envelope = Envelope::new(Kind::Tuple, http_id.to_string(), SOURCE);
        envelope.subject = Some(source.to_owned());
        envelope.time = Some(self.clock.wall());
        envelope.correlation = correlation.map(str::to_owned);
        envelope.trace = trace;
        let value = serde_json::to_vec(body).expect("a JSON value can be written as JSON");
        let lane = u32::try_from(lane).expect("lanes are counted in 32 bits");
        let mut record = Outgoing::keyed("", key.as_bytes().to_vec(), value).with(&envelope).to(lane);
        record.topic = Arc::clone(&self.stages[stage].inbox);
        Ok(record)
    }

    fn stage_of(&self, workflow: &str) -> Result<usize, Problem> {
        self.options.stage_of(workflow).ok_or_else(|| {
            let known: Vec<&str> = self.options.workflows.keys().map(String::as_str).collect();
            let (topology, known) = (&self.options.topology, known.join(", "));
            let shown: String = workflow.chars().take(80).collect();
            Problem::new(
                Code::UnknownWorkflow,
                format!("topology `{topology}` has no workflow `{shown}`; its workflows are: {known}"),
            )
        })
    }

    fn record(&self, place: &Place, key: &str, envelope: &Envelope, value: Vec<u8>) -> Outgoing {
        let stage = &self.stages[place.stage];
        let lane = u32::try_from(place.lane).expect("lanes are counted in 32 bits");
        let mut record = Outgoing::keyed("", key.as_bytes().to_vec(), value).with(envelope).to(lane);
        record.topic = Arc::clone(&stage.inbox);
        stage.silence.request_sent(lane, self.clock.mono());
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
        let lane = self.lane_with_room(stage, key)?;
        let took = self.stages[stage].unanswered[lane]
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then_some(taken + 1));
        if took.is_err() {
            metrics::busy();
            return Err(Problem::new(
                Code::Busy,
                format!("the limit of {most} unanswered requests of lane {lane} is reached; try again later"),
            ));
        }
        metrics::unanswered(1.0);
        let id = http_id.to_string().into();
        Ok(Place { gateway: Arc::clone(self), stage, lane, operation: operation.clone(), id, detached: false })
    }

    /// Returns the lane of a key, if its inbox has room.
    fn lane_with_room(&self, stage: usize, key: &str) -> Result<usize, Problem> {
        let lane = lane_of(key.as_bytes(), self.options.stages[stage].lanes) as usize;
        let behind = self.stages[stage].full[lane].load(Ordering::Acquire);
        if behind == 0 {
            return Ok(lane);
        }
        metrics::busy();
        let limit = self.options.limits.max_behind;
        let text = format!("lane {lane} is {behind} records behind (limit {limit}); try again later");
        Err(Problem::new(Code::Busy, text))
    }

    pub(crate) fn give_back(&self, place: &Place) {
        self.pending_commands.remove(&place.id);
        drop(self.take_waiters(&place.operation, |waiter| waiter.id == place.id));
        self.free(place.stage, place.lane);
    }

    fn free(&self, stage: usize, lane: usize) {
        self.stages[stage].unanswered[lane].fetch_sub(1, Ordering::AcqRel);
        metrics::unanswered(-1.0);
    }

    /// Called when the client of this place stops waiting. The place is held until the hub
    /// publishes the operation; from then on the limits of the hub apply. So clients that do not
    /// wait cannot load a lane more than clients that wait.
    pub(crate) fn detach(&self, place: &Place) {
        let waits = self.waiters.get_mut(&place.operation).is_some_and(|mut waiters| {
            let waiter = waiters.iter_mut().find(|waiter| waiter.id == place.id);
            waiter.map(|waiter| waiter.tell = None).is_some()
        });
        if !waits {
            // It was answered in the meantime, and nothing else will give the place back.
            return self.free(place.stage, place.lane);
        }
        if self.operations.is_published(&place.operation) {
            self.release_detached(&place.operation);
        }
    }

    /// Called when the hub has published an operation: frees the places of clients that left.
    fn release_detached(&self, operation: &OperationId) {
        for gone in self.take_waiters(operation, |waiter| waiter.tell.is_none()) {
            self.free(gone.stage, gone.lane);
        }
    }

    /// Removes and returns the matching waiters of `operation`.
    fn take_waiters(&self, operation: &OperationId, matches: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let Some(mut waiters) = self.waiters.get_mut(operation) else { return Vec::new() };
        let (taken, kept) = std::mem::take(&mut *waiters).into_iter().partition(matches);
        *waiters = kept;
        drop(waiters);
        self.waiters.remove_if(operation, |_, waiters| waiters.is_empty());
        taken
    }

    /// Answers the request `id` of `operation` with a problem.
    pub fn fail(&self, operation: &OperationId, id: &str, problem: &Problem) {
        for waiter in self.take_waiters(operation, |waiter| &*waiter.id == id) {
            self.tell(waiter, Err(problem.clone()));
        }
        if let Some((_, tell)) = self.pending_commands.remove(id) {
            drop(tell.send(Err(problem.clone())));
        }
    }

    fn tell(&self, waiter: Waiter, told: RequestResult) {
        match waiter.tell {
            // A client that left gets no answer; its operation stays visible.
            Some(tell) => drop(tell.send(told)),
            None => self.free(waiter.stage, waiter.lane),
        }
    }

    /// Number of unanswered requests in all lanes.
    pub fn unanswered(&self) -> usize {
        let lanes = self.stages.iter().flat_map(|stage| &stage.unanswered);
        lanes.map(|taken| taken.load(Ordering::Acquire)).sum()
    }

    // ---- views -----------------------------------------------------------------------------------

    /// The newest view of an operation. If its lane is silent, the view says so.
    pub fn operation(&self, id: &OperationId) -> Option<Operation> {
        let mut operation = self.operations.operation(id)?;
        let stage = self.options.stage_of(&operation.workflow).unwrap_or_default();
        let lanes = self.options.stages.get(stage).map(|stage| stage.lanes)?;
        let lane = lane_of(operation.key.as_bytes(), lanes);
        let silence = &self.stages[stage].silence;
        if let Some(what) = silence.line(lane, self.clock.mono()).filter(|_| operation.live) {
            operation.until = Some(Until { what, at: None });
        }
        Some(operation)
    }

    /// The cached operations, for lists.
    pub fn operations(&self) -> &OperationCache {
        &self.operations
    }

    /// The cached resources of workflows.
    pub fn resources(&self) -> &ResourceCache {
        &self.resources
    }

    /// The verdicts of the workers of this topology about a service, by stage and lane.
    pub(crate) fn workers_of(&self, service: &str) -> Vec<ServiceView> {
        let lanes: usize = self.stages.iter().map(|stage| stage.unanswered.len()).sum();
        let from = format!("{service}/");
        let page = self.resources.page(SERVICE_KIND, Some(&from), lanes);
        let of_service = page.resources.into_iter().take_while(|(key, _)| key.starts_with(&from));
        of_service.filter_map(|(_, resource)| serde_json::from_str(&resource).ok()).collect()
    }

    /// The watchers of operations.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    /// The lanes whose inbox is full: they refuse requests as busy.
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

    /// The silent lanes: they have requests but publish nothing.
    pub fn silent_lanes(&self) -> Vec<Waiting> {
        let now = self.clock.mono();
        let of = |stage: &Stage| {
            let lines = stage.silence.lines(now);
            lines.map(|(lane, line)| Waiting::of_lane(&stage.inbox, lane, line)).collect::<Vec<_>>()
        };
        self.stages.iter().flat_map(of).collect()
    }

    /// Queries how far the lanes are behind. A lane with a full inbox accepts requests again at
    /// half of the limit.
    pub(crate) fn query_backlog(&self, bus: &dyn Bus) {
        let limit = self.options.limits.max_behind;
        for stage in &self.stages {
            match bus.backlog(&stage.inbox, &stage.inbox) {
                Ok(backlog) => {
                    for (full, behind) in stage.full.iter().zip(backlog) {
                        let bound = if full.load(Ordering::Acquire) > 0 { limit / 2 + 1 } else { limit };
                        full.store(if behind >= bound { behind } else { 0 }, Ordering::Release);
                    }
                }
                // The last known value is kept.
                Err(error) => tracing::debug!(inbox = &*stage.inbox, %error, "cannot query the backlog"),
            }
        }
    }

    /// Queries the end of the inbox of each lane that has been silent for some time.
    pub(crate) fn query_inbox_ends(&self, bus: &dyn Bus) {
        let now = self.clock.mono();
        for stage in &self.stages {
            for lane in stage.silence.lanes_to_query(now) {
                match bus.bounds(&stage.inbox, lane) {
                    Ok(Bounds { end, .. }) => stage.silence.set_inbox_end(lane, end),
                    // The last known end is kept.
                    Err(error) => tracing::debug!(inbox = &*stage.inbox, lane, %error, "cannot query the inbox end"),
                }
            }
        }
    }

    /// The inbox and partition of the lane that runs `workflow` for `key`.
    ///
    /// # Errors
    /// [`Code::UnknownWorkflow`].
    pub fn lane_of(&self, workflow: &str, key: &str) -> Result<(&str, u32), Problem> {
        let stage = &self.options.stages[self.stage_of(workflow)?];
        Ok((&stage.inbox, lane_of(key.as_bytes(), stage.lanes)))
    }

    /// The operation of `ticket` at the end of the client's patience: the newest view, or a new one
    /// with the state `requested`, which is cached.
    pub fn progress(&self, ticket: &Ticket, workflow: &str, key: &str) -> Operation {
        self.operations.operation(&ticket.operation).unwrap_or_else(|| {
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
            self.operations.requested(requested.clone(), self.clock.wall());
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

/// The client's deadline passed before its request was written. No hub has seen it, so the same key
/// may be sent again: this is not [`Code::TooLate`], the outcome of an operation.
pub(crate) fn too_late() -> Problem {
    let detail = "the client's deadline passed before the request was written; nothing was done. Send it again with a later deadline";
    Problem::new(Code::NotReady, detail)
}
