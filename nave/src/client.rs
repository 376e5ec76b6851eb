//! Client of the REST interface: all paths that the command line uses.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use wire::OperationId;

/// Timeout of a request; longer than a northbound waits for an operation.
const PATIENCE: Duration = Duration::from_secs(30);

/// Client of a running system.
pub(crate) struct Client {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// No connection to the URL: nothing listens there.
#[derive(Debug)]
pub(crate) struct Unreachable {
    url: String,
    why: String,
}

/// The URL or the token file is invalid.
#[derive(Debug)]
pub(crate) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { url, why }, program) = (self, crate::program::name());
        write!(
            f,
            "cannot reach {url}: {why}; is `{program} up`, or a northbound, running there? set another address with --url"
        )
    }
}

impl std::error::Error for Unreachable {}

/// The server refused the request.
#[derive(Debug)]
pub(crate) struct Refused {
    /// HTTP status.
    pub status: u16,
    /// The problem as received (RFC 9457), or a text.
    pub body: Value,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |name: &str| self.body.get(name).and_then(Value::as_str);
        match (field("code"), field("detail").or_else(|| field("title"))) {
            (Some(code), Some(detail)) => {
                let program = crate::program::name();
                write!(f, "{code}: {detail}\n  for more: {program} explain {code}")
            }
            (_, Some(detail)) => write!(f, "{} (status {})", detail, self.status),
            (_, None) => write!(f, "status {}: {}", self.status, self.body),
        }
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// Creates a client of the interface at `url`, with the token in `token_file`, if any.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn new(url: &str, token_file: Option<&Path>) -> Result<Self, Unusable> {
        let token = token_file.map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Unusable(format!("--token-file: cannot read {}: {error}", path.display())));
            text.map(|text| text.trim().to_owned())
        });
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token: token.transpose()?, agent: agent.into() })
    }

    // ---- paths ----------------------------------------------------------------------------------

    /// Returns the submitted topologies.
    ///
    /// # Errors
    /// Like all of these methods: [`Unreachable`] if nothing listens, [`Refused`] if the answer is
    /// a problem.
    pub(crate) fn topologies(&self) -> anyhow::Result<Value> {
        self.get("/v1/topologies")
    }

    /// Returns one topology.
    pub(crate) fn topology(&self, name: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/topologies/{}", segment(name)))
    }

    /// Returns the metrics of the process, in the Prometheus text format.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        match self.get("/metrics")? {
            Value::String(page) => Ok(page),
            other => Err(anyhow::anyhow!("the answer of {}/metrics is no page of metrics: {other}", self.url)),
        }
    }

    /// Kills a topology, which may drain for `wait_ms` milliseconds.
    pub(crate) fn kill(&self, name: &str, wait_ms: u64) -> anyhow::Result<Value> {
        self.call(
            self.with(self.agent.delete(self.at(&format!("/v1/topologies/{}?wait_ms={wait_ms}", segment(name)))))
                .call(),
        )
    }

    /// Sends `activate` or `deactivate` to a topology.
    pub(crate) fn change_activity(&self, name: &str, command: &str) -> anyhow::Result<Value> {
        self.post(&format!("/v1/topologies/{}/{command}", segment(name)), &Value::Null)
    }

    /// Changes the number of threads of a topology in each process; none: as configured.
    pub(crate) fn rebalance(&self, name: &str, threads: Option<u32>) -> anyhow::Result<Value> {
        let query = threads.map(|threads| format!("?threads={threads}")).unwrap_or_default();
        self.post(&format!("/v1/topologies/{}/rebalance{query}", segment(name)), &Value::Null)
    }

    /// Starts an operation. Returns its answer, or its state if the northbound stops waiting first.
    pub(crate) fn start(&self, at: &Start<'_>, body: &Value) -> anyhow::Result<Value> {
        let Start { topology, workflow, key, idempotency_key } = at;
        let path = format!("/v1/topologies/{}/workflows/{}/{}", segment(topology), segment(workflow), segment(key));
        let mut request = self.with(self.agent.post(self.at(&path)));
        if let Some(name) = idempotency_key {
            request = request.header("idempotency-key", *name);
        }
        self.call(request.header("content-type", "application/json").send(body.to_string()))
    }

    /// Returns operations, newest first. `query` holds pairs of name and value.
    pub(crate) fn operations(&self, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        self.get(&format!("/v1/operations{query}"))
    }

    /// Returns one operation.
    pub(crate) fn operation(&self, id: &OperationId) -> anyhow::Result<Value> {
        self.get(&format!("/v1/operations/{id}"))
    }

    /// Sends a signal to an operation.
    pub(crate) fn signal(&self, id: &OperationId, name: &str, body: &Value) -> anyhow::Result<Value> {
        self.post(&format!("/v1/operations/{id}/signals/{}", segment(name)), body)
    }

    /// Cancels an operation; its calls are undone.
    pub(crate) fn cancel(&self, id: &OperationId) -> anyhow::Result<Value> {
        self.call(self.with(self.agent.delete(self.at(&format!("/v1/operations/{id}")))).call())
    }

    /// Sends `resume` or `abort` to a parked operation.
    pub(crate) fn command(&self, id: &OperationId, command: &str) -> anyhow::Result<Value> {
        self.post(&format!("/v1/operations/{id}/{command}"), &Value::Null)
    }

    /// Returns the services that workflows call.
    pub(crate) fn spokes(&self) -> anyhow::Result<Value> {
        self.get("/v1/spokes")
    }

    /// Returns one service.
    pub(crate) fn spoke(&self, service: &str) -> anyhow::Result<Value> {
        self.get(&format!("/v1/spokes/{}", segment(service)))
    }

    // ---- requests -------------------------------------------------------------------------------

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn with<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(self.with(self.agent.get(self.at(path))).call())
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.with(self.agent.post(self.at(path)));
        self.call(match body {
            Value::Null => request.send_empty(),
            body => request.header("content-type", "application/json").send(body.to_string()),
        })
    }

    /// Classifies a failure: an invalid URL, no connection, or an incomplete answer.
    fn failed(&self, error: ureq::Error) -> anyhow::Error {
        let (url, why) = (self.url.clone(), error.to_string());
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Tls(_) => {
                let allowed = "an http URL, like http://127.0.0.1:8088";
                Unusable(format!("--url is `{url}`: {why}; allowed is {allowed}")).into()
            }
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => Unreachable { url, why }.into(),
            ureq::Error::Io(fault) if fault.kind() == ErrorKind::ConnectionRefused => Unreachable { url, why }.into(),
            _after_the_connection => {
                anyhow::anyhow!("incomplete answer from {url}: {why}; the request may have been executed")
            }
        }
    }

    fn call(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut answer = answer.map_err(|error| self.failed(error))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().context("the answer cannot be read")?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status < 400 { Ok(body) } else { Err(Refused { status, body }.into()) }
    }
}

/// The arguments of a start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// The topology.
    pub topology: &'a str,
    /// The name of the workflow.
    pub workflow: &'a str,
    /// The key of the operation.
    pub key: &'a str,
    /// The idempotency key.
    pub idempotency_key: Option<&'a str>,
}

/// Encodes a text as one path segment, or one query value (RFC 3986).
fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_percent_encoded_in_the_path() {
        assert_eq!(segment("flow 1/ä"), "flow%201%2F%C3%A4");
    }

    #[test]
    fn a_refusal_has_its_code_and_the_command_that_explains_it() {
        let body = json!({"code": "NAVE-0050", "detail": "no topology `x`"});
        let text = Refused { status: 404, body }.to_string();
        assert_eq!(text, "NAVE-0050: no topology `x`\n  for more: nave explain NAVE-0050");
    }
}
