//! Running processes of `nave`, and a client for them.
#![expect(dead_code, reason = "each test file uses some of it")]

pub(crate) mod clients;
pub(crate) mod site;

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::NamedTempFile;

/// A `nave` in a process of its own. It is killed when this is dropped.
pub(crate) struct Up {
    child: Mutex<Child>,
    pid: u32,
    /// What it says on the standard error.
    log: Option<NamedTempFile>,
    /// What it printed when it began.
    banner: Vec<String>,
    agent: ureq::Agent,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Some(Ok((_, path))) = self.log.take().map(NamedTempFile::keep)
        {
            eprintln!("what process {} said is in {}", self.pid, path.display());
        }
    }
}

/// The broker that `tools/kafka start` left.
///
/// # Panics
/// Where there is none: these tests are never left out in silence.
pub(crate) fn brokers() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
    let brokers = std::fs::read_to_string(&file).unwrap_or_else(|_| {
        panic!("no broker runs: use ./test, or first tools/kafka start ({} is missing)", file.display())
    });
    brokers.trim().to_owned()
}

/// The binary, with nothing of this test's own environment that it would take for configuration.
pub(crate) fn nave(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nave"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NAVE_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Options that give a process with these arguments ports that are free. An address of a part that it does not have is refused.
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

    /// On the broker that `tools/kafka start` left, under a prefix of its own.
    pub(crate) fn kafka() -> Self {
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let at = ["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--bus", "kafka"];
        Self::start(&[&at[..], &["--brokers", &brokers(), "--prefix", &prefix]].concat())
    }

    /// A process with these arguments, once it has said where it is.
    pub(crate) fn start(args: &[&str]) -> Self {
        // A file takes any number of lines; a pipe that nobody reads would stop the process that fills it.
        let log = NamedTempFile::new().expect("a file");
        let stderr = log.reopen().expect("it was just made");
        let mut child = nave(args).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut said = Vec::new();
        for line in lines {
            said.push(line.expect("it prints text"));
            if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        let began = said.last().is_some_and(|line| line.contains("Ctrl-C"));
        assert!(began, "{args:?} did not begin: {}", text(&log));
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
        Self { pid: child.id(), child: Mutex::new(child), log: Some(log), banner: said, agent: config.build().into() }
    }

    /// The address behind a word of what it said when it began.
    pub(crate) fn address(&self, word: &str) -> String {
        let line = self.banner.iter().find(|line| line.trim_start().starts_with(word));
        let url = line.and_then(|line| line.split_whitespace().nth(1));
        url.unwrap_or_else(|| panic!("no {word} in {:?}", self.banner)).trim_end_matches("/switches").to_owned()
    }

    /// What a path of the interface behind `word` says.
    pub(crate) fn ask(&self, word: &str, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("{}{path}", self.address(word))).call())
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

    /// The same as `post`; none where the connection broke, or nobody listened.
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

    /// The same, with a key by which it can be repeated; none where another northbound is to be asked: nothing listens here, or the process
    /// drains, or the connection was closed before there was an answer. One that is kept open may be closed at the moment in which a
    /// request is sent on it (RFC 9112, section 9.5).
    ///
    /// # Errors
    /// Whatever else there is.
    pub(crate) fn post_where_it_listens(
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

    /// A body for the interface behind `word`.
    pub(crate) fn post_to(&self, word: &str, path: &str, body: &Value) -> (u16, Value) {
        read(self.agent.post(format!("{}{path}", self.address(word))).send(body.to_string()))
    }

    /// Takes away what is at a path of the interface behind `word`.
    pub(crate) fn delete_at(&self, word: &str, path: &str) -> (u16, Value) {
        read(self.agent.delete(format!("{}{path}", self.address(word))).call())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics while holding it")
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child()), signal).expect("it has not been waited for");
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> (u16, Value) {
        read(self.agent.post(format!("{}{path}", self.address("REST"))).send(body))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("{}{path}", self.address("REST"))).call())
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let mut response = self.agent.get(format!("{}{path}", self.address("REST"))).call().expect("it answers");
        response.body_mut().read_to_string().expect("it answers with text")
    }

    /// The rules on a switch.
    pub(crate) fn rules(&self, switch: &str) -> Vec<Value> {
        let (status, rules) =
            read(self.agent.get(format!("{}/switches/{switch}/rules", self.address("switches"))).call());
        assert_eq!(status, 200, "{rules}");
        rules.as_array().expect("a list of rules").clone()
    }

    /// Ctrl-C, and a second one when it has said that it stops: its exit code, and what it said.
    pub(crate) fn interrupt_twice(self) -> (Option<i32>, String) {
        self.signal(Signal::INT);
        while !self.said().contains("stopping") {
            assert!(self.child().try_wait().expect("it is ours").is_none(), "it ended: {}", self.said());
            std::thread::yield_now();
        }
        self.signal(Signal::INT);
        let code = self.child().wait().expect("it ends").code();
        (code, self.said())
    }

    /// True while it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.child().try_wait().expect("it is ours").is_none()
    }

    /// Ctrl-C; what it said on stderr until its end.
    pub(crate) fn interrupt(&self) -> String {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Waits for its end, which must be a success; what it said on stderr.
    pub(crate) fn ended(&self) -> String {
        let ended = self.child().wait().expect("it ends");
        assert!(ended.success(), "{}", self.said());
        self.said()
    }

    /// What it has said on stderr.
    pub(crate) fn said(&self) -> String {
        self.log.as_ref().map(text).unwrap_or_default()
    }
}

fn text(log: &NamedTempFile) -> String {
    std::fs::read_to_string(log.path()).expect("it prints text")
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("it answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().expect("it answers with text");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
