//! Calls that a worker refuses at once and never sends.

use wire::answer::Availability;
use wire::call::{Call, CallCommand, CallEnd, CallOutcome};
use wire::{CallId, Kind, MessageId, OperationId};
use workers::table::WorkerEffect;
use workers::{SpokeReply, WorkerSettings, WorkerTable};

fn call(n: u32, bytes: usize) -> CallCommand {
    CallCommand::Start(Call {
        id: CallId::new(OperationId::new("op").expect("letters are allowed"), 1, n),
        service: "spoke".into(),
        key: "k".into(),
        what: "do it".into(),
        body: "x".repeat(bytes),
        undoes: Vec::new(),
        lane: 3,
        correlation: None,
        within_ms: 1_000,
        until: None,
    })
}

/// The ended calls, and the numbers of the sent calls.
fn ends_and_sent(effects: Vec<WorkerEffect>) -> (Vec<CallEnd>, Vec<u32>) {
    let (mut ends, mut sent) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            WorkerEffect::End(end) => ends.push(end),
            WorkerEffect::Send { call, .. } => sent.push(call.id.n),
            WorkerEffect::Deadline(_)
            | WorkerEffect::Changed(_)
            | WorkerEffect::Closed(_)
            | WorkerEffect::Publish
            | WorkerEffect::Count(_)
            | WorkerEffect::Log(..) => {}
        }
    }
    (ends, sent)
}

fn refused(end: &CallEnd) -> &str {
    let CallOutcome::Refused(reason) = &end.outcome else { panic!("{end:?}") };
    assert_eq!((end.attempts, end.lane), (0, 3));
    reason
}

/// Lesson 30.
#[test]
fn an_oversized_request_is_refused_and_never_sent() {
    let mut table = WorkerTable::new(WorkerSettings { body_bytes: 100, ..WorkerSettings::default() }, 1);
    let mut effects = Vec::new();
    table.command(call(1, 100), &mut effects);
    table.command(call(2, 101), &mut effects);
    let (ends, sent) = ends_and_sent(effects);
    assert_eq!(sent, [1]);
    assert_eq!(refused(&ends[0]), "the request has 101 bytes; the limit is 100");
    assert_eq!(table.len(), 1);
}

/// A refusal without a reason used to give messages that end in ": ".
#[test]
fn a_refusal_without_a_reason_says_so() {
    for (body, reason) in [
        ("", "the spoke gave no reason"),
        (r#"{"error": "full", "detail": ""}"#, "full"),
        (r#"{"error": "", "detail": ""}"#, r#"{"error": "", "detail": ""}"#),
    ] {
        let mut table = WorkerTable::new(WorkerSettings::default(), 1);
        let mut effects = Vec::new();
        table.command(call(1, 1), &mut effects);
        let id = CallId::new(OperationId::new("op").expect("letters are allowed"), 1, 1);
        let message = MessageId { call: id.clone(), service: "spoke".into(), attempt: 1 };
        table.answered(SpokeReply { kind: Kind::Refusal, call: id, message, body: body.into() }, 0, &mut effects);
        let (ends, _) = ends_and_sent(effects);
        assert_eq!(ends[0].outcome, CallOutcome::Refused(reason.to_owned()));
    }
}

/// Lesson 26: queued and later calls are refused; sent calls continue.
#[test]
fn calls_to_a_spoke_that_is_down_are_refused_at_once() {
    let mut table = WorkerTable::new(WorkerSettings { in_flight: 1, ..WorkerSettings::default() }, 1);
    let mut effects = Vec::new();
    (1..=3).for_each(|n| table.command(call(n, 1), &mut effects));
    assert_eq!(ends_and_sent(std::mem::take(&mut effects)), (vec![], vec![1]));
    table.liveness_changed(Some(false), &mut effects);
    table.liveness_changed(Some(false), &mut effects);
    table.command(call(4, 1), &mut effects);
    let (ends, sent) = ends_and_sent(std::mem::take(&mut effects));
    assert_eq!(ends.iter().map(|end| end.id.n).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(ends.iter().all(|end| refused(end).starts_with("unavailable")), "{ends:?}");
    assert_eq!((sent.len(), table.len()), (0, 1), "the first call continues");
    table.liveness_changed(Some(true), &mut effects);
    table.command(call(5, 1), &mut effects);
    assert_eq!((ends_and_sent(effects), table.len()), ((vec![], vec![]), 2), "it waits for the first call to end");
}

/// After a goodbye or a long silence only answers show whether the spoke is up, so calls are sent
/// again.
#[test]
fn calls_resume_when_heartbeats_no_longer_decide() {
    let mut table = WorkerTable::new(WorkerSettings::default(), 1);
    let mut effects = Vec::new();
    table.liveness_changed(Some(false), &mut effects);
    table.command(call(1, 1), &mut effects);
    assert_eq!(ends_and_sent(std::mem::take(&mut effects)).1, [0; 0]);
    table.liveness_changed(None, &mut effects);
    assert_eq!((table.judged(), effects.contains(&WorkerEffect::Publish)), (Availability::ByAnswers, true));
    table.command(call(2, 1), &mut effects);
    assert_eq!(ends_and_sent(effects).1, [2]);
}

/// A spoke that answers is up, whatever its heartbeats say.
#[test]
fn a_spoke_that_answers_without_heartbeats_is_judged_by_answers() {
    let mut table = WorkerTable::new(WorkerSettings::default(), 1);
    let mut effects = Vec::new();
    table.command(call(1, 1), &mut effects);
    table.liveness_changed(Some(false), &mut effects);
    let id = CallId::new(OperationId::new("op").expect("letters are allowed"), 1, 1);
    let message = MessageId::new(id.clone(), "spoke", 1);
    table.answered(SpokeReply { kind: Kind::Reply, call: id, message, body: "{}".into() }, 0, &mut effects);
    assert_eq!(table.judged(), Availability::ByAnswers);
    table.command(call(2, 1), &mut effects);
    assert_eq!(ends_and_sent(effects).1, [1, 2]);
}
