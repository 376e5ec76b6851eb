//! Requests: those that come first, and their repeats.
//!
//! A repeat names the same operation. The outcome of an operation is remembered, also where it is a refusal, and each repeat
//! gets it. A request that found no room leaves nothing behind, so its repeat is a new one.

use topology::Level;
use wire::answer::{Answer, Entry, Operation};
use wire::command::Outcome;
use wire::request::LONGEST_ROUTE;
use wire::{Code, OperationId, Problem, WallTime};

use super::finished::Past;
use super::{HubEffect, HubRejected, HubRequest, HubTable};
use crate::cause::Cause;
use crate::machine::{AnyOf, Workflows};
use crate::names;
use crate::operation::{CAUSES, REFUSED, Running};

/// The longest name of a workflow that is shown, in characters: longer ones are nobody's.
const SHOWN: usize = 80;

/// The longest key of a refused request that is shown, in characters: as long as the northbound takes. What a stranger writes
/// into the inbox may be as large as a record; what is remembered of it has to fit into one of a snapshot.
const SHOWN_KEY: usize = 256;

/// Identifies the body and route of a request: a repeat has the same.
struct Asked {
    /// A hash of key, workflow and body.
    fingerprint: u64,
    route: String,
    /// Empty where the body cannot be read.
    workflow: String,
}

impl Asked {
    fn of(request: &HubRequest) -> Self {
        let HubRequest { key, body, .. } = request;
        let bytes = match body {
            Ok(body) => serde_json::to_vec(&(key, &body.workflow, &body.request)),
            Err(reason) => serde_json::to_vec(reason),
        };
        let fingerprint = wire::hash::fnv1a(bytes.expect("texts and a value can be written as JSON"));
        let (route, workflow) = body.as_ref().map_or(("", ""), |body| (&body.route, &body.workflow));
        Self { fingerprint, route: cut(route, LONGEST_ROUTE), workflow: cut(workflow, SHOWN) }
    }

    /// Why this is not a repeat of the request that came `first` with its key; none where it is one.
    fn differs_from(&self, first: &Self, key: &str, has_key: bool) -> Option<Problem> {
        let (name, new) = if has_key { ("Idempotency-Key", "key") } else { ("`ce_source` and `ce_id`", "`ce_id`") };
        let other = |what: &str, first: &str, this: &str| {
            let [first, this] = [first, this].map(|word| if word.is_empty() { "none" } else { word });
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
    /// A request came.
    pub fn request(&mut self, at: WallTime, request: HubRequest, effects: &mut Vec<HubEffect>) {
        let asked = Asked::of(&request);
        if self.repeated(at, &request, &asked, effects) {
            return;
        }
        let HubRequest { operation, has_key: _, cause, key, expires, body } = request;
        let read = match body {
            Err(reason) => Err(Problem::new(Code::NotJson, format!("the body cannot be read: {reason}"))),
            Ok(body) => W::read(&body.workflow, &operation, &key, &body.request).unwrap_or_else(|| {
                let known: Vec<&str> = W::types().into_iter().map(|(name, ..)| name).collect();
                Err(Problem::field("workflow", &format!("`{}`", asked.workflow), &known.join(", ")))
            }),
        };
        let machine = match read.and_then(|machine| self.admit(&key).map(|()| machine)) {
            Ok(machine) => machine,
            Err(problem) => {
                let view = refused(at, &operation, &asked.workflow, &key, self.settings.fit(Answer::Refused(problem)));
                return self.refuse(asked, view, cause, effects);
            }
        };
        let slot = self.next_slot;
        self.next_slot += 1;
        let Asked { fingerprint, route, .. } = asked;
        let mut running = Running::new(operation, &key, fingerprint, cause, AnyOf(machine), slot);
        (running.route, running.expires) = (route, expires);
        running.note(at, "requested");
        let (key, view_key) = (running.key.clone(), running.view_key());
        self.live.insert(running);
        let turns = self.turns.entry(key).or_default();
        match turns.active {
            None => {
                turns.active = Some(slot);
                self.admission.push_back(slot);
                self.admit_waiting(at, effects);
                if self.admission.back() == Some(&slot) {
                    effects.push(HubEffect::Changed(view_key));
                }
            }
            Some(active) => {
                turns.waiting.push_back(slot);
                effects.push(HubEffect::Changed(view_key));
                self.supersede(active, at, effects);
            }
        }
    }

    /// Something came that cannot be handled: its sender is told, and that is all. It is no outcome, so a better request with the
    /// same key is a first one.
    pub fn rejected(&self, at: WallTime, rejected: HubRejected, effects: &mut Vec<HubEffect>) {
        let HubRejected { operation, is_command, cause, key, reason } = rejected;
        let problem = Problem::new(Code::BadHeader, reason);
        if is_command {
            effects.push(HubEffect::Count(names::COMMANDS_REFUSED));
            return effects.push(HubEffect::Told { operation, cause, outcome: Outcome::Refused(problem) });
        }
        let answer = self.settings.fit(Answer::Refused(problem));
        refuse(refused(at, &operation, "", &key, answer), cause, effects);
    }

    /// Handles a request that names a known operation: true where it does.
    fn repeated(&mut self, at: WallTime, request: &HubRequest, asked: &Asked, effects: &mut Vec<HubEffect>) -> bool {
        let HubRequest { operation, has_key, cause, key, expires, .. } = request;
        let (first, view) = if let Some(running) = self.live.of(operation) {
            let (fingerprint, route) = (running.fingerprint, running.route.clone());
            let first = Asked { fingerprint, route, workflow: cut(running.machine.0.workflow(), SHOWN) };
            (first, running.answer.is_some().then(|| running.view(None)))
        } else if let Some(past) = self.finished.get(operation) {
            let (route, workflow) = (past.route.clone(), cut(&past.view.workflow, SHOWN));
            (Asked { fingerprint: past.fingerprint, route, workflow }, Some(past.view.clone()))
        } else {
            return false;
        };
        effects.push(HubEffect::Count(names::REPEATED));
        if let Some(problem) = asked.differs_from(&first, key, *has_key) {
            let answer = self.settings.fit(Answer::Refused(problem));
            refuse(refused(at, operation, &asked.workflow, key, answer), cause.clone(), effects);
        } else if let Some(view) = view {
            effects.push(HubEffect::Answer { view: Box::new(view), cause: cause.clone() });
        } else if let Some(running) = self.live.slot_of(operation).and_then(|slot| self.live.get_mut(slot))
            && !running.asked_again(cause, *expires)
        {
            let detail =
                format!("limit of {CAUSES} unanswered requests for {operation} reached; try again in a second");
            // The operation lives, and its view says so.
            let answer = Some(Answer::Refused(Problem::new(Code::Busy, detail)));
            refuse(Operation { answer, ..running.view(None) }, cause.clone(), effects);
        }
        true
    }

    /// Whether one more operation may live.
    fn admit(&self, key: &str) -> Result<(), Problem> {
        let (live, limit) = (self.live.len(), self.settings.live);
        if live >= limit {
            let detail = format!("limit of {limit} live operations per lane reached; try again in a second");
            return Err(Problem::new(Code::Busy, detail));
        }
        let (waiting, limit) =
            (self.turns.get(key).map_or(0, |turns| turns.waiting.len()), self.settings.waiting_per_key);
        if waiting >= limit {
            let detail = format!("limit of {limit} waiting operations for `{key}` reached; try again in a second");
            return Err(Problem::new(Code::QueueFull, detail));
        }
        Ok(())
    }

    /// Refuses a request before it becomes an operation. Its outcome is remembered, unless the next try may fare better.
    fn refuse(&mut self, asked: Asked, view: Operation, cause: Cause, effects: &mut Vec<HubEffect>) {
        if view.answer.as_ref().is_some_and(Answer::is_outcome) {
            self.finished.push(Past::refused(asked.fingerprint, asked.route, view.clone()));
        }
        refuse(view, cause, effects);
    }
}

fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

/// The view of a request that does not become an operation.
fn refused(at: WallTime, operation: &OperationId, workflow: &str, key: &str, answer: Answer) -> Operation {
    Operation {
        operation: operation.clone(),
        key: cut(key, SHOWN_KEY),
        workflow: workflow.to_owned(),
        state: REFUSED.to_owned(),
        live: false,
        queue: None,
        step: None,
        until: None,
        signal: None,
        history: vec![Entry { seq: 1, at, what: "requested".to_owned() }],
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
