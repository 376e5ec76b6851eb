//! Riddles that are asked of a sphinx: of what it says, one thing is plain, one makes the workflow wait for a person who signals, and
//! with one it waits for nothing at all, which breaks the rule and parks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nave::prelude::*;
use nave::program::Program;
use nave::serde_json::json;
use nave::sim::{Ask, Ended, Scenario, Simulation};
use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

/// What a traveller asks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
struct Question {
    number: u64,
}

/// One question, and what the sphinx said.
#[derive(Serialize, Deserialize)]
struct Riddle {
    question: Question,
    word: String,
}

states! {
    /// Where a riddle stands.
    enum RiddleState { New = "-", Asking = "asking", Thinking = "thinking", Puzzled = "puzzled", Waiting = "waiting", Over = "over" }
}
use RiddleState::{Asking, New, Over, Puzzled, Thinking, Waiting};

fn answered(how: &str, fx: &mut Fx<'_, Riddle>) -> RiddleState {
    fx.answer(Answer::Done(json!({ "how": how })));
    fx.end();
    Over
}

fn given_up(fx: &mut Fx<'_, Riddle>) -> RiddleState {
    fx.answer(Answer::Failed(json!({ "how": "given up" })));
    fx.end();
    Over
}

impl Workflow for Riddle {
    const NAME: &'static str = "riddle";
    type State = RiddleState;
    type Request = Question;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, question: Question) -> Result<Self, Problem> {
        Ok(Self { question, word: String::new() })
    }

    fn on(&mut self, state: RiddleState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<RiddleState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                let calls = vec![CallSpec {
                    tag: 1,
                    service: "sphinx",
                    key: "thebes".into(),
                    what: "ask the sphinx".into(),
                    body: self.question.number.to_string(),
                    within_ms: 2_000,
                    undo: None,
                    swallow: false,
                }];
                fx.step(StepSpec { name: "ask", mode: Mode::AtOnce, barrier: Barrier::All, within_ms: 3_000, calls });
                Asking
            }
            (Asking, Event::Replied { body, .. }) => {
                self.word = nave::serde_json::from_str(body).unwrap_or_default();
                Asking
            }
            (Asking, Event::AllReplied) if self.word == "plain" => answered("told", fx),
            (Asking, Event::AllReplied) if self.word == "wait" => {
                fx.wait_for("word", "somebody who knows", Some(20_000));
                Waiting
            }
            (Asking, Event::AllReplied) => {
                fx.wait("a moment to think", 100);
                Thinking
            }
            // No call, no timer, no person.
            (Thinking, Event::TimedOut) => Puzzled,
            (Puzzled, Event::TimedOut) => answered("resumed", fx),
            (Waiting, Event::Signal { .. }) => answered("signalled", fx),
            (Asking, Event::Failed(_) | Event::TimedOut) | (Waiting, Event::TimedOut) => given_up(fx),
            (New | Asking | Thinking | Puzzled | Waiting | Over, _) => return Err(Illegal),
        })
    }
}

struct Sphinx;

impl Spoke for Sphinx {
    type Request = u64;
    type Reply = &'static str;

    fn handle(&mut self, _: &Call<'_>, number: u64) -> Result<&'static str, SpokeError> {
        Ok(["plain", "wait", "riddle"][usize::try_from(number % 3).unwrap_or(0)])
    }
}

/// How riddles ended, over many seeds.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    resumed: Arc<AtomicU64>,
    aborted: Arc<AtomicU64>,
    signalled: Arc<AtomicU64>,
}

impl Ends {
    /// Resumed, aborted, signalled.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Acquire);
        (count(&self.resumed), count(&self.aborted), count(&self.signalled))
    }

    /// What was said of each riddle is what the sphinx's word lets it come to.
    fn check(&self, ended: &Ended<'_>) -> Result<(), String> {
        for (ask, answer) in ended.answers() {
            let word = ask.request["number"].as_u64().unwrap_or(0) % 3;
            let how = match answer {
                Answer::Done(body) | Answer::Failed(body) => body["how"].as_str().unwrap_or("aborted"),
                Answer::Refused(_) => "refused",
            };
            let allowed: BTreeMap<&str, (u64, Option<&AtomicU64>)> = BTreeMap::from([
                ("told", (0, None)),
                ("signalled", (1, Some(&*self.signalled))),
                ("resumed", (2, Some(&*self.resumed))),
                ("aborted", (2, Some(&*self.aborted))),
            ]);
            match allowed.get(how) {
                Some((of, count)) if *of == word => {
                    if let Some(count) = count {
                        count.fetch_add(1, Ordering::AcqRel);
                    }
                }
                None if how == "given up" => {}
                Some(_) | None => return Err(format!("{ask} was {how}")),
            }
        }
        Ok(())
    }
}

fn riddles() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Riddle>("riddles", &["sphinx"])
}

/// The simulation, and how its riddles ended.
pub(crate) fn simulation() -> (Simulation, Ends) {
    let ends = Ends::default();
    let counted = ends.clone();
    let scenario = Scenario::new(|dice| {
        let ask = |dice: &mut nave::sim::Dice| {
            Ask::new("riddle", &format!("traveller-{}", dice.roll(2)), Question { number: dice.roll(9) })
        };
        (0..=dice.roll(4)).map(|_| ask(dice)).collect()
    });
    let scenario = scenario.signals(|_| ("word".into(), json!("man"))).parks().check(move |ended| counted.check(ended));
    let program = Program::of(nave::about!(), [riddles]).expect("it builds").spoke("sphinx", || Sphinx);
    let simulation = program.scenario("riddles", scenario).simulation("riddles");
    (simulation.expect("it has a scenario"), ends)
}
