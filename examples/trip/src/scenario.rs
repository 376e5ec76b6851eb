//! The program, and its simulation: `cargo run -p trip -- sim`.

use std::collections::{BTreeMap, BTreeSet};

use nave::program::{Program, ProgramError};
use nave::serde_json::json;
use nave::sim::{Scenario, SimRequest, SimResults};
use nave::spoke::SpokeOptions;

use crate::spokes::{CAR, Desk, HOTEL};
use crate::{Answer, trips};

/// Assembles the topology, its two spokes and its scenario.
///
/// # Errors
/// Mistakes in the topology, which any test finds.
pub fn program() -> Result<Program, ProgramError> {
    let program = Program::of(nave::about!(), [trips])?;
    let options = SpokeOptions { heartbeat_ms: SpokeOptions::HEARTBEAT_MS, ..SpokeOptions::default() };
    let program = program.spoke_with(HOTEL, options.clone(), || Desk::new(600, 3));
    let program = program.spoke_with(CAR, options, || Desk::new(300, 3));
    Ok(program.scenario("trips", scenario()))
}

/// Requests a few trips to two places, sometimes more than there are rooms.
pub fn scenario() -> Scenario {
    let requests = Scenario::new(|dice| {
        (0..=dice.roll(5))
            .map(|trip| SimRequest::new("trip", &format!("trip-{trip}"), json!({"to": dice.pick(&["Rome", "Oslo"])})))
            .collect()
    });
    requests.check(bookings_match_answers)
}

/// Each booked trip has a room and a car. No other trip has one, unless its answer lists it.
fn bookings_match_answers(ended: &SimResults<'_>) -> Result<(), String> {
    let mut booked = BTreeSet::new();
    let mut left = BTreeSet::new();
    for (ask, answer) in ended.answers() {
        match answer {
            Answer::Done(_) => drop(booked.insert(ask.key.clone())),
            Answer::Failed(body) => {
                let calls = body["left"].as_array().into_iter().flatten();
                left.extend(calls.filter_map(|call| Some((call.as_u64()?, ask.key.clone()))));
            }
            Answer::Refused(_) => {}
        }
    }
    for (call, service) in [(1, HOTEL.name()), (2, CAR.name())] {
        let holders: BTreeMap<_, _> = ended.look(service, |desk: &mut Desk| desk.holders.clone());
        let holders: BTreeSet<String> = holders.into_values().flatten().collect();
        if let Some(trip) = booked.difference(&holders).next() {
            return Err(format!("{trip} is booked but has no {service}"));
        }
        if let Some(trip) = holders.difference(&booked).find(|trip| !left.contains(&(call, (*trip).clone()))) {
            return Err(format!("{trip} is not booked but has a {service}"));
        }
    }
    Ok(())
}
