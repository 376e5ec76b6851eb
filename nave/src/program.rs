//! What a binary has code for: topologies by name, and whether the first user's own parts come along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use flows::FlowSettings;
use hub::HubSettings;
use topology::{BuildErrors, Settings, Topology};
use workers::{WorkerBolt, WorkerSettings};

use crate::sim::host::{MakeHost, Speaker};
use crate::sim::{self, Scenario, Simulation};
use crate::spoke::{Served, Spoke};

/// Makes a topology, as users write it.
pub type MakeTopology = fn() -> Result<Topology, BuildErrors>;

/// The topologies of a binary.
#[derive(Clone)]
pub struct Program {
    topologies: BTreeMap<String, Topology>,
    spokes: BTreeMap<String, MakeHost>,
    scenarios: BTreeMap<String, Scenario>,
    flows: bool,
}

/// Why a program cannot be made of these topologies.
#[derive(Debug)]
pub enum ProgramError {
    /// One cannot be built.
    Build(BuildErrors),
    /// Two have the same name.
    Twice(String),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Build(errors) => errors.fmt(f),
            ProgramError::Twice(name) => write!(f, "two topologies of this program are called `{name}`"),
        }
    }
}

impl std::error::Error for ProgramError {}

impl From<BuildErrors> for ProgramError {
    fn from(errors: BuildErrors) -> Self {
        ProgramError::Build(errors)
    }
}

impl Program {
    /// A program with these topologies.
    ///
    /// # Errors
    /// Where one cannot be built, or two have one name.
    pub fn of(topologies: impl IntoIterator<Item = MakeTopology>) -> Result<Self, ProgramError> {
        let mut program =
            Self { topologies: BTreeMap::new(), spokes: BTreeMap::new(), scenarios: BTreeMap::new(), flows: false };
        for make in topologies {
            program.add(&make()?)?;
        }
        Ok(program)
    }

    /// The same with the flow topology, its paths and the simulated switch controller.
    ///
    /// # Errors
    /// Where there is a topology of that name already.
    pub fn with_flows(mut self) -> Result<Self, ProgramError> {
        let settings = Settings::default().with("flows", &FlowSettings::default());
        self.add(&flows::flow_topology()?.with_settings(&settings)?)?;
        self.flows = true;
        Ok(self.scenario(flows::NAME, sim::flows::scenario()))
    }

    /// The same with a spoke in Rust, which `up` runs beside the topologies: its tables live and die with the process.
    #[must_use]
    pub fn spoke<S: Spoke>(mut self, service: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let make: MakeHost = Arc::new(move || Box::new(Served::new(make())));
        self.spokes.insert(service.to_owned(), make);
        self
    }

    /// The same with what `sim` asks of a topology, and what must be so in the end. Its spokes are those of the program.
    #[must_use]
    pub fn scenario(mut self, topology: &str, scenario: Scenario) -> Self {
        self.scenarios.insert(topology.to_owned(), scenario);
        self
    }

    /// A topology that can be simulated; none where there is no such topology, or it has no scenario.
    pub fn simulation(&self, topology: &str) -> Option<Simulation> {
        let (code, scenario) = (self.topology(topology)?, self.scenarios.get(topology)?);
        let mut spokes = self.spokes.clone();
        if self.flows && topology == flows::NAME {
            spokes.insert(flows::SPEAKER.to_owned(), Arc::new(|| Box::new(Speaker::new())));
        }
        let called: BTreeSet<String> = code.stages().iter().flat_map(|stage| code.watches(&stage.name)).collect();
        spokes.retain(|service, _| called.contains(service));
        Some(Simulation::new(code.clone(), scenario.clone(), spokes))
    }

    /// The topologies that can be simulated.
    pub fn simulated(&self) -> impl Iterator<Item = &str> {
        self.scenarios.keys().filter(|name| self.topologies.contains_key(*name)).map(String::as_str)
    }

    /// Its spokes, by service.
    pub(crate) fn spokes(&self) -> impl Iterator<Item = (&String, &MakeHost)> {
        self.spokes.iter()
    }

    fn add(&mut self, topology: &Topology) -> Result<(), ProgramError> {
        let name = topology.name().to_owned();
        match self.topologies.insert(name.clone(), topology.with_settings(&declared(topology))?) {
            None => Ok(()),
            Some(_) => Err(ProgramError::Twice(name)),
        }
    }

    /// Its topologies, by name.
    pub fn topologies(&self) -> impl Iterator<Item = (&str, &Topology)> {
        self.topologies.iter().map(|(name, topology)| (name.as_str(), topology))
    }

    /// A topology.
    pub fn topology(&self, name: &str) -> Option<&Topology> {
        self.topologies.get(name)
    }

    /// The names of its topologies, for people.
    pub fn names(&self) -> String {
        if self.topologies.is_empty() {
            return "none".into();
        }
        self.topologies.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// True where the flow topology is among them, with its paths and the simulated switch controller.
    pub fn has_flows(&self) -> bool {
        self.flows
    }
}

/// What a topology is run with unless somebody says otherwise: what its code declares, and of a hub and of workers, which
/// everybody uses alike, their defaults. Only what stands here can be configured.
fn declared(topology: &Topology) -> Settings {
    let mut settings = Settings::default();
    if !topology.workflows().is_empty() {
        settings = settings.with("hub", &HubSettings::default());
    }
    for service in topology.stages().iter().flat_map(|stage| topology.watches(&stage.name)) {
        settings = settings.with(&WorkerBolt::settings_name(&service), &WorkerSettings::default());
    }
    settings.take(topology.settings());
    settings
}
