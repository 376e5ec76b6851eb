//! A trip in virtual time: a room and a car, or neither, under every fault.

use nave::prelude::workflow::{Answer, Code};
use nave::serde_json::json;
use nave::spoke::Silent;
use nave::testing::{SentRequest, World};
use trip::spokes::{CAR, Desk, HOTEL};
use trip::{APPROVAL, trips};

/// A world with a hotel that has one room, and this car desk.
fn world(seed: u64, car: Desk) -> World {
    World::seeded(seed, &trips().expect("the topology is valid")).spoke(HOTEL, Desk::new(600, 1)).spoke(CAR, car)
}

fn to_rome(world: &mut World, name: &str) -> SentRequest {
    world.request("trip", name, &json!({"to": "Rome"}))
}

fn held(world: &World, service: &str) -> usize {
    world.look(service, |desk: &mut Desk| desk.holders.values().map(std::collections::BTreeSet::len).sum())
}

#[test]
fn a_trip_books_a_room_and_a_car() {
    let mut world = world(1, Desk::new(300, 1));
    let trip = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    assert_eq!(world.answer(trip), Some(Answer::Done(json!({"to": "Rome", "price": 900}))));
    assert_eq!((held(&world, "hotel"), held(&world, "car")), (1, 1));
}

#[test]
fn a_trip_without_a_car_cancels_its_room() {
    let mut world = world(2, Desk::new(300, 0));
    let trip = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    let Some(Answer::Failed(body)) = world.answer(trip) else { panic!("the trip must fail") };
    let reason = "book a car in Rome: refused (sold_out: nothing is left in Rome), sent once";
    assert_eq!(
        (&body["code"], &body["detail"]),
        (&json!(Code::Conflict.as_str()), &json!(reason)),
        "the client gets 409"
    );
    assert_eq!(held(&world, "hotel"), 0);
}

#[test]
fn a_silent_car_desk_fails_the_trip_within_10_s_and_cancels_its_room() {
    let trips = trips().expect("the topology is valid");
    let mut world = World::seeded(3, &trips).spoke(HOTEL, Desk::new(600, 1)).spoke("car", Silent);
    let trip = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    let Some(Answer::Failed(body)) = world.answer(trip) else { panic!("the trip must fail") };
    assert_eq!(body["code"], json!(Code::WorkflowTimeout.as_str()), "the client gets 504");
    assert_eq!(body["left"], json!([2]), "the car may or may not be booked");
    assert_eq!(held(&world, "hotel"), 0);
    assert!(world.lanes.now_ms() < 10_000);
}

#[test]
fn an_expensive_trip_waits_for_approval() {
    for (agreed, cars) in [(true, 1), (false, 0)] {
        let mut world = world(4, Desk::new(500, 1));
        let trip = to_rome(&mut world, "trip-1");
        world.run_ms(3_600_000);
        assert_eq!(world.answer(trip), None, "the trip still waits after an hour");
        assert!(world.operation(trip).expect("the northbound shows it").live);
        let unclear = world.signal(trip, APPROVAL, &json!({"agreed": "maybe"}));
        world.run_ms(1);
        assert!(world.outcome(&unclear).expect("the signal has an outcome").is_err(), "neither approval nor rejection");
        world.signal(trip, APPROVAL, &json!({"agreed": agreed}));
        world.run_ms(5_000);
        assert_eq!(matches!(world.answer(trip), Some(Answer::Done(_))), agreed);
        assert_eq!((held(&world, "hotel"), held(&world, "car")), (cars, cars));
    }
}

#[test]
fn the_outcome_is_identical_after_a_crash_at_any_point() {
    for polls in 0..60 {
        let mut world = world(polls, Desk::new(300, usize::from(polls % 3 > 0)));
        let trip = to_rome(&mut world, "trip-1");
        world.run_polls(usize::try_from(polls).expect("below 60"));
        world.kill();
        world.start();
        world.run_until_idle();
        let booked = matches!(world.answer(trip), Some(Answer::Done(_)));
        assert_eq!(booked, polls % 3 > 0, "after {polls} polls");
        assert_eq!(held(&world, "hotel"), usize::from(booked), "after {polls} polls");
        assert_eq!((world.lanes.timers(), world.lanes.unfinished().len()), (0, 0), "after {polls} polls");
    }
}
