//! Setup and queries shared by complete_flow-system tests. Assertions stay in the tests.
#![expect(dead_code, reason = "each test file uses some of it")]

mod flow_world;

use std::collections::BTreeMap;

use bus::Outgoing;
use floodlight_sim::fault::{CommandKind, Match};
use floodlight_sim::{AuditEntry, CommandOutcome, Fault, FaultKind};
use nave::testing::{SentRequest, SystemOptions};
use serde_json::{Value, json};
use wire::answer::{Answer, Operation};
use wire::{Code, Envelope, Kind, OperationId};

pub(crate) use flow_world::{FlowOutcome, FlowWorld};

/// A request for the flow `name`.
pub(crate) fn flow(name: &str, length: u32) -> Value {
    json!({"flowid": name, "length": length})
}

/// Options for a system with two lanes. Hub and workers share a stage, except in the tests of
/// `two_stages`.
pub(crate) fn options() -> SystemOptions {
    SystemOptions { lanes: 2, apart: env!("CARGO_CRATE_NAME") == "two_stages", ..SystemOptions::default() }
}

/// The sets of stages whose processes crash together: each, and all.
pub(crate) fn stages_to_crash() -> Vec<Vec<&'static str>> {
    if options().apart { vec![vec!["speaker"], vec!["hub", "speaker"], vec!["hub"]] } else { vec![vec!["hub"]] }
}

/// Crashes the processes of these stages.
pub(crate) fn kill(world: &mut FlowWorld, stages: &[&str]) {
    for stage in stages {
        world.lanes.kill(stage);
    }
}

/// Starts a process for each of these stages.
pub(crate) fn start(world: &mut FlowWorld, stages: &[&str]) {
    for stage in stages {
        world.lanes.start(stage);
    }
}

/// A world with two lanes.
pub(crate) fn world(seed: u64) -> FlowWorld {
    FlowWorld::new(seed, &options())
}

/// A world with one lane, so that all flows share it.
pub(crate) fn one_lane(seed: u64, change: impl FnOnce(&mut SystemOptions)) -> FlowWorld {
    let mut options = SystemOptions { lanes: 1, ..options() };
    change(&mut options);
    FlowWorld::new(seed, &options)
}

/// A fault on this command for rule `rule`.
pub(crate) fn fault(command: CommandKind, rule: u32, kind: FaultKind, times: Option<u32>) -> Fault {
    Fault { when: Match { command: Some(command), rule: Some(rule), ..Match::default() }, kind, times }
}

/// Injects a fault into the speaker.
pub(crate) fn inject(world: &FlowWorld, fault: Fault) {
    world.speaker().inject(fault).expect("the fault is valid");
}

/// A final refusal.
pub(crate) fn refusal() -> FaultKind {
    FaultKind::Error { code: "full".into(), retry: false }
}

/// The kinds of faults, with delays longer than the timeout of an attempt.
pub(crate) fn kinds() -> Vec<FaultKind> {
    let error = |retry| FaultKind::Error { code: "busy".into(), retry };
    vec![
        FaultKind::Silence,
        FaultKind::Mute,
        FaultKind::DelayReply { ms: 700 },
        FaultKind::DelayExecution { ms: 700 },
        error(true),
        error(false),
        FaultKind::Duplicate,
    ]
}

/// Switch and number of each installed rule.
pub(crate) fn rules(world: &FlowWorld) -> Vec<(String, u32)> {
    world.speaker().all_rules().into_iter().map(|rule| (rule.switch.to_string(), rule.number)).collect()
}

/// Switch and number of the rules of a complete flow.
pub(crate) fn complete_flow(length: u32) -> Vec<(String, u32)> {
    let mut rules: Vec<_> = (1..=length).map(|i| (format!("of:{i:02}"), i)).collect();
    rules.sort();
    rules
}

/// Number of answers to an operation in the egress topic, without refusals.
pub(crate) fn answers(world: &FlowWorld, operation: &OperationId) -> usize {
    let answer = |record: &&bus::Record| {
        let envelope = record.headers.envelope().expect("the hub writes envelopes");
        envelope.kind == Kind::Answer && envelope.operation.as_ref() == Some(operation)
    };
    world.lanes.records(&world.egress()).iter().filter(answer).count()
}

/// The calls that changed a switch more than once.
pub(crate) fn changed_twice(world: &FlowWorld) -> Vec<String> {
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    for entry in world.speaker().audit() {
        if matches!(entry.outcome, CommandOutcome::Executed { .. }) && entry.command != "read" {
            *done.entry(entry.call.to_string()).or_default() += 1;
        }
    }
    done.into_iter().filter(|(_, times)| *times > 1).map(|(call, _)| call).collect()
}

/// The audit entries of a command.
pub(crate) fn audit(world: &FlowWorld, command: &str) -> Vec<AuditEntry> {
    world.speaker().audit().into_iter().filter(|entry| entry.command == command).collect()
}

/// The violated invariants of an idle world, one line each.
pub(crate) fn idle_violations(world: &mut FlowWorld, asked: &[SentRequest]) -> Vec<String> {
    let mut violations = Vec::new();
    if world.lanes.timers() != 0 {
        violations.push(format!("{} timers are armed", world.lanes.timers()));
    }
    violations.extend(world.lanes.unfinished().into_iter().map(|line| format!("unfinished: {line}")));
    violations.extend(changed_twice(world).into_iter().map(|call| format!("call {call} was executed twice")));
    for asked in asked {
        let operation = world.operation_of(*asked);
        let answers = answers(world, &operation);
        if answers != 1 {
            violations.push(format!("operation {operation} was answered {answers} times"));
        }
        if world.answer(*asked) == FlowOutcome::Pending {
            violations.push(format!("the client of {operation} got no answer"));
        }
    }
    violations
}

/// The outcome of an operation without its id, for comparison between runs.
pub(crate) fn outcome(world: &mut FlowWorld, asked: SentRequest) -> Value {
    match world.answer(asked) {
        FlowOutcome::Up(up) => json!({"up": up.message, "existed": up.existed}),
        FlowOutcome::Gone(gone) => json!({"gone": gone.message, "removed": gone.removed}),
        FlowOutcome::Failed(failed) => json!({
            "failed": failed.message, "code": failed.code, "step": failed.step, "degraded": failed.degraded,
            "left": failed.left.iter().map(|rule| rule.number).collect::<Vec<_>>(),
        }),
        FlowOutcome::Refused(problem) => json!({"refused": problem.to_string()}),
        FlowOutcome::Pending => json!("nothing"),
    }
}

/// Sends a command to the speaker directly, under a new call id.
pub(crate) fn foreign_command(world: &mut FlowWorld, n: u32, action: flow_messages::speaker::Action) {
    let call = wire::CallId::new(OperationId::new("stranger").expect("letters are allowed"), 1, n);
    let mut envelope = Envelope::new(Kind::Call, format!("{call}/speaker/1"), "/stranger");
    envelope.call = Some(call);
    let key = action.switch().to_string();
    let body = serde_json::to_vec(&flow_messages::speaker::Command { action, error: None }).expect("plain data");
    let topic = world.speaker_topic();
    world.lanes.write(&[Outgoing::keyed(&topic, key, body).with(&envelope)]);
}

/// The envelope of a request, as a northbound creates it.
pub(crate) fn request_envelope(id: &str, idempotency_key: &str) -> Envelope {
    let mut envelope = Envelope::new(Kind::Request, id, "/stranger");
    envelope.idempotency_key = Some(idempotency_key.to_owned());
    envelope
}

/// A request record, with the flow's name as key.
pub(crate) fn request_record(world: &FlowWorld, id: &str, idempotency_key: &str, key: &str, body: &str) -> Outgoing {
    let envelope = request_envelope(id, idempotency_key);
    Outgoing::keyed(&world.inbox(), key.to_owned(), body.to_owned()).with(&envelope)
}

/// The refusals of the request with this `ce_id`.
pub(crate) fn refused(world: &FlowWorld, id: &str) -> Vec<Code> {
    let refusal = |record: bus::Record| {
        let envelope = record.headers.envelope().expect("the hub writes envelopes");
        envelope.causation.filter(|cause| cause == id)?;
        let view: Operation = serde_json::from_slice(&record.value).expect("the hub writes views");
        match view.answer {
            Some(Answer::Refused(problem)) => Some(problem.code),
            _ => None,
        }
    };
    world.lanes.records(&world.egress()).into_iter().filter_map(refusal).collect()
}

/// The reasons of all dead letters.
pub(crate) fn dead(world: &FlowWorld) -> Vec<String> {
    let reason = |body: Value| body["reason"].as_str().expect("a dead letter has its reason").to_owned();
    world.lanes.dead_letters().into_iter().map(|(_, body)| reason(body)).collect()
}
