//! A writer outside all transactions.

use std::sync::Arc;

use rdkafka::producer::BaseProducer;

use super::cluster::Cluster;
use super::context::Deliveries;
use super::options::KafkaOptions;
use super::{fault, producer};
use crate::{BusError, Outgoing, Writer};

/// An idempotent producer.
pub(super) struct KafkaWriter {
    cluster: Arc<Cluster>,
    options: KafkaOptions,
    name: String,
    /// None after a fault that it does not survive.
    producer: Option<BaseProducer<Deliveries>>,
}

impl KafkaWriter {
    /// Nothing is sent yet.
    pub(super) fn open(cluster: Arc<Cluster>, options: &KafkaOptions, name: &str) -> Result<Self, BusError> {
        let mut writer = Self { cluster, options: options.clone(), name: name.into(), producer: None };
        writer.producer()?;
        Ok(writer)
    }

    fn producer(&mut self) -> Result<&BaseProducer<Deliveries>, BusError> {
        if self.producer.is_none() {
            let made = self.options.writer(&self.name).create_with_context(Deliveries::default());
            self.producer = Some(made.map_err(|fault| fault::bus("cannot set up a client", &fault))?);
        }
        Ok(self.producer.as_ref().expect("it was just made"))
    }
}

impl Writer for KafkaWriter {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let partitions: Vec<i32> = records.iter().map(|record| self.cluster.route(record)).collect::<Result<_, _>>()?;
        let producer = self.producer()?;
        let sent = producer::send(producer, records, &partitions)
            .and_then(|()| producer::delivered(producer, super::options::REQUEST));
        sent.map_err(|fault| {
            // What is still in its queues must not follow later, unasked.
            self.producer = None;
            fault::bus("cannot append", &fault)
        })
    }
}
