//! Ready-made spouts, and the Kafka sink.

mod channel;
mod file;
mod http;
mod items;
mod kafka;
mod retry;
mod sink;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::graph::ComponentKind;

use self::channel::ChannelSpout;
pub use self::channel::{ChannelReceiver, ChannelSender, SendError, channel};
use self::file::Lines;
use self::http::PostedTuples;
use self::items::Items;
pub use self::kafka::KafkaSource;
use self::kafka::TopicSpout;
pub use self::retry::Retries;
use self::retry::RetryingSpout;
pub use self::sink::KafkaSink;
use self::sink::SinkBolt;
use crate::builder::Declared;
use crate::declarations::Builder;
use crate::stream::Read;

/// The fault for which a source retries: each is logged once.
#[derive(Default)]
struct Retried(Option<String>);

impl Retried {
    /// Records the outcome of an attempt to read `name`. Returns `None` after a fault.
    fn outcome<T, E: std::fmt::Display>(&mut self, name: &str, outcome: Result<T, E>) -> Option<T> {
        let fault = match outcome {
            Ok(value) => {
                self.0 = None;
                return Some(value);
            }
            Err(fault) => fault.to_string(),
        };
        if self.0.as_ref() != Some(&fault) {
            tracing::warn!(name, fault, "cannot read a source; retrying");
            self.0 = Some(fault);
        }
        None
    }
}

impl Builder {
    /// Declares a spout that emits the items of an iterator. A restarted process skips those that
    /// were emitted before, so `make` must return the same items each time. Several lanes share the
    /// items: lane i of n emits every n-th one, from the i-th on.
    ///
    /// ```
    /// # use topology::Topology;
    /// let t = Topology::named("squares");
    /// t.items("numbers", || 0_u64..100)
    ///     .map("square", |n| n * n)
    ///     .for_each("print", |square| println!("{square}"));
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn items<I>(&self, name: &str, make: impl Fn() -> I + Clone + Send + Sync + 'static) -> Declared<(), I::Item>
    where
        I: IntoIterator<Item: 'static, IntoIter: 'static> + 'static,
    {
        self.spout(name, move || Items::new(make.clone()))
    }

    /// Declares a spout over a [`channel()`], for a topology inside a program. Its stage has one lane.
    /// It has no position: tuples that were sent and not committed end with the process. The channel
    /// is closed when the topology ends; a lane that starts again in between continues to read it.
    ///
    /// ```
    /// # use topology::{Topology, channel};
    /// let (orders, receiver) = channel(100);
    /// let t = Topology::named("orders");
    /// t.channel_source("orders", receiver).for_each("print", |order: String| println!("{order}"));
    /// # t.build()?;
    /// orders.send("two tickets".to_owned()).expect("the topology reads it");
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn channel_source<T: Send + 'static>(&self, name: &str, channel: ChannelReceiver<T>) -> Declared<(), T> {
        self.spout(name, move || ChannelSpout::of(&channel)).one_lane()
    }

    /// Declares a spout that emits the lines of a text file, without their ends, and then the lines
    /// that are appended to it. Its stage has one lane. A line is emitted once its end is written. The
    /// position is an offset in bytes, so only append to the file; a source with another path begins
    /// at the beginning. A line that is not UTF-8 or has more than 1 MiB goes to the dead-letter topic.
    /// Only a regular file is read: a directory or a named pipe is refused with a warning.
    ///
    /// ```
    /// # use topology::Topology;
    /// let t = Topology::named("lines");
    /// t.file_source("lines", "/var/log/syslog").for_each("print", |line| println!("{line}"));
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn file_source(&self, name: &str, path: impl Into<PathBuf>) -> Declared<(), String> {
        let path = path.into();
        self.spout(name, move || Lines::of(path.clone())).one_lane()
    }

    /// Declares a source whose tuples clients POST to `/v1/topologies/TOPOLOGY/sources/NAME`, as JSON. Each
    /// is a record of the stage's inbox when it is accepted, so none is lost. `?key=` decides the lane. A
    /// body that is no `T` goes to the dead-letter topic.
    ///
    /// ```
    /// # use topology::Topology;
    /// let t = Topology::named("squares");
    /// t.http_source::<u64>("numbers").map("square", |n| n * n).for_each("print", |square| println!("{square}"));
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn http_source<T: DeserializeOwned + 'static>(&self, name: &str) -> Declared<(), T> {
        let source: Arc<str> = name.into();
        self.inbox_component(name, ComponentKind::HttpSource, move || PostedTuples::of(&source))
    }

    /// Declares a spout over a topic of the bus, which is Kafka in a cluster: its name, or a
    /// [`KafkaSource`] with more options. The records of a partition keep their order. Lane i of n
    /// reads every n-th partition, from the i-th on.
    ///
    /// The positions are saved in the commit of the tuples, and not in a consumer group. A topic
    /// that does not exist is waited for, with a warning.
    ///
    /// ```
    /// # use topology::Topology;
    /// #[derive(serde::Deserialize, serde::Serialize, Clone)]
    /// struct Order { customer: String, cents: u64 }
    ///
    /// let t = Topology::named("sums");
    /// t.kafka_source("orders", "shop.orders")
    ///     .fields(|order: &Order| order.customer.as_str())
    ///     .fold("sum", 0_u64, |sum, order| *sum += order.cents)
    ///     .kafka_sink("sums", "shop.sums");
    /// # t.build()?;
    /// # Ok::<(), topology::BuildErrors>(())
    /// ```
    pub fn kafka_source<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        source: impl Into<KafkaSource<T>>,
    ) -> Declared<(), T> {
        let source = source.into();
        match source.retries {
            None => self.spout(name, move || TopicSpout::of(source.clone())),
            Some(retries) => self.spout(name, move || RetryingSpout::of(TopicSpout::of(source.clone()), retries)),
        }
    }
}

impl<T: Serialize + Clone + 'static, G> Read<T, G> {
    /// Declares a bolt that writes each tuple to a topic of the bus, which is Kafka in a cluster: its
    /// name, or a [`KafkaSink`] with more options. The stage does not start if the topic does not
    /// exist, and is held while it is deleted (NAVE-0064).
    ///
    /// In an exactly-once stage the records are part of the lane's transaction.
    pub fn kafka_sink(self, name: &str, sink: impl Into<KafkaSink<T>>) -> Declared<T, ()> {
        let (builder, sink) = (self.stream.builder.clone(), sink.into());
        builder.bolt(name, move || SinkBolt::of(sink.clone())).reads(self)
    }
}

impl<In: 'static, Out: Serialize + Clone + 'static> Declared<In, Out> {
    /// Declares a bolt that writes each tuple of the main stream to a topic; see
    /// [`Read::kafka_sink`].
    pub fn kafka_sink(&self, name: &str, sink: impl Into<KafkaSink<Out>>) -> Declared<Out, ()> {
        self.local().kafka_sink(name, sink)
    }
}
