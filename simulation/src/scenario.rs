//! The scenario that a user provides for a simulation: requests, and a check of the result.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use topology::Settings;
use wire::OperationId;
use wire::answer::Answer;

use super::dice::Dice;
use super::host::Host;
use spoke::{Spoke, SpokeService};

/// The requests of clients for a seed, and a check of the result.
///
/// ```
/// use serde_json::json;
/// use simulation::{Scenario, SimRequest};
///
/// let scenario = Scenario::new(|dice| {
///     (0..=dice.roll(3)).map(|n| SimRequest::new("trip", &format!("trip-{n}"), json!({"to": "Rome"}))).collect()
/// });
/// let scenario = scenario.check(|results| {
///     let answered = results.answers().count();
///     if answered == results.requests().len() { Ok(()) } else { Err(format!("only {answered} answered")) }
/// });
/// # drop(scenario);
/// ```
#[derive(Clone)]
pub struct Scenario {
    pub(super) asks: Asks,
    pub(super) check: Check,
    pub(super) settings: Option<MakeSettings>,
    pub(super) signals: Option<MakeSignal>,
    pub(super) parks: bool,
}

type Asks = Arc<dyn Fn(&mut Dice) -> Vec<SimRequest> + Send + Sync>;
type Check = Arc<dyn Fn(&SimResults<'_>) -> Result<(), String> + Send + Sync>;
type MakeSignal = Arc<dyn Fn(&mut Dice) -> (String, Value) + Send + Sync>;
type MakeSettings = Arc<dyn Fn(&mut Dice) -> Settings + Send + Sync>;

/// One request of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct SimRequest {
    /// The name of the workflow.
    pub workflow: String,
    /// The key.
    pub key: String,
    /// The request body.
    pub request: Value,
}

impl SimRequest {
    /// Creates a request.
    ///
    /// # Panics
    /// If `request` cannot be serialized to JSON.
    pub fn new(workflow: &str, key: &str, request: impl Serialize) -> Self {
        let request = serde_json::to_value(request).expect("a request can be serialized to JSON");
        Self { workflow: workflow.to_owned(), key: key.to_owned(), request }
    }
}

impl fmt::Display for SimRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` {}", self.workflow, self.key, self.request)
    }
}

impl Scenario {
    /// Creates a scenario whose clients send the requests that `asks` draws. A handful is best:
    /// short seeds allow many of them.
    pub fn new(asks: impl Fn(&mut Dice) -> Vec<SimRequest> + Send + Sync + 'static) -> Self {
        Self { asks: Arc::new(asks), check: Arc::new(|_| Ok(())), settings: None, signals: None, parks: false }
    }

    /// Adds a check. It must pass at the end, and whenever all requests are answered and nothing is
    /// in progress. Its error describes the violation.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&SimResults<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }

    /// Adds a signal (name and body) that people send to operations at random, whether or not they
    /// wait for it. After the faults stop, people signal to each operation that waits; in some
    /// seeds they let a wait with a deadline time out.
    #[must_use]
    pub fn signals(mut self, signal: impl Fn(&mut Dice) -> (String, Value) + Send + Sync + 'static) -> Self {
        self.signals = Some(Arc::new(signal));
        self
    }

    /// Allows operations to park: people resume or abort them. Without this, a parked operation is
    /// an error.
    #[must_use]
    pub fn parks(mut self) -> Self {
        self.parks = true;
        self
    }

    /// Adds topology settings that are drawn for each seed.
    #[must_use]
    pub fn settings(mut self, settings: impl Fn(&mut Dice) -> Settings + Send + Sync + 'static) -> Self {
        self.settings = Some(Arc::new(settings));
        self
    }
}

/// The requests, answers and spokes of a simulation, at its end or when nothing is in progress.
pub struct SimResults<'a> {
    pub(super) requests: &'a [(SimRequest, OperationId)],
    /// In the order in which they were given; answers about one key in the order of their
    /// operations.
    pub(super) answers: &'a [(usize, Answer)],
    pub(super) spokes: &'a BTreeMap<String, Box<dyn Host>>,
}

impl SimResults<'_> {
    /// The requests that have an outcome or were refused, each once, with its operation.
    pub fn requests(&self) -> &[(SimRequest, OperationId)] {
        self.requests
    }

    /// Done and failed answers, those about one key in the order in which their operations ran.
    /// Refusals are not included, since nothing was done.
    pub fn answers(&self) -> impl Iterator<Item = (&SimRequest, &Answer)> {
        self.answers.iter().map(|(place, answer)| (&self.requests[*place].0, answer))
    }

    /// Calls `look` with the spoke of `service`.
    ///
    /// # Panics
    /// If there is no such spoke, or it has another type.
    pub fn look<S: Spoke, R>(&self, service: &str, look: impl FnOnce(&mut S) -> R) -> R {
        let served = self.any::<SpokeService<S>>(service);
        served.unwrap_or_else(|| panic!("no spoke `{service}` of this type")).look(look)
    }

    pub(super) fn any<T: 'static>(&self, service: &str) -> Option<&T> {
        self.spokes.get(service)?.as_any().downcast_ref()
    }
}
