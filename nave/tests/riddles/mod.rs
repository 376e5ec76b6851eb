//! A workflow for the simulation whose spoke, the sphinx, has three replies. One outcomes the
//! workflow, one makes it wait for a signal, and one makes it wait for nothing, which is illegal
//! and parks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nave::prelude::workflow::*;
use nave::program::Program;
use nave::serde_json::json;
use nave::sim::{Scenario, SimRequest, SimResults, Simulation};
use nave::spoke::{Call, Spoke, SpokeError};
use serde::{Deserialize, Serialize};

const SPHINX: Service<u64, String> = Service::named("sphinx");

/// The request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
struct Question {
    number: u64,
}

/// A question and the reply of the sphinx.
#[derive(Serialize, Deserialize)]
struct Riddle {
    question: Question,
    reply: String,
}

states! {
    /// The state of a riddle.
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
    const SERVICES: &'static [CalledService] = &[CalledService::of(SPHINX)];
    type State = RiddleState;
    type Request = Question;
    type Lane = ();

    fn begin(_: &OperationId, _: &str, question: Question) -> Result<Self, Problem> {
        Ok(Self { question, reply: String::new() })
    }

    fn on(&mut self, state: RiddleState, event: &Event, fx: &mut Fx<'_, Self>) -> Result<RiddleState, Illegal> {
        Ok(match (state, event) {
            (New, Event::Requested) => {
                let call = SPHINX.call(1, "thebes", &self.question.number, "ask the sphinx", 2_000);
                fx.step(StepSpec::new("ask", 3_000).call(call));
                Asking
            }
            (Asking, Event::Replied { reply, .. }) => {
                self.reply = reply.of(SPHINX);
                Asking
            }
            (Asking, Event::AllReplied) if self.reply == "plain" => answered("told", fx),
            (Asking, Event::AllReplied) if self.reply == "wait" => {
                fx.wait_for("word", "a person who knows the answer", Some(20_000));
                Waiting
            }
            (Asking, Event::AllReplied) => {
                fx.wait("a moment to think", 100);
                Thinking
            }
            // Without a call, a timer or a signal to wait for, the operation parks.
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
    type Reply = String;

    fn handle(&mut self, _: &Call, number: u64) -> Result<String, SpokeError> {
        Ok(["plain", "wait", "riddle"][usize::try_from(number % 3).unwrap_or(0)].to_owned())
    }
}

/// How riddles results, over many seeds.
#[derive(Clone, Default)]
pub(crate) struct Outcomes {
    resumed: Arc<AtomicU64>,
    aborted: Arc<AtomicU64>,
    signalled: Arc<AtomicU64>,
}

impl Outcomes {
    /// Number of resumed, aborted and signalled operations.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Acquire);
        (count(&self.resumed), count(&self.aborted), count(&self.signalled))
    }

    /// Checks that each answer is possible for the sphinx's reply.
    fn check(&self, results: &SimResults<'_>) -> Result<(), String> {
        for (request, answer) in results.answers() {
            let reply = request.request["number"].as_u64().unwrap_or(0) % 3;
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
                Some((of, count)) if *of == reply => {
                    if let Some(count) = count {
                        count.fetch_add(1, Ordering::AcqRel);
                    }
                }
                None if how == "given up" => {}
                Some(_) | None => return Err(format!("{request} was {how}")),
            }
        }
        Ok(())
    }
}

fn riddles() -> Result<Topology, BuildErrors> {
    nave::hub_and_spokes::<Riddle>("riddles")
}

/// The simulation, and how its riddles results.
pub(crate) fn simulation() -> (Simulation, Outcomes) {
    let outcomes = Outcomes::default();
    let counted = outcomes.clone();
    let scenario = Scenario::new(|dice| {
        let request = |dice: &mut nave::sim::Dice| {
            SimRequest::new("riddle", &format!("traveller-{}", dice.roll(2)), Question { number: dice.roll(9) })
        };
        (0..=dice.roll(4)).map(|_| request(dice)).collect()
    });
    let scenario =
        scenario.signals(|_| ("word".into(), json!("man"))).parks().check(move |results| counted.check(results));
    let program = Program::of(nave::about!(), [riddles]).expect("it builds").spoke(SPHINX, || Sphinx);
    let simulation = program.scenario("riddles", scenario).simulation("riddles");
    (simulation.expect("it has a scenario"), outcomes)
}
