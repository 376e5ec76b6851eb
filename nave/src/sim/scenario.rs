//! What a topology is asked in a simulation, and what must be so in the end: what a user gives.

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
use crate::spoke::{Served, Spoke};

/// What clients ask of a topology for a seed, and what the spokes must have come to in the end.
///
/// ```
/// use nave::sim::{Ask, Scenario};
/// use nave::serde_json::json;
///
/// let scenario = Scenario::new(|dice| {
///     (0..=dice.roll(3)).map(|n| Ask::new("trip", &format!("trip-{n}"), json!({"to": "Rome"}))).collect()
/// });
/// let scenario = scenario.check(|ended| {
///     let answered = ended.answers().count();
///     if answered == ended.asked().len() { Ok(()) } else { Err(format!("{answered} were answered")) }
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

type Asks = Arc<dyn Fn(&mut Dice) -> Vec<Ask> + Send + Sync>;
type Check = Arc<dyn Fn(&Ended<'_>) -> Result<(), String> + Send + Sync>;
type MakeSignal = Arc<dyn Fn(&mut Dice) -> (String, Value) + Send + Sync>;
type MakeSettings = Arc<dyn Fn(&mut Dice) -> Settings + Send + Sync>;

/// One request of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The workflow.
    pub workflow: String,
    /// What it is about.
    pub key: String,
    /// What it asks.
    pub request: Value,
}

impl Ask {
    /// A request.
    ///
    /// # Panics
    /// Where it cannot be written as JSON.
    pub fn new(workflow: &str, key: &str, request: impl Serialize) -> Self {
        let request = serde_json::to_value(request).expect("a request can be written as JSON");
        Self { workflow: workflow.to_owned(), key: key.to_owned(), request }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` {}", self.workflow, self.key, self.request)
    }
}

impl Scenario {
    /// Clients ask for these. A handful is best: a seed is to be short, and there are many.
    pub fn new(asks: impl Fn(&mut Dice) -> Vec<Ask> + Send + Sync + 'static) -> Self {
        Self { asks: Arc::new(asks), check: Arc::new(|_| Ok(())), settings: None, signals: None, parks: false }
    }

    /// The same, and this must be so in the end, and whenever all that was asked is answered and nothing goes on: an error says in
    /// a sentence what is not.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&Ended<'_>) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }

    /// The same, and now and then somebody signals this to an operation, whether or not it waits for it: a name and a body. In
    /// calm weather people signal to each operation that waits; in some seeds they let a wait with a deadline time out.
    #[must_use]
    pub fn signals(mut self, signal: impl Fn(&mut Dice) -> (String, Value) + Send + Sync + 'static) -> Self {
        self.signals = Some(Arc::new(signal));
        self
    }

    /// The same, and operations may park on their way: people resume or abort them, in the end all. Else one that parks is a fault.
    #[must_use]
    pub fn parks(mut self) -> Self {
        self.parks = true;
        self
    }

    /// The same, with settings of the topology that are drawn for each seed.
    #[must_use]
    pub fn settings(mut self, settings: impl Fn(&mut Dice) -> Settings + Send + Sync + 'static) -> Self {
        self.settings = Some(Arc::new(settings));
        self
    }
}

/// How a simulation ended, or how it stands where nothing goes on: what was asked, how it was answered, and the spokes.
pub struct Ended<'a> {
    pub(super) asked: &'a [(Ask, OperationId)],
    /// In the order in which they were given; those about one key are in the order of their operations.
    pub(super) answers: &'a [(usize, Answer)],
    pub(super) spokes: &'a BTreeMap<String, Box<dyn Host>>,
}

impl Ended<'_> {
    /// Requests that have an outcome or were refused, each once, with its operation.
    pub fn asked(&self) -> &[(Ask, OperationId)] {
        self.asked
    }

    /// Answers, done or failed: those about one key in the order in which their operations ran. Refusals are not among them,
    /// since nothing was done.
    pub fn answers(&self) -> impl Iterator<Item = (&Ask, &Answer)> {
        self.answers.iter().map(|(place, answer)| (&self.asked[*place].0, answer))
    }

    /// Looks at the spoke of `service`.
    ///
    /// # Panics
    /// Where there is none, or it is of another type.
    pub fn look<S: Spoke, R>(&self, service: &str, look: impl FnOnce(&mut S) -> R) -> R {
        let served = self.spokes.get(service).and_then(|spoke| spoke.as_any().downcast_ref::<Served<S>>());
        served.unwrap_or_else(|| panic!("no spoke `{service}` of this type")).look(look)
    }

    pub(super) fn any<T: 'static>(&self, service: &str) -> Option<&T> {
        self.spokes.get(service)?.as_any().downcast_ref()
    }
}
