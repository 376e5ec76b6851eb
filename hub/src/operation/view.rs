//! The published view of an operation.

use topology::DueTimes;
use wire::WallTime;
use wire::answer::{Operation, PendingCall, Step, Until};

use super::{CallState, OpenStep, OperationStatus, REFUSED, Running, call_id, count};
use crate::machine::Workflows;

/// Returns the client's deadline, which ends a queued operation.
fn expiry(at: WallTime) -> Until {
    Until { what: "the deadline of its client".to_owned(), at: Some(at) }
}

impl<W: Workflows> Running<W> {
    /// Returns the state name in views.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.standing {
            OperationStatus::Queued => "queued",
            OperationStatus::Parked(_) => "parked",
            OperationStatus::Cancelled => "cancelled",
            OperationStatus::Refused => REFUSED,
            OperationStatus::Aborted => "aborted",
            OperationStatus::Running | OperationStatus::Ended => self.machine.0.state(),
        }
    }

    /// True if it is running and not answered.
    pub(crate) fn is_active(&self) -> bool {
        self.standing == OperationStatus::Running && self.answer.is_none()
    }

    pub(crate) fn view(&self, timers: Option<(&dyn DueTimes, u64)>) -> Operation {
        let live = !self.standing.is_over();
        let step = self.open.as_ref().map(|open| Step {
            number: open.number,
            name: open.name.to_owned(),
            calls: count(open.calls.len()),
            done: count(open.count(CallState::Done)),
            pending: self.pending(open),
        });
        let at = timers.and_then(|(timers, timer)| timers.due(timer));
        let person = self.signal.map(|awaited| Until { what: awaited.what.to_owned(), at });
        let until = person.or_else(|| self.timer.as_ref().map(|timer| Until { what: timer.what.to_owned(), at }));
        let until = until.or_else(|| self.expires.filter(|_| self.standing == OperationStatus::Queued).map(expiry));
        Operation {
            operation: self.id.clone(),
            key: self.key.to_string(),
            workflow: self.machine.0.workflow().to_owned(),
            state: self.state_name().to_owned(),
            live,
            queue: None,
            step: step.filter(|_| live),
            until,
            signal: self.signal.map(|awaited| awaited.signal.to_owned()),
            history: self.history.clone(),
            answer: self.answer.clone(),
        }
    }

    fn pending(&self, open: &OpenStep) -> Vec<PendingCall> {
        let pending = open.calls.iter().enumerate().filter(|(_, call)| call.state == CallState::Open);
        pending
            .take(Step::MAX_PENDING)
            .map(|(i, call)| PendingCall {
                call: call_id(&self.id, open.number, i),
                what: call.spec.what.clone(),
                service: call.spec.service.to_owned(),
                conversation: None,
            })
            .collect()
    }
}
