//! How lanes move among processes, and the pause of requests meanwhile: a process starts, stops, or
//! crashes.
//!
//! All are separate processes over Kafka: equal numbers of hubs and workers, and the simulated
//! controller. The load is a few records per second in the inbox of the hub, to measure the pause
//! and not the throughput.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock};
use nave::SystemClock;
use topology::names::TAKEOVERS;
use wire::topics::Topics;

use crate::buses::{BusKind, Locations};
use crate::child::Nave;
use crate::load_generator::{CreateAndRemove, LoadGenerator};

const TOPOLOGY: &str = "flows";
/// The measured stages: role and name.
const STAGES: [(&str, &str); 2] = [("hub", "hub"), ("worker", "speaker")];
/// The timeouts of an attempt, a call, a step and a request, in milliseconds: longer than a pause.
const TIMEOUTS: [(&str, u64); 4] = [
    ("worker-speaker.timeout_ms", 10_000),
    ("flows.call_ms", 35_000),
    ("flows.step_ms", 40_000),
    ("flows.request_ms", 200_000),
];
/// The time between the start of the load and the event.
const EVENT_DELAY: Duration = Duration::from_secs(2);
/// The duration of the load, in seconds: longer than a session and the takeover after it.
const DURATION_S: u32 = 16;
/// The number of clients: more than requests in the longest pause.
const CLIENTS: usize = 512;

/// The options of this measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The numbers of processes per stage
    #[arg(long, default_values_t = [2, 4, 8])]
    processes: Vec<u32>,
    /// The number of lanes per stage
    #[arg(long, default_value_t = 16)]
    lanes: u32,
    /// The rate of operations per second
    #[arg(long, default_value_t = 20)]
    per_s: u32,
    #[command(flatten)]
    locations: Locations,
}

/// Prints one table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!("| processes per stage | event | moved lanes | minimum | slowest request |");
    println!("|---|---|---|---|---|");
    for count in args.processes.iter().copied() {
        measure(args, count).with_context(|| format!("{count} processes of each stage"))?;
    }
    println!("\nof {} requests over {DURATION_S} seconds", args.per_s * DURATION_S);
    Ok(())
}

fn measure(args: &Args, count: u32) -> anyhow::Result<()> {
    let prefix = format!("placement-{}-{count}", std::process::id());
    let at = ["--bus", "kafka", "--brokers", &args.locations.brokers()?, "--prefix", &prefix].map(str::to_owned);
    submit(args, &at)?;
    let _simulator = start(&at, "floodlight-sim")?;
    let mut load = Load::open(args, &prefix)?;
    let mut processes = STAGES.map(|(role, _)| Processes { at: &at, role, running: Vec::new() });
    for of_stage in &mut processes {
        (0..count).try_for_each(|_| of_stage.join())?;
    }
    // Lets all lanes settle.
    load.slowest_while(|| Ok(()))?;
    println!("| {count} | nothing | - | - | {:.2?} |", load.slowest_while(|| Ok(()))?);
    for of_stage in &mut processes {
        let joins = args.lanes / (count + 1);
        of_stage.row(&mut load, "a process starts", joins, Processes::join)?;
        of_stage.row(&mut load, "a process stops", joins, Processes::stop)?;
        of_stage.row(&mut load, "a process is killed", args.lanes / count, Processes::kill)?;
        of_stage.join()?;
        load.slowest_while(|| Ok(()))?;
    }
    Ok(())
}

fn submit(args: &Args, at: &[String]) -> anyhow::Result<()> {
    let lanes = STAGES.map(|(_, stage)| format!("stages.{stage}.lanes={}", args.lanes));
    let patience = TIMEOUTS.map(|(field, ms)| format!("settings.{field}={ms}"));
    let set = lanes.into_iter().chain(patience).map(|set| format!("--set=topologies.{TOPOLOGY}.{set}"));
    Nave::run(
        &["submit".to_owned(), TOPOLOGY.to_owned()]
            .into_iter()
            .chain(at.iter().cloned())
            .chain(set)
            .collect::<Vec<_>>(),
    )
}

fn start(at: &[String], role: &str) -> anyhow::Result<Nave> {
    let any = "127.0.0.1:0";
    let mut run = ["run", "--role", role, "--health", any].map(str::to_owned).to_vec();
    if role == "floodlight-sim" {
        run.extend(["--sim", any].map(str::to_owned));
    }
    Nave::start(&[&run[..], at].concat())
}

/// The processes that run the lanes of a stage.
struct Processes<'a> {
    at: &'a [String],
    role: &'static str,
    running: Vec<Nave>,
}

impl Processes<'_> {
    fn join(&mut self) -> anyhow::Result<()> {
        self.running.push(start(self.at, self.role)?);
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.running.pop().context("at least one process runs")?.stop()
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        drop(self.running.pop().context("at least one process runs")?);
        Ok(())
    }

    /// The number of takeovers by process id.
    fn takeovers(&self) -> anyhow::Result<BTreeMap<u32, u64>> {
        self.running.iter().map(|nave| Ok((nave.id(), nave.counter(TAKEOVERS)?))).collect()
    }

    /// Triggers an event under load and prints its row.
    fn row(
        &mut self,
        load: &mut Load<'_>,
        event: &str,
        must: u32,
        happens: impl FnOnce(&mut Self) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<()> {
        let (count, role, before) = (self.running.len(), self.role, self.takeovers()?);
        let slowest = load.slowest_while(|| happens(self))?;
        let after = self.takeovers()?;
        let moved: u64 = after.iter().map(|(id, taken)| taken - before.get(id).copied().unwrap_or(0)).sum();
        println!("| {count} | {role}: {event} | {moved} | {must} | {slowest:.2?} |");
        Ok(())
    }
}

/// The load.
struct Load<'a> {
    args: &'a Args,
    bus: Arc<dyn Bus>,
    topics: Topics,
    clients: CreateAndRemove,
}

impl<'a> Load<'a> {
    fn open(args: &'a Args, prefix: &str) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let bus = args.locations.open(BusKind::Kafka, &clock, prefix)?;
        Ok(Self { args, bus, topics: Topics::new(prefix), clients: CreateAndRemove::new(CLIENTS) })
    }

    /// The latency of the slowest request during an event.
    fn slowest_while(&mut self, happens: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<Duration> {
        let (hub, Args { lanes, per_s, .. }) = (STAGES[0].1, self.args);
        let (inbox, egress) = (self.topics.inbox(TOPOLOGY, hub), self.topics.egress(TOPOLOGY, hub));
        let (in_flight, per_s) = (CLIENTS, *per_s);
        let load = LoadGenerator {
            bus: &*self.bus,
            inbox,
            egress,
            lanes: *lanes,
            in_flight,
            per_s: Some(per_s),
            may_repeat: false,
            has_failed: &|| false,
        };
        let (total, clients, mut slowest) = ((per_s * DURATION_S) as usize, &mut self.clients, Duration::ZERO);
        std::thread::scope(|scope| {
            let happens = scope.spawn(|| {
                std::thread::park_timeout(EVENT_DELAY);
                happens()
            });
            load.run(
                total,
                |client| clients.next(client),
                |_answered, took| {
                    slowest = slowest.max(took);
                    Ok(())
                },
            )?;
            happens.join().map_err(|_| anyhow::anyhow!("the event panicked"))?
        })?;
        Ok(slowest)
    }
}
