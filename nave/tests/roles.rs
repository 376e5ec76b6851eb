//! Hub, worker, two northbounds and the simulated switch controller as five processes over a real Kafka.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod process;

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Kafka, KafkaOptions};
use nave::clock::SystemClock;
use nave::control::{self, ControlReader};
use process::{Up, any_ports, brokers, nave};
use serde_json::{Value, json};
use wire::control::Wish;
use wire::topics::Topics;

/// A prefix of its own on the broker.
struct Place {
    brokers: String,
    prefix: String,
}

impl Place {
    fn new() -> Self {
        Self { brokers: brokers(), prefix: format!("t{}", uuid::Uuid::new_v4().simple()) }
    }

    fn args<'a>(&'a self, first: &[&'a str]) -> Vec<&'a str> {
        [first, &["--bus", "kafka", "--brokers", &self.brokers, "--prefix", &self.prefix]].concat()
    }

    fn run(&self, role: &str) -> Up {
        let run = ["run", "--role", role];
        Up::start(&self.args(&[&run[..], &any_ports(&run)].concat()))
    }

    fn submit(&self, more: &[&str]) -> Output {
        nave(&[&self.args(&["submit", "flows", "--json"])[..], more].concat()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn change(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    body["change"].as_str().unwrap().to_owned()
}

/// Where lanes say how they stand: topic and lane, and from where on it is news.
type Places = BTreeMap<(String, u32), u64>;

/// Of every lane of the topology.
fn places(topics: &Topics, from: impl Fn(&str, u32) -> u64) -> Places {
    let views = ["hub", "speaker"].map(|stage| topics.view("flows", stage));
    let of_view =
        |view: &String| (0..flows::LANES).map(|lane| ((view.clone(), lane), from(view, lane))).collect::<Vec<_>>();
    views.iter().flat_map(of_view).collect()
}

/// Waits until every lane has said where it stands: from then on it is live.
fn until_live(bus: &dyn Bus, mut silent: Places) {
    let mut reader = bus.reader().unwrap();
    for ((topic, lane), from) in &silent {
        reader.assign(topic, *lane, *from).unwrap();
    }
    let until = bus.clock().mono().plus_ms(60_000);
    let mut records = Vec::new();
    while !silent.is_empty() {
        reader.poll(100, Duration::from_millis(100), &mut records).unwrap();
        for record in records.drain(..) {
            silent.remove(&(record.topic.to_string(), record.partition));
        }
        assert!(bus.clock().mono() < until, "these lanes never said where they stand: {silent:?}");
    }
}

#[test]
fn five_processes_over_kafka_answer_a_flow_each_way_and_end_when_they_are_killed() {
    let place = Place::new();
    // Some are there before the topology is.
    let hub = place.run("hub");
    let sim = place.run("floodlight-sim");
    let first = place.run("northbound");
    assert_eq!(hub.ask("health", "/readyz").0, 503);
    let refused = place.submit(&["--strict"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("NAVE-0039"), "{}", text(&refused.stderr));
    let submitted = place.submit(&[]);
    assert!(change(&submitted).starts_with("submitted") && text(&submitted.stdout).contains("NAVE-0039"));
    assert!(change(&place.submit(&[])).contains("nothing changed"));
    let worker = place.run("worker");
    let second = place.run("northbound");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = Kafka::open(clock, KafkaOptions::new(place.brokers.clone())).unwrap();
    let topics = Topics::new(&place.prefix);
    until_live(&bus, places(&topics, |_, _| 0));

    let (body, key) = (json!({"flowid": "test-01", "length": 10}), [("Idempotency-Key", "monday")]);
    let up = first.post("/flow", &body, &key);
    assert_eq!((up.0, &up.1["message"]), (201, &json!("all operation is successful")), "{}", up.1);
    assert_eq!(second.post("/flow", &body, &key), up, "the other northbound gets the same answer for the same key");
    for (error, status, message) in [
        (0, 504, "error in hub by timeout"),
        (1, 502, "error in worker on rule install"),
        (2, 502, "error in worker on rule install"),
    ] {
        let flow = format!("fails-{error}");
        let (got, answer) = second.post("/flow", &json!({"flowid": flow, "length": 3, "error": error}), &[]);
        assert_eq!((got, answer["message"].as_str()), (status, Some(message)), "{answer}");
    }
    assert_eq!((sim.rules("of:01").len(), sim.rules("of:10").len()), (1, 1), "one flow stands, the others were undone");
    for (up, word) in [(&hub, "health"), (&worker, "health"), (&sim, "health"), (&first, "REST"), (&second, "REST")] {
        assert_eq!(up.ask(word, "/readyz").0, 200, "{:?}", up.ask(word, "/readyz"));
    }

    let refused = |more: &[&str], code: &str| {
        let said = text(&place.submit(more).stderr);
        assert!(said.contains(code), "{more:?}: {said}");
    };
    refused(&["--set", "topologies.flows.stages.hub.lanes=8"], "NAVE-0034");
    refused(&["--set", "topologies.flows.apart=false"], "NAVE-0033");

    kill(&bus, &place);
    let ends = places(&topics, |topic, lane| bus.bounds(topic, lane).unwrap().end);
    assert!(change(&place.submit(&[])).starts_with("submitted; processes"), "its name is free");
    // Who is ended while it takes its lanes over says that nobody knows what they hold.
    until_live(&bus, ends);
    for up in [hub, worker, first, second, sim] {
        let said = up.interrupt();
        assert!(said.contains("nothing was left undone"), "{said}");
    }
}

/// Kills the topology, and waits until the last process has taken the name away.
fn kill(bus: &Kafka, place: &Place) {
    let topics = Topics::new(&place.prefix);
    let mut reader = ControlReader::open(bus, &topics).unwrap();
    reader.catch_up(bus).unwrap();
    let mut flows = reader.known()["flows"].clone();
    let by = bus.clock().wall().plus_ms(60_000);
    flows.wish = Wish::Kill { by };
    control::write(bus, &topics, &flows).unwrap();
    while !reader.known().is_empty() {
        reader.poll(Duration::from_millis(100)).unwrap();
        assert!(bus.clock().wall() < by, "everything is drained, so nobody waits for the end of the time");
    }
    assert_eq!(control::members(bus, &topics, &flows), Ok(0));
}
