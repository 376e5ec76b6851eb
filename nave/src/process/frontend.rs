//! The northbound of a process: it follows the control topic and serves all submitted topologies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, Clock, Task};
use northbound::{Access, Directory, GatewayLimits, Inlet, InletHandle, Lag, Limits, Northbound, Outlet, Waiting};
use topology::driver::Threads;

use crate::config::{Config, ConfigError, ConfigErrors};
use crate::node::control::ControlReader;
use crate::node::status::NodeStatus;

/// The directory behind the REST paths, and its two ends on the bus.
pub(super) struct Frontend {
    pub(super) directory: Arc<Directory>,
    inlet: InletHandle,
    answers: Arc<AtomicBool>,
    /// Writes requests to the bus.
    pub(super) intake: Threads,
    /// Reads answers from the bus.
    pub(super) answers_out: Threads,
}

impl Frontend {
    /// Opens both ends.
    pub(super) fn open(bus: &Arc<dyn Bus>, config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let limits = GatewayLimits {
            max_unanswered_per_lane: config.rest.unanswered_per_lane,
            cached_operations: config.rest.cached_operations,
            patience: Duration::from_millis(config.rest.patience_ms),
            watchers: config.rest.watchers,
            ..GatewayLimits::default()
        };
        let directory = Arc::new(Directory::new(config.topics(), limits, Arc::clone(clock)));
        // Read the submitted topologies before the first request: an earlier request would be
        // refused because its topology is unknown.
        let mut submitted = ControlReader::open(&**bus, &config.topics())?;
        submitted.catch_up(&**bus)?;
        for one in submitted.topologies().values() {
            if let Err(why) = directory.take(one.clone()) {
                tracing::warn!(topology = one.name, why, "a topology cannot be served");
            }
        }
        let mut answers_out = Threads::default();
        let outlet = Outlet::follow(Arc::clone(bus), Arc::clone(&directory))?;
        let answers = outlet.ready();
        answers_out.spawn("answers", Arc::clone(clock), Box::new(move || Ok(Box::new(outlet) as Box<dyn Task>)))?;
        let lag = Lag::new(Arc::clone(bus), Arc::clone(&directory));
        answers_out.spawn("lag", Arc::clone(clock), Box::new(move || Ok(Box::new(lag) as Box<dyn Task>)))?;
        let mut intake = Threads::default();
        let task = Inlet::open(&**bus)?;
        let inlet = task.handle();
        intake.spawn("requests", Arc::clone(clock), Box::new(move || Ok(Box::new(task) as Box<dyn Task>)))?;
        Ok(Self { directory, inlet, answers, intake, answers_out })
    }

    /// Returns the northbound, protected by the token if one is configured.
    pub(super) fn northbound(&self, config: &Config) -> anyhow::Result<Northbound> {
        let limits = limits(config);
        let mut northbound = Northbound::new(Arc::clone(&self.directory), self.inlet.clone()).with_limits(limits);
        let file = &config.rest.token_file;
        if !file.is_empty() {
            let fault =
                |error: &dyn fmt::Display| ConfigErrors::from(ConfigError::file("rest.token_file", file, error));
            let token = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
            northbound.access = Access::with_token(&token).map_err(|error| fault(&error))?;
        }
        northbound::check_listen(config.rest.listen, &northbound.access)?;
        Ok(northbound)
    }

    /// Returns the function that lists the reasons why requests wait.
    pub(super) fn waiting(&self, status: &Arc<NodeStatus>) -> impl Fn() -> Vec<Waiting> + Send + Sync + 'static {
        let (directory, answers, status) = (Arc::clone(&self.directory), Arc::clone(&self.answers), Arc::clone(status));
        move || {
            let mut lines = directory.slow_lanes();
            lines.extend(directory.waiting());
            // The process reads the control topic twice: for its lanes and for its clients.
            let submitted = status.submitted().into_values();
            let unknown =
                submitted.filter(|one| one.desired.ends().is_none() && directory.topology(&one.name).is_none());
            let line = |name: &str| {
                Waiting::of_topology(name, format!("topology {name}: not loaded by the REST interface yet"))
            };
            lines.extend(unknown.map(|one| line(&one.name)));
            if !answers.load(Ordering::Acquire) {
                lines.push(Waiting::all("answers: not being read yet"));
            }
            lines
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.intake.has_failed() || self.answers_out.has_failed()
    }
}

/// Returns the limits of the REST interface.
pub(super) fn limits(config: &Config) -> Limits {
    let rest = &config.rest;
    Limits { body_bytes: rest.body_bytes, requests: rest.requests, connections: rest.connections, ..Limits::default() }
}
