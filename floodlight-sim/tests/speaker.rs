//! How a speaker handles commands, repeats, undos and faults.

#![expect(clippy::unwrap_used, reason = "helpers of these tests rely on their setup")]

use bus::MonoTime;
use floodlight_sim::{
    Answer, Body, CommandKind, CommandOutcome, Crash, Fault, FaultKind, Garbage, Match, Request, Speaker, Unreadable,
    WrongIdentity,
};
use flow_messages::client::InjectedFault;
use flow_messages::speaker::{Action, Command, Refusal, Reply, Rule, SwitchId};
use wire::{CallId, Envelope, Kind, OperationId, WallTime};

const INSTALLED: Body = Body::Reply(Reply::Installed { existed: false });
const REMOVED: Body = Body::Reply(Reply::Removed { existed: true });

fn rule() -> Rule {
    Rule { switch: SwitchId::numbered(8), flow: "test-01".into(), number: 8, cookie: 17, meter: 3 }
}

fn call(step: u32) -> CallId {
    CallId::new(OperationId::new("7f3a").unwrap(), step, 8)
}

fn request(kind: Kind, step: u32, attempt: u32, action: Action) -> Request {
    let mut envelope = Envelope::new(kind, format!("7f3a/{step}/8/speaker/{attempt}"), "/nave/flows/hub/0");
    envelope.call = Some(call(step));
    envelope.attempt = Some(attempt);
    Request { key: None, envelope, command: Command { action, error: None } }
}

/// Step 1 of the operation: installs the rule.
fn install(attempt: u32) -> Request {
    request(Kind::Call, 1, attempt, Action::Install { rule: rule() })
}

/// Step 2: undoes step 1.
fn undo() -> Request {
    let mut undo = request(Kind::Undo, 2, 1, Action::Remove { switch: rule().switch, cookie: 17 });
    undo.envelope.undoes = vec![call(1)];
    undo
}

/// Step 3: reads the rule.
fn read() -> Request {
    request(Kind::Call, 3, 1, Action::Read { switch: rule().switch, cookie: 17 })
}

fn at(ms: u64) -> (MonoTime, WallTime) {
    (MonoTime(0).plus_ms(ms), WallTime(ms))
}

fn on(speaker: &mut Speaker, ms: u64, request: Request) -> Vec<Body> {
    let (now, wall) = at(ms);
    bodies(speaker.on(now, wall, request))
}

fn due(speaker: &mut Speaker, ms: u64) -> Vec<Body> {
    let (now, wall) = at(ms);
    bodies(speaker.due(now, wall))
}

fn bodies(answers: Vec<Answer>) -> Vec<Body> {
    answers.into_iter().map(|answer| answer.body).collect()
}

fn outcomes(speaker: &Speaker) -> Vec<CommandOutcome> {
    speaker.audit().after(0).map(|entry| entry.outcome.clone()).collect()
}

fn errors(bodies: &[Body]) -> Vec<&str> {
    bodies
        .iter()
        .map(|body| match body {
            Body::Reply(_) => "",
            Body::Refusal(refusal) | Body::Failure(refusal) => refusal.error.as_str(),
        })
        .collect()
}

/// A speaker with one fault that applies to all commands.
fn with(kind: FaultKind) -> Speaker {
    let mut speaker = Speaker::default();
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: None }).unwrap();
    speaker
}

fn installed(speaker: &Speaker) -> bool {
    speaker.switches().all_rules() == [rule()]
}

#[test]
fn a_rule_is_installed_read_and_removed() {
    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: Some(rule()) })]);
    assert_eq!(on(&mut speaker, 0, undo()), [REMOVED]);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: None })], "a read is not remembered");
    let executed = |existed| CommandOutcome::Executed { existed };
    assert_eq!(outcomes(&speaker), [executed(false), executed(true), executed(true), executed(false)]);
}

#[test]
fn a_repeat_is_answered_from_memory_with_the_same_body() {
    let mut speaker = Speaker::default();
    for attempt in 1..=2 {
        assert_eq!(on(&mut speaker, 0, install(attempt)), [INSTALLED]);
    }
    assert_eq!(outcomes(&speaker), [CommandOutcome::Executed { existed: false }, CommandOutcome::Remembered]);
    let removal = request(Kind::Call, 2, 1, undo().command.action);
    for _ in 0..2 {
        assert_eq!(on(&mut speaker, 0, removal.clone()), [REMOVED], "removals are remembered");
    }
    assert_eq!(on(&mut speaker, 0, install(3)), [INSTALLED]);
    assert!(!installed(&speaker), "a repeat puts nothing back");
}

#[test]
fn another_call_finds_the_existing_rule() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    let again = request(Kind::Call, 5, 1, Action::Install { rule: rule() });
    assert_eq!(on(&mut speaker, 0, again), [Body::Reply(Reply::Installed { existed: true })]);
}

#[test]
fn a_used_meter_is_refused_until_it_is_free_and_another_call_wants_it() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    let other = |step| request(Kind::Call, step, 1, Action::Install { rule: Rule { cookie: 18, ..rule() } });
    assert_eq!(errors(&on(&mut speaker, 0, other(4))), ["meter_taken"]);
    on(&mut speaker, 0, undo());
    assert_eq!(errors(&on(&mut speaker, 0, other(4))), ["undone"], "a refused call stays refused");
    assert_eq!(on(&mut speaker, 0, other(5)), [INSTALLED]);
}

/// A worker that takes over from a crashed one repeats the call with a new deadline.
#[test]
fn a_refused_call_is_not_executed_when_it_is_repeated() {
    let mut speaker = Speaker::default();
    let mut late = install(1);
    late.envelope.expires = Some(WallTime(99));
    assert_eq!(errors(&on(&mut speaker, 100, late)), ["expired"]);
    let mut again = install(1);
    again.envelope.expires = Some(WallTime(999));
    assert_eq!(errors(&on(&mut speaker, 100, again)), ["undone"]);
    assert!(!installed(&speaker));
}

#[test]
fn an_undone_call_is_refused_for_good() {
    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, undo()), [Body::Reply(Reply::Removed { existed: false })]);
    for attempt in 1..=2 {
        assert_eq!(errors(&on(&mut speaker, 0, install(attempt))), ["undone"]);
    }
    assert!(!installed(&speaker));
}

#[test]
fn an_executed_and_undone_call_is_refused() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    on(&mut speaker, 0, undo());
    assert_eq!(errors(&on(&mut speaker, 0, install(2))), ["undone"]);
}

#[test]
fn an_install_that_executes_after_its_undo_leaves_no_rule() {
    let mut speaker = Speaker::default();
    let first = Match { command: Some(CommandKind::Install), ..Match::default() };
    let fault = Fault { when: first, kind: FaultKind::DelayExecution { ms: 5_000 }, times: Some(1) };
    speaker.faults_mut().inject(fault).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert_eq!(on(&mut speaker, 10, undo()), [Body::Reply(Reply::Removed { existed: false })]);
    assert_eq!(on(&mut speaker, 20, read()), [Body::Reply(Reply::Found { rule: None })]);
    assert_eq!(errors(&due(&mut speaker, 5_000)), ["undone"]);
    assert!(!installed(&speaker));
}

#[test]
fn an_expired_call_is_refused_at_execution() {
    let mut speaker = with(FaultKind::DelayExecution { ms: 100 });
    let mut late = install(1);
    late.envelope.expires = Some(WallTime(99));
    on(&mut speaker, 0, late.clone());
    assert_eq!(errors(&due(&mut speaker, 100)), ["expired"]);
    speaker.faults_mut().clear();
    assert_eq!(errors(&on(&mut speaker, 99, late)), ["undone"], "a refused call stays refused");
    let mut last = request(Kind::Call, 3, 1, install(1).command.action);
    last.envelope.expires = Some(WallTime(99));
    assert_eq!(on(&mut speaker, 99, last.clone()), [INSTALLED], "a call is valid at its expiry time");
    assert_eq!(on(&mut speaker, 500, last), [INSTALLED], "memory answers after the expiry time");
}

#[test]
fn an_expired_undo_still_marks_its_calls_as_undone() {
    let mut speaker = Speaker::default();
    let mut late = undo();
    late.envelope.expires = Some(WallTime(5));
    assert_eq!(errors(&on(&mut speaker, 10, late)), ["expired"]);
    assert_eq!(errors(&on(&mut speaker, 10, install(1))), ["undone"]);
}

#[test]
fn only_an_undo_marks_calls_as_undone() {
    let mut speaker = Speaker::default();
    let mut removal = request(Kind::Call, 2, 1, undo().command.action);
    removal.envelope.undoes = vec![call(1)];
    on(&mut speaker, 0, removal);
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
}

#[test]
fn a_fault_requested_for_the_switch_is_silence_and_others_are_ignored() {
    for (error, answers, there) in [
        (Some(InjectedFault::InSwitch), vec![], false),
        (Some(InjectedFault::InHub), vec![INSTALLED], true),
        (Some(InjectedFault::InWorker), vec![INSTALLED], true),
        (None, vec![INSTALLED], true),
    ] {
        let mut speaker = Speaker::default();
        let mut request = install(1);
        request.command.error = error;
        assert_eq!(on(&mut speaker, 0, request), answers, "{error:?}");
        assert_eq!(installed(&speaker), there, "{error:?}");
    }
}

#[test]
fn each_fault_executes_and_answers_as_documented() {
    let refusal = FaultKind::Error { code: "broken".into(), retry: false };
    let failure = FaultKind::Error { code: "broken".into(), retry: true };
    // kind; answers and rule at once; answers and rule after 100 ms
    for (kind, answers, installs, late_answers, late_installs) in [
        (FaultKind::Silence, 0, false, 0, false),
        (FaultKind::Mute, 0, true, 0, true),
        (FaultKind::DelayReply { ms: 100 }, 0, true, 1, true),
        (FaultKind::DelayExecution { ms: 100 }, 0, false, 1, true),
        (refusal, 1, false, 0, false),
        (failure, 1, false, 0, false),
        (FaultKind::Duplicate, 2, true, 0, true),
        (FaultKind::WrongKey { what: WrongIdentity::Call }, 1, true, 0, true),
        (FaultKind::Corrupt { what: Garbage::Body }, 1, true, 0, true),
        (FaultKind::Oversized { bytes: 9 }, 1, true, 0, true),
        (FaultKind::Lie, 1, false, 0, false),
        (FaultKind::Crash { after: 1, answered: true }, 1, true, 0, true),
    ] {
        let mut speaker = with(kind.clone());
        assert_eq!((on(&mut speaker, 0, install(1)).len(), installed(&speaker)), (answers, installs), "{kind:?}");
        assert_eq!(due(&mut speaker, 99), [], "{kind:?}: never early");
        assert_eq!((due(&mut speaker, 100).len(), installed(&speaker)), (late_answers, late_installs), "{kind:?}");
        assert_eq!(speaker.next_due(), None);
    }
}

#[test]
fn an_error_is_a_refusal_or_a_retryable_failure() {
    let mut speaker = with(FaultKind::Error { code: "broken".into(), retry: true });
    assert!(
        matches!(on(&mut speaker, 0, install(1)).as_slice(), [Body::Failure(failure)] if failure.error == "broken")
    );
    let mut speaker = with(FaultKind::Error { code: "broken".into(), retry: false });
    assert!(
        matches!(on(&mut speaker, 0, install(1)).as_slice(), [Body::Refusal(refusal)] if refusal.error == "broken")
    );
}

/// The caller of a refused call does not undo it.
#[test]
fn an_error_does_not_apply_to_an_executed_call() {
    for retry in [true, false] {
        let mut speaker = Speaker::default();
        let first = on(&mut speaker, 0, install(1));
        let kind = FaultKind::Error { code: "broken".into(), retry };
        speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: None }).unwrap();
        assert_eq!(on(&mut speaker, 1, install(1)), first, "retry: {retry}");
    }
}

#[test]
fn a_repeat_overtakes_a_delayed_attempt_and_executes_once() {
    let mut speaker = Speaker::default();
    let kind = FaultKind::DelayExecution { ms: 100 };
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    on(&mut speaker, 0, install(1));
    assert_eq!(on(&mut speaker, 50, install(2)), [INSTALLED]);
    assert_eq!(due(&mut speaker, 100), [INSTALLED], "the same reply as the repeat");
    assert_eq!(outcomes(&speaker).last(), Some(&CommandOutcome::Remembered));
}

#[test]
fn delayed_commands_execute_in_the_order_of_their_times() {
    let mut speaker = Speaker::default();
    for (step, ms) in [(1, 30), (2, 10), (3, 10)] {
        let kind = FaultKind::DelayExecution { ms };
        speaker
            .faults_mut()
            .inject(Fault { when: Match { step: Some(step), ..Match::default() }, kind, times: None })
            .unwrap();
    }
    for request in [install(1), undo(), read()] {
        on(&mut speaker, 0, request);
    }
    assert_eq!(speaker.next_due(), Some(at(10).0));
    due(&mut speaker, 30);
    let steps: Vec<u32> = speaker.audit().after(3).map(|entry| entry.call.step).collect();
    assert_eq!(steps, [2, 3, 1]);
}

#[test]
fn a_fault_for_a_rule_applies_to_reads_and_removals_of_its_cookie() {
    let mut speaker = Speaker::default();
    let when = Match { rule: Some(8), flow: Some("test-01".into()), ..Match::default() };
    speaker.faults_mut().inject(Fault { when, kind: FaultKind::Silence, times: Some(3) }).unwrap();
    for request in [install(1), read(), undo()] {
        assert_eq!(on(&mut speaker, 0, request), []);
    }
    assert_eq!(on(&mut speaker, 0, install(2)), [INSTALLED], "the fault is used up and hid the undo");
}

#[test]
fn the_number_of_delayed_answers_is_bounded() {
    let mut speaker = with(FaultKind::DelayReply { ms: 1 });
    for _ in 0..floodlight_sim::delay::MAX_DELAYED {
        on(&mut speaker, 0, read());
    }
    assert_eq!(on(&mut speaker, 0, read()).len(), 1);
    assert_eq!(speaker.waiting(), floodlight_sim::delay::MAX_DELAYED);
}

#[test]
fn a_lie_is_answered_and_remembered_but_not_executed() {
    let mut speaker = Speaker::default();
    let lie = |speaker: &mut Speaker| {
        let fault = Fault { when: Match::default(), kind: FaultKind::Lie, times: Some(1) };
        speaker.faults_mut().inject(fault).unwrap();
    };
    lie(&mut speaker);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: None })], "reads are true");
    for attempt in 1..=2 {
        assert_eq!(on(&mut speaker, 0, install(attempt)), [INSTALLED]);
        assert!(!installed(&speaker), "attempt {attempt}");
    }
    on(&mut speaker, 0, request(Kind::Call, 5, 1, Action::Install { rule: rule() }));
    lie(&mut speaker);
    for _ in 0..2 {
        assert_eq!(on(&mut speaker, 0, undo()), [REMOVED]);
        assert!(installed(&speaker));
    }
    assert_eq!(errors(&on(&mut speaker, 0, install(3))), ["undone"], "an undo counts even if it is a lie");
    assert!(
        !outcomes(&speaker)[1..].iter().take(2).any(|outcome| matches!(outcome, CommandOutcome::Executed { .. })),
        "a lie executes nothing"
    );
}

#[test]
fn a_held_reply_comes_after_the_next_other_answers() {
    let mut speaker = Speaker::default();
    let kind = FaultKind::Reorder { hold: 2 };
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert!(installed(&speaker), "the command is executed at once");
    let found = Body::Reply(Reply::Found { rule: Some(rule()) });
    assert_eq!(on(&mut speaker, 0, read()), std::slice::from_ref(&found));
    assert_eq!(on(&mut speaker, 0, read()), [found, INSTALLED]);
    assert_eq!(speaker.waiting(), 0);
}

#[test]
fn a_held_reply_without_followers_comes_after_a_second() {
    let mut speaker = with(FaultKind::Reorder { hold: 1 });
    on(&mut speaker, 0, install(1));
    assert_eq!(due(&mut speaker, 999), []);
    assert_eq!(due(&mut speaker, 1_000), [INSTALLED]);
}

#[test]
fn a_crash_counts_commands_and_loses_delayed_answers() {
    let mut speaker = Speaker::default();
    for (command, kind) in [
        (CommandKind::Read, FaultKind::DelayReply { ms: 50 }),
        (CommandKind::Install, FaultKind::Crash { after: 2, answered: true }),
    ] {
        let when = Match { command: Some(command), ..Match::default() };
        speaker.faults_mut().inject(Fault { when, kind, times: Some(1) }).unwrap();
    }
    on(&mut speaker, 0, read());
    on(&mut speaker, 0, install(1));
    assert_eq!((speaker.crash(), speaker.waiting()), (None, 1));
    on(&mut speaker, 0, install(2));
    assert_eq!(speaker.crash(), Some(Crash { answered: true }));
    speaker.restarted();
    assert_eq!((speaker.crash(), speaker.waiting()), (None, 0));
    assert!(installed(&speaker));
    assert_eq!(on(&mut speaker, 0, install(3)), [INSTALLED], "the reply is remembered");
}

/// An unreadable message of the same call.
fn garbled(request: Request) -> Unreadable {
    let body = Body::Refusal(Refusal { error: "unreadable".into(), detail: "the body is not a command".into() });
    let answer = Answer { key: request.key, request: request.envelope, body, flaw: None };
    Unreadable { detail: "the body is not a command".into(), answer: Some(answer) }
}

/// Simulation seed 20233: the first attempt was delayed and the unreadable second one refused. The
/// first then executed, and nobody undid it.
#[test]
fn a_call_refused_as_unreadable_is_not_executed_by_another_attempt() {
    let mut speaker = Speaker::default();
    let slow = Fault { when: Match::default(), kind: FaultKind::DelayExecution { ms: 100 }, times: Some(1) };
    speaker.faults_mut().inject(slow).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert!(speaker.unreadable(garbled(install(1))).is_some());
    assert_eq!(errors(&due(&mut speaker, 100)), ["undone"]);

    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
    assert_eq!(speaker.unreadable(garbled(install(1))), None, "the next readable attempt gets the reply");
    assert_eq!(on(&mut speaker, 1, install(2)), [INSTALLED]);
}
