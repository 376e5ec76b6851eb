//! Turns the decision of a workflow into effects of the hub.

use coordinator::Deadline;
use serde_json::Value;
use topology::Level;
use wire::answer::Answer;
use wire::{Code, WallTime};

use super::HubEffect;
use crate::event::Event;
use crate::fx::{Decided, Next};
use crate::machine::Workflows;
use crate::names;
use crate::operation::{ArmedTimer, Awaited, OperationStatus, Running};

/// Carries out a workflow's decision on one event. Returns the event that follows at once, if any.
pub(super) fn perform<W: Workflows>(
    running: &mut Running<W>,
    decided: Decided,
    at: WallTime,
    effects: &mut Vec<HubEffect>,
) -> Option<Event> {
    for text in decided.history {
        running.note(at, text);
    }
    decided.skip_undo.iter().for_each(|tag| running.skip_undo(*tag));
    decided.undo_again.iter().for_each(|tag| running.undo_again(*tag));
    effects.extend(decided.published.into_iter().map(HubEffect::Publish));
    running.yields |= decided.yields;
    let mut send = |command| effects.push(HubEffect::Call(command));
    if decided.next.is_some() || decided.end {
        running.close_step(&mut send);
        running.signal = None;
    }
    let mut event = None;
    match decided.next {
        Some(Next::Step(step)) => {
            let (name, within_ms) = (step.name, step.within_ms);
            event = running.open_step(at, step, &mut send);
            arm(running, name, within_ms, effects);
        }
        Some(Next::Undo { name, within_ms }) => {
            event = running.begin_undo(at, name, &mut send);
            arm(running, name, within_ms, effects);
        }
        Some(Next::Wait { what, after_ms }) => arm(running, what, after_ms, effects),
        Some(Next::WaitFor { signal, what, within_ms }) => {
            running.signal = Some(Awaited { signal, what });
            match within_ms {
                Some(within_ms) => arm(running, what, within_ms, effects),
                None => disarm(running, effects),
            }
        }
        None => {}
    }
    effects.push(if decided.end {
        HubEffect::Closed(running.view_key())
    } else {
        HubEffect::Changed(running.view_key())
    });
    if decided.end {
        running.standing = OperationStatus::Ended;
        disarm(running, effects);
    }
    let notified = running.answer.is_some();
    // The notice that it is parked is not an answer of the workflow.
    let answered = running.answer.as_ref().is_some_and(|answer| !is_parked(answer));
    match decided.answer.or_else(|| decided.end.then(|| no_answer(running))) {
        // The first answer counts: it has been sent, and each repeat gets the same one.
        Some(_) if answered => {}
        Some(answer) if notified => running.answer = Some(answer),
        Some(answer) => answer_all(running, answer, effects),
        None => {}
    }
    if decided.end && notified {
        effects.push(HubEffect::Ended(Box::new(running.view(None))));
    }
    event
}

fn is_parked(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(problem) if problem.code == Code::Parked)
}

/// Returns the answer of an operation that ended without one. This is a fault of the workflow, but
/// its client must not wait in vain.
fn no_answer<W: Workflows>(running: &Running<W>) -> Answer {
    let detail = format!("`{}` ended in state `{}`", running.machine.0.workflow(), running.machine.0.state());
    let more = serde_json::json!({"message": "the workflow ended without an answer"});
    Answer::failed(Code::WorkflowFailed, detail, more)
}

/// Registers a new deadline for an operation. It replaces the previous one.
pub(super) fn arm<W: Workflows>(
    running: &mut Running<W>,
    what: &'static str,
    after_ms: u64,
    effects: &mut Vec<HubEffect>,
) {
    running.generation += 1;
    running.timer = Some(ArmedTimer { generation: running.generation, what, after_ms });
    let (key, generation) = (running.slot, running.generation);
    effects.push(HubEffect::Deadline(Deadline::Register { key, generation, after_ms }));
}

/// Cancels the deadline.
pub(super) fn disarm<W: Workflows>(running: &mut Running<W>, effects: &mut Vec<HubEffect>) {
    running.timer = None;
    effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
}

/// Returns the reason of a failure for the log: the reason in the body, or the body itself.
fn reason(body: &Value) -> String {
    /// One or two lines of a terminal. The view has the whole body.
    const MAX_CHARS: usize = 200;
    let text = Answer::reason(body).map_or_else(|| body.to_string(), str::to_owned);
    text.chars().take(MAX_CHARS).collect()
}

/// Answers every request that waits for the operation.
pub(super) fn answer_all<W: Workflows>(running: &mut Running<W>, answer: Answer, effects: &mut Vec<HubEffect>) {
    let (counter, level, text) = match &answer {
        Answer::Done(_) => (names::DONE, Level::Debug, format!("`{}`: done", running.key)),
        Answer::Failed(body) => (names::FAILED, Level::Warn, format!("`{}`: failed: {}", running.key, reason(body))),
        Answer::Refused(problem) => (names::REFUSED, Level::Warn, format!("`{}`: refused, {problem}", running.key)),
    };
    effects.push(HubEffect::Count(counter));
    effects.push(HubEffect::Log(level, running.id.clone(), text));
    running.answer = Some(answer);
    for cause in &running.causes {
        effects.push(HubEffect::Answer { view: Box::new(running.view(None)), cause: cause.clone() });
    }
}
