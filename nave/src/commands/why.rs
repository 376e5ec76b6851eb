//! `nave why`: the state of an operation, what it waits for and until when, and what happens next.

use bus::Clock;
use clap::Args;
use wire::answer::{Answer, Operation, PendingCall, Queue, Rejected};
use wire::{OperationId, WallTime};

use super::RemoteArgs;
use super::output::{Output, Usage};
use crate::clock::SystemClock;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// Id of the operation, from its answer or a 202
    operation: String,
    #[command(flatten)]
    at: RemoteArgs,
}

pub(super) fn why(args: &WhyArgs) -> anyhow::Result<Output> {
    let id = OperationId::new(&args.operation).map_err(|error| Usage(error.to_string()))?;
    let body = args.at.client()?.operation(&id)?;
    let text = report(&serde_json::from_value(body.clone())?, SystemClock::default().wall());
    Ok(Output::Text { text, json: body })
}

/// Returns the report of an operation as text for people.
fn report(operation: &Operation, now: WallTime) -> String {
    let begun = operation.history.first().map(|entry| entry.at);
    let mut lines = vec![headline(operation, begun, now)];
    if let Some(queue) = &operation.queue {
        lines.push(format!("waits for  {}", queue_line(queue, &operation.key)));
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
            // A queued operation has no deadline but that of its client.
            Some(_) => format!("then  it starts; if it has not started{when}, it is refused (NAVE-0043)"),
            None => format!("then  the deadline of \"{}\"{when}", until.what),
        });
    } else if operation.queue.is_some() {
        lines.push("then  it starts; its client gave no deadline".to_owned());
    }
    match &operation.answer {
        Some(Answer::Done(_)) => lines.push("answer  done".to_owned()),
        Some(Answer::Failed(body)) => {
            let text = |field: &str| body.get(field).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
            lines.push(format!("answer  {}: {}", text("message"), text("detail")));
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

/// Describes what a queued operation waits for: its key, or a place in the lane.
fn queue_line(queue: &Queue, key: &str) -> String {
    let Queue { behind, ahead, limit } = queue;
    match (behind, limit) {
        (Some(first), _) if *ahead > 1 => {
            format!("key \"{key}\": operation {first} holds it, and {} more wait before this one", ahead - 1)
        }
        (Some(first), _) => format!("key \"{key}\", which operation {first} holds"),
        (None, Some(limit)) => {
            format!("its lane: limit of {limit} active operations reached; {ahead} were ahead when it joined")
        }
        (None, None) => format!("key \"{key}\""),
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
        _ => format!("   attempt times out in {left}"),
    });
    let rejected = talk.rejected.as_ref().map_or(String::new(), |Rejected { replies, last }| {
        let received = if *replies == 1 { "1 reply was".to_owned() } else { format!("{replies} replies were") };
        format!("\n      {received} rejected: {last}")
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
    fn a_queued_operation_names_the_one_before_it_or_the_limit() {
        let report_of = |queue: serde_json::Value, until: serde_json::Value| {
            let operation = serde_json::json!({
                "operation": "7f3a", "key": "test-01", "workflow": "create-flow", "state": "queued", "live": true,
                "queue": queue, "until": until, "history": [{"seq": 1, "at": 1_000, "what": "requested"}]
            });
            report(&serde_json::from_value(operation).unwrap(), WallTime(1_500))
        };
        let text = report_of(serde_json::json!({"behind": "11aa", "ahead": 1}), serde_json::Value::Null);
        assert!(text.contains("waits for  key \"test-01\", which operation 11aa holds\n"), "{text}");
        assert!(text.contains("then  it starts; its client gave no deadline\n"), "{text}");
        let until = serde_json::json!({"what": "the deadline of its client", "at": 3_000});
        let text = report_of(serde_json::json!({"behind": "11aa", "ahead": 3}), until);
        assert!(text.contains("operation 11aa holds it, and 2 more wait before this one\n"), "{text}");
        assert!(text.contains("if it has not started in 1.500 s at the latest, it is refused (NAVE-0043)\n"), "{text}");
        let text = report_of(serde_json::json!({"ahead": 12, "limit": 256}), serde_json::Value::Null);
        assert!(text.contains("its lane: limit of 256 active operations reached; 12 were ahead"), "{text}");
    }

    #[test]
    fn the_report_says_what_an_operation_waits_for_and_what_happens_next() {
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
            report(&operation, WallTime(1_500)),
            "7f3a  create flow \"test-01\"   installing   for 0.500 s   install rules: 9 of 10 done\n\
             waits for\n  install rule 8 on of:08   attempt 2 of 3   sent   attempt times out in 0.200 s   (speaker)\n\
             \u{20}     3 replies were rejected: `ce_causationid` is missing\n\
             then  the deadline of \"install rules\" in 1.500 s at the latest\n\
             history\n     1  +0.000 s   requested\n"
        );
    }
}
