//! The flow topology's scenario: flows are created and removed, with drills among them, and the rule tables of the simulated
//! switch controller are in the end what the clients were told.

use std::collections::BTreeMap;

use floodlight_sim::SpeakerHandle;
use flows::{FlowSettings, SPEAKER};
use hub::HubSettings;
use serde_json::json;
use topology::Settings;
use wire::answer::Answer;
use workers::{WorkerBolt, WorkerSettings};

use super::dice::Dice;
use super::scenario::{Ask, Ended, Scenario};

const CREATE: &str = "create-flow";
const REMOVE: &str = "remove-flow";
/// The tag of the dice by which some requests are refused.
const REFUSALS: u64 = 2;

pub(crate) fn scenario() -> Scenario {
    Scenario::new(asks).settings(settings).check(tables_are_as_told)
}

fn asks(dice: &mut Dice) -> Vec<Ask> {
    let flows = 1 + dice.roll(2);
    let lengths: Vec<u64> = (0..flows).map(|_| 1 + dice.roll(3)).collect();
    let ask = |dice: &mut Dice| {
        let flow = dice.index(lengths.len());
        let name = format!("flow-{flow}");
        if dice.chance(250) {
            return Ask::new(REMOVE, &name, json!({"flowid": name}));
        }
        let error = dice.pick(&[json!(null), json!(null), json!(null), json!(0), json!(1), json!(2)]).clone();
        Ask::new(CREATE, &name, json!({"flowid": name, "length": lengths[flow], "error": error}))
    };
    let asks: Vec<Ask> = (0..=dice.roll(4)).map(|_| ask(dice)).collect();
    let mut refusals = dice.tagged(REFUSALS);
    if refusals.chance(700) {
        return asks;
    }
    asks.into_iter().map(|ask| refused(ask, &mut refusals)).collect()
}

/// The same, but some that are to create a flow are refused: by what stands, or by what they ask.
fn refused(mut ask: Ask, dice: &mut Dice) -> Ask {
    if ask.workflow == CREATE {
        match dice.roll(5) {
            0 | 1 => ask.request["strict"] = json!(true),
            2 => ask.request["length"] = json!(0),
            _as_it_is => {}
        }
    }
    ask
}

fn settings(dice: &mut Dice) -> Settings {
    // In some worlds calls wait for a place, or operations for theirs.
    let in_flight = *dice.pick(&[4_096, 4_096, 2]);
    let active = *dice.pick(&[256, 256, 1]);
    Settings::default()
        .with("flows", &FlowSettings::default())
        .with("hub", &HubSettings { active, ..HubSettings::default() })
        .with(&WorkerBolt::settings_name(SPEAKER), &WorkerSettings { in_flight, ..WorkerSettings::default() })
}

fn tables_are_as_told(ended: &Ended<'_>) -> Result<(), String> {
    let mut up: BTreeMap<&str, u64> = BTreeMap::new();
    for (ask, answer) in ended.answers() {
        match (&*ask.workflow, answer) {
            (CREATE, Answer::Done(_)) => {
                up.insert(&ask.key, ask.request["length"].as_u64().unwrap_or(0));
            }
            // A removal that has begun ends with a flow that is gone, however long that takes.
            (REMOVE, Answer::Done(_) | Answer::Failed(_)) => drop(up.remove(&*ask.key)),
            (_, Answer::Done(_) | Answer::Failed(_) | Answer::Refused(_)) => {}
        }
    }
    let promised: Vec<(String, u64)> =
        up.iter().flat_map(|(flow, length)| (1..=*length).map(|rule| ((*flow).to_owned(), rule))).collect();
    let speaker = ended.any::<SpeakerHandle>(SPEAKER).ok_or("there is no speaker")?;
    let mut stand: Vec<(String, u64)> =
        speaker.all_rules().into_iter().map(|rule| (rule.flow.to_string(), u64::from(rule.number))).collect();
    stand.sort();
    if stand == promised {
        return Ok(());
    }
    Err(format!("the rules that stand are {stand:?}, and those that were promised {promised:?}"))
}
