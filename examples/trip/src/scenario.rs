//! What the trips are asked in a simulation: `cargo run -p trip -- sim`.

use std::collections::{BTreeMap, BTreeSet};

use nave::program::{Program, ProgramError};
use nave::serde_json::json;
use nave::sim::{Ask, Ended, Scenario};

use crate::spokes::Desk;
use crate::{Answer, trips};

/// The trips with a hotel and a car desk, and what they are asked in a simulation.
///
/// # Errors
/// None that its first test would not find.
pub fn program() -> Result<Program, ProgramError> {
    let program = Program::of(nave::about!(), [trips])?;
    let program = program.spoke("hotel", || Desk::new(600, 3)).spoke("car", || Desk::new(300, 3));
    Ok(program.scenario("trips", scenario()))
}

/// A few trips to two places, more than there are rooms at times.
pub fn scenario() -> Scenario {
    let asks = Scenario::new(|dice| {
        (0..=dice.roll(5))
            .map(|trip| Ask::new("trip", &format!("trip-{trip}"), json!({"to": dice.pick(&["Rome", "Oslo"])})))
            .collect()
    });
    asks.check(given_is_promised)
}

/// Each trip that was promised has a room and a car, and nobody else has any, but for what a traveller was told may be left.
fn given_is_promised(ended: &Ended<'_>) -> Result<(), String> {
    let mut promised = BTreeSet::new();
    let mut left = BTreeSet::new();
    for (ask, answer) in ended.answers() {
        match answer {
            Answer::Done(_) => drop(promised.insert(ask.key.clone())),
            Answer::Failed(body) => {
                let calls = body["left"].as_array().into_iter().flatten();
                left.extend(calls.filter_map(|call| Some((call.as_u64()?, ask.key.clone()))));
            }
            Answer::Refused(_) => {}
        }
    }
    for (call, service) in [(1, "hotel"), (2, "car")] {
        let given: BTreeMap<_, _> = ended.look(service, |desk: &mut Desk| desk.given.clone());
        let given: BTreeSet<String> = given.into_values().flatten().collect();
        let stolen = promised.difference(&given).next();
        let kept = given.difference(&promised).find(|trip| !left.contains(&(call, (*trip).clone())));
        if let Some(trip) = stolen {
            return Err(format!("{trip} was promised and has nothing at the {service} desk"));
        }
        if let Some(trip) = kept {
            return Err(format!("{trip} has something at the {service} desk, and nobody promised it"));
        }
    }
    Ok(())
}
