//! The records of a flow without the engine: one loop reads, counts and writes, another replies.
//! Their cost is that of the bus; the difference to a flow is the cost of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{
    Arrival, Batch, Bus, BusError, Clock, CommitError, Member, MemberSpec, MonoTime, Outgoing, Position, Record, Task,
};
use bus::{PollOutcome, Route, Writer};
use topology::DeliveryMode;
use wire::{CallId, Envelope, Kind, OperationId};

/// The calls of a flow of length 10: it installs its rules and reads them back.
const CALLS: u32 = 20;
/// The maximum number of records per poll, as in a shard.
const MAX_POLL: usize = 5_000;
/// The time limit for retries of an append or a commit.
const TIMEOUT_MS: u64 = 60_000;
/// The interval between offset commits in at-least-once mode, as in a shard.
const COMMIT_EVERY_MS: u64 = 1_000;

/// Reads requests and replies; writes calls and answers.
pub(super) struct BareHub {
    member: Box<dyn Member>,
    writer: Box<dyn Writer>,
    clock: Arc<dyn Clock>,
    inbox: String,
    spoke: Arc<str>,
    egress: Arc<str>,
    mode: DeliveryMode,
    replies: BTreeMap<OperationId, u32>,
    positions: BTreeMap<u32, u64>,
    saved: MonoTime,
}

impl BareHub {
    pub(super) fn join(
        bus: &dyn Bus,
        (inbox, egress): (&str, &str),
        spoke: &str,
        name: &str,
        mode: DeliveryMode,
    ) -> Result<Self, BusError> {
        Ok(Self {
            member: bus.member(&MemberSpec::new(inbox, inbox, name))?,
            writer: bus.writer(name)?,
            clock: bus.clock(),
            spoke: spoke.into(),
            egress: egress.into(),
            inbox: inbox.to_owned(),
            mode,
            replies: BTreeMap::new(),
            positions: BTreeMap::new(),
            saved: MonoTime::default(),
        })
    }

    fn handle(&mut self, record: &Record, out: &mut Vec<Outgoing>) {
        let envelope = record.headers.envelope().expect("the load writes envelopes");
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).expect("the load writes keys");
        let (operation, done) = match envelope.operation {
            None => (envelope.requested_operation("flows", key), 0),
            Some(operation) => {
                let done = 1 + self.replies.get(&operation).copied().unwrap_or(0);
                (operation, done)
            }
        };
        self.replies.insert(operation.clone(), done);
        let half = CALLS / 2;
        if done == 0 || done == half {
            out.extend((1..=half).map(|n| self.call(&operation, done / half + 1, n, record.partition)));
        } else if done == CALLS {
            self.replies.remove(&operation);
            let mut answer = Envelope::new(Kind::Answer, format!("{operation}:answer"), "/bare/hub");
            answer.operation = Some(operation.clone());
            answer.time = Some(self.clock.wall());
            let body = r#"{"outcome":"done","message":"all operation is successful"}"#;
            let mut record = Outgoing::keyed("", operation.to_string(), body).with(&answer).to(record.partition);
            record.topic = Arc::clone(&self.egress);
            out.push(record);
        }
    }

    fn call(&self, operation: &OperationId, step: u32, n: u32, lane: u32) -> Outgoing {
        let call = CallId::new(operation.clone(), step, n);
        let mut envelope = Envelope::new(Kind::Call, format!("{call}/speaker/1"), "/bare/hub");
        let now = self.clock.wall();
        (envelope.time, envelope.expires) = (Some(now), Some(now.plus_ms(1_600)));
        envelope.operation = Some(operation.clone());
        envelope.call = Some(call);
        envelope.attempt = Some(1);
        envelope.reply_to = Some(self.inbox.clone());
        envelope.reply_partition = Some(lane);
        let switch = format!("of:{n:02}");
        let body = format!(
            r#"{{"command":"install","rule":{{"switch":"{switch}","flow":"{operation}","number":{n},"cookie":17,"meter":3}}}}"#
        );
        let mut record = Outgoing::keyed("", switch, body).with(&envelope);
        record.topic = Arc::clone(&self.spoke);
        record
    }

    fn write(&mut self, records: Vec<Outgoing>) -> Result<(), BusError> {
        let now = self.clock.mono();
        let positions = |positions: &BTreeMap<u32, u64>| {
            positions
                .iter()
                .map(|(partition, next)| Position { partition: *partition, next: *next, metadata: "bare".into() })
                .collect()
        };
        match self.mode {
            DeliveryMode::ExactlyOnce => {
                commit(&mut *self.member, &*self.clock, &Batch { records, positions: positions(&self.positions) })
            }
            DeliveryMode::AtLeastOnce => {
                append(&mut *self.writer, &*self.clock, &records)?;
                if now.since(self.saved) < Duration::from_millis(COMMIT_EVERY_MS) {
                    return Ok(());
                }
                self.saved = now;
                let batch = Batch { records: Vec::new(), positions: positions(&self.positions) };
                commit(&mut *self.member, &*self.clock, &batch)
            }
        }
    }
}

/// Commits once, as a lane does: retries a failed commit, and settles one of unknown outcome.
fn commit(member: &mut dyn Member, clock: &dyn Clock, batch: &Batch) -> Result<(), BusError> {
    let end = clock.mono().plus_ms(TIMEOUT_MS);
    loop {
        let (error, is_unknown) = match member.commit(batch) {
            Ok(()) => return Ok(()),
            Err(CommitError::Failed(error)) => (error, false),
            Err(CommitError::Unknown(error)) => (error, true),
            Err(CommitError::Fenced(reason)) => return Err(BusError::Unavailable(reason)),
        };
        if !may_retry(&error, clock, end) {
            return Err(error);
        }
        eprintln!("bench: retrying a commit: {error}");
        if is_unknown && let Some(Position { partition, next, .. }) = batch.positions.first() {
            let committed = member.take_over(*partition)?.committed;
            if committed.is_some_and(|committed| committed.next >= *next) {
                return Ok(());
            }
        }
    }
}

/// Appends at least once.
fn append(writer: &mut dyn Writer, clock: &dyn Clock, records: &[Outgoing]) -> Result<(), BusError> {
    let end = clock.mono().plus_ms(TIMEOUT_MS);
    loop {
        match writer.append(records) {
            Err(error) if may_retry(&error, clock, end) => {
                eprintln!("bench: retrying an append: {error}");
            }
            done => return done,
        }
    }
}

fn may_retry(error: &BusError, clock: &dyn Clock, end: MonoTime) -> bool {
    matches!(error, BusError::Unavailable(_)) && clock.mono() < end
}

/// Polls: starts assigned partitions and returns the records.
fn poll(member: &mut dyn Member, wait: Duration, positions: &mut BTreeMap<u32, u64>) -> Result<Vec<Record>, BusError> {
    let (mut arrivals, mut records) = (Vec::new(), Vec::new());
    member.poll(MAX_POLL, wait, &mut arrivals)?;
    for arrival in arrivals {
        match arrival {
            Arrival::Assigned(partitions) => {
                for partition in partitions {
                    let low = member.take_over(partition)?.low;
                    member.start(partition, low)?;
                }
            }
            Arrival::Record(record) => {
                positions.insert(record.partition, record.offset + 1);
                records.push(record);
            }
            Arrival::Revoking(_) | Arrival::Lost(_) => {
                return Err(BusError::Unavailable("a bare loop must be the only member of its group".into()));
            }
        }
    }
    Ok(records)
}

impl Task for BareHub {
    fn name(&self) -> &'static str {
        "bare hub"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let records = poll(&mut *self.member, wait, &mut self.positions)?;
        let mut out = Vec::new();
        for record in &records {
            self.handle(record, &mut out);
        }
        if !records.is_empty() {
            self.write(out)?;
        }
        Ok(PollOutcome { worked: !records.is_empty(), next: None })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}

/// Replies to every call, outside of transactions.
pub(super) struct BareSpoke {
    member: Box<dyn Member>,
    writer: Box<dyn Writer>,
    clock: Arc<dyn Clock>,
    positions: BTreeMap<u32, u64>,
}

impl BareSpoke {
    pub(super) fn join(bus: &dyn Bus, topic: &str, name: &str) -> Result<Self, BusError> {
        let member = bus.member(&MemberSpec::new(topic, topic, name))?;
        Ok(Self { member, writer: bus.writer(name)?, clock: bus.clock(), positions: BTreeMap::new() })
    }

    fn reply(&self, record: &Record) -> Outgoing {
        let envelope = record.headers.envelope().expect("the hub writes envelopes");
        let mut reply = envelope.answered(Kind::Reply, "/bare/spoke");
        reply.time = Some(self.clock.wall());
        let topic = envelope.reply_to.unwrap_or_default();
        let route = envelope.reply_partition.map_or(Route::ByKey, Route::To);
        let body = r#"{"result":"installed","existed":false}"#;
        let mut record = Outgoing::keyed(&topic, record.key.clone().unwrap_or_default(), body).with(&reply);
        record.route = route;
        record
    }
}

impl Task for BareSpoke {
    fn name(&self) -> &'static str {
        "bare spoke"
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        let records = poll(&mut *self.member, wait, &mut self.positions)?;
        let replies: Vec<Outgoing> = records.iter().map(|record| self.reply(record)).collect();
        append(&mut *self.writer, &*self.clock, &replies)?;
        Ok(PollOutcome { worked: !records.is_empty(), next: None })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        Vec::new()
    }
}
