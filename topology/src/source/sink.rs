//! A bolt that writes to a topic outside the topology.

use std::sync::Arc;

use bus::{Bus, BusError, Route};
use bytes::Bytes;
use serde::Serialize;
use wire::{Code, Envelope, Kind};

use crate::component::SystemBolt;
use crate::emitter::Emitter;
use crate::grouping::{Key, KeyOf};
use crate::outbox::Message;
use crate::place::ForeignTopic;
use crate::plan::Topology;
use crate::snapshot::StateSchema;

/// The topic that a sink writes to, with the encoding of its records: JSON by default.
///
/// ```
/// use topology::{KafkaSink, Topology};
///
/// let t = Topology::named("words");
/// let words = t.items("words", || ["a".to_owned()]);
/// words.kafka_sink("out", KafkaSink::topic("words").key(|word: &String| word.clone()));
/// # t.build()?;
/// # Ok::<(), topology::BuildErrors>(())
/// ```
pub struct KafkaSink<T> {
    topic: Arc<str>,
    key: Option<KeyOf<T>>,
    encode: Encode<T>,
}

type Encode<T> = Arc<dyn Fn(&T) -> Result<Vec<u8>, String> + Send + Sync>;

impl<T> Clone for KafkaSink<T> {
    fn clone(&self) -> Self {
        Self { topic: Arc::clone(&self.topic), key: self.key.clone(), encode: Arc::clone(&self.encode) }
    }
}

impl<T: Serialize> From<&str> for KafkaSink<T> {
    fn from(topic: &str) -> Self {
        Self::topic(topic)
    }
}

impl<T: Serialize> KafkaSink<T> {
    /// Writes records without a key, spread over all partitions at random. A stage does not start if
    /// the topic is compacted: such a topic needs a key.
    pub fn topic(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            key: None,
            encode: Arc::new(|tuple| serde_json::to_vec(tuple).map_err(|error| error.to_string())),
        }
    }
}

impl<T> KafkaSink<T> {
    /// Writes records with this key. Its partition is that of the Java client, by murmur2.
    #[must_use]
    pub fn key<K: Key>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self {
        Self { key: Some(Arc::new(move |tuple| key(tuple).text())), ..self }
    }

    /// Replaces the encoding. An error is the reason of the dead letter. No bytes delete the key in a
    /// compacted topic.
    #[must_use]
    pub fn encode(self, encode: impl Fn(&T) -> Result<Vec<u8>, String> + Send + Sync + 'static) -> Self {
        Self { encode: Arc::new(encode), ..self }
    }
}

pub(super) struct SinkBolt<T>(KafkaSink<T>);

impl<T> SinkBolt<T> {
    pub(super) fn of(sink: KafkaSink<T>) -> Self {
        Self(sink)
    }
}

impl<T: 'static> SystemBolt for SinkBolt<T> {
    type In = T;
    type Out = ();

    fn foreign_topics(&self) -> Vec<ForeignTopic> {
        vec![ForeignTopic { name: Arc::clone(&self.0.topic), has_keys: self.0.key.is_some() }]
    }

    fn schema(&mut self) -> Option<StateSchema> {
        None
    }

    fn execute(&mut self, tuple: T, out: &mut Emitter<()>) {
        let KafkaSink { topic, key, encode } = &self.0;
        let body = match encode(&tuple) {
            Ok(body) => body,
            Err(reason) => return out.fail(format!("a tuple cannot be encoded for `{topic}`: {reason}")),
        };
        let number = out.random();
        let source = out.lane().source();
        let key = key.as_ref().map(|key| key(&tuple));
        out.publish(Message {
            topic: Arc::clone(topic),
            route: if key.is_some() { Route::ByKey } else { Route::Modulo(number) },
            key: key.map(Bytes::from),
            envelope: Envelope::new(Kind::Tuple, format!("{source}/{number:016x}"), source),
            expires_after_ms: None,
            body: body.into(),
        });
    }
}

impl Topology {
    /// Returns the topics that components of a stage write to and others create.
    pub fn foreign_topics(&self, stage: &str) -> Vec<ForeignTopic> {
        self.probes(stage).flat_map(|probe| probe.foreign_topics()).collect()
    }

    /// Checks that the [`Topology::foreign_topics`] of a stage exist and take its records.
    ///
    /// # Errors
    /// [`BusError::Refused`] with [`Code::NoTopic`] if one does not exist, or with [`Code::WrongTopic`]
    /// if one is compacted and gets records without keys; else an error of the bus.
    pub fn check_foreign_topics(&self, bus: &dyn Bus, stage: &str) -> Result<(), BusError> {
        let refused = |code: Code, writes: String| {
            Err(BusError::Refused(format!("{code}: stage `{stage}` of topology `{}` writes {writes}", self.name())))
        };
        for ForeignTopic { name, has_keys } in self.foreign_topics(stage) {
            if bus.topic(&name)?.is_none() {
                let writes = format!(
                    "to topic `{name}`, which does not exist; create it, with the partitions and the retention that its \
                     readers need, and start the stage again"
                );
                return refused(Code::NoTopic, writes);
            }
            match bus.is_compacted(&name) {
                Ok(true) if !has_keys => {
                    let writes = format!(
                        "records without a key to topic `{name}`, which is compacted and refuses them; give the sink a \
                         key with `KafkaSink::key`, or the topic another clean-up policy"
                    );
                    return refused(Code::WrongTopic, writes);
                }
                Ok(_) => {}
                Err(BusError::Refused(reason)) => {
                    tracing::warn!(
                        stage,
                        topic = &*name,
                        reason,
                        "cannot check whether the topic of a sink is compacted"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
