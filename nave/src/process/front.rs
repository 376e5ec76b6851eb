//! The northbound of a process: from what was submitted to the parts of a REST interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Bus, BusError, Part};
use northbound::{Gateway, GatewayOptions, Inlet, InletHandle, Outlet};
use topology::driver::Threads;
use wire::control::Submitted;

use crate::config::Config;

/// What the paths work with, and the two ends on the bus behind it.
pub(super) struct Front {
    pub(super) gateway: Arc<Gateway>,
    pub(super) inlet: InletHandle,
    answers: Arc<AtomicBool>,
    /// Requests in.
    pub(super) intake: Threads,
    /// Answers out.
    pub(super) answers_out: Threads,
}

impl Front {
    /// Opens the front of a topology that has workflows: of their stage.
    pub(super) fn open(bus: &Arc<dyn Bus>, config: &Config, submitted: &Submitted) -> Result<Self, OpenError> {
        let clock = bus.clock();
        let gateway = Arc::new(Gateway::new(options(config, submitted), Arc::clone(&clock)));
        let mut answers_out = Threads::default();
        let outlet = Outlet::open(&**bus, Arc::clone(&gateway))?;
        let answers = outlet.ready();
        answers_out.spawn("answers", Arc::clone(&clock), Box::new(move || Ok(Box::new(outlet) as Box<dyn Part>)))?;
        let mut intake = Threads::default();
        let part = Inlet::open(&**bus, Arc::clone(&gateway))?;
        let inlet = part.handle();
        intake.spawn("requests", clock, Box::new(move || Ok(Box::new(part) as Box<dyn Part>)))?;
        Ok(Self { gateway, inlet, answers, intake, answers_out })
    }

    /// A line for each thing that requests would have to wait for.
    pub(super) fn waiting(gateway: &Gateway, answers: &AtomicBool) -> Vec<String> {
        let mut lines = gateway.silent_lanes();
        if !answers.load(Ordering::Acquire) {
            lines.push("answers: the egress topic is not followed yet".to_owned());
        }
        lines
    }

    pub(super) fn answers(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.answers)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.intake.has_failed() || self.answers_out.has_failed()
    }
}

/// Lanes, and so the way of each key, are those that were recorded.
fn options(config: &Config, submitted: &Submitted) -> GatewayOptions {
    let (topics, name) = (config.topics(), &submitted.name);
    let stage = submitted.workflows.first().map_or("", |workflow| &workflow.stage);
    let lanes = submitted.stage(stage).map_or(1, |stage| stage.lanes);
    let view = topics.view(name, stage);
    let mut options = GatewayOptions::new(&topics.inbox(name, stage), &topics.egress(name, stage), &view, lanes);
    options.more_views = submitted.stages.iter().map(|stage| topics.view(name, &stage.name)).collect();
    options.more_views.retain(|topic| *topic != view);
    options.max_unanswered_per_lane = config.rest.unanswered_per_lane;
    options.known_operations = config.rest.known_operations;
    options.patience = Duration::from_millis(config.rest.patience_ms);
    options
}

/// Why a front cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The bus refused.
    Bus(BusError),
    /// The system gave no thread.
    Thread(std::io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Bus(error) => error.fmt(f),
            OpenError::Thread(error) => write!(f, "no thread for the northbound: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<BusError> for OpenError {
    fn from(error: BusError) -> Self {
        OpenError::Bus(error)
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        OpenError::Thread(error)
    }
}
