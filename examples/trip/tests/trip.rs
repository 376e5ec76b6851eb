//! A trip in virtual time: a room and a car, or neither, whatever happens.

use nave::prelude::{Answer, Code};
use nave::serde_json::json;
use nave::spoke::Silent;
use nave::testing::{Asked, World};
use trip::spokes::Desk;
use trip::{AGREEMENT, trips};

/// A world with a hotel, and a car desk at this price.
fn world(seed: u64, car: Desk) -> World {
    World::seeded(seed, &trips().expect("it is one")).spoke("hotel", Desk::new(600, 1)).spoke("car", car)
}

fn to_rome(world: &mut World, name: &str) -> Asked {
    world.request("trip", name, &json!({"to": "Rome"}))
}

fn given(world: &World, service: &str) -> usize {
    world.look(service, |desk: &mut Desk| desk.given.values().map(std::collections::BTreeSet::len).sum())
}

#[test]
fn a_trip_is_a_room_and_a_car() {
    let mut world = world(1, Desk::new(300, 1));
    let asked = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    assert_eq!(world.answer(&asked), Some(Answer::Done(json!({"to": "Rome", "price": 900}))));
    assert_eq!((given(&world, "hotel"), given(&world, "car")), (1, 1));
}

#[test]
fn a_trip_without_a_car_gives_the_room_back() {
    let mut world = world(2, Desk::new(300, 0));
    let asked = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    let Some(Answer::Failed(body)) = world.answer(&asked) else { panic!("it failed") };
    let why = "book a car in Rome: refused (sold_out: nothing is left in Rome), sent once";
    assert_eq!((&body["code"], &body["detail"]), (&json!(Code::Conflict), &json!(why)), "a client gets 409");
    assert_eq!(given(&world, "hotel"), 0);
}

#[test]
fn a_car_desk_that_does_not_answer_costs_seconds_and_no_room() {
    let trips = trips().expect("it is one");
    let mut world = World::seeded(3, &trips).spoke("hotel", Desk::new(600, 1)).spoke("car", Silent);
    let asked = to_rome(&mut world, "trip-1");
    world.run_until_idle();
    let Some(Answer::Failed(body)) = world.answer(&asked) else { panic!("it failed") };
    assert_eq!(body["code"], json!(Code::WorkflowTimeout), "a client gets 504");
    assert_eq!(body["left"], json!([2]), "whether a car is booked, nobody can say");
    assert_eq!(given(&world, "hotel"), 0);
    assert!(world.now_ms() < 10_000);
}

#[test]
fn a_dear_trip_waits_for_a_person() {
    for (agreed, cars) in [(true, 1), (false, 0)] {
        let mut world = world(4, Desk::new(500, 1));
        let asked = to_rome(&mut world, "trip-1");
        world.run_ms(3_600_000);
        assert_eq!(world.answer(&asked), None, "an hour later it still waits");
        let unclear = world.signal(&asked, AGREEMENT, &json!({"agreed": "maybe"}));
        world.run_ms(1);
        assert!(world.outcome(&unclear).expect("it was heard").is_err(), "neither yes nor no");
        world.signal(&asked, AGREEMENT, &json!({"agreed": agreed}));
        world.run_ms(5_000);
        assert_eq!(matches!(world.answer(&asked), Some(Answer::Done(_))), agreed);
        assert_eq!((given(&world, "hotel"), given(&world, "car")), (cars, cars));
    }
}

#[test]
fn a_trip_whose_process_dies_at_any_moment_ends_as_if_nothing_had_happened() {
    for turns in 0..60 {
        let mut world = world(turns, Desk::new(300, usize::from(turns % 3 > 0)));
        let asked = to_rome(&mut world, "trip-1");
        world.run_turns(usize::try_from(turns).expect("it is small"));
        world.kill();
        world.start();
        world.run_until_idle();
        let booked = matches!(world.answer(&asked), Some(Answer::Done(_)));
        assert_eq!(booked, turns % 3 > 0, "after {turns} turns");
        assert_eq!(given(&world, "hotel"), usize::from(booked), "after {turns} turns");
        assert_eq!((world.timers(), world.unfinished().len()), (0, 0), "after {turns} turns");
    }
}
