//! Delivery state of the records that were passed to a producer.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::fault;

/// The context of a producer. Counts records in flight per queue; a queue is one partition of one
/// append.
///
/// The thread that polls the producer receives the reports. The sending thread waits here until its
/// condition holds.
#[derive(Default)]
pub(super) struct Deliveries {
    state: Mutex<DeliveryState>,
    /// Signalled when the producer has something to poll for, and when it closes.
    work: Condvar,
    /// Signalled when a queue has nothing in flight, and at the first error.
    settled: Condvar,
}

#[derive(Default)]
struct DeliveryState {
    /// Number of records in flight per queue: as many entries as partitions in one append.
    queues: Vec<usize>,
    /// Queues with a failed record.
    failed: BTreeSet<usize>,
    /// Number of records in flight in all queues.
    in_flight: usize,
    /// Number of reports, successful or not.
    reports: u64,
    /// The first error since the last [`Deliveries::begin`].
    fault: Option<RDKafkaErrorCode>,
    /// The sender waits for single queues, not for all of them.
    each_queue: bool,
    closed: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitOutcome {
    /// One of the given queues, or every queue, has nothing in flight.
    Settled,
    /// A record was not delivered.
    Failed(RDKafkaErrorCode),
    /// Reports arrived, but the condition does not hold yet.
    Progressed,
    /// No report arrived.
    Silent,
}

impl Deliveries {
    /// Starts an append with this many queues: nothing in flight, no error.
    pub(super) fn begin(&self, queues: usize) {
        let mut state = self.state();
        // Late reports of an older append find no queue and are ignored.
        *state = DeliveryState { queues: vec![0; queues], closed: state.closed, ..DeliveryState::default() };
    }

    /// Counts a record that is about to be sent.
    pub(super) fn sends(&self, queue: usize) {
        let mut state = self.state();
        state.queues[queue] += 1;
        state.in_flight += 1;
        let is_first = state.in_flight == 1;
        drop(state);
        if is_first {
            self.work.notify_one();
        }
    }

    /// Uncounts a record that the producer rejected.
    pub(super) fn not_sent(&self, queue: usize) {
        self.report(queue, None);
    }

    /// Returns the number of records in flight per queue.
    pub(super) fn queues(&self) -> Vec<usize> {
        self.state().queues.clone()
    }

    /// Returns the number of records in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// Returns, for each queue, whether a record is in flight or has failed.
    pub(super) fn open_queues(&self) -> Vec<bool> {
        let state = self.state();
        let is_open = |(queue, in_flight): (usize, &usize)| *in_flight > 0 || state.failed.contains(&queue);
        state.queues.iter().enumerate().map(is_open).collect()
    }

    /// Waits, at most `limit`, until one of `queues` has nothing in flight. If `queues` is empty,
    /// waits for all queues.
    pub(super) fn wait(&self, limit: Duration, queues: &[usize]) -> WaitOutcome {
        let mut state = self.state();
        state.each_queue = !queues.is_empty();
        let before = state.reports;
        let is_settled = |state: &DeliveryState| {
            if queues.is_empty() { state.in_flight == 0 } else { queues.iter().any(|queue| state.queues[*queue] == 0) }
        };
        let waits = |state: &mut DeliveryState| state.fault.is_none() && !is_settled(state);
        let waited = self.settled.wait_timeout_while(state, limit, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.fault {
            Some(code) => WaitOutcome::Failed(code),
            None if is_settled(&state) => WaitOutcome::Settled,
            None if state.reports > before => WaitOutcome::Progressed,
            None => WaitOutcome::Silent,
        }
    }

    /// Waits for this long. Does not park: that could use up a wake-up that is meant for a poll.
    pub(super) fn pause(&self, time: Duration) {
        drop(self.settled.wait_timeout(self.state(), time));
    }

    /// Waits until there is something to poll for. Returns false if the producer closes.
    pub(super) fn wait_for_work(&self) -> bool {
        let waited = self.work.wait_while(self.state(), |state| state.in_flight == 0 && !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Closes the producer's state and wakes the polling thread.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
    }

    fn report(&self, queue: usize, fault: Option<RDKafkaErrorCode>) {
        let mut state = self.state();
        let Some(in_flight) = state.queues.get_mut(queue).filter(|in_flight| **in_flight > 0) else { return };
        *in_flight -= 1;
        let is_settled = *in_flight == 0;
        state.in_flight -= 1;
        state.reports += 1;
        if fault.is_some() {
            state.failed.insert(queue);
        }
        let is_first_fault = fault.is_some() && state.fault.is_none();
        state.fault = state.fault.or(fault);
        let wakes = is_first_fault || state.in_flight == 0 || (is_settled && state.each_queue);
        drop(state);
        if wakes {
            self.settled.notify_one();
        }
    }

    /// The state is consistent at all times, so a poisoned lock is harmless.
    fn state(&self) -> MutexGuard<'_, DeliveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

super::context::log_to_tracing!(Deliveries, |_, _| (), |_| ());

impl ProducerContext for Deliveries {
    /// The queue of the record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, queue: usize) {
        let code = |fault| fault::code(fault).unwrap_or(RDKafkaErrorCode::Unknown);
        self.report(queue, result.as_ref().err().map(|(fault, _)| code(fault)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_mins(1);
    const CODE: RDKafkaErrorCode = RDKafkaErrorCode::MessageTimedOut;

    #[test]
    fn a_wait_for_one_of_several_queues_ends_when_that_queue_is_empty() {
        let deliveries = Deliveries::default();
        deliveries.begin(3);
        for queue in [0, 0, 1, 2] {
            deliveries.sends(queue);
        }
        assert_eq!(deliveries.wait(NOW, &[0, 1]), WaitOutcome::Silent);
        deliveries.report(2, None);
        deliveries.report(0, None);
        assert_eq!((deliveries.queues(), deliveries.in_flight()), (vec![1, 1, 0], 2));
        assert_eq!(deliveries.wait(NOW, &[0, 1]), WaitOutcome::Silent, "earlier reports do not count as progress");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| deliveries.wait(LONG, &[1]));
            // Works whether or not the other thread is already waiting.
            deliveries.report(0, None);
            deliveries.report(1, None);
            assert_eq!(waiting.join().expect("no panic"), WaitOutcome::Settled);
        });
        assert_eq!(deliveries.wait(NOW, &[]), WaitOutcome::Settled);
    }

    #[test]
    fn the_first_error_ends_a_wait_and_stays_until_the_next_append() {
        let deliveries = Deliveries::default();
        deliveries.begin(1);
        for queue in [0, 0] {
            deliveries.sends(queue);
        }
        deliveries.report(0, Some(CODE));
        deliveries.report(0, Some(RDKafkaErrorCode::Fail));
        assert_eq!(deliveries.wait(NOW, &[]), WaitOutcome::Failed(CODE));
        assert_eq!(deliveries.open_queues(), [true]);
        deliveries.begin(1);
        assert_eq!(deliveries.wait(NOW, &[]), WaitOutcome::Settled);
        assert_eq!(deliveries.open_queues(), [false]);
    }

    #[test]
    fn a_report_of_an_older_append_is_ignored() {
        let deliveries = Deliveries::default();
        deliveries.begin(2);
        deliveries.sends(1);
        deliveries.begin(1);
        deliveries.report(1, Some(CODE));
        deliveries.report(0, Some(CODE));
        assert_eq!((deliveries.in_flight(), deliveries.open_queues()), (0, vec![false]));
    }

    #[test]
    fn the_polling_thread_waits_until_something_is_in_flight() {
        let deliveries = Deliveries::default();
        deliveries.begin(1);
        std::thread::scope(|scope| {
            let polling = scope.spawn(|| deliveries.wait_for_work());
            deliveries.sends(0);
            assert!(polling.join().expect("no panic"));
        });
        deliveries.close();
        assert!(!deliveries.wait_for_work());
    }
}
