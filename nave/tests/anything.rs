//! Whatever comes from outside, in whatever bytes: nothing panics, nothing is stuck, the lane goes on, and who can be named
//! is told. `fuzz/` looks for more, guided by coverage; what it finds is kept in `fuzz/finds` and tried here.

mod support;

use std::path::Path;

use bus::{Headers, Outgoing, Route};
use nave::world::World;
use proptest::prelude::*;
use support::{flow, not_at_rest, one_lane};
use wire::Kind;

/// A record of the inbox, made of bytes: a key, a kind, headers by name, a body. The same reading as in `fuzz/`.
fn record(inbox: &str, bytes: &[u8]) -> Outgoing {
    nave::anything::record(inbox, bytes)
}

/// The lane goes on after these records, now and after a restart: no flow is lost, nothing is left.
fn goes_on_after(records: &[Outgoing], what: &str) {
    let mut world = one_lane(1, |_| {});
    world.write(records);
    world.run_ms(10);
    for (name, restart) in [("test-01", false), ("test-02", true)] {
        if restart {
            world.kill_hub();
            world.start_hub();
        }
        let asked = world.request(&flow(name, 2));
        world.run_ms(60_000);
        assert!(world.answer(asked).is_done(), "{what}, after a restart: {restart}");
        let rest: Vec<String> =
            not_at_rest(&mut world, &[asked]).into_iter().filter(|line| line.contains("twice")).collect();
        assert_eq!(rest, [""; 0], "{what}");
    }
}

fn inbox() -> String {
    World::seeded(0).inbox()
}

#[test]
fn what_was_found_once_does_no_harm_again() {
    let finds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/finds");
    let mut files: Vec<_> =
        std::fs::read_dir(finds).expect("the folder is there").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there is one at least");
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        goes_on_after(&[record(&inbox(), &bytes)], &file.display().to_string());
    }
}

/// Each kind with a body that is none, and each header with nonsense.
#[test]
fn every_kind_of_record_without_sense_is_passed_over() {
    let headers = ["ce_id", "ce_source", "ce_type", "ce_correlationid", "ce_causationid", "ce_callid", "ce_attempt"];
    for kind in Kind::ALL {
        for (body, nonsense) in [("", ""), ("null", "x"), ("[]", "7/7"), ("{\"a\":1}", "7f3a/1/1/speaker/1")] {
            let value = |name: &str| if name == "ce_type" { kind.as_str() } else { nonsense };
            let named = headers.iter().map(|name| (*name, value(name))).chain([("ce_specversion", "1.0")]);
            let named: Headers = named.collect();
            let record = Outgoing {
                topic: inbox().into(),
                route: Route::To(0),
                key: Some("k".into()),
                headers: named,
                value: body.to_owned().into(),
            };
            goes_on_after(&[record], &format!("{kind} with {body} and {nonsense}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_at_all_stop_no_lane(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..6)) {
        let inbox = inbox();
        let records: Vec<Outgoing> = records.iter().map(|bytes| record(&inbox, bytes)).collect();
        goes_on_after(&records, "any bytes");
    }
}
