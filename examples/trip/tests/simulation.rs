//! Trips with everything going wrong: rooms and cars are given as promised, and nobody keeps what was given back.

use trip::scenario::program;

#[test]
fn whatever_happens_rooms_and_cars_are_given_as_travellers_were_told() {
    let simulation = program().expect("it is one").simulation("trips").expect("it has a scenario");
    let summary = simulation.run_many(1, 300, 2);
    println!("{}", summary.text());
    let broken = summary.broken.map(|ran| format!("{ran:?}\n{}", simulation.tell(ran.seed)));
    assert_eq!(broken, None);
    assert!(summary.answers["done"] > 100 && summary.answers["failed"] > 10, "{:?}", summary.answers);
}

/// The checks can fail: a desk that forgets which calls it carried out books twice.
#[test]
fn desks_that_forget_their_calls_are_found_out() {
    let simulation = program().expect("it is one").simulation("trips").expect("it has a scenario");
    let summary = simulation.with_forgetful_spokes().run_many(1, 300, 2);
    let broken = summary.broken.and_then(|ran| ran.broken).expect("one of the seeds sees it");
    assert!(broken.contains("carried call"), "{broken}");
}
