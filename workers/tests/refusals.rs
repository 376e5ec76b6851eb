//! What a worker refuses at once, and never sends.

use wire::answer::Judged;
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
        swallow: false,
    })
}

/// The calls that ended, each with its lane, attempts and outcome, and the calls that were sent.
fn came(effects: Vec<WorkerEffect>) -> (Vec<CallEnd>, Vec<u32>) {
    let (mut ends, mut sent) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            WorkerEffect::End(end) => ends.push(end),
            WorkerEffect::Send { call, .. } => sent.push(call.id.n),
            WorkerEffect::Deadline(_)
            | WorkerEffect::Changed(_)
            | WorkerEffect::Closed(_)
            | WorkerEffect::Show
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
fn a_request_that_is_too_large_is_refused_before_it_can_jam_a_lane() {
    let mut table = WorkerTable::new(WorkerSettings { body_bytes: 100, ..WorkerSettings::default() }, 1);
    let mut effects = Vec::new();
    table.command(call(1, 100), &mut effects);
    table.command(call(2, 101), &mut effects);
    let (ends, sent) = came(effects);
    assert_eq!(sent, [1]);
    assert_eq!(refused(&ends[0]), "the request has 101 bytes; at most 100 are sent");
    assert_eq!(table.len(), 1);
}

/// A spoke that says nothing gave messages that end in ": ".
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
        let (ends, _) = came(effects);
        assert_eq!(ends[0].outcome, CallOutcome::Refused(reason.to_owned()));
    }
}

/// Lesson 26: what waits for a place, and what comes later, is refused; what was sent goes on.
#[test]
fn a_spoke_that_went_down_is_not_waited_for() {
    let mut table = WorkerTable::new(WorkerSettings { in_flight: 1, ..WorkerSettings::default() }, 1);
    let mut effects = Vec::new();
    (1..=3).for_each(|n| table.command(call(n, 1), &mut effects));
    assert_eq!(came(std::mem::take(&mut effects)), (vec![], vec![1]));
    table.lives(Some(false), &mut effects);
    table.lives(Some(false), &mut effects);
    table.command(call(4, 1), &mut effects);
    let (ends, sent) = came(std::mem::take(&mut effects));
    assert_eq!(ends.iter().map(|end| end.id.n).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(ends.iter().all(|end| refused(end).starts_with("unavailable")), "{ends:?}");
    assert_eq!((sent.len(), table.len()), (0, 1), "the first goes on");
    table.lives(Some(true), &mut effects);
    table.command(call(5, 1), &mut effects);
    assert_eq!((came(effects), table.len()), ((vec![], vec![]), 2), "it waits for the place of the first");
}

/// A goodbye, a long silence: then nothing but its answers says whether it lives, and calls go out again.
#[test]
fn a_spoke_that_is_not_judged_by_heartbeats_any_more_is_sent_calls_again() {
    let mut table = WorkerTable::new(WorkerSettings::default(), 1);
    let mut effects = Vec::new();
    table.lives(Some(false), &mut effects);
    table.command(call(1, 1), &mut effects);
    assert_eq!(came(std::mem::take(&mut effects)).1, [0; 0]);
    table.lives(None, &mut effects);
    assert_eq!((table.judged(), effects.contains(&WorkerEffect::Show)), (Judged::ByAnswers, true));
    table.command(call(2, 1), &mut effects);
    assert_eq!(came(effects).1, [2]);
}

/// One that answers lives, whatever its heartbeats say.
#[test]
fn a_spoke_that_answers_while_its_heartbeats_are_missing_is_judged_by_its_answers() {
    let mut table = WorkerTable::new(WorkerSettings::default(), 1);
    let mut effects = Vec::new();
    table.command(call(1, 1), &mut effects);
    table.lives(Some(false), &mut effects);
    let id = CallId::new(OperationId::new("op").expect("letters are allowed"), 1, 1);
    let message = MessageId::new(id.clone(), "spoke", 1);
    table.answered(SpokeReply { kind: Kind::Reply, call: id, message, body: "{}".into() }, 0, &mut effects);
    assert_eq!(table.judged(), Judged::ByAnswers);
    table.command(call(2, 1), &mut effects);
    assert_eq!(came(effects).1, [1, 2]);
}
