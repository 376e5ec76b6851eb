//! Processes under test: the trips, a hotel spoke, and the Python spoke.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A child process. Dropping it kills the process.
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
        // The builtin of bash: a minimal system has no `kill` program.
        let sent = Command::new("bash").args(["-c", &format!("kill -TERM {}", self.0.id())]).status();
        assert!(sent.expect("bash runs").success());
        self.0.wait().expect("the process ends")
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The address of the broker that `tools/kafka start` started.
pub(crate) fn broker() -> String {
    let broker = std::fs::read_to_string(project().join(".kafka/address"));
    broker.expect("no broker runs: use ./test, or first tools/kafka start").trim().to_owned()
}

/// Python with a Kafka client.
pub(crate) fn python() -> Command {
    Command::new(project().join(".tools/confluent-kafka-2.16.1/bin/python"))
}

/// The Python spoke with its database file.
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

    /// Kills the process with SIGKILL and starts another.
    pub(crate) fn replace(&mut self) {
        self.process.0.kill().expect("the process can be killed");
        self.process.0.wait().expect("the process ends");
        self.process = Self::run(&self.topic, &self.file);
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }

    /// The trips with a car according to the database.
    pub(crate) fn taken(&self) -> Vec<String> {
        let select = "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute('SELECT trip FROM taken'): print(*row)";
        let output = python().args(["-c", select]).arg(&self.file).output().expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

/// `trip up` without spokes, and a hotel spoke as a second process.
pub(crate) struct Trips {
    /// The URL of the REST interface.
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
        let lines = BufReader::new(up.0.stdout.take().expect("stdout is piped")).lines();
        let mut banner: Vec<String> = Vec::new();
        for line in lines {
            banner.push(line.expect("the banner is text"));
            if banner.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        let url = banner.iter().find_map(|line| line.trim_start().strip_prefix("REST")?.split_whitespace().next());
        let url = url.unwrap_or_else(|| panic!("trip up did not start: {banner:?}")).to_owned();
        Self { url, _up: up, _hotel: hotel }
    }
}
