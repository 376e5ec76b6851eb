//! Arbitrary bytes from outside never cause a panic or a stuck lane, and every identifiable sender
//! gets an answer. The coverage-guided fuzzer in `fuzz/` looks for more such inputs. Its findings
//! are in `fuzz/finds` and are repeated here.

mod support;

use std::path::Path;

use bus::{Headers, Outgoing, Route};
use nave::testing::HUB;
use proptest::prelude::*;
use support::{flow, idle_violations, one_lane};
use wire::Kind;

/// Makes an inbox record (key, kind, headers, body) of bytes, in the same way as `fuzz/`.
fn record(inbox: &str, bytes: &[u8]) -> Outgoing {
    nave::sim::arbitrary::record(inbox, bytes)
}

/// Checks that the lane works after these records, before and after a restart.
fn lane_works_after(records: &[Outgoing], what: &str) {
    let mut world = one_lane(1, |_| {});
    world.lanes.write(records);
    world.run_ms(10);
    for (name, restart) in [("test-01", false), ("test-02", true)] {
        if restart {
            world.lanes.kill(HUB);
            world.lanes.start(HUB);
        }
        let asked = world.request(&flow(name, 2));
        world.run_ms(60_000);
        assert!(world.answer(asked).is_done(), "{what}, after a restart: {restart}");
        let rest: Vec<String> =
            idle_violations(&mut world, &[asked]).into_iter().filter(|line| line.contains("twice")).collect();
        assert_eq!(rest, [""; 0], "{what}");
    }
}

fn inbox() -> String {
    support::world(0).inbox()
}

#[test]
fn inputs_found_by_the_fuzzer_are_handled() {
    let finds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/finds");
    let mut files: Vec<_> =
        std::fs::read_dir(finds).expect("the folder exists").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "`fuzz/finds` has files");
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        lane_works_after(&[record(&inbox(), &bytes)], &file.display().to_string());
    }
}

/// Records of each kind with invalid bodies and header values.
#[test]
fn a_nonsensical_record_of_any_kind_is_skipped() {
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
            lane_works_after(&[record], &format!("{kind} with {body} and {nonsense}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes_stop_no_lane(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..6)) {
        let inbox = inbox();
        let records: Vec<Outgoing> = records.iter().map(|bytes| record(&inbox, bytes)).collect();
        lane_works_after(&records, "any bytes");
    }
}
