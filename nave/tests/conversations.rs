//! The four conversations of the pattern, executed on the bus and drawn in `docs/conversations.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bus::{Outgoing, Reader, Record, Task};
use floodlight_sim::{SpeakerHandle, SpeakerService};
use flow_messages::speaker::{Action, Command, Reply, Rule, SPEAKER, SwitchId};
use hub::{
    CALLS, CallOrder, CalledService, Event, Fx, HubBolt, HubSpout, Illegal, ServiceCall, ServiceExt, StepSpec,
    Workflow, WorkflowState,
};
use nave::spoke::SpokeTask;
use serde_json::{Value, json};
use topology::testing::Lanes;
use topology::{Arrangement, Settings, Topology};
use wire::answer::{Answer, Operation};
use wire::{Envelope, Kind, OperationId, Problem};
use workers::{WorkerBolt, WorkerSettings, WorkerSpout};

// ---- recording ---------------------------------------------------------------------------------------------------------

/// Runs one lane and one speaker, and records their messages in order as a sequence diagram.
struct DiagramRecorder {
    lanes: Lanes,
    speaker: SpokeTask<SpeakerService>,
    reader: Box<dyn Reader>,
    topics: [String; 3],
    operation: OperationId,
    drawn_entries: usize,
    drawn_calls: BTreeSet<String>,
    lines: Vec<String>,
}

impl DiagramRecorder {
    fn new(topology: &Topology) -> Self {
        let mut lanes = Lanes::of(topology.clone(), 0);
        let stage = topology.stages()[0].name.to_string();
        let topics = [lanes.topics.spoke(flows::SPEAKER), lanes.egress(&stage), lanes.inbox(&stage)];
        let mut reader = lanes.bus.reader().expect("the bus answers");
        for topic in &topics {
            reader.assign(topic, 0, 0).expect("the topic exists");
        }
        let speaker = SpeakerHandle::new().join(&*lanes.bus, &lanes.topics, flows::SPEAKER, "speaker");
        lanes.join();
        Self {
            lanes,
            speaker: speaker.expect("the topics exist"),
            reader,
            topics,
            operation: OperationId::new("none-yet").expect("letters are allowed"),
            drawn_entries: 1,
            drawn_calls: BTreeSet::new(),
            lines: Vec::new(),
        }
    }

    /// Sends one request and draws the messages until nothing is left to do.
    fn record(mut self, workflow: &str, key: &str, request: &Value) -> String {
        let envelope = Envelope::new(Kind::Request, "request", "/nave/northbound");
        self.operation = envelope.requested_operation(self.lanes.topology.name(), key);
        let body = json!({"workflow": workflow, "request": request}).to_string();
        self.lanes.write(&[Outgoing::keyed(&self.topics[2], key.to_owned(), body).with(&envelope)]);
        self.draw_records();
        for _ in 0..1_000 {
            let turns = [self.lanes.shards[0].poll(Duration::ZERO).expect("the bus does not fail"), {
                self.draw_view();
                self.draw_records();
                self.speaker.poll(Duration::ZERO).expect("the bus does not fail")
            }];
            self.draw_records();
            if turns.iter().any(|turn| turn.worked) {
                continue;
            }
            match turns.iter().filter_map(|turn| turn.next).min() {
                Some(next) => self.lanes.clock.advance_to(next),
                None => return self.diagram(),
            }
        }
        panic!("still busy after 1000 rounds:\n{}", self.diagram());
    }

    fn diagram(&self) -> String {
        let names = ["northbound", "hub", "worker", "speaker", "coordinator"];
        let participants = names.map(|name| format!("participant {name}"));
        let lines = participants.iter().chain(&self.lines).map(|line| format!("    {line}"));
        let lines: Vec<String> = lines.collect();
        format!("sequenceDiagram\n{}\n", lines.join("\n"))
    }

    /// Draws new history entries of the operation and new calls.
    fn draw_view(&mut self) {
        let view = self.lanes.shards[0].view(0, "hub", self.operation.as_str());
        let Some(view) = view else { return };
        let view: Operation = serde_json::from_slice(&view.0).expect("the hub writes views");
        for entry in &view.history[self.drawn_entries..] {
            if entry.what.starts_with("step ")
                || entry.what.starts_with("failed ")
                || entry.what.starts_with("fault injection")
            {
                self.lines.push(format!("Note over hub: {}", entry.what.replace(';', ",")));
            }
        }
        self.drawn_entries = view.history.len();
        for call in view.step.into_iter().flat_map(|step| step.pending) {
            if self.drawn_calls.insert(call.call.to_string()) {
                self.lines.push(format!("hub->>worker: {}", call.what));
            }
        }
    }

    /// Draws new records on the bus.
    fn draw_records(&mut self) {
        let mut records = Vec::new();
        self.reader.poll(usize::MAX, Duration::ZERO, &mut records).expect("nothing is deleted");
        let topic_index = |record: &Record| self.topics.iter().position(|topic| **topic == *record.topic);
        records.sort_by_key(topic_index);
        let lines: Vec<String> = records.iter().filter_map(Self::line).collect();
        self.lines.extend(lines);
    }

    fn line(record: &Record) -> Option<String> {
        let envelope = record.headers.envelope().expect("all writers use envelopes");
        let body: Value = serde_json::from_slice(&record.value).expect("every body is JSON");
        let attempt = envelope.attempt.map_or(String::new(), |attempt| format!(", attempt {attempt}"));
        Some(match envelope.kind {
            Kind::Request => format!("northbound->>hub: {}", body["workflow"].as_str()?),
            Kind::Call | Kind::Undo => {
                let command: Command = serde_json::from_value(body).expect("a command");
                let prefix = if envelope.kind == Kind::Undo { "undo, " } else { "" };
                format!("worker->>speaker: {prefix}{} on {}{attempt}", command.action.name(), command.action.switch())
            }
            Kind::Reply => {
                let key = String::from_utf8_lossy(record.key.as_deref()?).into_owned();
                let rule = if body["rule"].is_null() && body["result"] == "found" { ", no rule" } else { "" };
                format!("speaker-->>worker: {} on {key}{rule}{attempt}", body["result"].as_str()?)
            }
            Kind::Timeout => {
                let is_hub = body["timer"].as_u64()? >> 48 == u64::from(topology::component_number("hub"));
                let owner = if is_hub { "hub" } else { "worker" };
                format!("coordinator->>{owner}: deadline")
            }
            Kind::Answer => {
                let view: Operation = serde_json::from_value(body).expect("a view");
                let (outcome, body) = match view.answer? {
                    Answer::Done(body) => ("done", body),
                    Answer::Failed(body) => ("failed", body),
                    Answer::Refused(problem) => ("refused", json!({"message": problem.to_string()})),
                };
                format!("hub-->>northbound: {outcome}, {}", body["message"].as_str()?)
            }
            Kind::Owner
            | Kind::View
            | Kind::Tuple
            | Kind::Dead
            | Kind::Refusal
            | Kind::Failure
            | Kind::Command
            | Kind::Heartbeat
            | Kind::Liveness => return None,
        })
    }
}

// ---- conversations --------------------------------------------------------------------------------------------------------

fn flow(length: u32, error: Option<u32>) -> String {
    let one_lane = Arrangement { lanes: [(flows::STAGE.to_owned(), 1)].into(), ..Arrangement::default() };
    let topology = flows::flow_topology().and_then(|flows| flows.arranged(&one_lane)).expect("the topology is valid");
    DiagramRecorder::new(&topology).record(
        "create-flow",
        "test-01",
        &json!({"flowid": "test-01", "length": length, "error": error}),
    )
}

/// A workflow that installs two rules one after the other, on the same hub and workers.
#[derive(serde::Serialize, serde::Deserialize)]
struct Careful;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CarefulState {
    New,
    Installing,
    Ended,
}

impl WorkflowState for CarefulState {
    const ALL: &'static [Self] = &[Self::New, Self::Installing, Self::Ended];
    fn name(self) -> &'static str {
        match self {
            Self::New => "-",
            Self::Installing => "installing",
            Self::Ended => "ended",
        }
    }
}

impl Workflow for Careful {
    const NAME: &'static str = "careful";
    const SERVICES: &'static [CalledService] = &[CalledService::of(SPEAKER)];
    type State = CarefulState;
    type Request = Value;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, _: Value) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn on(&mut self, state: CarefulState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<CarefulState, Illegal> {
        match (state, event) {
            (CarefulState::New, Event::Requested) => {
                let step = StepSpec::new("install rules", 4_000).order(CallOrder::OneByOne);
                fx.step(step.calls((1..=2).map(install)));
                Ok(CarefulState::Installing)
            }
            (CarefulState::Installing, Event::Replied { .. }) => Ok(CarefulState::Installing),
            (CarefulState::Installing, Event::AllReplied) => {
                fx.answer(Answer::Done(json!({"message": "all operation is successful"})));
                fx.end();
                Ok(CarefulState::Ended)
            }
            (CarefulState::New | CarefulState::Installing | CarefulState::Ended, _) => Err(Illegal),
        }
    }
}

fn install(number: u32) -> ServiceCall<Command, Reply> {
    let switch = SwitchId::numbered(number);
    let rule = Rule { switch: switch.clone(), flow: "careful".into(), number, cookie: 1, meter: 1 };
    let command = Command { action: Action::Install { rule }, error: None };
    SPEAKER.call(number, switch.to_string(), &command, format!("install rule {number} on {switch}"), 1_600)
}

/// Two sequential installs. The topology is built with the public interface.
fn sequential_calls() -> String {
    let t = Topology::named("careful");
    t.settings(Settings::default().with(&WorkerBolt::settings_name("speaker"), &WorkerSettings::default()));
    let requests = t.inbox_spout("hub-spout", HubSpout::default);
    let answers = t.inbox_spout("speaker-spout", || WorkerSpout::new("speaker"));
    let hub = t.bolt("hub", HubBolt::<Careful>::default).stage("hub").lanes(1);
    let worker = t.bolt("speaker-worker", || WorkerBolt::new("speaker"));
    let worker = worker.reads(hub.side(CALLS).local()).reads(answers.local());
    hub.reads(requests.local()).reads(worker.local());
    let topology = t.build().expect("the topology is valid");
    DiagramRecorder::new(&topology).record("careful", "careful", &json!({}))
}

/// Returns instructions to update the block `name` of the document if it is outdated, else an empty
/// string.
fn outdated(name: &str, drawn: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conversations.md");
    let text = std::fs::read_to_string(path).expect("docs/conversations.md exists");
    let expected = format!("<!-- {name}: begin -->\n```mermaid\n{drawn}```\n<!-- {name}: end -->\n");
    if text.contains(&expected) {
        return String::new();
    }
    format!("docs/conversations.md is outdated; replace the block with:\n\n{expected}")
}

#[test]
fn concurrent_calls_are_sent_at_once_and_the_barrier_waits_for_all() {
    let drawn = flow(3, None);
    let at = |text: &str| drawn.find(text).unwrap_or_else(|| panic!("`{text}` is not in\n{drawn}"));
    assert!(
        at("worker->>speaker: install on of:03") < at("speaker-->>worker: installed on of:01"),
        "the calls are concurrent"
    );
    assert!(
        at("speaker-->>worker: installed on of:03") < at("worker->>speaker: read on of:01"),
        "the barrier waits for all replies"
    );
    let outdated = outdated("concurrent", &drawn);
    assert!(outdated.is_empty(), "{outdated}");
}

#[test]
fn a_step_lost_in_the_hub_times_out_and_is_rolled_back() {
    let drawn = flow(2, Some(0));
    let at = |text: &str| drawn.find(text).unwrap_or_else(|| panic!("`{text}` is not in\n{drawn}"));
    assert!(at("coordinator->>hub: deadline") < at("worker->>speaker: undo, remove on of:01"));
    assert!(
        at("speaker-->>worker: found on of:02, no rule") < at("hub-->>northbound: failed, error in hub by timeout")
    );
    let outdated = outdated("hub-error", &drawn);
    assert!(outdated.is_empty(), "{outdated}");
}

#[test]
fn an_error_in_the_worker_is_retried_then_rolled_back() {
    let drawn = flow(2, Some(1));
    assert_eq!(drawn.matches("coordinator->>worker: deadline").count(), 5, "three attempts, two backoffs");
    assert!(!drawn.contains("worker->>speaker: install on of:01"), "the worker dropped it");
    assert!(drawn.contains("hub-->>northbound: failed, error in worker on rule install"));
    let outdated = outdated("worker-error", &drawn);
    assert!(outdated.is_empty(), "{outdated}");
}

#[test]
fn sequential_calls_wait_for_the_previous_reply() {
    let drawn = sequential_calls();
    let at = |text: &str| drawn.find(text).unwrap_or_else(|| panic!("`{text}` is not in\n{drawn}"));
    assert!(at("speaker-->>worker: installed on of:01") < at("hub->>worker: install rule 2"));
    assert!(at("speaker-->>worker: installed on of:02") < at("hub-->>northbound: done"));
    let outdated = outdated("one-at-a-time", &drawn);
    assert!(outdated.is_empty(), "{outdated}");
}
