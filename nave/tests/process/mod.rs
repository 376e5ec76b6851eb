//! A running `nave up`, and a client for it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A `nave up` in a process of its own. It is killed when this is dropped.
pub(crate) struct Up {
    child: Child,
    rest: String,
    admin: String,
    agent: ureq::Agent,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Up {
    pub(crate) fn embedded() -> Self {
        Self::start(&[])
    }

    /// On the broker that `tools/kafka start` left, under a prefix of its own.
    pub(crate) fn kafka() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/address");
        let brokers = std::fs::read_to_string(&file).unwrap_or_else(|_| {
            panic!("no broker runs: use ./test, or first tools/kafka start ({} is missing)", file.display())
        });
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        Self::start(&["--bus", "kafka", "--brokers", brokers.trim(), "--prefix", &prefix])
    }

    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nave"))
            .args(["up", "--rest", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut said = Vec::new();
        for line in lines {
            said.push(line.expect("it prints text"));
            if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        let mut address = |word: &str| {
            let line = said.iter().find(|line| line.trim_start().starts_with(word));
            let url = line.and_then(|line| line.split_whitespace().nth(1));
            url.unwrap_or_else(|| panic!("no {word} in {said:?}: {}", stderr(&mut child)))
                .trim_end_matches("/switches")
                .to_owned()
        };
        let (rest, admin) = (address("REST"), address("switches"));
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
        Self { rest, admin, agent: config.build().into(), child }
    }

    pub(crate) fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.agent.post(format!("{}{path}", self.rest));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send(body.to_string()))
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> (u16, Value) {
        read(self.agent.post(format!("{}{path}", self.rest)).send(body))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        read(self.agent.get(format!("{}{path}", self.rest)).call())
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let mut response = self.agent.get(format!("{}{path}", self.rest)).call().expect("it answers");
        response.body_mut().read_to_string().expect("it answers with text")
    }

    /// The rules on a switch.
    pub(crate) fn rules(&self, switch: &str) -> Vec<Value> {
        let (status, rules) = read(self.agent.get(format!("{}/switches/{switch}/rules", self.admin)).call());
        assert_eq!(status, 200, "{rules}");
        rules.as_array().expect("a list of rules").clone()
    }

    /// Ctrl-C; what it said on stderr until its end.
    pub(crate) fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill is there");
        assert!(sent.success());
        let said = stderr(&mut self.child);
        assert!(self.child.wait().expect("it ends").success(), "{said}");
        said
    }
}

fn stderr(child: &mut Child) -> String {
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("it prints text");
    said
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.expect("it answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().expect("it answers with text");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}
