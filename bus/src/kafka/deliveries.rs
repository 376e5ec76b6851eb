//! The outcome of the records that a producer was given.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::fault;

/// The context of a producer. It counts what is in flight, by the queue (a partition of one append) that each record came from.
///
/// Reports arrive on the thread that polls the producer. The thread that sent the records waits here, and is woken when its condition
/// holds.
#[derive(Default)]
pub(super) struct Deliveries {
    state: Mutex<State>,
    /// Signalled when there is something to poll for, and when the producer ends.
    work: Condvar,
    /// Signalled when a queue has nothing in flight any more, and at the first fault.
    settled: Condvar,
}

#[derive(Default)]
struct State {
    /// How many records of each queue are in flight. As many as the partitions of one append.
    queues: Vec<usize>,
    /// The queues with a record that was not delivered.
    failed: BTreeSet<usize>,
    /// How many of all queues.
    in_flight: usize,
    /// How many reports have come, of any outcome.
    reports: u64,
    /// Why the first record that was not delivered was not, since the last [`Deliveries::begin`].
    fault: Option<RDKafkaErrorCode>,
    /// The sender waits for single queues, not for all of them.
    each_queue: bool,
    closed: bool,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// A queue, or all of them, as was asked for, has nothing in flight.
    Settled,
    /// A record was not delivered.
    Failed(RDKafkaErrorCode),
    /// Reports came, but the wait goes on.
    Progressed,
    /// Nothing came.
    Silent,
}

impl Deliveries {
    /// Starts with so many queues, nothing in flight and no fault.
    pub(super) fn begin(&self, queues: usize) {
        let mut state = self.state();
        // A report that is still to come of something older finds no queue, and is ignored.
        *state = State { queues: vec![0; queues], closed: state.closed, ..State::default() };
    }

    /// A record of this queue is about to be sent.
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

    /// The record was not taken by the producer after all.
    pub(super) fn not_sent(&self, queue: usize) {
        self.report(queue, None);
    }

    /// How many records of each queue are in flight.
    pub(super) fn queues(&self) -> Vec<usize> {
        self.state().queues.clone()
    }

    /// How many records are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// For each queue, whether a record of it is in flight or was not delivered.
    pub(super) fn open_queues(&self) -> Vec<bool> {
        let state = self.state();
        let is_open = |(queue, in_flight): (usize, &usize)| *in_flight > 0 || state.failed.contains(&queue);
        state.queues.iter().enumerate().map(is_open).collect()
    }

    /// Waits, at most for `most`, until one of `queues` has nothing in flight, or until none of all has where `queues` is empty.
    pub(super) fn wait(&self, most: Duration, queues: &[usize]) -> Waited {
        let mut state = self.state();
        state.each_queue = !queues.is_empty();
        let before = state.reports;
        let is_settled = |state: &State| {
            if queues.is_empty() { state.in_flight == 0 } else { queues.iter().any(|queue| state.queues[*queue] == 0) }
        };
        let waits = |state: &mut State| state.fault.is_none() && !is_settled(state);
        let waited = self.settled.wait_timeout_while(state, most, waits);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.fault {
            Some(code) => Waited::Failed(code),
            None if is_settled(&state) => Waited::Settled,
            None if state.reports > before => Waited::Progressed,
            None => Waited::Silent,
        }
    }

    /// Waits until there is something to poll for. False when the producer ends.
    pub(super) fn wait_for_work(&self) -> bool {
        let waited = self.work.wait_while(self.state(), |state| state.in_flight == 0 && !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).closed
    }

    /// The producer ends.
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

    /// The value behind this lock is whole at all times: a panic elsewhere cannot have broken it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

super::context::speaks_through_tracing!(Deliveries, |_, _| ());

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
    fn a_wait_for_one_of_some_queues_ends_when_it_has_nothing_in_flight() {
        let deliveries = Deliveries::default();
        deliveries.begin(3);
        for queue in [0, 0, 1, 2] {
            deliveries.sends(queue);
        }
        assert_eq!(deliveries.wait(NOW, &[0, 1]), Waited::Silent);
        deliveries.report(2, None);
        deliveries.report(0, None);
        assert_eq!((deliveries.queues(), deliveries.in_flight()), (vec![1, 1, 0], 2));
        assert_eq!(deliveries.wait(NOW, &[0, 1]), Waited::Silent, "what came before the wait is no progress");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| deliveries.wait(LONG, &[1]));
            // Whether it waits already or not, it hears of it.
            deliveries.report(0, None);
            deliveries.report(1, None);
            assert_eq!(waiting.join().expect("no panic"), Waited::Settled);
        });
        assert_eq!(deliveries.wait(NOW, &[]), Waited::Settled);
    }

    #[test]
    fn the_first_fault_ends_a_wait_and_stays_until_the_next_append() {
        let deliveries = Deliveries::default();
        deliveries.begin(1);
        for queue in [0, 0] {
            deliveries.sends(queue);
        }
        deliveries.report(0, Some(CODE));
        deliveries.report(0, Some(RDKafkaErrorCode::Fail));
        assert_eq!(deliveries.wait(NOW, &[]), Waited::Failed(CODE));
        assert_eq!(deliveries.open_queues(), [true]);
        deliveries.begin(1);
        assert_eq!(deliveries.wait(NOW, &[]), Waited::Settled);
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
