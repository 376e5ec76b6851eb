//! Trips in a simulation with faults of every kind: bookings match the answers.

use trip::scenario::program;

#[test]
fn bookings_match_the_answers_under_every_fault() {
    let simulation = program().expect("the program is valid").simulation("trips").expect("trips have a scenario");
    let summary = simulation.run_many(1, 300, 2);
    println!("{}", summary.text());
    let broken = summary.failed.map(|ran| format!("{ran:?}\n{}", simulation.story(ran.seed)));
    assert_eq!(broken, None);
    assert!(summary.answers["done"] > 100 && summary.answers["failed"] > 10, "{:?}", summary.answers);
}

/// Shows that the checks can fail: a desk that forgets its calls carries some out twice.
#[test]
fn the_checks_detect_desks_that_forget_their_calls() {
    let simulation = program().expect("the program is valid").simulation("trips").expect("trips have a scenario");
    let summary = simulation.with_forgetful_spokes().run_many(1, 300, 2);
    let broken = summary.failed.and_then(|ran| ran.failure).expect("at least one seed fails");
    assert!(broken.contains("executed call"), "{broken}");
}
