//! New and repeated requests.
//!
//! A repeat names the same operation and gets its outcome, even if that is a refusal. A request
//! that was refused for lack of room is not remembered, so its repeat counts as a new request.

use topology::Level;
use wire::answer::{Answer, HistoryEntry, Operation};
use wire::command::Outcome;
use wire::request::MAX_ROUTE_CHARS;
use wire::{Code, OperationId, Problem, WallTime};

use super::finished::FinishedOperation;
use super::{HubEffect, HubRejected, HubRequest, HubTable};
use crate::cause::Cause;
use crate::machine::{AnyMachine, Workflows};
use crate::names;
use crate::operation::{MAX_CAUSES, REFUSED, Running};

/// Maximum number of characters of a workflow name in views and messages. No real name is longer.
const MAX_WORKFLOW_CHARS: usize = 80;

/// Maximum number of characters of the key of a refused request in views; the northbound has the
/// same limit. A foreign record may hold a key of up to 1 MiB, but a remembered outcome must fit
/// into one snapshot record.
const MAX_KEY_CHARS: usize = 256;

/// The properties that a request shares with its repeats.
struct RequestIdentity {
    /// A hash of key, workflow and body.
    fingerprint: u64,
    route: String,
    /// Empty if the body cannot be read.
    workflow: String,
}

impl RequestIdentity {
    fn of(request: &HubRequest) -> Self {
        let HubRequest { key, body, .. } = request;
        let bytes = match body {
            Ok(body) => serde_json::to_vec(&(key, &body.workflow, &body.request)),
            Err(reason) => serde_json::to_vec(reason),
        };
        let fingerprint = wire::hash::fnv1a(bytes.expect("texts and a value can be written as JSON"));
        let (route, workflow) = body.as_ref().map_or(("", ""), |body| (&body.route, &body.workflow));
        Self { fingerprint, route: truncate(route, MAX_ROUTE_CHARS), workflow: truncate(workflow, MAX_WORKFLOW_CHARS) }
    }

    /// Describes how this request differs from `first`, which used the same key. Returns `None` for
    /// a repeat.
    fn differs_from(&self, first: &Self, key: &str, has_key: bool) -> Option<Problem> {
        let (name, new) = if has_key { ("Idempotency-Key", "key") } else { ("`ce_source` and `ce_id`", "`ce_id`") };
        let other = |what: &str, first: &str, this: &str| {
            let [first, this] = [first, this].map(|value| if value.is_empty() { "none" } else { value });
            format!(
                "the first request with this {name} for `{key}` had another {what}: it was `{first}`, and this one \
                 is `{this}`; use a new {new}"
            )
        };
        let detail = if self.route != first.route {
            other("path or method", &first.route, &self.route)
        } else if self.workflow != first.workflow {
            other("workflow", &first.workflow, &self.workflow)
        } else if self.fingerprint != first.fingerprint {
            format!(
                "the first request with this {name} for `{key}` had another body; use a new {new}, or send the first \
                 body again to get its answer"
            )
        } else {
            return None;
        };
        Some(Problem::new(Code::KeyReused, detail))
    }
}

impl<W: Workflows> HubTable<W> {
    /// Handles a request.
    pub fn request(&mut self, at: WallTime, request: HubRequest, effects: &mut Vec<HubEffect>) {
        let identity = RequestIdentity::of(&request);
        if self.repeated(at, &request, &identity, effects) {
            return;
        }
        let HubRequest { operation, has_key: _, cause, key, expires, body } = request;
        let read = match body {
            Err(reason) => Err(Problem::new(Code::NotJson, format!("the body cannot be read: {reason}"))),
            Ok(body) => W::read(&body.workflow, &operation, &key, &body.request).unwrap_or_else(|| {
                let known: Vec<&str> = W::types().into_iter().map(|(name, ..)| name).collect();
                Err(Problem::field("workflow", &format!("`{}`", identity.workflow), &known.join(", ")))
            }),
        };
        let machine = match read.and_then(|machine| self.admit(&key).map(|()| machine)) {
            Ok(machine) => machine,
            Err(problem) => {
                let view =
                    refused(at, &operation, &identity.workflow, &key, self.settings.fit(Answer::Refused(problem)));
                return self.refuse(identity, view, cause, effects);
            }
        };
        let slot = self.next_slot;
        self.next_slot += 1;
        let RequestIdentity { fingerprint, route, .. } = identity;
        let mut running = Running::new(operation, &key, fingerprint, cause, AnyMachine(machine), slot);
        (running.route, running.expires) = (route, expires);
        running.note(at, "requested");
        let (key, view_key) = (running.key.clone(), running.view_key());
        self.live.insert(running);
        let queue = self.key_queues.entry(key).or_default();
        match queue.active {
            None => {
                queue.active = Some(slot);
                self.admission.push_back(slot);
                self.admit_waiting(at, effects);
                if self.admission.back() == Some(&slot) {
                    effects.push(HubEffect::Changed(view_key));
                }
            }
            Some(active) => {
                queue.waiting.push_back(slot);
                effects.push(HubEffect::Changed(view_key));
                self.supersede(active, at, effects);
            }
        }
    }

    /// Answers the sender of a request or command that cannot be handled. Nothing is remembered, so
    /// a corrected request with the same key counts as new.
    pub fn rejected(&self, at: WallTime, rejected: HubRejected, effects: &mut Vec<HubEffect>) {
        let HubRejected { operation, is_command, cause, key, reason } = rejected;
        let problem = Problem::new(Code::BadHeader, reason);
        if is_command {
            effects.push(HubEffect::Count(names::COMMANDS_REFUSED));
            return effects.push(HubEffect::CommandAnswer { operation, cause, outcome: Outcome::Refused(problem) });
        }
        let answer = self.settings.fit(Answer::Refused(problem));
        refuse(refused(at, &operation, "", &key, answer), cause, effects);
    }

    /// Handles a request for an operation that is live or remembered. Returns false for a new
    /// operation.
    fn repeated(
        &mut self,
        at: WallTime,
        request: &HubRequest,
        identity: &RequestIdentity,
        effects: &mut Vec<HubEffect>,
    ) -> bool {
        let HubRequest { operation, has_key, cause, key, expires, .. } = request;
        let (first, view) = if let Some(running) = self.live.of(operation) {
            let (fingerprint, route) = (running.fingerprint, running.route.clone());
            let first = RequestIdentity {
                fingerprint,
                route,
                workflow: truncate(running.machine.0.workflow(), MAX_WORKFLOW_CHARS),
            };
            (first, running.answer.is_some().then(|| running.view(None)))
        } else if let Some(past) = self.finished.get(operation) {
            let (route, workflow) = (past.route.clone(), truncate(&past.view.workflow, MAX_WORKFLOW_CHARS));
            (RequestIdentity { fingerprint: past.fingerprint, route, workflow }, Some(past.view.clone()))
        } else {
            return false;
        };
        effects.push(HubEffect::Count(names::REPEATED));
        if let Some(problem) = identity.differs_from(&first, key, *has_key) {
            let answer = self.settings.fit(Answer::Refused(problem));
            refuse(refused(at, operation, &identity.workflow, key, answer), cause.clone(), effects);
        } else if let Some(view) = view {
            effects.push(HubEffect::Answer { view: Box::new(view), cause: cause.clone() });
        } else if let Some(running) = self.live.slot_of(operation).and_then(|slot| self.live.get_mut(slot))
            && !running.add_waiting_request(cause, *expires)
        {
            let detail = format!("limit of {MAX_CAUSES} unanswered requests for {operation} reached; retry in 1 s");
            // The view shows that the operation is live.
            let answer = Some(Answer::Refused(Problem::new(Code::Busy, detail)));
            refuse(Operation { answer, ..running.view(None) }, cause.clone(), effects);
        }
        true
    }

    /// Checks whether there is room for one more live operation.
    fn admit(&self, key: &str) -> Result<(), Problem> {
        let (live, limit) = (self.live.len(), self.settings.live);
        if live >= limit {
            let detail = format!("limit of {limit} live operations per lane reached; retry in 1 s");
            return Err(Problem::new(Code::Busy, detail));
        }
        let (waiting, limit) =
            (self.key_queues.get(key).map_or(0, |queue| queue.waiting.len()), self.settings.waiting_per_key);
        if waiting >= limit {
            let detail = format!("limit of {limit} waiting operations for `{key}` reached; retry in 1 s");
            return Err(Problem::new(Code::QueueFull, detail));
        }
        Ok(())
    }

    /// Refuses a request before it becomes an operation. The outcome is remembered unless a retry
    /// may succeed.
    fn refuse(&mut self, identity: RequestIdentity, view: Operation, cause: Cause, effects: &mut Vec<HubEffect>) {
        if view.answer.as_ref().is_some_and(Answer::is_outcome) {
            self.finished.push(FinishedOperation::refused(identity.fingerprint, identity.route, view.clone()));
        }
        refuse(view, cause, effects);
    }
}

fn truncate(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

/// Returns the view of a request that does not become an operation.
fn refused(at: WallTime, operation: &OperationId, workflow: &str, key: &str, answer: Answer) -> Operation {
    Operation {
        operation: operation.clone(),
        key: truncate(key, MAX_KEY_CHARS),
        workflow: workflow.to_owned(),
        state: REFUSED.to_owned(),
        live: false,
        queue: None,
        step: None,
        until: None,
        signal: None,
        history: vec![HistoryEntry { seq: 1, at, what: "requested".to_owned() }],
        answer: Some(answer),
    }
}

/// Answers a request that does not become an operation.
fn refuse(view: Operation, cause: Cause, effects: &mut Vec<HubEffect>) {
    effects.push(HubEffect::Count(names::REFUSED));
    if let Some(Answer::Refused(problem)) = &view.answer {
        let text = format!("`{}`: refused, {problem}", view.key);
        effects.push(HubEffect::Log(Level::Debug, view.operation.clone(), text));
    }
    effects.push(HubEffect::Answer { view: Box::new(view), cause });
}
