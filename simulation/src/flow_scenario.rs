//! The scenario of the flow topology: clients create and remove flows, some requests inject faults,
//! and at the end the rule tables of the simulated switch controller match the answers.

use std::collections::BTreeMap;

use floodlight_sim::SpeakerHandle;
use flows::{FlowSettings, SPEAKER};
use hub::HubSettings;
use serde_json::json;
use topology::Settings;
use wire::answer::Answer;
use workers::{WorkerBolt, WorkerSettings};

use super::dice::Dice;
use super::scenario::{Scenario, SimRequest, SimResults};

const CREATE: &str = "create-flow";
const REMOVE: &str = "remove-flow";
/// Tag of the generator that chooses which requests are refused.
const REFUSALS: u64 = 2;

/// Returns the scenario of the flow topology.
pub fn flow_scenario() -> Scenario {
    Scenario::new(asks).settings(settings).check(tables_match_answers)
}

fn asks(dice: &mut Dice) -> Vec<SimRequest> {
    let flows = 1 + dice.roll(2);
    let lengths: Vec<u64> = (0..flows).map(|_| 1 + dice.roll(3)).collect();
    let ask = |dice: &mut Dice| {
        let flow = dice.index(lengths.len());
        let name = format!("flow-{flow}");
        if dice.chance(250) {
            return SimRequest::new(REMOVE, &name, json!({"flowid": name}));
        }
        let error = dice.pick(&[json!(null), json!(null), json!(null), json!(0), json!(1), json!(2)]).clone();
        SimRequest::new(CREATE, &name, json!({"flowid": name, "length": lengths[flow], "error": error}))
    };
    let asks: Vec<SimRequest> = (0..=dice.roll(4)).map(|_| ask(dice)).collect();
    let mut refusals = dice.tagged(REFUSALS);
    if refusals.chance(700) {
        return asks;
    }
    asks.into_iter().map(|ask| refused(ask, &mut refusals)).collect()
}

/// Changes some create requests so that they are refused: because the flow exists, or because the
/// request is invalid.
fn refused(mut ask: SimRequest, dice: &mut Dice) -> SimRequest {
    if ask.workflow == CREATE {
        match dice.roll(5) {
            0 | 1 => ask.request["strict"] = json!(true),
            2 => ask.request["length"] = json!(0),
            _unchanged => {}
        }
    }
    ask
}

fn settings(dice: &mut Dice) -> Settings {
    // In some seeds calls wait for a place in flight, or operations for a place in the lane.
    let in_flight = *dice.pick(&[4_096, 4_096, 2]);
    let active = *dice.pick(&[256, 256, 1]);
    Settings::default()
        .with("flows", &FlowSettings::default())
        .with("hub", &HubSettings { active, ..HubSettings::default() })
        .with(&WorkerBolt::settings_name(SPEAKER), &WorkerSettings { in_flight, ..WorkerSettings::default() })
}

fn tables_match_answers(results: &SimResults<'_>) -> Result<(), String> {
    let mut up: BTreeMap<&str, u64> = BTreeMap::new();
    for (ask, answer) in results.answers() {
        match (&*ask.workflow, answer) {
            (CREATE, Answer::Done(_)) => {
                up.insert(&ask.key, ask.request["length"].as_u64().unwrap_or(0));
            }
            // Once a removal starts, it ends with the flow removed, however long that takes.
            (REMOVE, Answer::Done(_) | Answer::Failed(_)) => drop(up.remove(&*ask.key)),
            (_, Answer::Done(_) | Answer::Failed(_) | Answer::Refused(_)) => {}
        }
    }
    let promised: Vec<(String, u64)> =
        up.iter().flat_map(|(flow, length)| (1..=*length).map(|rule| ((*flow).to_owned(), rule))).collect();
    let speaker = results.any::<SpeakerHandle>(SPEAKER).ok_or("the simulation has no speaker")?;
    let mut installed: Vec<(String, u64)> =
        speaker.all_rules().into_iter().map(|rule| (rule.flow.to_string(), u64::from(rule.number))).collect();
    installed.sort();
    if installed == promised {
        return Ok(());
    }
    Err(format!("installed rules: {installed:?}; rules according to the answers: {promised:?}"))
}
