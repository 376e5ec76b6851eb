//! Takeover times: of lanes with 100,000 live workflows, without a snapshot, and by a warm standby.
//!
//! The state is that of real operations: flows of one rule with a silent speaker. Each waits for
//! the answer to its call, with deadlines of its request, step, call and attempt.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Arrival, Batch, Clock, EmbeddedOptions, MemberSpec, MonoTime, Position, Task};
use clap::ValueEnum;
use floodlight_sim::SpeakerHandle;
use nave::SystemClock;
use nave::spoke::SpokeOptions;
use nave::testing::{HUB, SPEAKER, System, SystemOptions};
use topology::RecoveryOptions;
use topology::driver::Threads;
use wire::topics::Topics;

use crate::buses::{BusKind, Locations};
use crate::flows::load::Load;
use crate::instrumented::{Amount, Timings};
use crate::load_generator::{CreateAndRemove, LoadGenerator, Operation};
use crate::process::{Process, ShardState};

/// Timeouts that no measurement reaches: six hours per attempt, and more for call, step and
/// request.
const ATTEMPT_MS: u64 = 6 * 3_600_000;
const CALL_MS: u64 = 3 * ATTEMPT_MS + 60_000;
const STEP_MS: u64 = CALL_MS + 60_000;
const REQUEST_MS: u64 = 5 * STEP_MS;
/// A snapshot interval of a day: no snapshots during a measurement.
const NO_SNAPSHOT_MS: u64 = 86_400_000;
/// The number of requests per append.
const BATCH: usize = 1_000;
/// The number of clients of the load.
const CLIENTS: usize = 64;
/// The interval between polls for assignments, and their time limit.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT_MS: u64 = 30_000;

/// The options of this measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The number of live workflows
    #[arg(long, default_value_t = 100_000)]
    operations: usize,
    /// The number of rules per flow
    #[arg(long, default_value_t = 1)]
    length: u32,
    /// The number of lanes
    #[arg(long, default_value_t = 16)]
    lanes: u32,
    /// Minutes of load before the first takeover: flows that are created and removed beside the
    /// waiting ones
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// The rate of that load per second
    #[arg(long, default_value_t = 50)]
    per_s: u32,
    /// Takes over the operations of the earlier run NAME on Kafka again; use the same number of
    /// operations
    #[arg(long, value_name = "NAME")]
    again: Option<String>,
    /// The number of measurements per kind of takeover
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// The number of flows of length 10 to replay
    #[arg(long, default_value_t = 10_000)]
    flows: usize,
    /// Only these tables
    #[arg(long, value_enum)]
    table: Vec<Table>,
    /// Only these buses
    #[arg(long, value_enum, default_values = ["memory"])]
    bus: Vec<BusKind>,
    #[command(flatten)]
    locations: Locations,
}

/// The measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// All lanes from their snapshots
    Live,
    /// All lanes from their inboxes
    Replay,
    /// Half of the lanes, by a process that has the other half
    Warm,
}

impl Table {
    /// The header of the table.
    fn head(self) -> &'static str {
        match self {
            Self::Live => {
                "| bus | last owner | threads | all lanes live | asking | reading | loading | claiming | going live | of it commits, records | state records | state | workflows |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
            }
            Self::Replay => {
                "| bus | inbox | threads | all lanes live | replayed | records/s |\n|---|---|---|---|---|---|"
            }
            Self::Warm => {
                "| bus | standby | joining | lanes | lanes live | asking | reading | loading | claiming | going live | of it commits, records | workflows |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
            }
        }
    }
}

/// Prints the selected tables.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    for table in Table::value_variants().iter().copied() {
        if !args.table.is_empty() && !args.table.contains(&table) {
            continue;
        }
        println!("{}", table.head());
        for bus_kind in args.bus.iter().copied() {
            let measured = match table {
                Table::Live => live(args, bus_kind),
                Table::Replay => replay(args, bus_kind),
                Table::Warm => warm(args, bus_kind),
            };
            measured.with_context(|| format!("{table:?} on {}", bus_kind.name()))?;
        }
        println!();
    }
    println!("times start at the first assignment of a process; the phases are those of its last thread");
    Ok(())
}

/// A system whose operations can live for hours.
struct Setup<'a> {
    args: &'a Args,
    bus_kind: BusKind,
    name: String,
    system: Arc<System>,
}

impl<'a> Setup<'a> {
    /// Opens a system with topics named after `table`. With `keep` the bus in memory keeps all
    /// records, as disks and brokers do; by default it drops committed records even without a
    /// snapshot.
    fn open(args: &'a Args, bus_kind: BusKind, table: &str, keep: bool) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let fresh = || format!("recovery-{}-{table}", std::process::id());
        let name = args.again.clone().unwrap_or_else(fresh);
        let mut bounds = EmbeddedOptions::default();
        if keep {
            (bounds.keep_bytes, bounds.retention_bytes) = (None, None);
        }
        let bus = args.locations.open_with(bus_kind, &clock, &name, bounds)?;
        let mut options = SystemOptions { topics: Topics::new(&name), lanes: args.lanes, ..SystemOptions::default() };
        (options.hub.live, options.hub.active) = (args.operations.max(4_096), args.operations.max(4_096));
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (ATTEMPT_MS, CALL_MS, STEP_MS);
        options.flows.request_ms = REQUEST_MS;
        options.speaker.in_flight = u32::try_from(args.operations * args.length as usize * 2)?.max(4_096);
        let flows = u64::try_from(args.operations.max(args.flows) * 4)?;
        (options.flows.cookies, options.flows.meters) =
            (flows.max(options.flows.cookies), flows.max(options.flows.meters));
        Ok(Self { args, bus_kind, name, system: Arc::new(System::new(bus, options)?) })
    }

    /// Starts a process and waits until all lanes are live in it.
    fn start(&self, name: &str, threads: usize, recovery: RecoveryOptions) -> anyhow::Result<Process> {
        let process = Process::start(&self.system, name, threads, recovery)?;
        process.wait_live(self.args.lanes as usize).with_context(|| format!("process {name}"))?;
        Ok(process)
    }

    /// Requests all operations, and waits until `process` has started and saved them.
    fn fill(&self, process: &Process) -> anyhow::Result<()> {
        let (inbox, _egress) = self.ends();
        let mut writer = self.system.bus.writer("recovery")?;
        let numbers: Vec<usize> = (0..self.args.operations).collect();
        for some in numbers.chunks(BATCH) {
            let requests = some.iter().map(|n| {
                let operation = Operation::create(format!("op-{n}"), format!("flow-{n}"), self.args.length);
                operation.request(&inbox).1
            });
            writer.append(&requests.collect::<Vec<_>>())?;
        }
        process.wait_operations(self.args.operations)?;
        process.wait_idle()
    }

    /// Runs the load beside the waiting operations, and waits until `process` has saved it.
    fn load(&self, process: &Process) -> anyhow::Result<()> {
        self.skip_calls()?;
        let tasks = self.speaker()?;
        let (bus, (inbox, egress)) = (&*self.system.bus, self.ends());
        let total = usize::try_from(self.args.minutes * 60 * u64::from(self.args.per_s))?;
        let mut clients = CreateAndRemove::new(CLIENTS);
        let per_s = Some(self.args.per_s);
        let load = LoadGenerator {
            bus,
            inbox,
            egress,
            lanes: self.args.lanes,
            in_flight: CLIENTS,
            per_s,
            may_repeat: false,
            has_failed: &|| false,
        };
        let begun = bus.clock().mono();
        load.run(total, |client| clients.next(client), |_answered, _took| Ok(()))?;
        let seconds = bus.clock().mono().since(begun).as_secs();
        eprintln!("{total} operations in {seconds} s beside the waiting ones");
        tasks.stop();
        process.wait_idle()
    }

    /// Commits the end of the topic of the speaker, so that a new speaker skips all earlier calls.
    fn skip_calls(&self) -> anyhow::Result<()> {
        let (bus, topic) = (&*self.system.bus, self.system.speaker_topic());
        let mut member = bus.member(&MemberSpec::new(&topic, &topic, &format!("{}-nobody", self.name)))?;
        let partitions = bus.topic(&topic)?.context("the system created the topic")?.partitions;
        let mut left: BTreeSet<u32> = (0..partitions).collect();
        let until = bus.clock().mono().plus_ms(TIMEOUT_MS);
        while !left.is_empty() {
            anyhow::ensure!(bus.clock().mono() < until, "the group of {topic} did not assign {left:?}");
            let mut arrivals = Vec::new();
            member.poll(1, POLL_INTERVAL, &mut arrivals)?;
            for arrival in arrivals {
                let Arrival::Assigned(given) = arrival else { continue };
                for partition in given {
                    let end = bus.bounds(&topic, partition)?.end;
                    member.take_over(partition)?;
                    let positions = vec![Position { partition, next: end, metadata: "".into() }];
                    member.commit(&Batch { positions, ..Batch::default() })?;
                    left.remove(&partition);
                }
            }
        }
        Ok(member.leave()?)
    }

    /// Starts a speaker that answers.
    fn speaker(&self) -> anyhow::Result<Threads> {
        let (bus, names) = (&*self.system.bus, &self.system.options.topics);
        let mut tasks = Threads::default();
        let options = SpokeOptions { delivery: self.bus_kind.delivery(), ..SpokeOptions::default() };
        let member = format!("{}-speaker", self.name);
        let speaker = SpeakerHandle::new().join_with(bus, names, SPEAKER, &member, &options)?;
        tasks.spawn("speaker", bus.clock(), Box::new(move || Ok(Box::new(speaker) as Box<dyn Task>)))?;
        Ok(tasks)
    }

    /// The inbox and the egress of the hub.
    fn ends(&self) -> (String, String) {
        let (names, topology) = (&self.system.options.topics, self.system.topology.name());
        (names.inbox(topology, HUB), names.egress(topology, HUB))
    }

    /// Checks that all operations live in a process and that no snapshot failed, and stops it.
    fn end(&self, process: Process, lost: bool) -> anyhow::Result<()> {
        process.wait_operations(self.args.operations)?;
        let ended = process.end(lost);
        anyhow::ensure!(ended.iter().all(|state| state.faults == 0), "snapshots failed: {ended:?}");
        Ok(())
    }

    fn close(self) -> anyhow::Result<()> {
        let Self { args, bus_kind, name, system } = self;
        drop(system);
        args.locations.clean(bus_kind, &name)
    }
}

/// The time of a takeover.
struct TakeoverTime {
    total: Duration,
    last: Timings,
    going_live: Duration,
    read: Amount,
    restored: u64,
    replayed: u64,
}

impl TakeoverTime {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let all: Vec<ShardState> =
            process.look().into_iter().filter(|state| state.timings.assigned.is_some()).collect();
        let begun: MonoTime =
            all.iter().filter_map(|state| state.timings.assigned).min().context("lanes were assigned")?;
        let state = all.iter().max_by_key(|state| state.since).context("a thread")?;
        let last = state.timings.clone();
        let own = state.since.since(last.assigned.unwrap_or(begun));
        let mut read = Amount::default();
        for ShardState { timings, .. } in &all {
            (read.records, read.bytes) = (read.records + timings.read.records, read.bytes + timings.read.bytes);
        }
        Ok(Self {
            total: state.since.since(begun),
            going_live: own.saturating_sub(last.asking + last.reading + last.loading + last.claiming),
            last,
            read,
            restored: all.iter().map(|state| state.restored).sum(),
            replayed: all.iter().map(|state| state.replayed).sum(),
        })
    }
}

/// Writes the total and its phases.
impl fmt::Display for TakeoverTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, last, going_live, .. } = self;
        let Timings { asking, reading, loading, claiming, committing, committed, .. } = last;
        let phases = [asking, reading, loading, claiming, going_live].map(|phase| ms(*phase)).join(" | ");
        write!(f, "{} | {phases} | {}, {committed}", ms(*total), ms(*committing))
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn live(args: &Args, bus_kind: BusKind) -> anyhow::Result<()> {
    let setup = Setup::open(args, bus_kind, "live", false)?;
    let mut process = setup.start("first", 1, RecoveryOptions::default())?;
    if args.again.is_none() {
        setup.fill(&process)?;
        if args.minutes > 0 {
            setup.load(&process)?;
        }
        eprintln!("to repeat this on Kafka: --table live --again {}", setup.name);
    }
    let kinds = [(true, 1), (true, 2), (false, 1), (false, 2)].into_iter().cycle().take(4 * args.rounds);
    for (round, (lost, threads)) in kinds.enumerate() {
        setup.end(process, lost)?;
        process = setup.start(&format!("standby-{round}"), threads, RecoveryOptions::default())?;
        let took = TakeoverTime::of(&process)?;
        // Its own snapshots and views must not disturb the next takeover.
        process.wait_idle()?;
        let (bus, last, read) = (bus_kind.name(), if lost { "lost" } else { "stopped" }, took.read);
        anyhow::ensure!(took.restored >= u64::from(args.lanes), "{} lanes had a snapshot", took.restored);
        println!(
            "| {bus} | {last} | {threads} | {took} | {} | {:.1} MB | {} |",
            read.records,
            read.megabytes(),
            args.operations
        );
    }
    setup.end(process, false)?;
    setup.close()
}

fn replay(args: &Args, bus_kind: BusKind) -> anyhow::Result<()> {
    let recovery = RecoveryOptions { snapshot_ms: NO_SNAPSHOT_MS, ..RecoveryOptions::default() };
    let line = |inbox: &str, threads: usize, process: &Process| -> anyhow::Result<()> {
        let took = TakeoverTime::of(process)?;
        anyhow::ensure!(took.restored == 0, "there was a snapshot");
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let rate = took.replayed as f64 / took.total.as_secs_f64();
        let (bus, total, replayed) = (bus_kind.name(), ms(took.total), took.replayed);
        println!("| {bus} | {inbox} | {threads} | {total} | {replayed} | {rate:.0} |");
        Ok(())
    };

    let setup = Setup::open(args, bus_kind, "replay-live", true)?;
    let mut process = setup.start("first", 1, recovery)?;
    setup.fill(&process)?;
    for threads in [1, 2] {
        setup.end(process, true)?;
        process = setup.start(&format!("standby-{threads}"), threads, recovery)?;
        line(&format!("requests of {} live operations", args.operations), threads, &process)?;
        process.wait_idle()?;
    }
    setup.end(process, true)?;
    setup.close()?;

    let setup = Setup::open(args, bus_kind, "replay-flows", true)?;
    let mut process = setup.start("first", 1, recovery)?;
    let tasks = setup.speaker()?;
    let bus = &*setup.system.bus;
    let (inbox, egress) = setup.ends();
    Load {
        bus,
        inbox,
        egress,
        lanes: args.lanes,
        topics: Vec::new(),
        broker: None,
        may_repeat: false,
        has_failed: &|| false,
    }
    .run(args.flows, 1_024)?;
    tasks.stop();
    process.wait_idle()?;
    for threads in [1, 2] {
        process.end(true);
        process = setup.start(&format!("standby-{threads}"), threads, recovery)?;
        line("completed flows of length 10", threads, &process)?;
        process.wait_idle()?;
    }
    process.end(true);
    setup.close()
}

fn warm(args: &Args, bus_kind: BusKind) -> anyhow::Result<()> {
    for warm in [false, true] {
        let recovery = RecoveryOptions { warm, ..RecoveryOptions::default() };
        let setup = Setup::open(args, bus_kind, if warm { "warm" } else { "cold" }, false)?;
        let first = setup.start("first", 1, recovery)?;
        setup.fill(&first)?;
        // It takes half of the lanes, and follows the snapshots of the other half.
        let standby = Process::start(&setup.system, "standby", 1, recovery)?;
        standby.wait_live((args.lanes / 2) as usize)?;
        first.wait_idle()?;
        standby.wait_idle()?;
        standby.reset();
        first.end(true);
        standby.wait_live(args.lanes as usize)?;
        let took = TakeoverTime::of(&standby)?;
        let joined = standby.look().iter().map(|state| ms(state.joined)).collect::<Vec<_>>().join(", ");
        let (bus, standby_kind, lanes) =
            (bus_kind.name(), if warm { "warm" } else { "cold" }, args.lanes - args.lanes / 2);
        println!("| {bus} | {standby_kind} | {joined} | {lanes} | {took} | about {} |", args.operations / 2);
        standby.wait_idle()?;
        setup.end(standby, false)?;
        setup.close()?;
    }
    Ok(())
}
