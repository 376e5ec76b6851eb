//! The bus on a Kafka cluster.
//!
//! Group members are Kafka consumers. A commit is a Kafka transaction that carries the group's
//! offsets, so the broker fences a member that lost its membership. Measurements and pitfalls are
//! documented beside the setting or step concerned.
//!
//! Read in this order: `options` (client settings), `refused` (properties that users may not set),
//! `context` (callbacks), `wakeup` (waiting), `member` and `membership`, `takeover` (state left by a
//! dead owner), `sender` and `deliveries` (sending records), `transactions`, `reader`, `writer` and
//! `health`, `probe`, `cluster`, `backlog`, `named` and `admin` (topics), `convert` and `fault`
//! (records and errors).

mod admin;
mod backlog;
mod cluster;
mod context;
mod convert;
mod deliveries;
mod fault;
mod health;
mod member;
mod membership;
mod named;
mod options;
mod probe;
mod reader;
mod refused;
mod sender;
mod takeover;
mod transactions;
mod wakeup;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wire::WallTime;

pub use self::admin::settings as topic_settings;
use self::backlog::Backlogs;
use self::cluster::Cluster;
use self::member::KafkaMember;
pub use self::options::KafkaOptions;
use self::reader::KafkaReader;
pub use self::refused::{REFUSED, RefusedProperty, is_secret, refused};
use self::writer::KafkaWriter;
use crate::{Bounds, Bus, BusError, BusHealth, Clock, Member, MemberSpec, Reader, TopicInfo, TopicSpec, Writer};

/// Duration of an empty fetch (`fetch.wait.max.ms`). A fetch with records returns at once.
const READ_DELAY: Duration = Duration::from_millis(100);

/// A Kafka cluster as a bus. Clones share the connection.
#[derive(Clone)]
pub struct Kafka {
    clock: Arc<dyn Clock>,
    options: KafkaOptions,
    cluster: Arc<Cluster>,
    backlogs: Arc<Backlogs>,
}

impl Kafka {
    /// Connects.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if no broker answers; [`BusError::Refused`] if a property is
    /// invalid or forbidden ([`REFUSED`]).
    pub fn open(clock: Arc<dyn Clock>, options: KafkaOptions) -> Result<Self, BusError> {
        refused::check(options.client.keys().map(String::as_str))?;
        let cluster = Arc::new(Cluster::open(Arc::clone(&clock), &options)?);
        let backlogs = Arc::new(Backlogs::new(&options));
        Ok(Self { clock, options, cluster, backlogs })
    }

    /// Deletes the records of a partition below offset `before`, as an operator would.
    pub fn delete_records(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.cluster.check(topic, partition)?;
        admin::delete_records(&self.options, topic, partition, before)
    }

    /// Deletes a topic with its records, as an operator would.
    pub fn delete_topic(&self, topic: &str) -> Result<(), BusError> {
        admin::delete_topic(&self.options, topic)
    }

    /// Returns the topic's info. The client cannot read the id that the cluster assigned, so this
    /// id distinguishes clusters and names only, not a topic from a deleted one of the same name.
    /// After a deletion the group's committed offsets are deleted too, or lie past the end:
    /// [`Member::start`] rejects those and [`Member::poll`] returns [`BusError::Gone`].
    fn info(&self, name: &str, partitions: u32) -> Result<TopicInfo, BusError> {
        Ok(TopicInfo { name: name.into(), partitions, id: format!("{}/{name}", self.cluster.id()?) })
    }
}

impl Bus for Kafka {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        if self.cluster.partitions(&spec.name)?.is_none() {
            admin::create(&self.cluster, &self.options, spec)?;
        }
        let found = self.cluster.partitions(&spec.name)?.ok_or_else(|| BusError::NoTopic(spec.name.clone()))?;
        if found != spec.partitions {
            let (found, needed) = (found.to_string(), spec.partitions.to_string());
            return Err(BusError::WrongTopic { topic: spec.name.clone(), field: "partitions", found, needed });
        }
        admin::check(&self.cluster, &self.options, spec)?;
        self.info(&spec.name, found)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.cluster.partitions(name)?.map(|partitions| self.info(name, partitions)).transpose()
    }

    fn is_compacted(&self, topic: &str) -> Result<bool, BusError> {
        admin::is_compacted(&self.cluster, &self.options, topic)
    }

    fn topics_without_append_time(&self, topics: &[&str]) -> Result<Vec<String>, BusError> {
        admin::topics_without_append_time(&self.options, topics)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.cluster.bounds(topic, partition)
    }

    fn offset_at(&self, topic: &str, partition: u32, time: WallTime) -> Result<u64, BusError> {
        self.cluster.offset_at(topic, partition, time)
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        Ok(Box::new(KafkaMember::join(Arc::clone(&self.cluster), &self.options, spec)?))
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        self.cluster.members(group)
    }

    fn backlog(&self, group: &str, topic: &str) -> Result<Vec<u64>, BusError> {
        self.backlogs.of(&self.cluster, group, topic)
    }

    fn save_positions(&self, name: &str, topic: &str, positions: &[(u32, u64)]) -> Result<(), BusError> {
        self.backlogs.save_positions(&self.cluster, name, topic, positions)
    }

    fn saved_position(&self, name: &str, topic: &str, partition: u32) -> Result<Option<u64>, BusError> {
        self.backlogs.saved_position(&self.cluster, name, topic, partition)
    }

    fn forget_name(&self, name: &str, topic: &str) -> Result<(), BusError> {
        self.backlogs.forget_name(&self.cluster, name, topic)
    }

    fn trim(&self, topic: &str, partition: u32, before: u64) -> Result<(), BusError> {
        self.backlogs.trim(&self.cluster, topic, partition, before)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        Ok(Box::new(KafkaReader::open(Arc::clone(&self.cluster), &self.options)?))
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError> {
        Ok(Box::new(KafkaWriter::open(Arc::clone(&self.cluster), &self.options, name)?))
    }

    fn topic_warnings(&self, topic: &str) -> Result<Vec<String>, BusError> {
        admin::topic_warnings(&self.cluster, &self.options, topic)
    }

    fn health(&self) -> BusHealth {
        self.cluster.health().now(self.clock.mono())
    }

    fn read_delay(&self) -> Duration {
        READ_DELAY
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("options", &self.options).finish_non_exhaustive()
    }
}
