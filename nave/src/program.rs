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

/// The name and the version of a program, as its banner and its `--version` give them: made by [`crate::about!`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The [`program::About`](crate::program::About) of the binary, or else the crate, that says this.
#[macro_export]
macro_rules! about {
    () => {
        $crate::program::About {
            name: match option_env!("CARGO_BIN_NAME") {
                Some(name) => name,
                None => env!("CARGO_PKG_NAME"),
            },
            version: env!("CARGO_PKG_VERSION"),
        }
    };
}

/// The topologies of a binary.
#[derive(Clone)]
pub struct Program {
    about: About,
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
    /// A program with these topologies, each made by a function or a closure.
    ///
    /// # Errors
    /// Where one cannot be built, or two have one name.
    pub fn of<F>(about: About, topologies: impl IntoIterator<Item = F>) -> Result<Self, ProgramError>
    where
        F: FnOnce() -> Result<Topology, BuildErrors>,
    {
        let mut program = Self::empty(about);
        for make in topologies {
            program.add(&make()?)?;
        }
        Ok(program)
    }

    /// The program of the binary `nave`: the flow topology, its paths and the simulated switch controller.
    ///
    /// # Errors
    /// None that its first test would not find.
    pub fn flows() -> Result<Self, ProgramError> {
        let mut program = Self::empty(Self::nave());
        let settings = Settings::default().with("flows", &FlowSettings::default());
        program.add(&flows::flow_topology()?.with_settings(&settings)?)?;
        program.flows = true;
        Ok(program.scenario(flows::NAME, sim::flows::scenario()))
    }

    fn empty(about: About) -> Self {
        let (topologies, spokes, scenarios) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { about, topologies, spokes, scenarios, flows: false }
    }

    pub(crate) fn nave() -> About {
        About { name: "nave", version: env!("CARGO_PKG_VERSION") }
    }

    /// Its name and its version.
    pub fn about(&self) -> About {
        self.about
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

#[cfg(test)]
mod tests {
    use topology::{Emitter, Spout};

    use super::*;

    struct Nothing;

    impl Spout for Nothing {
        type Out = ();

        fn next(&mut self, _: &mut Emitter<()>) -> bool {
            false
        }
    }

    #[test]
    fn a_topology_comes_from_a_closure_that_captures() {
        let name = String::from("tea");
        let make = || {
            let topology = Topology::named(&name);
            topology.spout("leaves", || Nothing);
            topology.build()
        };
        let program = Program::of(crate::about!(), [make]).expect("it builds");
        assert_eq!((program.names(), program.about()), (name.clone(), Program::nave()));
    }
}
