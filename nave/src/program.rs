//! The program of a binary: its topologies by name, its spokes and its scenarios.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use bus::{Bus, BusError, Task};
use hub::HubSettings;
use topology::{BuildErrors, Settings, Topology};
use wire::rest::RestRoutes;
use wire::service::ServiceName;
use wire::topics::Topics;
use workers::{WorkerBolt, WorkerSettings};

use simulation::{MakeHost, Scenario, Simulation};
use spoke::{Handler, SpokeOptions, SpokeService};

use crate::config::Config;

/// The name and version that a program prints in its banner and for `--version`; see
/// [`crate::about!`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The name.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
}

/// The name of this program, for messages that tell the user what to run.
static NAME: OnceLock<&str> = OnceLock::new();

/// Sets the name that [`name`] returns, once per process.
pub(crate) fn set_name(name: &'static str) {
    NAME.get_or_init(|| name);
}

/// Returns the name of this program; `nave` where no command line was parsed.
pub(crate) fn name() -> &'static str {
    NAME.get().copied().unwrap_or("nave")
}

/// Returns the [`program::About`](crate::program::About) of the calling binary, or of the calling
/// crate if it is a library.
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

/// The topologies, spokes and scenarios of a binary.
#[derive(Clone)]
pub struct Program {
    about: About,
    topologies: BTreeMap<String, Topology>,
    spokes: BTreeMap<String, ProgramSpoke>,
    scenarios: BTreeMap<String, Scenario>,
    rest_routes: Vec<RestRoutes>,
    /// Short names of stages for `run --role`, with topology and stage.
    pub(crate) roles: Vec<(&'static str, &'static str, &'static str)>,
    pub(crate) simulator: Option<Simulator>,
    /// The banner's text after the REST address.
    pub(crate) rest_hint: &'static str,
}

/// A simulated spoke with an admin port, a directory and a fault plan of its own.
#[derive(Clone)]
pub(crate) struct Simulator {
    /// Its name for `run --role`.
    pub(crate) role: &'static str,
    pub(crate) service: &'static str,
    /// Makes it for a simulation.
    pub(crate) make: MakeHost,
    /// Opens it in a process, alone or beside lanes.
    pub(crate) open: fn(&Config, is_alone: bool) -> anyhow::Result<OpenSimulator>,
}

/// Joins the group of a simulator's service as this member.
type JoinSimulator = Box<dyn FnOnce(&dyn Bus, &Topics, &str, &SpokeOptions) -> Result<Box<dyn Task>, BusError> + Send>;

/// An open simulator.
pub(crate) struct OpenSimulator {
    /// Its HTTP interface.
    pub(crate) router: northbound::Router,
    pub(crate) heartbeat_ms: u64,
    pub(crate) join: JoinSimulator,
}

/// A spoke of a program.
#[derive(Clone)]
pub(crate) struct ProgramSpoke {
    pub(crate) make: MakeHost,
    /// How a process serves it; a simulation serves it with the default options.
    pub(crate) options: SpokeOptions,
}

/// Why a program cannot be built.
#[derive(Debug)]
pub enum ProgramError {
    /// A topology cannot be built.
    Build(BuildErrors),
    /// Two topologies have the same name.
    Twice(String),
    /// REST routes of topologies cannot be served together.
    Routes(String),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Build(errors) => errors.fmt(f),
            ProgramError::Routes(conflict) => write!(f, "the REST routes of this program conflict: {conflict}"),
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
    /// Builds a program from topologies, each built by a function or a closure.
    ///
    /// # Errors
    /// If a topology cannot be built, or two have the same name.
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

    pub(crate) fn empty(about: About) -> Self {
        Self {
            about,
            topologies: BTreeMap::new(),
            spokes: BTreeMap::new(),
            scenarios: BTreeMap::new(),
            rest_routes: Vec::new(),
            roles: Vec::new(),
            simulator: None,
            rest_hint: "described in /openapi.json",
        }
    }

    pub(crate) fn nave() -> About {
        About { name: "nave", version: env!("CARGO_PKG_VERSION") }
    }

    /// Returns the name and the version.
    pub fn about(&self) -> About {
        self.about
    }

    /// Adds a spoke in Rust with the default options: its answered calls end with the process, and it
    /// sends no heartbeats. `up` runs it beside the topologies.
    ///
    /// An asynchronous spoke comes with the number of calls that it may handle at once:
    /// `program.spoke(HOTEL, || Concurrent::new(Hotel, 20))`.
    #[must_use]
    pub fn spoke<S: Handler>(
        self,
        service: impl ServiceName<S::Request, S::Reply>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        self.spoke_with(service, SpokeOptions::default(), make)
    }

    /// As [`Program::spoke`], with options. A bus in memory ends with the process, so there the
    /// memory of answered calls does too.
    ///
    /// ```
    /// use nave::spoke::{Call, Service, Spoke, SpokeError, SpokeOptions};
    /// # use nave::program::{Program, ProgramError};
    ///
    /// const HOTEL: Service<String, u32> = Service::named("hotel");
    ///
    /// struct Hotel;
    /// impl Spoke for Hotel {
    ///     type Request = String;
    ///     type Reply = u32;
    ///     fn handle(&mut self, _: &Call, _: String) -> Result<u32, SpokeError> { Ok(7) }
    /// }
    ///
    /// # fn trips() -> Result<topology::Topology, topology::BuildErrors> { unreachable!() }
    /// # fn program() -> Result<Program, ProgramError> {
    /// let program = Program::of(nave::about!(), [trips])?;
    /// let options = SpokeOptions {
    ///     heartbeat_ms: SpokeOptions::HEARTBEAT_MS,
    ///     memory: Some("hotel.memory".into()),
    ///     ..SpokeOptions::default()
    /// };
    /// Ok(program.spoke_with(HOTEL, options, || Hotel))
    /// # }
    /// ```
    ///
    /// A spoke with other types than its service does not compile:
    ///
    /// ```compile_fail,E0277
    /// # use nave::spoke::{Service, Silent};
    /// # use nave::program::Program;
    /// # fn serve(program: Program) -> Program {
    /// const HOTEL: Service<String, u32> = Service::named("hotel");
    /// program.spoke(HOTEL, || Silent) // its replies are `()`
    /// # }
    /// ```
    #[must_use]
    pub fn spoke_with<S: Handler>(
        mut self,
        service: impl ServiceName<S::Request, S::Reply>,
        options: SpokeOptions,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let make: MakeHost = Arc::new(move || Box::new(SpokeService::new(make())));
        self.spokes.insert(service.service_name().to_owned(), ProgramSpoke { make, options });
        self
    }

    /// Adds the scenario of a topology for `sim`: its requests and its final check. The simulation
    /// uses the spokes of the program.
    #[must_use]
    pub fn scenario(mut self, topology: &str, scenario: Scenario) -> Self {
        self.scenarios.insert(topology.to_owned(), scenario);
        self
    }

    /// Adds the REST routes of a topology, beside those that every topology has.
    ///
    /// # Errors
    /// If they cannot be served together with the others.
    pub fn rest_routes(mut self, routes: RestRoutes) -> Result<Self, ProgramError> {
        self.rest_routes.push(routes);
        northbound::check_routes(&self.rest_routes).map_err(ProgramError::Routes)?;
        Ok(self)
    }

    /// Returns the REST routes of the topologies.
    pub(crate) fn all_rest_routes(&self) -> &[RestRoutes] {
        &self.rest_routes
    }

    /// Returns the simulation of a topology; none if the topology is unknown or has no scenario.
    pub fn simulation(&self, topology: &str) -> Option<Simulation> {
        let (code, scenario) = (self.topology(topology)?, self.scenarios.get(topology)?);
        let made = |(service, spoke): (&String, &ProgramSpoke)| (service.clone(), Arc::clone(&spoke.make));
        let mut spokes: BTreeMap<String, MakeHost> = self.spokes.iter().map(made).collect();
        spokes.extend(self.simulator.iter().map(|simulator| (simulator.service.to_owned(), simulator.make.clone())));
        let called: BTreeSet<String> = code.stages().iter().flat_map(|stage| code.watches(&stage.name)).collect();
        spokes.retain(|service, _| called.contains(service));
        Some(Simulation::new(code.clone(), scenario.clone(), spokes))
    }

    /// Returns the names of the topologies that have a scenario.
    pub fn simulated(&self) -> impl Iterator<Item = &str> {
        self.scenarios.keys().filter(|name| self.topologies.contains_key(*name)).map(String::as_str)
    }

    /// Returns the spokes by service.
    pub(crate) fn spokes(&self) -> impl Iterator<Item = (&String, &ProgramSpoke)> {
        self.spokes.iter()
    }

    pub(crate) fn add(&mut self, topology: &Topology) -> Result<(), ProgramError> {
        let name = topology.name().to_owned();
        match self.topologies.insert(name.clone(), topology.with_settings(&declared(topology))?) {
            None => Ok(()),
            Some(_) => Err(ProgramError::Twice(name)),
        }
    }

    /// Returns the topologies by name.
    pub fn topologies(&self) -> impl Iterator<Item = (&str, &Topology)> {
        self.topologies.iter().map(|(name, topology)| (name.as_str(), topology))
    }

    /// Returns the topology of this name.
    pub fn topology(&self, name: &str) -> Option<&Topology> {
        self.topologies.get(name)
    }

    /// Returns the names of the topologies as text for people.
    pub fn names(&self) -> String {
        if self.topologies.is_empty() {
            return "none".into();
        }
        self.topologies.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Returns the short names of stages, with topology and stage.
    pub(crate) fn roles(&self) -> &[(&'static str, &'static str, &'static str)] {
        &self.roles
    }

    /// Returns the simulator that comes with the topologies.
    pub(crate) fn simulator(&self) -> Option<&Simulator> {
        self.simulator.as_ref()
    }
}

/// Returns the default settings of a topology: those that its code declares, and the defaults of
/// its hub and its workers. Only these can be configured.
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
        type Position = ();

        fn next(&mut self, (): &mut (), _: &mut Emitter<()>) -> bool {
            false
        }
    }

    #[test]
    fn a_closure_that_captures_can_build_a_topology() {
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
