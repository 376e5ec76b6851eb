//! Processes: the trips, a hotel, and the car in Python.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A process that is killed when this is dropped.
pub(crate) struct Process(Child);

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

    fn terminate(&mut self) -> ExitStatus {
        // The `kill` of bash: a minimal system has no program of that name.
        let sent = Command::new("bash").args(["-c", &format!("kill -TERM {}", self.0.id())]).status();
        assert!(sent.expect("bash runs").success());
        self.0.wait().expect("it ends")
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The broker that `tools/kafka start` left.
pub(crate) fn broker() -> String {
    let broker = std::fs::read_to_string(project().join(".kafka/address"));
    broker.expect("no broker runs: use ./test, or first tools/kafka start").trim().to_owned()
}

/// Python with a Kafka client, and nothing of ours.
pub(crate) fn python() -> Command {
    Command::new(project().join(".tools/confluent-kafka-2.16.1/bin/python"))
}

/// The car in Python, and the file in which it keeps what it did.
pub(crate) struct Car {
    topic: String,
    file: PathBuf,
    process: Process,
}

impl Drop for Car {
    fn drop(&mut self) {
        self.process.0.kill().ok();
        self.process.0.wait().ok();
        std::fs::remove_file(&self.file).ok();
    }
}

impl Car {
    pub(crate) fn start(topic: &str) -> Self {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{topic}.db"));
        let process = Self::run(topic, &file);
        Self { topic: topic.to_owned(), file, process }
    }

    fn run(topic: &str, file: &Path) -> Process {
        Process::start(python().arg(project().join("examples/trip/car.py")).args([&broker(), topic]).arg(file))
    }

    /// `kill -9`, and another process in its place.
    pub(crate) fn replace(&mut self) {
        self.process.0.kill().expect("it can be killed");
        self.process.0.wait().expect("it ends");
        self.process = Self::run(&self.topic, &self.file);
    }

    /// SIGTERM: its exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// Which trips have a car, as its file says.
    pub(crate) fn taken(&self) -> Vec<String> {
        let select = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute('SELECT trip FROM taken'): print(*row)";
        let output = python().args(["-c", select]).arg(&self.file).output().expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

/// The trips without spokes of their own, and a hotel as a process: under a prefix of its own on Kafka.
pub(crate) struct Trips {
    /// Where its REST interface is.
    pub(crate) url: String,
    _up: Process,
    _hotel: Process,
}

impl Trips {
    pub(crate) fn start(prefix: &str) -> Self {
        let at = ["--bus", "kafka", "--brokers", &broker(), "--prefix", prefix];
        let trip = |args: &[&str]| Process::start(Command::new(env!("CARGO_BIN_EXE_trip")).args(args).args(at));
        let mut up = trip(&["up", "--without", "car", "--without", "hotel", "--rest", "127.0.0.1:0"]);
        let hotel = trip(&["run", "--spoke", "hotel", "--health", "127.0.0.1:0"]);
        let lines = BufReader::new(up.0.stdout.take().expect("it is piped")).lines();
        let mut said: Vec<String> = Vec::new();
        for line in lines {
            said.push(line.expect("it prints text"));
            if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        let url = said.iter().find_map(|line| line.trim_start().strip_prefix("REST")?.split_whitespace().next());
        let url = url.unwrap_or_else(|| panic!("it did not begin: {said:?}")).to_owned();
        Self { url, _up: up, _hotel: hotel }
    }
}
