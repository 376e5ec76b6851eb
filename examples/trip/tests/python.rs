//! The trip over a real Kafka, with rooms from a process of its own, and cars from a spoke in Python that has nothing of ours.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nave::serde_json::{Value, json};

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let started = command.stdout(Stdio::piped()).spawn();
        Self(started.unwrap_or_else(|fault| panic!("{command:?}: {fault}; ./test installs what is missing")))
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout: ChildStdout = self.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).lines().map(|line| line.expect("it prints text"))
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn trip(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trip"));
    command.args(args);
    command
}

/// What became of a trip to Rome.
fn to_rome(url: &str, key: &str) -> Value {
    let args = ["operations", "start", "trip", key, "--body", r#"{"to": "Rome"}"#, "--url", url, "--json"];
    let output = trip(&args).output().expect("the binary starts");
    let told = if output.status.success() { &output.stdout } else { &output.stderr };
    nave::serde_json::from_slice(told).unwrap_or_else(|fault| panic!("{fault}: {output:?}"))
}

#[test]
fn a_car_from_python_over_kafka_makes_a_trip_and_where_none_is_left_the_room_is_given_back() {
    let broker = std::fs::read_to_string(project().join(".kafka/address"));
    let broker = broker.expect("no broker runs: use ./test, or first tools/kafka start").trim().to_owned();
    let prefix = format!("trip{}", std::process::id());
    let at = ["--bus", "kafka", "--brokers", &broker, "--prefix", &prefix];
    let up = ["up", "--without", "car", "--without", "hotel", "--rest", "127.0.0.1:0"];
    let mut up = Process::start(&mut trip(&[&up[..], &at].concat()));
    let hotel = ["run", "--spoke", "hotel", "--health", "127.0.0.1:0"];
    let _hotel = Process::start(&mut trip(&[&hotel[..], &at].concat()));
    let mut said: Vec<String> = Vec::new();
    for line in up.lines() {
        said.push(line);
        if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
            break;
        }
    }
    let url = said.iter().find_map(|line| line.trim_start().strip_prefix("REST")?.split_whitespace().next());
    let url = url.unwrap_or_else(|| panic!("it did not begin: {said:?}"));
    let python = project().join(".tools/confluent-kafka-2.16.1/bin/python");
    let topic = format!("{prefix}.spoke.car");
    let _car = Process::start(Command::new(python).arg(project().join("examples/trip/car.py")).args([&broker, &topic]));

    let price = json!({"to": "Rome", "price": 900});
    assert_eq!(to_rome(url, "monday"), price, "600 of the hotel, and 300 of the car in Python");
    assert_eq!(to_rome(url, "tuesday"), price);
    for key in ["friday", "saturday"] {
        let told = to_rome(url, key);
        let why = "book a car in Rome: refused (sold_out: no car is left in Rome), sent once";
        assert_eq!((&told["status"], &told["detail"]), (&json!(409), &json!(why)), "{told}");
        assert_eq!(told["left"], json!([]), "the room is given back: of three it is the last each time");
    }
}
