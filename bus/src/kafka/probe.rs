//! A client for questions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::Quiet;
use super::fault;
use crate::BusError;

/// Asks, and joins nothing. Its client is made anew when a question got no answer: it may know no broker any more, and would never
/// find one (see [`super::context::Brokers`]). A question waits for its answer for some seconds, so that this is no storm.
pub(super) struct Probe {
    config: ClientConfig,
    client: Mutex<Arc<BaseConsumer<Quiet>>>,
}

impl Probe {
    /// Sets the client up.
    pub(super) fn open(config: ClientConfig) -> Result<Self, BusError> {
        let client = Mutex::new(Arc::new(connect(&config)?));
        Ok(Self { config, client })
    }

    /// Asks, and gives the answer.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let client = self.client();
        let answer = question(&client);
        if let Err(fault) = &answer
            && fault::code(fault).is_some_and(is_silence)
        {
            self.renew(&client);
        }
        answer
    }

    /// Waits a moment for the cluster; there is nothing to arrive here.
    pub(super) fn pause(&self) {
        drop(self.client().poll(Duration::from_millis(10)));
    }

    fn client(&self) -> Arc<BaseConsumer<Quiet>> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn renew(&self, silent: &Arc<BaseConsumer<Quiet>>) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have asked the same one.
        if Arc::ptr_eq(&client, silent) {
            match connect(&self.config) {
                Ok(fresh) => *client = Arc::new(fresh),
                Err(error) => tracing::warn!(%error, "a client that got no answer could not be made anew"),
            }
        }
    }
}

fn connect(config: &ClientConfig) -> Result<BaseConsumer<Quiet>, BusError> {
    config.create_with_context(Quiet).map_err(|fault| fault::bus("cannot set up a client", &fault))
}

/// Whether nobody answered, as against somebody who refused.
fn is_silence(code: Code) -> bool {
    fault::is_silence(code)
        || matches!(
            code,
            Code::WaitingForCoordinator
                // A client that knows no broker knows no partition either, and says so at once; a real topic's partitions are known, or are soon.
                | Code::UnknownPartition
                | Code::UnknownTopic
        )
}
