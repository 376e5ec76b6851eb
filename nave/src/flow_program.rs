//! The program of the binary: the flow topology, its REST paths and the simulated switch controller.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use bus::Task;
use floodlight_sim::{FaultPlan, SpeakerHandle};
use flows::{FlowSettings, NAME, SPEAKER, STAGE};
use topology::Settings;

use crate::config::{Config, ConfigError, ConfigErrors};
use crate::program::{OpenSimulator, Program, ProgramError, Simulator};

impl Program {
    /// Returns the program of `nave`: the flow topology, its REST paths and the simulated switch
    /// controller.
    ///
    /// # Errors
    /// None: the flow topology is valid, which a test checks.
    pub fn flows() -> Result<Self, ProgramError> {
        let mut program = Self::empty(Self::nave());
        let settings = Settings::default().with("flows", &FlowSettings::default());
        program.add(&flows::flow_topology()?.with_settings(&settings)?)?;
        program.roles = vec![("hub", NAME, STAGE), ("worker", NAME, SPEAKER)];
        let make = Arc::new(simulation::speaker);
        program.simulator = Some(Simulator { role: "floodlight-sim", service: SPEAKER, make, open });
        program.rest_hint = "try: requests in rest-api.http";
        program.scenario(NAME, simulation::flow_scenario()).rest_routes(flows::rest_routes())
    }
}

/// Opens the configured controller with its fault plan.
fn open(config: &Config, is_alone: bool) -> anyhow::Result<OpenSimulator> {
    let speaker = match config.sim_directory() {
        None => SpeakerHandle::new(),
        Some(data) => SpeakerHandle::open(&data).with_context(|| format!("sim.data: {}", data.display()))?,
    };
    let (plan, mut heartbeat_ms) = (&config.sim.plan, 0);
    if !plan.is_empty() {
        let fault = |error: &dyn fmt::Display| ConfigErrors::from(ConfigError::file("sim.plan", plan, error));
        let text = std::fs::read_to_string(plan).map_err(|error| fault(&error))?;
        let plan = FaultPlan::from_toml(&text).map_err(|error| fault(&error))?;
        speaker.apply(&plan).map_err(|error| fault(&error))?;
        heartbeat_ms = plan.heartbeat_every_ms;
    }
    if is_alone {
        // A crash fault ends a separate process as `kill -9` does.
        speaker.on_crash(|| std::process::abort());
    }
    let router = floodlight_sim::admin(speaker.clone());
    let join = Box::new(move |bus: &dyn bus::Bus, topics: &_, member: &_, options: &_| {
        Ok(Box::new(speaker.join_with(bus, topics, SPEAKER, member, options)?) as Box<dyn Task>)
    });
    Ok(OpenSimulator { router, heartbeat_ms, join })
}
