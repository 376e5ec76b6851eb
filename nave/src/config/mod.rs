//! Configuration: as said by the user, and as usable by the program.
//!
//! What is said comes from four places, each over the one before: the defaults, a file ([TOML](https://toml.io)), the environment, the
//! command line. `Said` holds what was said, every field optional; [`Config`] has every field, checked. `docs/nave.toml`
//! describes each field. The name of an environment variable is the path of its field: `rest.listen` is `NAVE_REST_LISTEN`.
//!
//! Read in this order: this file (every field and its default), [`said`] (where values come from), `check` (what is not allowed),
//! `log` (what `log` may say), `layout` (a topology's own part), `print` (what `--print-config` shows).

mod check;
mod fault;
mod layout;
mod log;
mod print;
pub mod said;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use topology::Upkeep;
use wire::topics::Topics;

pub use self::fault::{Fault, Faults};
pub use self::layout::{Layout, StageLayout};
pub use self::said::Said;
use crate::program::Program;

/// Everything that a process can be told, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What is logged, like `info` or `warn,topology=debug`.
    pub log: String,
    /// First word of every topic's name: keeps two installations on one cluster apart.
    pub prefix: String,
    /// Threads for the lanes of each stage, where the stage says nothing.
    pub threads: u32,
    /// Where records are kept.
    pub bus: BusConfig,
    /// What lanes save of themselves.
    pub snapshots: SnapshotConfig,
    /// The REST interface.
    pub rest: RestConfig,
    /// What processes without a REST interface show of themselves.
    pub health: ListenConfig,
    /// The simulated switch controller.
    pub sim: SimConfig,
    /// How long each phase of a shutdown may take.
    pub shutdown: ShutdownConfig,
    /// How each topology is laid out, and what it is run with.
    pub topologies: BTreeMap<String, Layout>,
}

/// The simulated switch controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimConfig {
    /// Where it shows rules and audit, and takes faults.
    pub listen: SocketAddr,
    /// The directory for its rules and its memory. Empty: beside the records of an embedded bus on disk, else in memory, and gone with
    /// the process.
    pub data: String,
    /// A file of faults and heartbeats; `docs/floodlight-sim.toml` describes each field. Empty: nothing goes wrong.
    pub plan: String,
}

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BusConfig {
    /// Which bus.
    pub kind: BusKind,
    /// The embedded bus on disk.
    pub disk: DiskConfig,
    /// The Kafka cluster.
    pub kafka: KafkaConfig,
}

/// Which bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// In this process: nothing to install
    Embedded,
    /// An Apache Kafka cluster
    Kafka,
}

/// The embedded bus on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// The directory; empty: in memory, and gone with the process.
    pub data: String,
    /// When what was written is synced to the disk.
    pub sync: Sync,
    /// With `interval`: so many milliseconds between two syncs; what was written since may be lost with the machine.
    pub sync_interval_ms: u64,
}

/// When what was written is synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Before anybody is told that it was written
    Always,
    /// Every so many milliseconds
    Interval,
    /// When the operating system likes
    Never,
}

/// The Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaConfig {
    /// Where to begin, as `host:port,host:port`.
    pub brokers: String,
    /// How many copies of each partition new topics have.
    pub replication: u16,
    /// True: nothing is submitted to a cluster that may lose what it acknowledged; else that is a warning.
    pub strict: bool,
    /// After so many milliseconds without a sign of life a member's lanes go to others; also the longest that an open
    /// transaction hides records.
    pub session_timeout_ms: u64,
    /// Properties of librdkafka.
    pub client: BTreeMap<String, String>,
}

/// What lanes save of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotConfig {
    /// Between two snapshots of a lane that changes, in milliseconds; 0 for one with every commit.
    pub every_ms: u64,
}

/// The REST interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A file with the token that clients must send; empty: none is asked for, and only loopback addresses are allowed.
    pub token_file: String,
    /// The longest body of a request, in bytes.
    pub body_bytes: usize,
    /// So many requests are answered at once; one more is told to come back.
    pub requests: usize,
    /// So many connections are open at once; one more waits in the system's own queue.
    pub connections: usize,
    /// So many may watch the progress of operations at once.
    pub watchers: usize,
    /// So many requests of a lane may be unanswered; the next is told that the lane is busy.
    pub unanswered_per_lane: usize,
    /// So many operations are known, the newest.
    pub known_operations: usize,
    /// So many milliseconds a request waits for its answer before it is told where to look for it.
    pub patience_ms: u64,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenConfig {
    /// The address; loopback alone.
    pub listen: SocketAddr,
}

/// How long each phase of a shutdown may take, in milliseconds, in the order of the phases; see [`crate::shutdown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownConfig {
    /// What was taken is written to the bus.
    pub intake_ms: u64,
    /// What is unanswered is answered.
    pub drain_ms: u64,
    /// Lanes commit, hand over and end.
    pub lanes_ms: u64,
    /// Answers, servers and the rest end.
    pub close_ms: u64,
}

impl Config {
    /// The directory of the simulated controller; none where it keeps its tables in memory. With an embedded bus on disk there is one: flows
    /// outlive the process there, and so must the rules that they stand for.
    pub fn sim_directory(&self) -> Option<PathBuf> {
        if !self.sim.data.is_empty() {
            return Some(PathBuf::from(&self.sim.data));
        }
        let data = &self.bus.disk.data;
        (self.bus.kind == BusKind::Embedded && !data.is_empty()).then(|| Path::new(data).join("floodlight-sim"))
    }

    /// What is so where nobody says anything, for the topologies of `program` on this bus.
    pub fn defaults(program: &Program, bus: BusKind) -> Self {
        let loopback = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (northbound, limits) = (northbound::GatewayLimits::default(), northbound::Limits::default());
        let layouts = program.topologies().map(|(name, topology)| (name.to_owned(), Layout::of(topology, bus)));
        Self {
            log: "warn".into(),
            prefix: wire::topics::DEFAULT_PREFIX.into(),
            threads: 1,
            bus: BusConfig {
                kind: bus,
                disk: DiskConfig { data: String::new(), sync: Sync::Always, sync_interval_ms: 100 },
                kafka: KafkaConfig {
                    brokers: String::new(),
                    replication: 1,
                    strict: false,
                    session_timeout_ms: ms(bus::MemberSpec::SESSION),
                    client: BTreeMap::new(),
                },
            },
            snapshots: SnapshotConfig { every_ms: Upkeep::SNAPSHOT_MS },
            rest: RestConfig {
                listen: loopback(8088),
                token_file: String::new(),
                body_bytes: limits.body_bytes,
                requests: limits.requests,
                connections: limits.connections,
                watchers: northbound.watchers,
                unanswered_per_lane: northbound.max_unanswered_per_lane,
                known_operations: northbound.known_operations,
                patience_ms: ms(northbound.patience),
            },
            health: ListenConfig { listen: loopback(8087) },
            sim: SimConfig { listen: loopback(8089), data: String::new(), plan: String::new() },
            // Draining is longer than any default deadline of a flow takes it. Lanes end within a session, or others have
            // taken them anyway.
            shutdown: ShutdownConfig { intake_ms: 1_000, drain_ms: 10_000, lanes_ms: 6_000, close_ms: 2_000 },
            topologies: layouts.collect(),
        }
    }

    /// What topics are called.
    pub fn topics(&self) -> Topics {
        Topics::new(&self.prefix)
    }

    /// How lanes come from one owner to the next.
    pub fn upkeep(&self) -> Upkeep {
        let session_timeout = match self.bus.kind {
            // It dies with its process, so nobody else can take its lanes: a process that was stopped for an hour and goes
            // on is not to lose them to itself.
            BusKind::Embedded => Duration::from_hours(24),
            BusKind::Kafka => Duration::from_millis(self.bus.kafka.session_timeout_ms),
        };
        // On the embedded bus all owners are in this process, and die with it.
        Upkeep { session_timeout, snapshot_ms: self.snapshots.every_ms, warm: self.bus.kind == BusKind::Kafka }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
