//! The configuration of a process: [`RawConfig`] as the user wrote it, [`Config`] as the program
//! uses it.
//!
//! Values come from four sources. Each overrides those before it: the defaults, a file
//! ([TOML](https://toml.io)), the environment, the command line. `docs/nave.toml` describes each
//! field. The environment variable of a field is its path in capitals: `rest.listen` is
//! `NAVE_REST_LISTEN`.
//!
//! Read in this order: this file (fields and defaults), [`raw`] (sources), `check` (refused
//! values), `log` (values of `log`), `layout` (the section of a topology), `print` (the output of
//! `--print-config`).

mod check;
mod fault;
mod layout;
mod log;
mod print;
pub mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use topology::RecoveryOptions;
use wire::topics::Topics;

pub use self::fault::{ConfigError, ConfigErrors};
pub use self::layout::{Layout, StageLayout};
pub use self::raw::RawConfig;
use crate::program::Program;

/// The complete, checked configuration of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Log filter, like `info` or `warn,topology=debug`.
    pub log: String,
    /// Prefix of every topic name. It separates two installations on one cluster.
    pub prefix: String,
    /// Threads per stage, unless its topology or the stage sets another number.
    pub threads: u32,
    /// The bus that keeps the records.
    pub bus: BusConfig,
    /// Snapshots of lanes.
    pub snapshots: SnapshotConfig,
    /// The REST interface.
    pub rest: RestConfig,
    /// The health endpoint of processes without a REST interface.
    pub health: ListenConfig,
    /// The simulated switch controller.
    pub sim: SimConfig,
    /// Timeouts of the phases of a shutdown.
    pub shutdown: ShutdownConfig,
    /// Layout and settings of each topology.
    pub topologies: BTreeMap<String, Layout>,
}

/// The simulated switch controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimConfig {
    /// Address of its admin interface: rules, audit and faults.
    pub listen: SocketAddr,
    /// Directory of its rules and its memory. Empty: next to the records of an embedded bus on
    /// disk, or in memory and lost when the process ends.
    pub data: String,
    /// File of faults and heartbeats; `docs/floodlight-sim.toml` describes each field. Empty: no
    /// faults.
    pub plan: String,
}

/// The bus that keeps the records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BusConfig {
    /// The kind of bus.
    pub kind: BusKind,
    /// The embedded bus on disk.
    pub disk: DiskConfig,
    /// The Kafka cluster.
    pub kafka: KafkaConfig,
}

/// The kind of bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// In this process; needs no other software
    Embedded,
    /// An Apache Kafka cluster
    Kafka,
}

/// The embedded bus on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Directory of the records. Empty: in memory and lost when the process ends.
    pub data: String,
    /// When records are synced to the disk.
    pub sync: Sync,
    /// With `interval`: milliseconds between two syncs. A machine failure may lose the records
    /// since the last sync.
    pub sync_interval_ms: u64,
}

/// When records are synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Before a write is acknowledged
    Always,
    /// At a fixed interval
    Interval,
    /// When the operating system decides
    Never,
}

/// The Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaConfig {
    /// Bootstrap brokers, as `host:port,host:port`.
    pub brokers: String,
    /// Replication factor of new topics.
    pub replication: u16,
    /// True: refuses to submit to a cluster that may lose acknowledged records. False: warns.
    pub strict: bool,
    /// Session timeout in milliseconds: a member that is silent for longer loses its lanes to
    /// others. It also limits how long an open transaction hides records.
    pub session_timeout_ms: u64,
    /// Properties of librdkafka.
    pub client: BTreeMap<String, String>,
}

/// Snapshots of lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotConfig {
    /// Milliseconds between two snapshots of a lane that changes; 0 takes one with every commit.
    pub every_ms: u64,
}

/// The REST interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// File with the token that clients must send. Empty: no token, and only loopback addresses are
    /// allowed.
    pub token_file: String,
    /// Maximum size of a request body in bytes.
    pub body_bytes: usize,
    /// Maximum number of concurrent requests; further requests are refused with a hint to retry.
    pub requests: usize,
    /// Maximum number of open connections; further connections wait in the backlog of the system.
    pub connections: usize,
    /// Maximum number of clients that watch the progress of operations.
    pub watchers: usize,
    /// Maximum number of unanswered requests per lane; further requests are refused because the
    /// lane is busy.
    pub unanswered_per_lane: usize,
    /// Number of operations that the northbound caches, newest first.
    pub cached_operations: usize,
    /// Milliseconds that a request waits for its answer before it gets a 202 with a link to the
    /// operation.
    pub patience_ms: u64,
}

/// An endpoint to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenConfig {
    /// Address to listen on; loopback only.
    pub listen: SocketAddr,
}

/// Timeout of each phase of a shutdown, in milliseconds, in the order of the phases; see
/// [`crate::shutdown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownConfig {
    /// Writes accepted requests to the bus.
    pub intake_ms: u64,
    /// Waits for the answers of open requests.
    pub drain_ms: u64,
    /// Commits, releases and stops the lanes.
    pub lanes_ms: u64,
    /// Stops the answers, the servers and the rest.
    pub close_ms: u64,
}

impl Config {
    /// Returns the directory of the simulated controller; none if it keeps its tables in memory.
    /// With an embedded bus on disk it always has one: flows survive the process there, so their
    /// rules must as well.
    pub fn sim_directory(&self) -> Option<PathBuf> {
        if !self.sim.data.is_empty() {
            return Some(PathBuf::from(&self.sim.data));
        }
        let data = &self.bus.disk.data;
        (self.bus.kind == BusKind::Embedded && !data.is_empty()).then(|| Path::new(data).join("floodlight-sim"))
    }

    /// Returns the defaults for the topologies of `program` on this kind of bus.
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
            snapshots: SnapshotConfig { every_ms: RecoveryOptions::SNAPSHOT_MS },
            rest: RestConfig {
                listen: loopback(8088),
                token_file: String::new(),
                body_bytes: limits.body_bytes,
                requests: limits.requests,
                connections: limits.connections,
                watchers: northbound.watchers,
                unanswered_per_lane: northbound.max_unanswered_per_lane,
                cached_operations: northbound.cached_operations,
                patience_ms: ms(northbound.patience),
            },
            health: ListenConfig { listen: loopback(8087) },
            sim: SimConfig { listen: loopback(8089), data: String::new(), plan: String::new() },
            // The drain timeout exceeds every default deadline of a flow. Lanes stop within a
            // session timeout; after it, others take them over anyway.
            shutdown: ShutdownConfig { intake_ms: 1_000, drain_ms: 10_000, lanes_ms: 6_000, close_ms: 2_000 },
            topologies: layouts.collect(),
        }
    }

    /// Returns the names of the topics.
    pub fn topics(&self) -> Topics {
        Topics::new(&self.prefix)
    }

    /// Returns the recovery options of the lanes.
    pub fn recovery(&self) -> RecoveryOptions {
        let session_timeout = match self.bus.kind {
            // The bus ends with its process, so no other process can take the lanes. Without this a
            // process that was suspended for an hour would lose its lanes to itself.
            BusKind::Embedded => Duration::from_hours(24),
            BusKind::Kafka => Duration::from_millis(self.bus.kafka.session_timeout_ms),
        };
        // On the embedded bus all owners are in this process and end with it, so there is no
        // standby.
        RecoveryOptions { session_timeout, snapshot_ms: self.snapshots.every_ms, warm: self.bus.kind == BusKind::Kafka }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
