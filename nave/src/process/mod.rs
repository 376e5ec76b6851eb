//! A running process.
//!
//! Read in this order: this file (the roles of a process), `starting` (progress of the start),
//! `tasks` (the tasks of a process), `frontend` (the northbound), `delayed` (spokes that start
//! later), `log` (log lines and their limit), `serve` (servers, from start to stop); then
//! [`crate::shutdown`] (the phases of the stop).

mod delayed;
mod frontend;
mod log;
mod serve;
mod starting;
mod tasks;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, Kafka, KafkaOptions};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

use self::starting::{Starting, Step};
use crate::clock::SystemClock;
use crate::config::{BusKind, Config, Sync};
use crate::names;
use crate::node::StageSelection;
use crate::program::Program;

/// Buckets of the timer lateness in seconds.
const LATENESS_SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 10.0];

/// The roles of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// True: submits all topologies of the program at the start.
    pub submits: bool,
    /// The stages that it runs.
    pub wanted: StageSelection,
    /// True: serves the REST interface.
    pub northbound: bool,
    /// True: simulates the switch controller.
    pub simulates: bool,
    /// The spokes of the program that it runs, by service.
    pub spokes: BTreeSet<String>,
}

impl Purpose {
    /// Returns all roles in one process.
    pub(crate) fn everything(program: &Program) -> Self {
        let spokes = program.spokes().map(|(service, _)| service.clone()).collect();
        Self {
            submits: true,
            wanted: StageSelection::Everything,
            northbound: true,
            simulates: program.simulator().is_some(),
            spokes,
        }
    }

    /// Returns the roles as text for people.
    fn line(&self) -> String {
        let mut does = Vec::new();
        match &self.wanted {
            StageSelection::Everything => does.push("every stage".to_owned()),
            StageSelection::Stages(stages) => {
                does.extend(stages.iter().map(|(topology, stage)| format!("{topology}/{stage}")));
            }
        }
        does.extend(self.northbound.then(|| "northbound".to_owned()));
        does.extend(self.simulates.then(|| "floodlight-sim".to_owned()));
        does.extend(self.spokes.iter().map(|service| format!("spoke {service}")));
        does.join(", ")
    }
}

/// Runs a process until a signal ends it or a task fails.
///
/// # Errors
/// If it cannot start, or a task fails.
pub(crate) fn run(program: &Program, config: &Config, purpose: &Purpose) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut starting = Starting::new(Arc::clone(&clock));
    log::to_stderr(&config.log, Arc::clone(&clock))?;
    let lateness = Matcher::Full(topology::names::TIMER_LATENESS.to_owned());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(lateness, &LATENESS_SECONDS)?.install_recorder()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Bind first: an address in use then ends the process before others rely on it.
        let rest = listen(purpose.northbound, config.rest.listen, "rest").await?;
        let sim = listen(purpose.simulates, config.sim.listen, "sim").await?;
        // With a northbound the REST interface serves the same paths.
        let health = listen(!purpose.northbound, config.health.listen, "health").await?;
        let (own_program, own_config, own_purpose, own_clock) =
            (program.clone(), config.clone(), purpose.clone(), Arc::clone(&clock));
        let start = move |step: &Step| {
            step.waits_for(bus_wait(&own_config));
            let bus = open_bus(&own_config, &own_clock)?;
            tasks::Tasks::start(&own_program, &own_config, &own_purpose, bus, step)
        };
        let tasks = starting.blocking(start).await?;
        // Weak, because the bus ends before the servers.
        let bus = Arc::downgrade(&tasks.bus);
        let metrics = Arc::new(move || {
            let health = bus.upgrade().map(|bus| bus.health()).unwrap_or_default();
            metrics::counter!(names::APPENDS_RETRIED).absolute(health.appends_retried);
            recorder.run_upkeep();
            recorder.render()
        });
        serve::Server { program, config, purpose, clock, metrics, rest, sim, health }.serve(tasks, starting).await
    })
}

/// Opens the configured bus.
///
/// # Errors
/// If the bus cannot be reached, or refuses.
pub(crate) fn open_bus(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Bus>> {
    match config.bus.kind {
        BusKind::Embedded if config.bus.disk.data.is_empty() => {
            Ok(Arc::new(Embedded::open(Arc::clone(clock), EmbeddedOptions::default())))
        }
        BusKind::Embedded => open_disk(config, clock),
        BusKind::Kafka => {
            let kafka = &config.bus.kafka;
            let mut options = KafkaOptions::new(kafka.brokers.clone());
            options.replication = i16::try_from(kafka.replication).context("bus.kafka.replication")?;
            options.client.clone_from(&kafka.client);
            Ok(Arc::new(Kafka::open(Arc::clone(clock), options)?))
        }
    }
}

/// Opens the embedded bus on disk; only here.
fn open_disk(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Bus>> {
    let disk = &config.bus.disk;
    let sync = match disk.sync {
        Sync::Always => bus::Sync::Always,
        Sync::Interval => bus::Sync::Interval(Duration::from_millis(disk.sync_interval_ms)),
        Sync::Never => bus::Sync::Never,
    };
    let options = DiskOptions::new(&disk.data).synced(sync);
    let bus = Embedded::on_disk(Arc::clone(clock), EmbeddedOptions::default(), &options);
    Ok(Arc::new(bus.with_context(|| format!("the bus in {} cannot be opened", disk.data))?))
}

/// Returns why the bus is not open yet, for people.
fn bus_wait(config: &Config) -> String {
    match config.bus.kind {
        BusKind::Kafka => format!("no broker has answered yet at {}", config.bus.kafka.brokers),
        BusKind::Embedded => format!("the records in `{}` are being read", config.bus.disk.data),
    }
}

/// Returns true if the bus ends with this process.
fn in_memory(config: &Config) -> bool {
    config.bus.kind == BusKind::Embedded && config.bus.disk.data.is_empty()
}

/// Returns the description of the bus, for people.
fn bus_line(config: &Config) -> String {
    match config.bus.kind {
        BusKind::Kafka => format!("Kafka bus ({})", config.bus.kafka.brokers),
        BusKind::Embedded if in_memory(config) => "embedded bus (memory)".to_owned(),
        BusKind::Embedded => format!("embedded bus ({})", config.bus.disk.data),
    }
}

async fn listen(wanted: bool, address: SocketAddr, what: &str) -> anyhow::Result<Option<TcpListener>> {
    if !wanted {
        return Ok(None);
    }
    let listener = TcpListener::bind(address).await;
    listener
        .map(Some)
        .with_context(|| format!("cannot listen on {address}; set another address with --{what} or {what}.listen"))
}
