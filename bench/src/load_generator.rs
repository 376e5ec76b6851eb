//! A load generator: a fixed number of clients, each of which sends its next request after its
//! answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, BusError, MonoTime, Outgoing, Record};
use serde_json::{Value, json};
use wire::{Envelope, Kind, OperationId};

/// The maximum time without any answer. An unanswered append fails after about 20 s and is retried.
const TIMEOUT_MS: u64 = 60_000;
/// The interval between sends at a fixed rate.
const SEND_INTERVAL: Duration = Duration::from_millis(20);

/// The topics and the rate of a load.
pub(crate) struct LoadGenerator<'a> {
    pub(crate) bus: &'a dyn Bus,
    pub(crate) inbox: String,
    pub(crate) egress: String,
    pub(crate) lanes: u32,
    /// The number of clients.
    pub(crate) in_flight: usize,
    /// The maximum rate of requests per second; `None` for no limit.
    pub(crate) per_s: Option<u32>,
    /// True if answers may repeat, as they do in at-least-once mode after a write of unknown
    /// outcome.
    pub(crate) may_repeat: bool,
    /// Returns true if a task under test failed, so that no more answers can come.
    pub(crate) has_failed: &'a dyn Fn() -> bool,
}

impl LoadGenerator<'_> {
    /// Requests `total` operations and checks that each succeeds. `request` makes the next request
    /// of a client. `on_answer` gets the number of answers so far and the latency of this one.
    ///
    /// # Errors
    /// An operation fails or is answered twice, or the load times out.
    pub(crate) fn run(
        &self,
        total: usize,
        mut request: impl FnMut(usize) -> Operation,
        mut on_answer: impl FnMut(usize, Duration) -> anyhow::Result<()>,
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
        // A retried append may write its requests twice.
        let mut may_repeat = self.may_repeat;
        let (mut asked, mut answered) = (0, 0);
        let begun = clock.mono();
        let mut until = begun.plus_ms(TIMEOUT_MS);
        while answered < total {
            let due = self.due(clock.mono().since(begun)).min(total);
            while asked < due
                && let Some(client) = free.pop()
            {
                let (id, record) = request(client).request(&self.inbox);
                waiting.insert(id, (client, clock.mono()));
                batch.push(record);
                asked += 1;
            }
            match writer.append(&batch) {
                Ok(()) => batch.clear(),
                Err(BusError::Unavailable(reason)) => {
                    eprintln!("bench: retrying an append: {reason}");
                    may_repeat = true;
                }
                Err(error) => return Err(error.into()),
            }
            answers.clear();
            // A poll may return no records: it also handles cluster events.
            let wait = if self.per_s.is_some() { SEND_INTERVAL } else { Duration::from_secs(1) };
            reader.poll(10_000, wait, &mut answers)?;
            let now = clock.mono();
            if !answers.is_empty() || waiting.is_empty() {
                until = now.plus_ms(TIMEOUT_MS);
            }
            anyhow::ensure!(!(self.has_failed)(), "a task failed after {answered} answers");
            anyhow::ensure!(now < until, "no answer for {TIMEOUT_MS} ms, after {answered} answers");
            for answer in &answers {
                let operation = answer.headers.envelope()?.operation.context("an answer names its operation")?;
                let Some((client, at)) = waiting.remove(&operation) else {
                    may_repeat |= self.bus.health().appends_retried > 0;
                    anyhow::ensure!(may_repeat, "{operation} was answered twice or never requested");
                    continue;
                };
                let text = String::from_utf8_lossy(&answer.value);
                anyhow::ensure!(text.contains("\"done\""), "an operation failed: {text}");
                free.push(client);
                answered += 1;
                on_answer(answered, now.since(at))?;
            }
        }
        Ok(())
    }

    /// The number of requests that are due after this time.
    fn due(&self, after: Duration) -> usize {
        let Some(per_s) = self.per_s else { return usize::MAX };
        usize::try_from(after.as_millis() * u128::from(per_s) / 1_000).unwrap_or(usize::MAX)
    }
}

/// An operation to request.
pub(crate) struct Operation {
    /// The name of the operation, unique in its inbox.
    pub(crate) name: String,
    pub(crate) flow: String,
    pub(crate) body: Value,
}

impl Operation {
    /// Creates a flow of `length` rules.
    pub(crate) fn create(name: String, flow: String, length: u32) -> Self {
        let body = json!({"workflow": "create-flow", "request": {"flowid": flow, "length": length, "error": null}});
        Self { name, flow, body }
    }

    /// Returns the id of the operation and its request record.
    pub(crate) fn request(self, inbox: &str) -> (OperationId, Outgoing) {
        let envelope = Envelope::new(Kind::Request, self.name, "/bench");
        let id = envelope.requested_operation("flows", &self.flow);
        (id, Outgoing::keyed(inbox, self.flow, self.body.to_string()).with(&envelope))
    }
}

/// Clients that create and remove flows of one to three rules. Each reuses its own flow names, so
/// that the registry of flows stays bounded.
pub(crate) struct CreateAndRemove {
    asked: Vec<usize>,
}

impl CreateAndRemove {
    /// The number of flow names per client.
    const NAMES: usize = 16;

    /// Creates this number of clients.
    pub(crate) fn new(clients: usize) -> Self {
        Self { asked: vec![0; clients] }
    }

    /// The next operation of a client.
    pub(crate) fn next(&mut self, client: usize) -> Operation {
        let asked = &mut self.asked[client];
        let (pair, is_create) = (*asked / 2, asked.is_multiple_of(2));
        let (operation, flow) = (format!("by-{client}-{asked}"), format!("of-{client}-{}", pair % Self::NAMES));
        *asked += 1;
        if is_create {
            return Operation::create(operation, flow, u32::try_from(pair % 3).unwrap_or(0) + 1);
        }
        let body = json!({"workflow": "remove-flow", "request": {"flowid": flow}});
        Operation { name: operation, flow, body }
    }
}
