//! A workflow that follows its request page by page, with every kind of decision.

use hub::{
    Barrier, CallOrder, CalledService, Event, Fx, HubRequest, HubSettings, Illegal, LaneState, ServiceCall, ServiceExt,
    StepSpec, Workflow,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use topology::{Saver, Settings, StateMap, Stored, Unreadable};
use wire::answer::Answer;
use wire::{Code, OperationId, Problem, Service};

use super::named;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Act {
    /// A step of calls, each with its tag and undo mode: 0 none, 1 if carried out, 2 always.
    Step(CallOrder, Barrier, Vec<(u32, u8)>),
    Undo,
    Wait,
    WaitFor {
        within: bool,
    },
    Yield,
    Note,
    Keep(u32),
    Again(u32),
    Done(f64),
    DoneLarge,
    Failed,
    Refuse(Code),
    Show,
    Count(String),
    End,
    Panic,
    Illegal,
}

hub::states! {
    /// The state of a script.
    pub(crate) enum ScriptState { New = "-", Odd = "on an odd page", Even = "on an even page", Ended = "ended" }
}

/// A script in progress.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Script {
    pages: Vec<Vec<Act>>,
    page: usize,
    answered: bool,
    events: Vec<String>,
}

/// Counts the words of `Count` acts. A word that reaches three is removed.
#[derive(Debug, Default)]
pub(crate) struct Counters(StateMap<String, u32>);

impl LaneState for Counters {
    fn save(&mut self, saver: &mut Saver<'_>) {
        self.0.save(saver, Clone::clone);
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        self.0.load(stored.key().to_owned(), stored.read()?);
        Ok(())
    }
}

impl Workflow for Script {
    const NAME: &'static str = "script";
    /// Its replies are any text, which decides whether the page turns.
    const SERVICES: &'static [CalledService] = &[CalledService::unchecked(SPOKE.name())];
    type State = ScriptState;
    type Request = Value;
    type Lane = Counters;

    fn begin(_: &OperationId, _: &str, request: Value) -> Result<Self, Problem> {
        let pages = serde_json::from_value(request);
        let pages = pages.map_err(|error| Problem::field("body", "no script", &error.to_string()))?;
        Ok(Self { pages, page: 0, answered: false, events: Vec::new() })
    }

    fn on(&mut self, state: ScriptState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<ScriptState, Illegal> {
        self.events.push(match event {
            Event::Replied { tag, reply } => format!("Replied {{ tag: {tag}, body: {:?} }}", reply.text()),
            other => format!("{other:?}"),
        });
        match event {
            Event::Replied { reply, .. } if reply.text() != "turn the page" => return Ok(state),
            Event::Signal { body, .. } if body == &json!("no") => return Err(Illegal),
            _turns_the_page => {}
        }
        // A script that breaks a rule continues on the next page when it resumes.
        self.page += 1;
        let Some(page) = self.pages.get(self.page - 1).cloned() else {
            if !self.answered {
                fx.answer(Answer::Done(json!({ "events": self.events.len() })));
            }
            fx.end();
            return Ok(ScriptState::Ended);
        };
        for act in page {
            if self.act(act, fx)? {
                return Ok(ScriptState::Ended);
            }
        }
        Ok(if self.page.is_multiple_of(2) { ScriptState::Even } else { ScriptState::Odd })
    }

    fn aborted(&mut self, lane: &mut Counters) {
        lane.0.insert("aborted".into(), 1);
    }
}

impl Script {
    /// Performs one act. Returns true if the script has ended.
    fn act(&mut self, act: Act, fx: &mut Fx<'_, Self>) -> Result<bool, Illegal> {
        match act {
            Act::Step(order, barrier, calls) => {
                let calls = calls.into_iter().map(|(tag, undo)| call(tag, undo));
                fx.step(StepSpec::new("do", 300).order(order).barrier(barrier).calls(calls));
            }
            Act::Undo => fx.undo("undo", 300),
            Act::Wait => fx.wait("a while", 50),
            Act::WaitFor { within } => fx.wait_for("go", "somebody to say go", within.then_some(500)),
            Act::Yield => fx.yields(),
            Act::Note => fx.note("noted"),
            Act::Keep(tag) => fx.skip_undo(tag),
            Act::Again(tag) => fx.undo_again(tag),
            Act::Done(number) => self.answer(Answer::Done(json!({ "number": number })), fx),
            Act::DoneLarge => self.answer(Answer::Done(json!("x".repeat(500))), fx),
            Act::Failed => self.answer(Answer::Failed(Value::Null), fx),
            Act::Refuse(code) => self.answer(Answer::Refused(Problem::new(code, "told to")), fx),
            Act::Show => fx.publish("script", "k", Some(json!(self.page))),
            Act::Count(word) => {
                let count = fx.lane.0.get(&word).copied().unwrap_or(0) + 1;
                if count < 3 {
                    fx.lane.0.insert(word, count);
                } else {
                    fx.lane.0.remove(&word);
                }
            }
            Act::End => {
                self.answer(Answer::Done(json!("end")), fx);
                fx.end();
                return Ok(true);
            }
            // Skips the panic hook, which would print each panic.
            Act::Panic => std::panic::resume_unwind(Box::new("told to")),
            Act::Illegal => return Err(Illegal),
        }
        Ok(false)
    }

    fn answer(&mut self, answer: Answer, fx: &mut Fx<'_, Self>) {
        if !self.answered {
            self.answered = true;
            fx.answer(answer);
        }
    }
}

const SPOKE: Service<Value, Value> = Service::named("spoke");

fn call(tag: u32, undo: u8) -> ServiceCall<Value, Value> {
    let call = SPOKE.call(tag, format!("key-{tag}"), &json!({}), format!("do {tag}"), 100);
    let undone = |call: ServiceCall<Value, Value>| call.undo(&json!({}), format!("undo {tag}"), 100);
    match undo {
        0 => call,
        1 => undone(call),
        _always => undone(call).always_undo(),
    }
}

pub(crate) fn request(operation: &str, key: &str, cause: &str, script: &[Vec<Act>]) -> HubRequest {
    let request = serde_json::to_value(script).expect("a script is plain data");
    let body = Ok(wire::request::Request::new("script", request));
    HubRequest { operation: named(operation), has_key: true, cause: cause.into(), key: key.into(), expires: None, body }
}

/// Limits so small that tests reach all of them.
pub(crate) fn small(remembered: usize) -> Settings {
    let hub = HubSettings { live: 6, active: 2, waiting_per_key: 2, remembered, answer_bytes: 200 };
    Settings::default().with("hub", &hub)
}
