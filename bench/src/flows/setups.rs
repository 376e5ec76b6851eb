//! The measured setups: each bus and delivery mode, in one and two stages, and a loop without the
//! engine.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use bus::{Bus, Clock, Task};
use clap::ValueEnum;
use floodlight_sim::SpeakerHandle;
use nave::SystemClock;
use nave::spoke::SpokeOptions;
use nave::testing::{HUB, SPEAKER, System, SystemOptions};
use topology::driver::Threads;
use topology::{DeliveryMode, RecoveryOptions};
use wire::topics::Topics;

use super::Args;
use super::bare::{BareHub, BareSpoke};
use super::load::{Figures, Load};
use super::post::NaveUp;
use crate::buses::{BusKind, Locations};
use crate::instrumented::{Amount, InstrumentedBus, Observations};

/// A measured setup.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) bus_kind: BusKind,
    /// The delivery mode of the hub.
    pub(super) mode: DeliveryMode,
    stages: Stages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stages {
    /// No engine: loops that write the same records.
    Bare,
    One,
    Two,
}

/// The timeouts of an attempt, a call, a step and a request, in milliseconds. With a thousand flows
/// in flight a flow takes seconds on a slow machine, and must not time out.
const TIMEOUTS: [(&str, u64); 4] = [
    ("topologies.flows.settings.worker-speaker.timeout_ms", 20_000),
    ("topologies.flows.settings.flows.call_ms", 65_000),
    ("topologies.flows.settings.flows.step_ms", 70_000),
    ("topologies.flows.settings.flows.request_ms", 300_000),
];
/// The maximum number of live operations per lane: more than are ever in flight.
const MAX_LIVE: usize = 4_096;

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bus = self.bus_kind.name();
        let stages = match self.stages {
            Stages::One => "1",
            Stages::Two => "2",
            Stages::Bare => "bare loop",
        };
        write!(f, "| {bus} | {} | {stages} |", self.mode.as_str())
    }
}

impl Setup {
    /// All setups, in the order of the table.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for bus_kind in [BusKind::Memory, BusKind::Disk] {
            all.extend([Stages::One, Stages::Two].map(|stages| Self {
                bus_kind,
                mode: DeliveryMode::ExactlyOnce,
                stages,
            }));
        }
        for mode in [DeliveryMode::ExactlyOnce, DeliveryMode::AtLeastOnce] {
            let of = |stages| Self { bus_kind: BusKind::Kafka, mode, stages };
            all.extend([Stages::Bare, Stages::One, Stages::Two].map(of));
        }
        all
    }

    /// The setups with one stage and the engine, on these buses.
    pub(super) fn of_one_stage(bus_kind: &[BusKind]) -> Vec<Self> {
        let is_one = |setup: &Self| setup.stages == Stages::One && bus_kind.contains(&setup.bus_kind);
        Self::all().into_iter().filter(is_one).collect()
    }

    /// Measures the setup on a new bus.
    pub(super) fn measure(self, locations: &Locations, flows: usize, in_flight: usize) -> anyhow::Result<Figures> {
        Ok(self.measure_saving(locations, flows, in_flight, RecoveryOptions::default())?.0)
    }

    /// Measures the setup with these recovery options. Also returns the volume of the snapshots.
    pub(super) fn measure_saving(
        self,
        locations: &Locations,
        flows: usize,
        in_flight: usize,
        recovery: RecoveryOptions,
    ) -> anyhow::Result<(Figures, Amount)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        // Unique topic names per row: topics stay on the broker until it stops.
        let run = std::process::id();
        let (mode, stages) = (self.mode.as_str(), self.stages as u8);
        let prefix = format!("bench-{run}-{mode}-{stages}-{in_flight}-{}", recovery.snapshot_ms);
        let bus = locations.open(self.bus_kind, &clock, &prefix)?;
        let mut options = SystemOptions { topics: Topics::new(&prefix), ..SystemOptions::default() };
        options.hub.live = MAX_LIVE;
        let [attempt, call, step, request] = TIMEOUTS.map(|(_, ms)| ms);
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (attempt, call, step);
        options.flows.request_ms = request;
        options.apart = self.stages == Stages::Two;
        options.modes.insert(HUB.to_owned(), self.mode);
        let system = Arc::new(System::new(Arc::clone(&bus), options)?);
        let snapshots = system.options.topics.snapshot(system.topology.name(), HUB);
        let seen = Observations::new(Arc::clone(&clock), &snapshots);
        let mut tasks = Threads::default();
        self.spawn(&mut tasks, &system, &seen, recovery)?;
        let (inbox, egress) = ends(&system);
        let lanes = system.options.lanes;
        let topics = system.topology.topics(&system.options.topics).into_iter().map(|spec| spec.name).collect();
        let load = Load {
            bus: &*bus,
            inbox,
            egress,
            lanes,
            topics,
            broker: locations.broker().filter(|_| self.bus_kind == BusKind::Kafka),
            may_repeat: self.mode == DeliveryMode::AtLeastOnce,
            has_failed: &|| tasks.has_failed(),
        };
        let figures = load.run(flows, in_flight);
        let retried = bus.health().appends_retried;
        if retried > 0 {
            eprintln!("bench: {self} {in_flight}: {retried} appends were retried");
        }
        let written = seen.timings().written;
        tasks.stop();
        drop((system, bus));
        locations.clean(self.bus_kind, &prefix)?;
        Ok((figures?, written))
    }

    /// Measures the same flows as POSTs to `nave up`: rate and median, or "-" without the engine.
    pub(super) fn measure_posts(self, args: &Args, in_flight: usize) -> anyhow::Result<String> {
        if self.stages == Stages::Bare {
            return Ok("-".to_owned());
        }
        let prefix = format!("post-{}-{}-{}-{in_flight}", std::process::id(), self.mode.as_str(), self.stages as u8);
        let dir = args.locations.data.join(&prefix);
        let mut options = vec!["--prefix".to_owned(), prefix, "--stages".to_owned(), format!("{}", self.stages as u8)];
        let mut set = |field: &str, value: String| options.extend(["--set".to_owned(), format!("{field}={value}")]);
        for (field, ms) in TIMEOUTS {
            set(field, ms.to_string());
        }
        set("topologies.flows.settings.hub.live", MAX_LIVE.to_string());
        set("topologies.flows.stages.hub.mode", format!("\"{}\"", self.mode.as_str()));
        set("rest.patience_ms", "300000".to_owned());
        for field in ["rest.requests", "rest.connections", "rest.unanswered_per_lane"] {
            set(field, MAX_LIVE.to_string());
        }
        match self.bus_kind {
            BusKind::Memory => {}
            BusKind::Disk => {
                let sync = args.locations.sync.to_possible_value().context("a value of the command line")?;
                options.extend(["--data".to_owned(), dir.display().to_string()]);
                options.extend(["--sync".to_owned(), sync.get_name().to_owned()]);
            }
            BusKind::Kafka => {
                options.extend([
                    "--bus".to_owned(),
                    "kafka".to_owned(),
                    "--brokers".to_owned(),
                    args.locations.brokers()?,
                ]);
            }
        }
        let up = NaveUp::start(&options)?;
        let latencies = up.measure(args.flows(self.bus_kind, in_flight), in_flight)?;
        drop(up);
        if self.bus_kind == BusKind::Disk {
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(format!("{:.0}, {}", latencies.rate(), latencies.at(500)))
    }

    /// Starts the tasks, with an instrumented bus for the shards.
    fn spawn(
        self,
        tasks: &mut Threads,
        system: &Arc<System>,
        seen: &Observations,
        recovery: RecoveryOptions,
    ) -> anyhow::Result<()> {
        let (bus, clock) = (&*system.bus, system.bus.clock());
        let prefix = system.options.topics.prefix().to_owned();
        let topic = system.speaker_topic();
        if self.stages == Stages::Bare {
            let hub = {
                let (inbox, egress) = ends(system);
                BareHub::join(bus, (&inbox, &egress), &topic, &format!("{prefix}-bare"), self.mode)?
            };
            tasks.spawn("lanes", Arc::clone(&clock), Box::new(move || Ok(Box::new(hub) as Box<dyn Task>)))?;
            let spoke = BareSpoke::join(bus, &topic, &format!("{prefix}-spoke"))?;
            tasks.spawn("speaker", clock, Box::new(move || Ok(Box::new(spoke) as Box<dyn Task>)))?;
            return Ok(());
        }
        let options = SpokeOptions { delivery: self.bus_kind.delivery(), ..SpokeOptions::default() };
        let (names, member) = (&system.options.topics, format!("{prefix}-speaker"));
        let speaker = SpeakerHandle::new().join_with(bus, names, SPEAKER, &member, &options)?;
        tasks.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Task>)))?;
        for stage in system.stages() {
            let (system, name) = (Arc::clone(system), format!("{prefix}-{stage}"));
            let thread = stage.clone();
            let watched: Arc<dyn Bus> = Arc::new(InstrumentedBus { bus: Arc::clone(&system.bus), seen: seen.clone() });
            let make = Box::new(move || {
                let shard = system.shard_on(watched, &stage, &name, recovery)?;
                Ok(Box::new(shard) as Box<dyn Task>)
            });
            tasks.spawn(&thread, Arc::clone(&clock), make)?;
        }
        Ok(())
    }
}

/// The inbox and the egress of the hub.
fn ends(system: &System) -> (String, String) {
    let (names, topology) = (&system.options.topics, system.topology.name());
    (names.inbox(topology, HUB), names.egress(topology, HUB))
}
