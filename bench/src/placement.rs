//! How lanes move among several processes, and how long those wait who ask meanwhile: one process more, one that stops in order, one that
//! is killed.
//!
//! All are processes of their own over Kafka: hubs and workers, as many of each, and the simulated controller. The load enters as records of
//! the hubs' inbox, a few each second: what is measured is the pause, and not how much the machine can do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Clock};
use nave::clock::SystemClock;
use topology::names::TAKEOVERS;
use wire::topics::Topics;

use crate::asking::{Asking, CreateAndRemove};
use crate::buses::{Kept, Places};
use crate::child::Nave;

const TOPOLOGY: &str = "flows";
/// The stages of it that are measured: the role that runs them, and their name.
const STAGES: [(&str, &str); 2] = [("hub", "hub"), ("worker", "speaker")];
/// A flow is to outlive a pause of seconds. An attempt, a call, a step and a request, in milliseconds.
const PATIENCE: [(&str, u64); 4] = [
    ("worker-speaker.timeout_ms", 10_000),
    ("flows.call_ms", 35_000),
    ("flows.step_ms", 40_000),
    ("flows.request_ms", 200_000),
];
/// Something happens so long after the load has begun.
const AFTER: Duration = Duration::from_secs(2);
/// The load lasts so many seconds: longer than a session, and what comes after it.
const LASTS_S: u32 = 16;
/// So many ask at once: more than there are requests in the longest pause.
const CLIENTS: usize = 512;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// So many processes of each stage
    #[arg(long, default_values_t = [2, 4, 8])]
    processes: Vec<u32>,
    /// How many lanes each stage has
    #[arg(long, default_value_t = 16)]
    lanes: u32,
    /// So many operations are asked for in a second
    #[arg(long, default_value_t = 20)]
    per_s: u32,
    #[command(flatten)]
    places: Places,
}

/// Prints one table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!("| processes of each stage | what happens | lanes that move | of them must | the slowest request |");
    println!("|---|---|---|---|---|");
    for count in args.processes.iter().copied() {
        measure(args, count).with_context(|| format!("{count} processes of each stage"))?;
    }
    println!("\nof {} requests over {LASTS_S} seconds", args.per_s * LASTS_S);
    Ok(())
}

fn measure(args: &Args, count: u32) -> anyhow::Result<()> {
    let prefix = format!("placement-{}-{count}", std::process::id());
    let at = ["--bus", "kafka", "--brokers", &args.places.brokers()?, "--prefix", &prefix].map(str::to_owned);
    submit(args, &at)?;
    let _simulator = start(&at, "floodlight-sim")?;
    let mut asks = Asks::open(args, &prefix)?;
    let mut processes = STAGES.map(|(role, _)| Processes { at: &at, role, running: Vec::new() });
    for of_stage in &mut processes {
        (0..count).try_for_each(|_| of_stage.join())?;
    }
    // All lanes settle.
    asks.slowest_while(|| Ok(()))?;
    println!("| {count} | nothing | - | - | {:.2?} |", asks.slowest_while(|| Ok(()))?);
    for of_stage in &mut processes {
        let joins = args.lanes / (count + 1);
        of_stage.row(&mut asks, "one more comes", joins, Processes::join)?;
        of_stage.row(&mut asks, "one stops in order", joins, Processes::stop)?;
        of_stage.row(&mut asks, "one is killed", args.lanes / count, Processes::kill)?;
        of_stage.join()?;
        asks.slowest_while(|| Ok(()))?;
    }
    Ok(())
}

fn submit(args: &Args, at: &[String]) -> anyhow::Result<()> {
    let lanes = STAGES.map(|(_, stage)| format!("stages.{stage}.lanes={}", args.lanes));
    let patience = PATIENCE.map(|(field, ms)| format!("settings.{field}={ms}"));
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

/// Those that run the lanes of a stage.
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
        self.running.pop().context("there are several")?.stop()
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        drop(self.running.pop().context("there are several")?);
        Ok(())
    }

    /// How often each of them took a lane over.
    fn takeovers(&self) -> anyhow::Result<BTreeMap<u32, u64>> {
        self.running.iter().map(|nave| Ok((nave.id(), nave.counter(TAKEOVERS)?))).collect()
    }

    /// Lets something happen while there is load, and prints what became of it.
    fn row(
        &mut self,
        asks: &mut Asks<'_>,
        what: &str,
        must: u32,
        happens: impl FnOnce(&mut Self) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<()> {
        let (count, role, before) = (self.running.len(), self.role, self.takeovers()?);
        let slowest = asks.slowest_while(|| happens(self))?;
        let after = self.takeovers()?;
        let moved: u64 = after.iter().map(|(id, taken)| taken - before.get(id).copied().unwrap_or(0)).sum();
        println!("| {count} | {role}: {what} | {moved} | {must} | {slowest:.2?} |");
        Ok(())
    }
}

/// The load.
struct Asks<'a> {
    args: &'a Args,
    bus: Arc<dyn Bus>,
    topics: Topics,
    clients: CreateAndRemove,
}

impl<'a> Asks<'a> {
    fn open(args: &'a Args, prefix: &str) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let bus = args.places.open(Kept::Kafka, &clock, prefix)?;
        Ok(Self { args, bus, topics: Topics::new(prefix), clients: CreateAndRemove::new(CLIENTS) })
    }

    /// What the slowest request took while something happened.
    fn slowest_while(&mut self, happens: impl FnOnce() -> anyhow::Result<()> + Send) -> anyhow::Result<Duration> {
        let (hub, Args { lanes, per_s, .. }) = (STAGES[0].1, self.args);
        let (inbox, egress) = (self.topics.inbox(TOPOLOGY, hub), self.topics.egress(TOPOLOGY, hub));
        let (in_flight, per_s) = (CLIENTS, *per_s);
        let asking = Asking {
            bus: &*self.bus,
            inbox,
            egress,
            lanes: *lanes,
            in_flight,
            per_s: Some(per_s),
            may_repeat: false,
            has_failed: &|| false,
        };
        let (total, clients, mut slowest) = ((per_s * LASTS_S) as usize, &mut self.clients, Duration::ZERO);
        std::thread::scope(|scope| {
            let happens = scope.spawn(|| {
                std::thread::park_timeout(AFTER);
                happens()
            });
            asking.run(
                total,
                |who| clients.next(who),
                |_answered, took| {
                    slowest = slowest.max(took);
                    Ok(())
                },
            )?;
            happens.join().map_err(|_| anyhow::anyhow!("what was to happen panicked"))?
        })?;
        Ok(slowest)
    }
}
