//! What a speaker makes of commands, repeats, undos and faults.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

use bus::MonoTime;
use floodlight_sim::{
    Answer, Astray, Body, Crash, Deed, Fault, FaultKind, Garbage, Match, Request, Speaker, Unreadable, Word,
};
use wire::flow::Drill;
use wire::speaker::{Action, Command, Refusal, Reply, Rule, SwitchId};
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

/// Step 1 of the operation.
fn install(attempt: u32) -> Request {
    request(Kind::Call, 1, attempt, Action::Install { rule: rule() })
}

/// Step 2: it undoes step 1.
fn undo() -> Request {
    let mut undo = request(Kind::Undo, 2, 1, Action::Remove { switch: rule().switch, cookie: 17 });
    undo.envelope.undoes = vec![call(1)];
    undo
}

/// Step 3.
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

fn deeds(speaker: &Speaker) -> Vec<Deed> {
    speaker.audit().after(0).map(|entry| entry.deed.clone()).collect()
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

/// A speaker with one fault, for ever.
fn with(kind: FaultKind) -> Speaker {
    let mut speaker = Speaker::default();
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: None }).unwrap();
    speaker
}

fn stands(speaker: &Speaker) -> bool {
    speaker.switches().all_rules() == [rule()]
}

#[test]
fn a_rule_is_installed_read_and_removed() {
    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: Some(rule()) })]);
    assert_eq!(on(&mut speaker, 0, undo()), [REMOVED]);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: None })], "a read is not remembered");
    let executed = |existed| Deed::Executed { existed };
    assert_eq!(deeds(&speaker), [executed(false), executed(true), executed(true), executed(false)]);
}

#[test]
fn a_repeat_is_answered_from_memory_with_the_same_body() {
    let mut speaker = Speaker::default();
    for attempt in 1..=2 {
        assert_eq!(on(&mut speaker, 0, install(attempt)), [INSTALLED]);
    }
    assert_eq!(deeds(&speaker), [Deed::Executed { existed: false }, Deed::Remembered]);
    let removal = request(Kind::Call, 2, 1, undo().command.action);
    for _ in 0..2 {
        assert_eq!(on(&mut speaker, 0, removal.clone()), [REMOVED], "removals are remembered");
    }
    assert_eq!(on(&mut speaker, 0, install(3)), [INSTALLED]);
    assert!(!stands(&speaker), "a repeat puts nothing back");
}

#[test]
fn another_call_finds_the_rule_that_stands() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    let again = request(Kind::Call, 5, 1, Action::Install { rule: rule() });
    assert_eq!(on(&mut speaker, 0, again), [Body::Reply(Reply::Installed { existed: true })]);
}

#[test]
fn a_taken_meter_is_refused_and_judged_anew_for_another_call_when_it_is_free() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    let other = |step| request(Kind::Call, step, 1, Action::Install { rule: Rule { cookie: 18, ..rule() } });
    assert_eq!(errors(&on(&mut speaker, 0, other(4))), ["meter_taken"]);
    on(&mut speaker, 0, undo());
    assert_eq!(errors(&on(&mut speaker, 0, other(4))), ["undone"], "who was told that it is not done does not undo it");
    assert_eq!(on(&mut speaker, 0, other(5)), [INSTALLED]);
}

/// Its worker dies, and another one sends it anew, in time.
#[test]
fn a_call_that_was_refused_is_not_carried_out_when_it_comes_again() {
    let mut speaker = Speaker::default();
    let mut late = install(1);
    late.envelope.expires = Some(WallTime(99));
    assert_eq!(errors(&on(&mut speaker, 100, late)), ["expired"]);
    let mut again = install(1);
    again.envelope.expires = Some(WallTime(999));
    assert_eq!(errors(&on(&mut speaker, 100, again)), ["undone"]);
    assert!(!stands(&speaker));
}

#[test]
fn an_undone_call_is_refused_ever_after() {
    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, undo()), [Body::Reply(Reply::Removed { existed: false })]);
    for attempt in 1..=2 {
        assert_eq!(errors(&on(&mut speaker, 0, install(attempt))), ["undone"]);
    }
    assert!(!stands(&speaker));
}

#[test]
fn a_call_that_was_carried_out_and_undone_is_refused_too() {
    let mut speaker = Speaker::default();
    on(&mut speaker, 0, install(1));
    on(&mut speaker, 0, undo());
    assert_eq!(errors(&on(&mut speaker, 0, install(2))), ["undone"]);
}

#[test]
fn an_install_that_is_delayed_until_after_its_undoing_leaves_no_rule() {
    let mut speaker = Speaker::default();
    let first = Match { command: Some(Word::Install), ..Match::default() };
    let fault = Fault { when: first, kind: FaultKind::DelayExecution { ms: 5_000 }, times: Some(1) };
    speaker.faults_mut().inject(fault).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert_eq!(on(&mut speaker, 10, undo()), [Body::Reply(Reply::Removed { existed: false })]);
    assert_eq!(on(&mut speaker, 20, read()), [Body::Reply(Reply::Found { rule: None })]);
    assert_eq!(errors(&due(&mut speaker, 5_000)), ["undone"]);
    assert!(!stands(&speaker));
}

#[test]
fn a_call_past_its_time_is_refused_when_it_is_carried_out() {
    let mut speaker = with(FaultKind::DelayExecution { ms: 100 });
    let mut late = install(1);
    late.envelope.expires = Some(WallTime(99));
    on(&mut speaker, 0, late.clone());
    assert_eq!(errors(&due(&mut speaker, 100)), ["expired"]);
    speaker.faults_mut().clear();
    assert_eq!(errors(&on(&mut speaker, 99, late)), ["undone"], "it was refused once");
    let mut last = request(Kind::Call, 3, 1, install(1).command.action);
    last.envelope.expires = Some(WallTime(99));
    assert_eq!(on(&mut speaker, 99, last.clone()), [INSTALLED], "its last moment is not too late");
    assert_eq!(on(&mut speaker, 500, last), [INSTALLED], "what is remembered is told at any time");
}

#[test]
fn an_undo_past_its_time_still_bars_the_calls_that_it_names() {
    let mut speaker = Speaker::default();
    let mut late = undo();
    late.envelope.expires = Some(WallTime(5));
    assert_eq!(errors(&on(&mut speaker, 10, late)), ["expired"]);
    assert_eq!(errors(&on(&mut speaker, 10, install(1))), ["undone"]);
}

#[test]
fn a_plain_call_undoes_nothing_whatever_it_names() {
    let mut speaker = Speaker::default();
    let mut removal = request(Kind::Call, 2, 1, undo().command.action);
    removal.envelope.undoes = vec![call(1)];
    on(&mut speaker, 0, removal);
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
}

#[test]
fn the_drill_of_the_switch_is_silence_and_the_others_are_ignored() {
    for (drill, answers, there) in [
        (Some(Drill::InSwitch), vec![], false),
        (Some(Drill::InHub), vec![INSTALLED], true),
        (Some(Drill::InWorker), vec![INSTALLED], true),
        (None, vec![INSTALLED], true),
    ] {
        let mut speaker = Speaker::default();
        let mut drilled = install(1);
        drilled.command.error = drill;
        assert_eq!(on(&mut speaker, 0, drilled), answers, "{drill:?}");
        assert_eq!(stands(&speaker), there, "{drill:?}");
    }
}

#[test]
fn each_fault_is_on_its_side() {
    let refusal = FaultKind::Error { code: "broken".into(), retry: false };
    let failure = FaultKind::Error { code: "broken".into(), retry: true };
    // kind, told at once, stands at once, told later, stands later
    for (kind, told, there, told_late, there_late) in [
        (FaultKind::Silence, 0, false, 0, false),
        (FaultKind::Mute, 0, true, 0, true),
        (FaultKind::DelayReply { ms: 100 }, 0, true, 1, true),
        (FaultKind::DelayExecution { ms: 100 }, 0, false, 1, true),
        (refusal, 1, false, 0, false),
        (failure, 1, false, 0, false),
        (FaultKind::Duplicate, 2, true, 0, true),
        (FaultKind::WrongKey { what: Astray::Call }, 1, true, 0, true),
        (FaultKind::Corrupt { what: Garbage::Body }, 1, true, 0, true),
        (FaultKind::Oversized { bytes: 9 }, 1, true, 0, true),
        (FaultKind::Lie, 1, false, 0, false),
        (FaultKind::Crash { after: 1, told: true }, 1, true, 0, true),
    ] {
        let mut speaker = with(kind.clone());
        assert_eq!((on(&mut speaker, 0, install(1)).len(), stands(&speaker)), (told, there), "{kind:?}");
        assert_eq!(due(&mut speaker, 99), [], "{kind:?}: never early");
        assert_eq!((due(&mut speaker, 100).len(), stands(&speaker)), (told_late, there_late), "{kind:?}");
        assert_eq!(speaker.next_due(), None);
    }
}

#[test]
fn an_error_is_a_refusal_or_asks_to_try_again() {
    let mut speaker = with(FaultKind::Error { code: "broken".into(), retry: true });
    assert!(
        matches!(on(&mut speaker, 0, install(1)).as_slice(), [Body::Failure(failure)] if failure.error == "broken")
    );
    let mut speaker = with(FaultKind::Error { code: "broken".into(), retry: false });
    assert!(
        matches!(on(&mut speaker, 0, install(1)).as_slice(), [Body::Refusal(refusal)] if refusal.error == "broken")
    );
}

/// Whoever is told that nothing was done does not undo it.
#[test]
fn an_error_says_of_no_call_that_was_carried_out_that_nothing_was_done() {
    for retry in [true, false] {
        let mut speaker = Speaker::default();
        let told = on(&mut speaker, 0, install(1));
        let kind = FaultKind::Error { code: "broken".into(), retry };
        speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: None }).unwrap();
        assert_eq!(on(&mut speaker, 1, install(1)), told, "retry: {retry}");
    }
}

#[test]
fn a_repeat_while_the_first_is_delayed_is_carried_out_and_the_first_finds_it() {
    let mut speaker = Speaker::default();
    let kind = FaultKind::DelayExecution { ms: 100 };
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    on(&mut speaker, 0, install(1));
    assert_eq!(on(&mut speaker, 50, install(2)), [INSTALLED]);
    assert_eq!(due(&mut speaker, 100), [INSTALLED], "not `existed`: it is the same call");
    assert_eq!(deeds(&speaker).last(), Some(&Deed::Remembered));
}

#[test]
fn what_is_delayed_comes_in_the_order_of_its_times() {
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
fn a_fault_of_a_rule_strikes_reads_and_removals_of_its_cookie() {
    let mut speaker = Speaker::default();
    let when = Match { rule: Some(8), flow: Some("test-01".into()), ..Match::default() };
    speaker.faults_mut().inject(Fault { when, kind: FaultKind::Silence, times: Some(3) }).unwrap();
    for request in [install(1), read(), undo()] {
        assert_eq!(on(&mut speaker, 0, request), []);
    }
    assert_eq!(on(&mut speaker, 0, install(2)), [INSTALLED], "the fault is used up, and the undo was never seen");
}

#[test]
fn delays_have_a_bound_and_beyond_it_nothing_is_delayed() {
    let mut speaker = with(FaultKind::DelayReply { ms: 1 });
    for _ in 0..floodlight_sim::late::WAITING {
        on(&mut speaker, 0, read());
    }
    assert_eq!(on(&mut speaker, 0, read()).len(), 1);
    assert_eq!(speaker.waiting(), floodlight_sim::late::WAITING);
}

#[test]
fn a_lie_is_told_and_remembered_and_nothing_is_done() {
    let mut speaker = Speaker::default();
    let lie = |speaker: &mut Speaker| {
        let fault = Fault { when: Match::default(), kind: FaultKind::Lie, times: Some(1) };
        speaker.faults_mut().inject(fault).unwrap();
    };
    lie(&mut speaker);
    assert_eq!(on(&mut speaker, 0, read()), [Body::Reply(Reply::Found { rule: None })], "a read is told truly");
    for attempt in 1..=2 {
        assert_eq!(on(&mut speaker, 0, install(attempt)), [INSTALLED]);
        assert!(!stands(&speaker), "attempt {attempt}");
    }
    on(&mut speaker, 0, request(Kind::Call, 5, 1, Action::Install { rule: rule() }));
    lie(&mut speaker);
    for _ in 0..2 {
        assert_eq!(on(&mut speaker, 0, undo()), [REMOVED]);
        assert!(stands(&speaker));
    }
    assert_eq!(errors(&on(&mut speaker, 0, install(3))), ["undone"], "what a lie undoes is undone all the same");
    assert!(!deeds(&speaker)[1..].iter().take(2).any(|deed| matches!(deed, Deed::Executed { .. })), "a lie is no deed");
}

#[test]
fn a_reply_that_is_held_comes_after_the_next_answers_to_others() {
    let mut speaker = Speaker::default();
    let kind = FaultKind::Reorder { hold: 2 };
    speaker.faults_mut().inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert!(stands(&speaker), "it is done now");
    let found = Body::Reply(Reply::Found { rule: Some(rule()) });
    assert_eq!(on(&mut speaker, 0, read()), std::slice::from_ref(&found));
    assert_eq!(on(&mut speaker, 0, read()), [found, INSTALLED]);
    assert_eq!(speaker.waiting(), 0);
}

#[test]
fn a_reply_that_is_held_and_that_nobody_follows_comes_after_a_second() {
    let mut speaker = with(FaultKind::Reorder { hold: 1 });
    on(&mut speaker, 0, install(1));
    assert_eq!(due(&mut speaker, 999), []);
    assert_eq!(due(&mut speaker, 1_000), [INSTALLED]);
}

#[test]
fn a_crash_is_said_once_it_is_due_and_takes_with_it_what_was_delayed() {
    let mut speaker = Speaker::default();
    for (word, kind) in
        [(Word::Read, FaultKind::DelayReply { ms: 50 }), (Word::Install, FaultKind::Crash { after: 2, told: true })]
    {
        let when = Match { command: Some(word), ..Match::default() };
        speaker.faults_mut().inject(Fault { when, kind, times: Some(1) }).unwrap();
    }
    on(&mut speaker, 0, read());
    on(&mut speaker, 0, install(1));
    assert_eq!((speaker.crash(), speaker.waiting()), (None, 1));
    on(&mut speaker, 0, install(2));
    assert_eq!(speaker.crash(), Some(Crash { told: true }));
    speaker.restarted();
    assert_eq!((speaker.crash(), speaker.waiting()), (None, 0));
    assert!(stands(&speaker));
    assert_eq!(on(&mut speaker, 0, install(3)), [INSTALLED], "it is remembered");
}

/// The same command, in a message that nobody can read.
fn garbled(request: Request) -> Unreadable {
    let body = Body::Refusal(Refusal { error: "unreadable".into(), detail: "the body is no command".into() });
    let answer = Answer { key: request.key, request: request.envelope, body, flaw: None };
    Unreadable { detail: "the body is no command".into(), answer: Some(answer) }
}

/// Simulation, seed 20233: a call came twice, and was slow; its second message could not be read and was refused; then it was carried
/// out, and nobody undid it.
#[test]
fn a_call_that_was_refused_as_unreadable_is_not_carried_out_by_another_message_of_it() {
    let mut speaker = Speaker::default();
    let slow = Fault { when: Match::default(), kind: FaultKind::DelayExecution { ms: 100 }, times: Some(1) };
    speaker.faults_mut().inject(slow).unwrap();
    assert_eq!(on(&mut speaker, 0, install(1)), []);
    assert!(speaker.unreadable(garbled(install(1))).is_some());
    assert_eq!(errors(&due(&mut speaker, 100)), ["undone"]);

    let mut speaker = Speaker::default();
    assert_eq!(on(&mut speaker, 0, install(1)), [INSTALLED]);
    assert_eq!(
        speaker.unreadable(garbled(install(1))),
        None,
        "it was carried out, which is said to whoever asks again"
    );
    assert_eq!(on(&mut speaker, 1, install(2)), [INSTALLED]);
}
