//! A client for metadata requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::NoCallbacks;
use super::fault;
use crate::BusError;

/// A client for requests, outside groups. It is recreated after a request without a response,
/// because it may have lost all brokers for good (see [`super::context::Brokers`]). A request waits
/// some seconds for its response, which limits the rate.
pub(super) struct Probe {
    config: ClientConfig,
    client: Mutex<Arc<BaseConsumer<NoCallbacks>>>,
}

impl Probe {
    /// Creates the client.
    pub(super) fn open(config: ClientConfig) -> Result<Self, BusError> {
        let client = Mutex::new(Arc::new(connect(&config)?));
        Ok(Self { config, client })
    }

    /// Sends a request and returns the response.
    pub(super) fn request<T>(
        &self,
        operation: impl FnOnce(&BaseConsumer<NoCallbacks>) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let client = self.client();
        let response = operation(&client);
        if let Err(fault) = &response
            && fault::code(fault).is_some_and(is_silence)
        {
            self.renew(&client);
        }
        response
    }

    /// Waits 10 ms for the cluster. The poll never returns anything.
    pub(super) fn pause(&self) {
        drop(self.client().poll(Duration::from_millis(10)));
    }

    fn client(&self) -> Arc<BaseConsumer<NoCallbacks>> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn renew(&self, silent: &Arc<BaseConsumer<NoCallbacks>>) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have replaced it already.
        if Arc::ptr_eq(&client, silent) {
            match connect(&self.config) {
                Ok(fresh) => *client = Arc::new(fresh),
                Err(error) => tracing::warn!(%error, "cannot recreate a client that got no response"),
            }
        }
    }
}

fn connect(config: &ClientConfig) -> Result<BaseConsumer<NoCallbacks>, BusError> {
    config.create_with_context(NoCallbacks).map_err(|fault| fault::bus("cannot set up a client", &fault))
}

/// True if there was no response, or if the client may have lost all brokers.
fn is_silence(code: Code) -> bool {
    fault::is_silence(code)
        || matches!(
            code,
            Code::WaitingForCoordinator
                // A client without brokers reports unknown partitions at once. Real partitions are
                // known, or will be soon.
                | Code::UnknownPartition
                | Code::UnknownTopic
        )
}
