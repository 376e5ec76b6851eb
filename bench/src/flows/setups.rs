//! What is measured: each bus, each guarantee, in one stage and in two, and a loop without an engine.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use bus::{Bus, Clock, Part};
use clap::ValueEnum;
use floodlight_sim::part::SpeakerOptions;
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{System, SystemOptions};
use topology::driver::Threads;
use topology::{Mode, Upkeep};
use wire::topics::Topics;

use super::Args;
use super::bare::{BareHub, BareSpoke};
use super::load::{Figures, Load};
use super::post::Up;
use crate::buses::{Kept, Places};
use crate::process::shard;
use crate::watched::{Amount, Seen, Watched};

/// One of the things to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) kept: Kept,
    /// When the effects of the hub leave.
    pub(super) mode: Mode,
    stages: Stages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stages {
    /// No engine: consumers and producers that write the same records.
    Bare,
    One,
    Two,
}

/// A thousand flows in flight on a slow machine take seconds: what is measured is not how patient a flow is. An attempt, a call,
/// a step and a request wait so many milliseconds.
const PATIENCE: [(&str, u64); 4] = [
    ("topologies.flows.settings.worker-speaker.timeout_ms", 20_000),
    ("topologies.flows.settings.flows.call_ms", 65_000),
    ("topologies.flows.settings.flows.step_ms", 70_000),
    ("topologies.flows.settings.flows.request_ms", 300_000),
];
/// So many operations may live in a lane: more than are ever in flight.
const LIVE: usize = 4_096;

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bus = self.kept.name();
        let stages = match self.stages {
            Stages::One => "1",
            Stages::Two => "2",
            Stages::Bare => "bare loop",
        };
        write!(f, "| {bus} | {} | {stages} |", self.mode.as_str())
    }
}

impl Setup {
    /// All of them, in the order of the table.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for kept in [Kept::Memory, Kept::Disk] {
            all.extend([Stages::One, Stages::Two].map(|stages| Self { kept, mode: Mode::ExactlyOnce, stages }));
        }
        for mode in [Mode::ExactlyOnce, Mode::AtLeastOnce] {
            let of = |stages| Self { kept: Kept::Kafka, mode, stages };
            all.extend([Stages::Bare, Stages::One, Stages::Two].map(of));
        }
        all
    }

    /// Those of one stage with an engine, on these buses.
    pub(super) fn of_one_stage(kept: &[Kept]) -> Vec<Self> {
        let is_one = |setup: &Self| setup.stages == Stages::One && kept.contains(&setup.kept);
        Self::all().into_iter().filter(is_one).collect()
    }

    /// Runs it on a bus of its own.
    pub(super) fn measure(self, places: &Places, flows: usize, in_flight: usize) -> anyhow::Result<Figures> {
        Ok(self.measure_saving(places, flows, in_flight, Upkeep::default())?.0)
    }

    /// The same with another upkeep; and what went into the snapshots of its hub.
    pub(super) fn measure_saving(
        self,
        places: &Places,
        flows: usize,
        in_flight: usize,
        upkeep: Upkeep,
    ) -> anyhow::Result<(Figures, Amount)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        // Names that no other row has: on a broker its topics stay until the broker is stopped.
        let run = std::process::id();
        let (mode, stages) = (self.mode.as_str(), self.stages as u8);
        let prefix = format!("bench-{run}-{mode}-{stages}-{in_flight}-{}", upkeep.snapshot_ms);
        let bus = places.open(self.kept, &clock, &prefix)?;
        let mut options = SystemOptions { topics: Topics::new(&prefix), ..SystemOptions::default() };
        options.hub.live = LIVE;
        let [attempt, call, step, request] = PATIENCE.map(|(_, ms)| ms);
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (attempt, call, step);
        options.flows.request_ms = request;
        options.apart = self.stages == Stages::Two;
        options.modes.insert(nave::system::HUB.to_owned(), self.mode);
        let system = Arc::new(System::new(Arc::clone(&bus), options)?);
        let snapshots = system.options.topics.snapshot(system.topology.name(), nave::system::HUB);
        let seen = Seen::new(Arc::clone(&clock), &snapshots);
        let mut parts = Threads::default();
        self.spawn(&mut parts, &system, &seen, upkeep)?;
        let (inbox, egress) = ends(&system);
        let lanes = system.options.lanes;
        let topics = system.topology.topics(&system.options.topics).into_iter().map(|spec| spec.name).collect();
        let load = Load {
            bus: &*bus,
            inbox,
            egress,
            lanes,
            topics,
            broker: places.broker().filter(|_| self.kept == Kept::Kafka),
            may_repeat: self.mode == Mode::AtLeastOnce,
            has_failed: &|| parts.has_failed(),
        };
        let figures = load.run(flows, in_flight);
        let retried = bus.health().appends_retried;
        if retried > 0 {
            eprintln!("bench: {self} {in_flight}: {retried} appends were tried again");
        }
        let written = seen.marks().written;
        parts.stop();
        drop((system, bus));
        places.clean(self.kept, &prefix)?;
        Ok((figures?, written))
    }

    /// The same flows as POSTs to a process of its own: their rate and their median; nothing where there is no engine.
    pub(super) fn measure_posts(self, args: &Args, in_flight: usize) -> anyhow::Result<String> {
        if self.stages == Stages::Bare {
            return Ok("-".to_owned());
        }
        let prefix = format!("post-{}-{}-{}-{in_flight}", std::process::id(), self.mode.as_str(), self.stages as u8);
        let dir = args.places.data.join(&prefix);
        let mut options = vec!["--prefix".to_owned(), prefix, "--stages".to_owned(), format!("{}", self.stages as u8)];
        let mut set = |field: &str, value: String| options.extend(["--set".to_owned(), format!("{field}={value}")]);
        for (field, ms) in PATIENCE {
            set(field, ms.to_string());
        }
        set("topologies.flows.settings.hub.live", LIVE.to_string());
        set("topologies.flows.stages.hub.mode", format!("\"{}\"", self.mode.as_str()));
        set("rest.patience_ms", "300000".to_owned());
        for field in ["rest.requests", "rest.connections", "rest.unanswered_per_lane"] {
            set(field, LIVE.to_string());
        }
        match self.kept {
            Kept::Memory => {}
            Kept::Disk => {
                let sync = args.places.sync.to_possible_value().context("a value of the command line")?;
                options.extend(["--data".to_owned(), dir.display().to_string()]);
                options.extend(["--sync".to_owned(), sync.get_name().to_owned()]);
            }
            Kept::Kafka => {
                options.extend([
                    "--bus".to_owned(),
                    "kafka".to_owned(),
                    "--brokers".to_owned(),
                    args.places.brokers()?,
                ]);
            }
        }
        let up = Up::start(&options)?;
        let latencies = up.measure(args.flows(self.kept, in_flight), in_flight)?;
        drop(up);
        if self.kept == Kept::Disk {
            std::fs::remove_dir_all(&dir)?;
        }
        Ok(format!("{:.0}, {}", latencies.rate(), latencies.at(500)))
    }

    /// Starts its parts; what the shards of the hub do is seen.
    fn spawn(self, parts: &mut Threads, system: &Arc<System>, seen: &Seen, upkeep: Upkeep) -> anyhow::Result<()> {
        let (bus, clock) = (&*system.bus, system.bus.clock());
        let prefix = system.options.topics.prefix().to_owned();
        let topic = system.speaker_topic();
        if self.stages == Stages::Bare {
            let hub = {
                let (inbox, egress) = ends(system);
                BareHub::join(bus, (&inbox, &egress), &topic, &format!("{prefix}-bare"), self.mode)?
            };
            parts.spawn("lanes", Arc::clone(&clock), Box::new(move || Ok(Box::new(hub) as Box<dyn Part>)))?;
            let spoke = BareSpoke::join(bus, &topic, &format!("{prefix}-spoke"))?;
            parts.spawn("speaker", clock, Box::new(move || Ok(Box::new(spoke) as Box<dyn Part>)))?;
            return Ok(());
        }
        // As `nave up` has it: a speaker that remembers its calls needs no transactions.
        let options = SpeakerOptions { transactional: self.kept != Kept::Kafka, ..SpeakerOptions::default() };
        let handle = SpeakerHandle::new();
        let speaker = SpeakerPart::join_with(bus, &topic, &format!("{prefix}-speaker"), handle, &options)?;
        parts.spawn("speaker", Arc::clone(&clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Part>)))?;
        for stage in system.stages() {
            let (system, name) = (Arc::clone(system), format!("{prefix}-{stage}"));
            let thread = stage.clone();
            let watched: Arc<dyn Bus> = Arc::new(Watched { bus: Arc::clone(&system.bus), seen: seen.clone() });
            let make = Box::new(move || {
                let shard = shard(&system, watched, &stage, &name, upkeep)?;
                Ok(Box::new(shard) as Box<dyn Part>)
            });
            parts.spawn(&thread, Arc::clone(&clock), make)?;
        }
        Ok(())
    }
}

/// The topics that requests go to and answers come from.
fn ends(system: &System) -> (String, String) {
    let (names, topology) = (&system.options.topics, system.topology.name());
    (names.inbox(topology, nave::system::HUB), names.egress(topology, nave::system::HUB))
}
