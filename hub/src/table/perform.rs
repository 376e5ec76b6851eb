//! What a hub does of what a workflow decided.

use coordinator::Deadline;
use serde_json::Value;
use topology::Level;
use wire::answer::Answer;
use wire::{Code, WallTime};

use super::HubEffect;
use crate::machine::Workflows;
use crate::names;
use crate::operation::{ArmedTimer, Awaited, Running, Standing};
use crate::workflow::{Decided, Event, Next};

/// Does what a workflow decided on one event; the events that come of it at once.
pub(super) fn perform<W: Workflows>(
    running: &mut Running<W>,
    decided: Decided,
    at: WallTime,
    effects: &mut Vec<HubEffect>,
) -> Option<Event> {
    for note in decided.notes {
        running.note(at, note);
    }
    decided.keep.iter().for_each(|tag| running.keep(*tag));
    decided.again.iter().for_each(|tag| running.undo_again(*tag));
    effects.extend(decided.shown.into_iter().map(HubEffect::Show));
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
        running.standing = Standing::Ended;
        disarm(running, effects);
    }
    let told = running.answer.is_some();
    // That it is parked was told to its clients, and is no answer of the workflow.
    let answered = running.answer.as_ref().is_some_and(|answer| !is_parked(answer));
    match decided.answer.or_else(|| decided.end.then(|| no_answer(running))) {
        // The first answer counts: it was told, and each repeat gets the same.
        Some(_) if answered => {}
        Some(answer) if told => running.answer = Some(answer),
        Some(answer) => tell(running, answer, effects),
        None => {}
    }
    if decided.end && told {
        effects.push(HubEffect::Over(Box::new(running.view(None))));
    }
    event
}

fn is_parked(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(problem) if problem.code == Code::Parked)
}

/// The answer of an operation that ends without one. That is a fault of the workflow's code; its client must not wait for ever.
fn no_answer<W: Workflows>(running: &Running<W>) -> Answer {
    Answer::Failed(serde_json::json!({
        "code": Code::WorkflowFailed,
        "message": "the workflow ended without an answer",
        "detail": format!("`{}` ended in state `{}`", running.machine.0.workflow(), running.machine.0.state()),
    }))
}

/// Arms the deadline of an operation anew.
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

/// Takes its deadline away.
pub(super) fn disarm<W: Workflows>(running: &mut Running<W>, effects: &mut Vec<HubEffect>) {
    running.timer = None;
    effects.push(HubEffect::Deadline(Deadline::Cancel { key: running.slot }));
}

/// The reason of a failure, for the log: what its body says, or the body itself.
fn reason(body: &Value) -> String {
    /// One line of a terminal or two: the whole body is in the view of the operation.
    const LONGEST: usize = 200;
    let text = Answer::reason(body).map_or_else(|| body.to_string(), str::to_owned);
    text.chars().take(LONGEST).collect()
}

/// Answers an operation, once: each request that asked for it.
pub(super) fn tell<W: Workflows>(running: &mut Running<W>, answer: Answer, effects: &mut Vec<HubEffect>) {
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
