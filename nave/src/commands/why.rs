//! `nave why`: where an operation is, what it waits for and until when, and what happens then.

use bus::Clock;
use clap::Args;
use wire::answer::{Answer, Operation, PendingCall, Queue, Rejected};
use wire::{OperationId, WallTime};

use super::RemoteArgs;
use super::told::{Told, Usage};
use crate::clock::SystemClock;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// The operation, as an answer or a 202 named it
    operation: String,
    #[command(flatten)]
    at: RemoteArgs,
}

pub(super) fn why(args: &WhyArgs) -> anyhow::Result<Told> {
    let id = OperationId::new(&args.operation).map_err(|error| Usage(error.to_string()))?;
    let body = args.at.client()?.operation(&id)?;
    let text = story(&serde_json::from_value(body.clone())?, SystemClock::default().wall());
    Ok(Told::Text { text, json: body })
}

/// The operation as a person wants to read it.
fn story(operation: &Operation, now: WallTime) -> String {
    let begun = operation.history.first().map(|entry| entry.at);
    let mut lines = vec![headline(operation, begun, now)];
    if let Some(queue) = &operation.queue {
        lines.push(format!("waits for  {}", turn(queue, &operation.key)));
    }
    if let Some(step) = operation.step.as_ref().filter(|step| !step.pending.is_empty()) {
        lines.push("waits for".to_owned());
        lines.extend(step.pending.iter().map(|call| format!("  {}", waiting(call, now))));
        let more = u64::from(step.calls - step.done).saturating_sub(step.pending.len() as u64);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
    }
    if let Some(until) = &operation.until {
        let when = until.at.map(|at| format!(" in {} at the latest", seconds(at.ms_since(now)))).unwrap_or_default();
        lines.push(match &operation.queue {
            // Before its turn nothing else can happen to it by itself.
            Some(_) => format!("then  it begins; without its turn{when} it is refused (NAVE-0043)"),
            None => format!("then  the deadline of \"{}\"{when}", until.what),
        });
    } else if operation.queue.is_some() {
        lines.push("then  it begins; its client gave no deadline".to_owned());
    }
    match &operation.answer {
        Some(Answer::Done(_)) => lines.push("answer  done".to_owned()),
        Some(Answer::Failed(body)) => {
            let said = |field: &str| body.get(field).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
            lines.push(format!("answer  {}: {}", said("message"), said("detail")));
        }
        Some(Answer::Refused(problem)) => lines.push(format!("answer  refused, {problem}")),
        None => {}
    }
    lines.push("history".to_owned());
    for entry in &operation.history {
        let at = begun.map_or(0, |begun| entry.at.ms_since(begun));
        lines.push(format!("  {:>4}  +{:<8}  {}", entry.seq, seconds(at), entry.what));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Describes the turn or the place that a queued operation waits for.
fn turn(queue: &Queue, key: &str) -> String {
    let Queue { behind, ahead, limit } = queue;
    match (behind, limit) {
        (Some(first), _) if *ahead > 1 => {
            format!("its turn on \"{key}\": operation {first} has it, and {} more wait before this one", ahead - 1)
        }
        (Some(first), _) => format!("its turn on \"{key}\", which operation {first} has"),
        (None, Some(limit)) => {
            format!(
                "a place: limit of {limit} working operations in its lane reached; {ahead} were ahead when it joined"
            )
        }
        (None, None) => format!("its turn on \"{key}\""),
    }
}

fn headline(operation: &Operation, begun: Option<WallTime>, now: WallTime) -> String {
    let Operation { operation: id, key, workflow, state, live, step, .. } = operation;
    let since = begun.filter(|_| *live).map(|begun| format!("   for {}", seconds(now.ms_since(begun))));
    let step = step.as_ref().map(|step| format!("   {}: {} of {} done", step.name, step.done, step.calls));
    let (since, step) = (since.unwrap_or_default(), step.unwrap_or_default());
    format!("{id}  {} \"{key}\"   {state}{since}{step}", workflow.replace('-', " "))
}

fn waiting(call: &PendingCall, now: WallTime) -> String {
    let Some(talk) = &call.conversation else { return format!("{}   ({})", call.what, call.service) };
    let until = talk.until.map(|at| seconds(at.ms_since(now)));
    let until = until.map_or(String::new(), |left| match talk.doing.as_str() {
        "backing off" => format!("   next attempt in {left}"),
        _ => format!("   gives this attempt up in {left}"),
    });
    let rejected = talk.rejected.as_ref().map_or(String::new(), |Rejected { replies, last }| {
        let came =
            if *replies == 1 { "1 reply came and was".to_owned() } else { format!("{replies} replies came and were") };
        format!("\n      {came} rejected: {last}")
    });
    format!(
        "{}   attempt {} of {}   {}{until}   ({}){rejected}",
        call.what, talk.attempt, talk.attempts, talk.doing, call.service
    )
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_operation_says_behind_which_it_waits_or_for_which_limit() {
        let story_of = |queue: serde_json::Value, until: serde_json::Value| {
            let operation = serde_json::json!({
                "operation": "7f3a", "key": "test-01", "workflow": "create-flow", "state": "queued", "live": true,
                "queue": queue, "until": until, "history": [{"seq": 1, "at": 1_000, "what": "requested"}]
            });
            story(&serde_json::from_value(operation).unwrap(), WallTime(1_500))
        };
        let told = story_of(serde_json::json!({"behind": "11aa", "ahead": 1}), serde_json::Value::Null);
        assert!(told.contains("waits for  its turn on \"test-01\", which operation 11aa has\n"), "{told}");
        assert!(told.contains("then  it begins; its client gave no deadline\n"), "{told}");
        let until = serde_json::json!({"what": "the deadline of its client", "at": 3_000});
        let told = story_of(serde_json::json!({"behind": "11aa", "ahead": 3}), until);
        assert!(told.contains("operation 11aa has it, and 2 more wait before this one\n"), "{told}");
        assert!(told.contains("without its turn in 1.500 s at the latest it is refused (NAVE-0043)\n"), "{told}");
        let told = story_of(serde_json::json!({"ahead": 12, "limit": 256}), serde_json::Value::Null);
        assert!(told.contains("limit of 256 working operations in its lane reached; 12 were ahead"), "{told}");
    }

    #[test]
    fn a_story_says_what_it_waits_for_and_what_comes_then() {
        let operation: Operation = serde_json::from_value(serde_json::json!({
            "operation": "7f3a", "key": "test-01", "workflow": "create-flow", "state": "installing", "live": true,
            "step": {"number": 1, "name": "install rules", "calls": 10, "done": 9, "pending": [{
                "call": "7f3a/1/8", "what": "install rule 8 on of:08", "service": "speaker",
                "conversation": {"call": "7f3a/1/8", "attempt": 2, "attempts": 3, "doing": "sent", "until": 1_700,
                    "rejected": {"replies": 3, "last": "`ce_causationid` is missing"}}
            }]},
            "until": {"what": "install rules", "at": 3_000},
            "history": [{"seq": 1, "at": 1_000, "what": "requested"}]
        }))
        .unwrap();
        assert_eq!(
            story(&operation, WallTime(1_500)),
            "7f3a  create flow \"test-01\"   installing   for 0.500 s   install rules: 9 of 10 done\n\
             waits for\n  install rule 8 on of:08   attempt 2 of 3   sent   gives this attempt up in 0.200 s   (speaker)\n\
             \u{20}     3 replies came and were rejected: `ce_causationid` is missing\n\
             then  the deadline of \"install rules\" in 1.500 s at the latest\n\
             history\n     1  +0.000 s   requested\n"
        );
    }
}
