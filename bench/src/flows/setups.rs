//! What is measured: each bus, each guarantee, in one stage and in two, and a loop without an engine.

use std::fmt;
use std::sync::Arc;

use bus::{Bus, Clock, DiskOptions, Embedded, EmbeddedOptions, Kafka, KafkaOptions, Part};
use floodlight_sim::part::SpeakerOptions;
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{System, SystemOptions};
use topology::Mode;
use topology::driver::Threads;
use wire::topics::Topics;

use super::bare::{BareHub, BareSpoke};
use super::load::{Figures, Load};
use super::{Args, Kept};

/// One of the things to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) kept: Kept,
    /// When the effects of the hub leave.
    mode: Mode,
    stages: Stages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stages {
    One,
    Two,
    /// No engine: consumers and producers that write the same records.
    Bare,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bus = match self.kept {
            Kept::Memory => "memory",
            Kept::Disk => "disk",
            Kept::Kafka => "Kafka",
        };
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

    /// Runs it on a bus of its own.
    pub(super) fn measure(self, args: &Args, in_flight: usize) -> anyhow::Result<Figures> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        // Names that no other row has: on a broker its topics stay until the broker is stopped.
        let run = std::process::id();
        let prefix = format!("bench-{run}-{}-{}-{in_flight}", self.mode.as_str(), self.stages as u8);
        let dir = args.data.join(&prefix);
        let kept = EmbeddedOptions::default();
        let bus: Arc<dyn Bus> = match self.kept {
            Kept::Memory => Arc::new(Embedded::open(Arc::clone(&clock), kept)),
            Kept::Disk => {
                let disk = DiskOptions::new(&dir).synced(args.sync.of());
                Arc::new(Embedded::on_disk(Arc::clone(&clock), kept, &disk)?)
            }
            Kept::Kafka => Arc::new(Kafka::open(Arc::clone(&clock), KafkaOptions::new(args.brokers()?))?),
        };
        let mut options = SystemOptions { topics: Topics::new(&prefix), ..SystemOptions::default() };
        options.hub.live = 4_096;
        // A thousand flows in flight on a slow machine take seconds: what is measured is not how patient a flow is.
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (20_000, 65_000, 70_000);
        options.flows.request_ms = 300_000;
        options.apart = self.stages == Stages::Two;
        options.modes.insert(nave::system::HUB.to_owned(), self.mode);
        let system = Arc::new(System::new(Arc::clone(&bus), options)?);
        let mut parts = Threads::default();
        self.spawn(&mut parts, &clock, &system, &prefix)?;
        let gateway = hub_stage(&system);
        let topics = system.topology.topics(&system.options.topics).into_iter().map(|spec| spec.name).collect();
        let load = Load { bus: &*bus, inbox: gateway.inbox, egress: gateway.egress, lanes: gateway.lanes, topics };
        let figures = load.run(args.flows(self.kept, in_flight), in_flight);
        parts.stop();
        drop((system, bus));
        if self.kept == Kept::Disk {
            std::fs::remove_dir_all(&dir)?;
        }
        figures
    }

    fn spawn(
        self,
        parts: &mut Threads,
        clock: &Arc<dyn Clock>,
        system: &Arc<System>,
        prefix: &str,
    ) -> anyhow::Result<()> {
        let bus = &*system.bus;
        let topic = system.speaker_topic();
        if self.stages == Stages::Bare {
            let hub = BareHub::join(bus, hub_stage(system), &topic, &format!("{prefix}-bare"), self.mode)?;
            parts.spawn("lanes", Arc::clone(clock), Box::new(move || Ok(Box::new(hub) as Box<dyn Part>)))?;
            let spoke = BareSpoke::join(bus, &topic, &format!("{prefix}-spoke"))?;
            parts.spawn("speaker", Arc::clone(clock), Box::new(move || Ok(Box::new(spoke) as Box<dyn Part>)))?;
            return Ok(());
        }
        // As `nave up` has it: a speaker that remembers its calls needs no transactions.
        let options = SpeakerOptions { transactional: self.kept != Kept::Kafka, ..SpeakerOptions::default() };
        let handle = SpeakerHandle::new();
        let speaker = SpeakerPart::join_with(bus, &topic, &format!("{prefix}-speaker"), handle, &options)?;
        parts.spawn("speaker", Arc::clone(clock), Box::new(move || Ok(Box::new(speaker) as Box<dyn Part>)))?;
        for stage in system.stages() {
            let (system, name) = (Arc::clone(system), format!("{prefix}-{stage}"));
            let thread = stage.clone();
            let make = Box::new(move || system.shard(&stage, &name).map(|shard| Box::new(shard) as Box<dyn Part>));
            parts.spawn(&thread, Arc::clone(clock), make)?;
        }
        Ok(())
    }
}

/// The topics of the hub's stage.
fn hub_stage(system: &System) -> northbound::StageOptions {
    let stages = system.gateway_options().stages;
    stages.into_iter().find(|stage| stage.name == nave::system::HUB).expect("the flow topology has a hub")
}
