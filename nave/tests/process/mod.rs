//! Running `nave` processes and an HTTP client for them.
#![expect(dead_code, reason = "each test file uses some of it")]

pub(crate) mod clients;
mod output;
pub(crate) mod site;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bus::Clock;
use nave::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;

use self::output::Output;

/// Maximum time for a start, a stop, a log line or a state: a busy machine takes seconds for work of
/// a tenth of a second.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
/// Maximum time between two requests of [`Up::wait_until`].
const INTERVAL: Duration = Duration::from_millis(50);

/// A running `nave` process. It is killed when this is dropped.
pub(crate) struct Up {
    child: Mutex<Child>,
    pid: u32,
    /// Its standard error.
    log: Output,
    stdout: Output,
    /// The lines of its standard output until it was ready.
    banner: Vec<String>,
    agent: ureq::Agent,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.log.wait_for_end(LIMIT);
            let kept = NamedTempFile::new().and_then(|mut file| {
                file.write_all(self.log().as_bytes())?;
                Ok(file.keep()?.1)
            });
            match kept {
                Ok(path) => eprintln!("the log of process {} is in {}", self.pid, path.display()),
                Err(fault) => eprintln!("the log of process {} was not saved: {fault}", self.pid),
            }
        }
    }
}

/// The address of the broker that `tools/kafka start` started.
///
/// # Panics
/// If there is none: these tests are never skipped silently.
pub(crate) fn brokers() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
    let brokers = std::fs::read_to_string(&file).unwrap_or_else(|_| {
        panic!("no broker runs: use ./test, or first tools/kafka start ({} is missing)", file.display())
    });
    brokers.trim().to_owned()
}

/// The binary, without the variables of the environment that it would use as configuration.
pub(crate) fn nave(args: &[&str]) -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_nave")), args)
}

/// An example of this crate, which Cargo builds beside its tests.
pub(crate) fn example(name: &str, args: &[&str]) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_nave")).with_file_name("examples").join(name);
    program(&built, args)
}

fn program(path: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NAVE_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Options that give a process with these arguments free ports. The process refuses addresses of
/// components that it does not run.
pub(crate) fn any_ports(args: &[&str]) -> Vec<&'static str> {
    let any = "127.0.0.1:0";
    let is_up = args[0] == "up";
    let mut ports = if is_up || args.contains(&"northbound") { vec!["--rest", any] } else { vec!["--health", any] };
    if is_up && !args.contains(&"speaker") || args.contains(&"floodlight-sim") {
        ports.extend(["--sim", any]);
    }
    ports
}

impl Up {
    pub(crate) fn embedded() -> Self {
        Self::start(&["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    }

    /// Starts `nave up` on the broker that `tools/kafka start` started, under a unique prefix.
    pub(crate) fn kafka() -> Self {
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let at = ["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--bus", "kafka"];
        Self::start(&[&at[..], &["--brokers", &brokers(), "--prefix", &prefix]].concat())
    }

    /// Starts a process with these arguments and waits for its banner.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(nave(args))
    }

    /// Starts a process and waits for its banner.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary starts");
        let log = Output::of(child.stderr.take().expect("stderr is piped"));
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let began = stdout.wait_until(LIMIT, |text| text.contains("Ctrl-C"));
        if !began {
            child.kill().expect("the process can be killed");
            child.wait().expect("the process ends");
            log.wait_for_end(LIMIT);
        }
        assert!(began, "{command:?} did not start: {}", log.text());
        let banner = stdout.text().lines().map(str::to_owned).collect();
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
        Self { pid: child.id(), child: Mutex::new(child), log, stdout, banner, agent: config.build().into() }
    }

    /// The URL behind the name of an interface in the banner.
    pub(crate) fn address(&self, interface: &str) -> String {
        let line = self.banner.iter().find(|line| line.trim_start().starts_with(interface));
        let url = line.and_then(|line| line.split_whitespace().nth(1));
        url.unwrap_or_else(|| panic!("no {interface} in {:?}", self.banner)).trim_end_matches("/switches").to_owned()
    }

    /// Sends `GET path` to an interface.
    pub(crate) fn get_from(&self, interface: &str, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("{}{path}", self.address(interface))).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.agent.post(format!("{}{path}", self.address("REST")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send(body.to_string()))
    }

    pub(crate) fn delete(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.agent.delete(format!("{}{path}", self.address("REST")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.call())
    }

    /// Posts a body. Returns `None` if the connection broke or was refused.
    pub(crate) fn try_post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Option<(u16, Value)> {
        let mut request = self.agent.post(format!("{}{path}", self.address("REST")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body.to_string()).ok()?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// Posts a body with a key. Returns `None` if the client should try another northbound: nothing
    /// listens, the process drains, or the connection closed before the answer. A kept-alive
    /// connection may close at the moment a request is sent on it (RFC 9112, section 9.5).
    ///
    /// # Errors
    /// All other errors.
    pub(crate) fn post_if_listening(
        &self,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Result<Option<(u16, Value)>, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.address("REST"))).header("Idempotency-Key", key);
        let closed =
            [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
        match request.send(body.to_string()) {
            Ok(response) => {
                let (status, body) = read(Ok(response));
                let drains =
                    status == 503 && body["detail"].as_str().is_some_and(|detail| detail.contains("is stopping"));
                Ok(Some((status, body)).filter(|_| !drains))
            }
            Err(ureq::Error::Io(fault)) if closed.contains(&fault.kind()) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Posts a body to an interface.
    pub(crate) fn post_to(&self, interface: &str, path: &str, body: &Value) -> (u16, Value) {
        read(self.agent.post(format!("{}{path}", self.address(interface))).send(body.to_string()))
    }

    /// Sends `DELETE path` to an interface.
    pub(crate) fn delete_at(&self, interface: &str, path: &str) -> (u16, Value) {
        read(self.agent.delete(format!("{}{path}", self.address(interface))).call())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no thread panics while holding the lock")
    }

    /// Kills the process with `kill -9`.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child()), signal).expect("the process was not reaped");
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> (u16, Value) {
        read(self.agent.post(format!("{}{path}", self.address("REST"))).send(body))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("{}{path}", self.address("REST"))).call())
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let mut response =
            self.agent.get(format!("{}{path}", self.address("REST"))).call().expect("the process answers");
        response.body_mut().read_to_string().expect("the answer is text")
    }

    /// The rules of a switch.
    pub(crate) fn rules(&self, switch: &str) -> Vec<Value> {
        let (status, rules) =
            read(self.agent.get(format!("{}/switches/{switch}/rules", self.address("switches"))).call());
        assert_eq!(status, 200, "{rules}");
        rules.as_array().expect("a list of rules").clone()
    }

    /// Waits until `done` returns true for its standard output so far, and returns that.
    pub(crate) fn wait_for_output(&self, done: impl Fn(&str) -> bool) -> String {
        let is_done = self.stdout.wait_until(LIMIT, done);
        assert!(is_done, "not within {LIMIT:?}: {}; log: {}", self.stdout.text(), self.log());
        self.stdout.text()
    }

    /// Its whole standard output. It has ended.
    pub(crate) fn output(&self) -> String {
        assert!(self.stdout.wait_for_end(LIMIT), "its output did not end");
        self.stdout.text()
    }

    /// Waits until its log contains `line`.
    pub(crate) fn wait_for_log(&self, line: &str) {
        let is_logged = self.log.wait_until(LIMIT, |log| log.contains(line));
        assert!(is_logged, "no `{line}` within {LIMIT:?} in the log: {}", self.log());
    }

    /// Waits until at least `count` lines of its log contain `part`. Returns their number.
    pub(crate) fn wait_for_log_lines(&self, part: &str, count: usize) -> usize {
        let lines = |log: &str| log.lines().filter(|line| line.contains(part)).count();
        self.log.wait_until(LIMIT, |log| lines(log) >= count);
        lines(&self.log())
    }

    /// Sends `GET path` to an interface until `done` returns true for the status and the body.
    /// The next request follows when the process has logged something, or after [`INTERVAL`].
    pub(crate) fn wait_until(&self, interface: &str, path: &str, done: impl Fn(u16, &Value) -> bool) {
        let clock = SystemClock::default();
        let begun = clock.mono();
        loop {
            let logged = self.log().len();
            let (status, body) = self.get_from(interface, path);
            if done(status, &body) {
                return;
            }
            assert!(clock.mono().since(begun) < LIMIT, "GET {path}: still {status} {body} after {LIMIT:?}");
            self.log.wait_until(INTERVAL, |log| log.len() > logged);
        }
    }

    /// Waits until `/readyz` of an interface reports ready.
    pub(crate) fn wait_until_ready(&self, interface: &str) {
        self.wait_until(interface, "/readyz", |status, _| status == 200);
    }

    /// Reads the events of an operation until it ends, or until the time limit of a request.
    pub(crate) fn follow(&self, operation: &str) {
        let url = format!("{}/v1/operations/{operation}/events", self.address("REST"));
        if let Ok(mut events) = self.agent.get(url).call() {
            events.body_mut().read_to_string().ok();
        }
    }

    /// Sends SIGINT, and a second one when the log says that the process is stopping. Returns the
    /// exit code and the log.
    pub(crate) fn interrupt_twice(self) -> (Option<i32>, String) {
        self.signal(Signal::INT);
        self.wait_for_log("stopping");
        self.signal(Signal::INT);
        (self.exit_status().code(), self.log())
    }

    /// Sends SIGINT and waits for the end of the process. Returns its log.
    pub(crate) fn interrupt(&self) -> String {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits for the process to end successfully. Returns its log.
    pub(crate) fn ended(&self) -> String {
        let ended = self.exit_status();
        assert!(ended.success(), "{}", self.log());
        self.log()
    }

    /// Waits for the end of the process. Its log is complete then.
    fn exit_status(&self) -> ExitStatus {
        assert!(self.log.wait_for_end(LIMIT), "still running after {LIMIT:?}: {}", self.log());
        self.child().wait().expect("the process ends")
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("the process answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().expect("the answer is text");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
