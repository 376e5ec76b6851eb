//! The examples of streams, in virtual time.

#[expect(dead_code, reason = "the program of the example")]
#[path = "../examples/enrichment.rs"]
mod enrichment;
#[expect(dead_code, reason = "the program of the example")]
#[path = "../examples/rate_limiter.rs"]
mod rate_limiter;
#[expect(dead_code, reason = "the program of the example")]
#[path = "../examples/top_n.rs"]
mod top_n;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bus::{Bus, Outgoing, TopicSpec};
use serde_json::{Value, json};
use topology::testing::Lanes;
use wire::{Envelope, Kind};

#[test]
fn an_order_gets_the_address_of_its_customer_or_becomes_a_dead_letter() {
    for polls in 0..40 {
        let mut lanes = Lanes::of(enrichment::enrichment().unwrap(), polls % 2);
        for topic in ["shop.customers", "shop.orders", "shop.deliveries"] {
            lanes.embedded.ensure_topic(&TopicSpec::log(topic, 3)).unwrap();
        }
        let write = |lanes: &Lanes, topic: &str, key: &str, value: Value| {
            lanes.write(&[Outgoing::keyed(topic, key.to_owned(), value.to_string())]);
        };
        lanes.join();
        for (id, address) in [("ann", "1 Old Street"), ("bob", "2 High Street"), ("ann", "3 New Street")] {
            write(&lanes, "shop.customers", id, json!({ "address": address }));
        }
        write(&lanes, "shop.customers", "carol", json!({ "address": "4 Long Street" }));
        lanes.write(&[Outgoing::keyed("shop.customers", "carol", "")]);
        lanes.run_ms(1_000);
        for (id, customer) in [(1, "ann"), (2, "bob"), (3, "carol"), (4, "ann")] {
            write(&lanes, "shop.orders", customer, json!({"id": id, "customer": customer}));
        }
        lanes.run_polls(&mut [], usize::try_from(polls).unwrap());
        for stage in ["customers", "orders", "join"] {
            lanes.kill(stage);
            lanes.start(stage);
        }
        assert!(lanes.run_ms(60_000), "no work is left ({polls} polls)");
        let delivery = |record: bus::Record| {
            let delivery: Value = serde_json::from_slice(&record.value).unwrap();
            (delivery["order"].as_u64().unwrap(), delivery["address"].as_str().unwrap().to_owned())
        };
        let records = lanes.records("shop.deliveries");
        assert_eq!(records.len(), 3, "each once ({polls} polls)");
        let deliveries: BTreeMap<u64, String> = records.into_iter().map(delivery).collect();
        let expected = [(1, "3 New Street"), (2, "2 High Street"), (4, "3 New Street")];
        assert_eq!(deliveries, expected.map(|(order, address)| (order, address.to_owned())).into());
        let letters = lanes.dead_letters();
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert_eq!(letters[0].1["reason"], "order 3 is of the unknown customer `carol`");
        assert_eq!(letters[0].1["place"], "join");
    }
}

#[test]
fn a_cycle_of_a_rate_limiter_lets_all_requests_through_at_its_rate() {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&passed);
    let topology = rate_limiter::rate_limiter(move |request| collected.lock().unwrap().push(request)).unwrap();
    let mut lanes = Lanes::of(topology, 3);
    let inbox = lanes.inbox("requests");
    let posted = |request: u64| {
        let mut envelope = Envelope::new(Kind::Tuple, request.to_string(), "/client");
        envelope.subject = Some("requests".into());
        Outgoing::keyed(inbox.as_str(), "", request.to_string()).with(&envelope).to(0)
    };
    lanes.write(&(0..35).map(posted).collect::<Vec<_>>());
    lanes.join();
    let mut in_a_second = Vec::new();
    for _ in 0..8 {
        let before = passed.lock().unwrap().len();
        lanes.run_ms(1_000);
        in_a_second.push(passed.lock().unwrap().len() - before);
    }
    assert!(in_a_second.iter().all(|count| *count <= 20), "at most two windows of ten: {in_a_second:?}");
    let mut passed = passed.lock().unwrap().clone();
    passed.sort_unstable();
    assert_eq!(passed, (0..35).collect::<Vec<_>>(), "{in_a_second:?}");
}

#[test]
fn the_most_frequent_words_are_right_after_a_crash_at_any_point() {
    for (stage, polls) in
        ["sentences", "count", "rank"].into_iter().flat_map(|stage| (0..30).map(move |polls| (stage, polls)))
    {
        let last = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&last);
        let topology = top_n::top_n(move |ranking| *shown.lock().unwrap() = ranking).unwrap();
        let mut lanes = Lanes::of(topology, 1);
        lanes.join();
        lanes.run_polls(&mut [], polls);
        lanes.kill(stage);
        lanes.start(stage);
        assert!(lanes.run_ms(60_000), "no work is left");
        let ranking = last.lock().unwrap().clone();
        assert_eq!(ranking[0], ("to".to_owned(), 4), "{stage} after {polls} polls");
        assert_eq!(ranking[1], ("be".to_owned(), 2), "{stage} after {polls} polls");
        assert_eq!(ranking[2].1, 1);
    }
}
