//! How long a takeover takes: of lanes in which 100,000 workflows live, without a snapshot, and by a heir that followed.
//!
//! The state is that of real operations: flows of one rule whose speaker is silent, so that each waits for the answer to its call,
//! with the deadlines of its request, its step, its call and its attempt.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::{Arrival, Batch, Clock, EmbeddedOptions, MemberSpec, MonoTime, Part, Position};
use clap::ValueEnum;
use floodlight_sim::part::SpeakerOptions;
use floodlight_sim::{SpeakerHandle, SpeakerPart};
use nave::clock::SystemClock;
use nave::system::{HUB, System, SystemOptions};
use topology::Upkeep;
use topology::driver::Threads;
use wire::topics::Topics;

use crate::asking::{Ask, Asking, CreateAndRemove};
use crate::buses::{Kept, Places};
use crate::flows::load::Load;
use crate::process::{Process, State};
use crate::watched::{Amount, Marks};

/// A silent speaker is waited for so long: six hours for each attempt of a call, and what lies around it accordingly.
const ATTEMPT_MS: u64 = 6 * 3_600_000;
const CALL_MS: u64 = 3 * ATTEMPT_MS + 60_000;
const STEP_MS: u64 = CALL_MS + 60_000;
const REQUEST_MS: u64 = 5 * STEP_MS;
/// A day: no snapshot is taken while something is measured.
const NEVER_MS: u64 = 86_400_000;
/// So many requests are written at once.
const BATCH: usize = 1_000;
/// So many ask while there is load.
const LOADERS: usize = 64;
/// Between two looks at what a group gives, and how long it may take to give it.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE_MS: u64 = 30_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many workflows live
    #[arg(long, default_value_t = 100_000)]
    operations: usize,
    /// How many rules each flow has
    #[arg(long, default_value_t = 1)]
    length: u32,
    /// How many lanes there are
    #[arg(long, default_value_t = 16)]
    lanes: u32,
    /// So many minutes of load come before the first takeover: flows that are created and removed, while the others wait
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Of these so many a second
    #[arg(long, default_value_t = 50)]
    per_s: u32,
    /// The operations of an earlier run, which is named so, are taken over on Kafka once more: as many as it had
    #[arg(long, value_name = "NAME")]
    again: Option<String>,
    /// How often each kind of takeover is measured
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// How many flows of length 10 are replayed
    #[arg(long, default_value_t = 10_000)]
    flows: usize,
    /// These tables alone
    #[arg(long, value_enum)]
    table: Vec<Table>,
    /// These buses
    #[arg(long, value_enum, default_values = ["memory"])]
    bus: Vec<Kept>,
    #[command(flatten)]
    places: Places,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// All lanes from their snapshots
    Live,
    /// All lanes from their inboxes
    Replay,
    /// Half of the lanes, by a process that has the others already
    Warm,
}

impl Table {
    /// What stands above it.
    fn head(self) -> &'static str {
        match self {
            Self::Live => {
                "| bus | last owner | threads | all lanes live | asking | reading | loading | claiming | going live | of it commits, records | state records | state | workflows |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
            }
            Self::Replay => {
                "| bus | inbox | threads | all lanes live | replayed | records/s |\n|---|---|---|---|---|---|"
            }
            Self::Warm => {
                "| bus | heir | joining | lanes | lanes live | asking | reading | loading | claiming | going live | of it commits, records | workflows |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
            }
        }
    }
}

/// Prints the tables that were asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    for table in Table::value_variants().iter().copied() {
        if !args.table.is_empty() && !args.table.contains(&table) {
            continue;
        }
        println!("{}", table.head());
        for kept in args.bus.iter().copied() {
            let measured = match table {
                Table::Live => live(args, kept),
                Table::Replay => replay(args, kept),
                Table::Warm => warm(args, kept),
            };
            measured.with_context(|| format!("{table:?} on {}", kept.name()))?;
        }
        println!();
    }
    println!("the time of a process runs from its first assignment; its parts are those of the thread that was last");
    Ok(())
}

/// A system in which so many operations may live for hours.
struct Site<'a> {
    args: &'a Args,
    kept: Kept,
    name: String,
    system: Arc<System>,
}

impl<'a> Site<'a> {
    /// `table` is a name of its own; `keep` for one whose memory keeps all of its inboxes, as disks and brokers do: usually memory does not
    /// keep what is committed while there is no snapshot yet.
    fn open(args: &'a Args, kept: Kept, table: &str, keep: bool) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let fresh = || format!("recovery-{}-{table}", std::process::id());
        let name = args.again.clone().unwrap_or_else(fresh);
        let mut bounds = EmbeddedOptions::default();
        if keep {
            (bounds.keep_bytes, bounds.retention_bytes) = (None, None);
        }
        let bus = args.places.open_with(kept, &clock, &name, bounds)?;
        let mut options = SystemOptions { topics: Topics::new(&name), lanes: args.lanes, ..SystemOptions::default() };
        (options.hub.live, options.hub.active) = (args.operations.max(4_096), args.operations.max(4_096));
        (options.speaker.timeout_ms, options.flows.call_ms, options.flows.step_ms) = (ATTEMPT_MS, CALL_MS, STEP_MS);
        options.flows.request_ms = REQUEST_MS;
        options.speaker.in_flight = u32::try_from(args.operations * args.length as usize * 2)?.max(4_096);
        let flows = u64::try_from(args.operations.max(args.flows) * 4)?;
        (options.flows.cookies, options.flows.meters) =
            (flows.max(options.flows.cookies), flows.max(options.flows.meters));
        Ok(Self { args, kept, name, system: Arc::new(System::new(bus, options)?) })
    }

    /// A process that has all lanes.
    fn start(&self, name: &str, threads: usize, upkeep: Upkeep) -> anyhow::Result<Process> {
        let process = Process::start(&self.system, name, threads, upkeep)?;
        process.wait_live(self.args.lanes as usize).with_context(|| format!("process {name}"))?;
        Ok(process)
    }

    /// Asks for all operations, and waits until `process` has begun and saved them.
    fn fill(&self, process: &Process) -> anyhow::Result<()> {
        let (inbox, _egress) = self.ends();
        let mut writer = self.system.bus.writer("recovery")?;
        let numbers: Vec<usize> = (0..self.args.operations).collect();
        for some in numbers.chunks(BATCH) {
            let asked = some.iter().map(|n| {
                let ask = Ask::create(format!("op-{n}"), format!("flow-{n}"), self.args.length);
                ask.request(&inbox).1
            });
            writer.append(&asked.collect::<Vec<_>>())?;
        }
        process.wait_operations(self.args.operations)?;
        process.wait_quiet()
    }

    /// Lets flows be created and removed beside those that wait, for so many minutes; then `process` has saved them.
    fn load(&self, process: &Process) -> anyhow::Result<()> {
        self.pass_over_calls()?;
        let parts = self.speaker()?;
        let (bus, (inbox, egress)) = (&*self.system.bus, self.ends());
        let total = usize::try_from(self.args.minutes * 60 * u64::from(self.args.per_s))?;
        let mut clients = CreateAndRemove::new(LOADERS);
        let per_s = Some(self.args.per_s);
        let asking = Asking {
            bus,
            inbox,
            egress,
            lanes: self.args.lanes,
            in_flight: LOADERS,
            per_s,
            may_repeat: false,
            has_failed: &|| false,
        };
        let begun = bus.clock().mono();
        asking.run(total, |who| clients.next(who), |_answered, _took| Ok(()))?;
        let seconds = bus.clock().mono().since(begun).as_secs();
        eprintln!("{total} operations in {seconds} s beside those that wait");
        parts.stop();
        process.wait_quiet()
    }

    /// What was asked of the speaker so far is not for those of it that come.
    fn pass_over_calls(&self) -> anyhow::Result<()> {
        let (bus, topic) = (&*self.system.bus, self.system.speaker_topic());
        let mut member = bus.member(&MemberSpec::new(&topic, &topic, &format!("{}-nobody", self.name)))?;
        let partitions = bus.topic(&topic)?.context("it was made with the system")?.partitions;
        let mut left: BTreeSet<u32> = (0..partitions).collect();
        let until = bus.clock().mono().plus_ms(PATIENCE_MS);
        while !left.is_empty() {
            anyhow::ensure!(bus.clock().mono() < until, "the group of {topic} did not give {left:?}");
            let mut arrivals = Vec::new();
            member.poll(1, LOOK, &mut arrivals)?;
            for arrival in arrivals {
                let Arrival::Assigned(given) = arrival else { continue };
                for partition in given {
                    let end = bus.bounds(&topic, partition)?.end;
                    member.take_over(partition)?;
                    let positions = vec![Position { partition, next: end, note: "".into() }];
                    member.commit(&Batch { positions, ..Batch::default() })?;
                    left.remove(&partition);
                }
            }
        }
        Ok(member.leave()?)
    }

    /// A speaker that answers.
    fn speaker(&self) -> anyhow::Result<Threads> {
        let (bus, topic) = (&*self.system.bus, self.system.speaker_topic());
        let mut parts = Threads::default();
        let options = SpeakerOptions { transactional: self.kept != Kept::Kafka, ..SpeakerOptions::default() };
        let member = format!("{}-speaker", self.name);
        let speaker = SpeakerPart::join_with(bus, &topic, &member, SpeakerHandle::new(), &options)?;
        parts.spawn("speaker", bus.clock(), Box::new(move || Ok(Box::new(speaker) as Box<dyn Part>)))?;
        Ok(parts)
    }

    /// The topics that requests go to and answers come from.
    fn ends(&self) -> (String, String) {
        let (names, topology) = (&self.system.options.topics, self.system.topology.name());
        (names.inbox(topology, HUB), names.egress(topology, HUB))
    }

    /// Ends a process in which all operations live, and in which no snapshot failed.
    fn end(&self, process: Process, lost: bool) -> anyhow::Result<()> {
        process.wait_operations(self.args.operations)?;
        let ended = process.end(lost);
        anyhow::ensure!(ended.iter().all(|state| state.faults == 0), "snapshots failed: {ended:?}");
        Ok(())
    }

    fn close(self) -> anyhow::Result<()> {
        let Self { args, kept, name, system } = self;
        drop(system);
        args.places.clean(kept, &name)
    }
}

/// How long a takeover took.
struct Took {
    total: Duration,
    last: Marks,
    going_live: Duration,
    read: Amount,
    restored: u64,
    replayed: u64,
}

impl Took {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let all: Vec<State> = process.look().into_iter().filter(|state| state.marks.assigned.is_some()).collect();
        let begun: MonoTime =
            all.iter().filter_map(|state| state.marks.assigned).min().context("lanes were assigned")?;
        let state = all.iter().max_by_key(|state| state.since).context("a thread")?;
        let last = state.marks.clone();
        let own = state.since.since(last.assigned.unwrap_or(begun));
        let mut read = Amount::default();
        for State { marks, .. } in &all {
            (read.records, read.bytes) = (read.records + marks.read.records, read.bytes + marks.read.bytes);
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

/// Total, and its parts.
impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, last, going_live, .. } = self;
        let Marks { asking, reading, loading, claiming, committing, committed, .. } = last;
        let parts = [asking, reading, loading, claiming, going_live].map(|part| ms(*part)).join(" | ");
        write!(f, "{} | {parts} | {}, {committed}", ms(*total), ms(*committing))
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn live(args: &Args, kept: Kept) -> anyhow::Result<()> {
    let site = Site::open(args, kept, "live", false)?;
    let mut process = site.start("first", 1, Upkeep::default())?;
    if args.again.is_none() {
        site.fill(&process)?;
        if args.minutes > 0 {
            site.load(&process)?;
        }
        eprintln!("once more, where they are on Kafka: --table live --again {}", site.name);
    }
    let kinds = [(true, 1), (true, 2), (false, 1), (false, 2)].into_iter().cycle().take(4 * args.rounds);
    for (round, (lost, threads)) in kinds.enumerate() {
        site.end(process, lost)?;
        process = site.start(&format!("heir-{round}"), threads, Upkeep::default())?;
        let took = Took::of(&process)?;
        // What it says and saves of its own is not to be in the way of the next.
        process.wait_quiet()?;
        let (bus, last, read) = (kept.name(), if lost { "lost" } else { "stopped" }, took.read);
        anyhow::ensure!(took.restored >= u64::from(args.lanes), "{} lanes had a snapshot", took.restored);
        println!(
            "| {bus} | {last} | {threads} | {took} | {} | {:.1} MB | {} |",
            read.records,
            read.megabytes(),
            args.operations
        );
    }
    site.end(process, false)?;
    site.close()
}

fn replay(args: &Args, kept: Kept) -> anyhow::Result<()> {
    let upkeep = Upkeep { snapshot_ms: NEVER_MS, ..Upkeep::default() };
    let line = |inbox: &str, threads: usize, process: &Process| -> anyhow::Result<()> {
        let took = Took::of(process)?;
        anyhow::ensure!(took.restored == 0, "there was a snapshot");
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let rate = took.replayed as f64 / took.total.as_secs_f64();
        let (bus, total, replayed) = (kept.name(), ms(took.total), took.replayed);
        println!("| {bus} | {inbox} | {threads} | {total} | {replayed} | {rate:.0} |");
        Ok(())
    };

    let site = Site::open(args, kept, "replay-live", true)?;
    let mut process = site.start("first", 1, upkeep)?;
    site.fill(&process)?;
    for threads in [1, 2] {
        site.end(process, true)?;
        process = site.start(&format!("heir-{threads}"), threads, upkeep)?;
        line(&format!("requests of {} that live", args.operations), threads, &process)?;
        process.wait_quiet()?;
    }
    site.end(process, true)?;
    site.close()?;

    let site = Site::open(args, kept, "replay-flows", true)?;
    let mut process = site.start("first", 1, upkeep)?;
    let parts = site.speaker()?;
    let bus = &*site.system.bus;
    let (inbox, egress) = site.ends();
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
    parts.stop();
    process.wait_quiet()?;
    for threads in [1, 2] {
        process.end(true);
        process = site.start(&format!("heir-{threads}"), threads, upkeep)?;
        line("flows of length 10 that are done", threads, &process)?;
        process.wait_quiet()?;
    }
    process.end(true);
    site.close()
}

fn warm(args: &Args, kept: Kept) -> anyhow::Result<()> {
    for warm in [false, true] {
        let upkeep = Upkeep { warm, ..Upkeep::default() };
        let site = Site::open(args, kept, if warm { "warm" } else { "cold" }, false)?;
        let first = site.start("first", 1, upkeep)?;
        site.fill(&first)?;
        // It shares the lanes with the first, and has nothing to do but follow those of it.
        let heir = Process::start(&site.system, "heir", 1, upkeep)?;
        heir.wait_live((args.lanes / 2) as usize)?;
        first.wait_quiet()?;
        heir.wait_quiet()?;
        heir.reset();
        first.end(true);
        heir.wait_live(args.lanes as usize)?;
        let took = Took::of(&heir)?;
        let joined = heir.look().iter().map(|state| ms(state.joined)).collect::<Vec<_>>().join(", ");
        let (bus, heir_is, lanes) = (kept.name(), if warm { "warm" } else { "cold" }, args.lanes - args.lanes / 2);
        println!("| {bus} | {heir_is} | {joined} | {lanes} | {took} | about {} |", args.operations / 2);
        heir.wait_quiet()?;
        site.end(heir, false)?;
        site.close()?;
    }
    Ok(())
}
