//! Asks for operations, so many at once: each of those that ask asks again when it has its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, BusError, MonoTime, Outgoing, Record};
use serde_json::{Value, json};
use wire::{Envelope, Kind, OperationId};

/// Without any answer for this long, something is broken. An append that gets no answer is given up after some 20 s, and is tried again.
const PATIENCE_MS: u64 = 60_000;
/// Where so many a second are asked for, what is due is looked for so often.
const PACE: Duration = Duration::from_millis(20);

/// Over which topics is asked, and how fast.
pub(crate) struct Asking<'a> {
    pub(crate) bus: &'a dyn Bus,
    pub(crate) inbox: String,
    pub(crate) egress: String,
    pub(crate) lanes: u32,
    /// So many ask.
    pub(crate) in_flight: usize,
    /// So many are asked for in a second at most; none: as many as are answered.
    pub(crate) per_s: Option<u32>,
    /// True where effects leave before their commit: then an answer may come again, after a write whose outcome nobody knew.
    pub(crate) may_repeat: bool,
    /// Whether what answers has ended with a fault, so that nothing more can come.
    pub(crate) has_failed: &'a dyn Fn() -> bool,
}

impl Asking<'_> {
    /// Asks for so many operations, each of which is to be done. `ask` is told who asks; `heard` is told, for each answer, how many there
    /// are with it and how long it took.
    pub(crate) fn run(
        &self,
        total: usize,
        mut ask: impl FnMut(usize) -> Ask,
        mut heard: impl FnMut(usize, Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let clock = self.bus.clock();
        let mut writer = self.bus.writer("asking")?;
        let mut reader = self.bus.reader()?;
        for lane in 0..self.lanes {
            reader.assign(&self.egress, lane, self.bus.bounds(&self.egress, lane)?.end)?;
        }
        let mut waiting: BTreeMap<OperationId, (usize, MonoTime)> = BTreeMap::new();
        let mut free: Vec<usize> = (0..self.in_flight).collect();
        let (mut batch, mut answers): (Vec<Outgoing>, Vec<Record>) = (Vec::new(), Vec::new());
        // Requests that were appended without an answer may be there twice.
        let mut may_repeat = self.may_repeat;
        let (mut asked, mut answered) = (0, 0);
        let begun = clock.mono();
        let mut until = begun.plus_ms(PATIENCE_MS);
        while answered < total {
            let due = self.due(clock.mono().since(begun)).min(total);
            while asked < due
                && let Some(who) = free.pop()
            {
                let (id, request) = ask(who).request(&self.inbox);
                waiting.insert(id, (who, clock.mono()));
                batch.push(request);
                asked += 1;
            }
            match writer.append(&batch) {
                Ok(()) => batch.clear(),
                Err(BusError::Unavailable(reason)) => {
                    eprintln!("bench: an append is tried again: {reason}");
                    may_repeat = true;
                }
                Err(error) => return Err(error.into()),
            }
            answers.clear();
            // It may come back with nothing: there is news of the cluster too.
            let wait = if self.per_s.is_some() { PACE } else { Duration::from_secs(1) };
            reader.poll(10_000, wait, &mut answers)?;
            let now = clock.mono();
            if !answers.is_empty() || waiting.is_empty() {
                until = now.plus_ms(PATIENCE_MS);
            }
            anyhow::ensure!(!(self.has_failed)(), "a part ended with a fault; {answered} answers came");
            anyhow::ensure!(now < until, "no answer for {PATIENCE_MS} ms; {answered} came");
            for answer in &answers {
                let operation = answer.headers.envelope()?.operation.context("an answer names its operation")?;
                let Some((who, at)) = waiting.remove(&operation) else {
                    may_repeat |= self.bus.health().appends_retried > 0;
                    anyhow::ensure!(may_repeat, "{operation} was answered again, or was never asked for");
                    continue;
                };
                let text = String::from_utf8_lossy(&answer.value);
                anyhow::ensure!(text.contains("\"done\""), "an operation failed: {text}");
                free.push(who);
                answered += 1;
                heard(answered, now.since(at))?;
            }
        }
        Ok(())
    }

    /// How many may have been asked for after this time.
    fn due(&self, after: Duration) -> usize {
        let Some(per_s) = self.per_s else { return usize::MAX };
        usize::try_from(after.as_millis() * u128::from(per_s) / 1_000).unwrap_or(usize::MAX)
    }
}

/// What is asked for.
pub(crate) struct Ask {
    /// The operation's name among all that are asked for over one inbox.
    pub(crate) operation: String,
    pub(crate) flow: String,
    pub(crate) body: Value,
}

impl Ask {
    /// A flow of so many rules.
    pub(crate) fn create(operation: String, flow: String, length: u32) -> Self {
        let body = json!({"workflow": "create-flow", "request": {"flowid": flow, "length": length, "error": null}});
        Self { operation, flow, body }
    }

    /// As a record, with its operation.
    pub(crate) fn request(self, inbox: &str) -> (OperationId, Outgoing) {
        let envelope = Envelope::new(Kind::Request, self.operation, "/bench");
        let id = envelope.requested_operation("flows", &self.flow);
        (id, Outgoing::keyed(inbox, self.flow, self.body.to_string()).with(&envelope))
    }
}

/// Those that ask for flows of one to three rules and remove them again, each on names of its own: so the registry of flows is bounded.
pub(crate) struct CreateAndRemove {
    asked: Vec<usize>,
}

impl CreateAndRemove {
    /// Each has so many names, and takes one after the other.
    const NAMES: usize = 16;

    /// So many.
    pub(crate) fn new(clients: usize) -> Self {
        Self { asked: vec![0; clients] }
    }

    /// What one of them asks next.
    pub(crate) fn next(&mut self, who: usize) -> Ask {
        let asked = &mut self.asked[who];
        let (pair, is_create) = (*asked / 2, asked.is_multiple_of(2));
        let (operation, flow) = (format!("by-{who}-{asked}"), format!("of-{who}-{}", pair % Self::NAMES));
        *asked += 1;
        if is_create {
            return Ask::create(operation, flow, u32::try_from(pair % 3).unwrap_or(0) + 1);
        }
        let body = json!({"workflow": "remove-flow", "request": {"flowid": flow}});
        Ask { operation, flow, body }
    }
}
