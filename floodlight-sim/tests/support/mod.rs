//! The speaker on the embedded bus, with commits that fare as a test says.
#![expect(dead_code, reason = "each test file uses some of it")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{
    Arrival, Batch, Bounds, Bus, BusError, Clock, CommitError, Embedded, EmbeddedOptions, ManualClock, Member,
    MemberSpec, Outgoing, Part, Position, Reader, Record, Takeover, TopicInfo, TopicSpec, Turn, Writer,
};
use floodlight_sim::{Deed, Fault, FaultKind, Match, SpeakerHandle, SpeakerOptions, SpeakerPart};
use wire::speaker::{Action, Command, Rule, SwitchId};
use wire::{CallId, Envelope, Kind, OperationId};

pub(crate) const TOPIC: &str = "nave.spoke.speaker";
pub(crate) const INBOX: &str = "nave.flows.hub.in";

/// What becomes of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Fails,
    IsFenced,
    HappensInSilence,
    IsLostInSilence,
}

/// A member whose next commits have these fates.
pub(crate) struct Fated {
    member: Box<dyn Member>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    commits: Arc<Mutex<Vec<Position>>>,
}

impl Member for Fated {
    fn poll(&mut self, max: usize, wait: Duration, out: &mut Vec<Arrival>) -> Result<(), BusError> {
        self.member.poll(max, wait, out)
    }

    fn take_over(&mut self, partition: u32) -> Result<Takeover, BusError> {
        self.member.take_over(partition)
    }

    fn start(&mut self, partition: u32, from: u64) -> Result<(), BusError> {
        self.member.start(partition, from)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let lost = || BusError::Unavailable("the line is dead".into());
        match self.fates.lock().unwrap().pop_front() {
            None => {
                self.member.commit(batch).inspect(|()| self.commits.lock().unwrap().extend(batch.positions.clone()))
            }
            Some(Fate::Fails) => Err(CommitError::Failed(lost())),
            Some(Fate::IsFenced) => Err(CommitError::Fenced("somebody else".into())),
            Some(Fate::IsLostInSilence) => Err(CommitError::Unknown(lost())),
            Some(Fate::HappensInSilence) => {
                self.member.commit(batch).unwrap();
                Err(CommitError::Unknown(lost()))
            }
        }
    }

    fn release(&mut self, partitions: &[u32]) -> Result<(), BusError> {
        self.member.release(partitions)
    }

    fn leave(self: Box<Self>) -> Result<(), BusError> {
        self.member.leave()
    }
}

/// A writer whose next appends fail, so many of them.
pub(crate) struct Broken {
    writer: Box<dyn Writer>,
    failures: Arc<AtomicU32>,
}

impl Writer for Broken {
    fn append(&mut self, records: &[Outgoing]) -> Result<(), BusError> {
        let one_less = |failures: u32| failures.checked_sub(1);
        match self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Err(BusError::Unavailable("the line is dead".into())),
            Err(_) => self.writer.append(records),
        }
    }
}

/// A bus whose writers are such.
pub(crate) struct Weak {
    bus: Embedded,
    failures: Arc<AtomicU32>,
}

impl Bus for Weak {
    fn ensure_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BusError> {
        self.bus.ensure_topic(spec)
    }

    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BusError> {
        self.bus.topic(name)
    }

    fn bounds(&self, topic: &str, partition: u32) -> Result<Bounds, BusError> {
        self.bus.bounds(topic, partition)
    }

    fn member(&self, spec: &MemberSpec) -> Result<Box<dyn Member>, BusError> {
        self.bus.member(spec)
    }

    fn members(&self, group: &str) -> Result<usize, BusError> {
        self.bus.members(group)
    }
    fn reader(&self) -> Result<Box<dyn Reader>, BusError> {
        self.bus.reader()
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>, BusError> {
        let writer = self.bus.writer(name)?;
        Ok(Box::new(Broken { writer, failures: Arc::clone(&self.failures) }))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.bus.clock()
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Embedded,
    pub(crate) speaker: SpeakerHandle,
    /// What was committed, in order.
    pub(crate) commits: Arc<Mutex<Vec<Position>>>,
    pub(crate) fates: Arc<Mutex<VecDeque<Fate>>>,
    /// So many of the next appends fail.
    pub(crate) failures: Arc<AtomicU32>,
    pub(crate) replies: Box<dyn Reader>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let kept = EmbeddedOptions { keep_bytes: None, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, kept);
        for topic in [TOPIC, INBOX] {
            bus.ensure_topic(&TopicSpec::log(topic, 2)).unwrap();
        }
        let mut replies = bus.reader().unwrap();
        for partition in 0..2 {
            replies.assign(INBOX, partition, 0).unwrap();
        }
        Self {
            clock,
            bus,
            speaker: SpeakerHandle::new(),
            commits: Arc::default(),
            fates: Arc::default(),
            failures: Arc::default(),
            replies,
        }
    }

    pub(crate) fn part(&self, name: &str) -> Box<SpeakerPart> {
        let member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, name)).unwrap();
        let (fates, commits) = (Arc::clone(&self.fates), Arc::clone(&self.commits));
        let member = Box::new(Fated { member, fates, commits });
        Box::new(SpeakerPart::over(member, name, self.bus.clock(), self.speaker.clone()))
    }

    pub(crate) fn part_with(&self, name: &str, options: &SpeakerOptions) -> Box<SpeakerPart> {
        let bus = Weak { bus: self.bus.clone(), failures: Arc::clone(&self.failures) };
        Box::new(self.part(name).with(&bus, options).unwrap())
    }

    /// The offsets that were committed, in order, with their notes.
    pub(crate) fn positions(&self) -> Vec<(u64, String)> {
        let committed = self.commits.lock().unwrap();
        committed.iter().map(|position| (position.next, position.note.to_string())).collect()
    }

    pub(crate) fn fate(&self, fate: Fate) {
        self.fates.lock().unwrap().push_back(fate);
    }

    pub(crate) fn fault(&self, kind: FaultKind) {
        self.speaker.inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    }

    pub(crate) fn send(&self, request: Outgoing) {
        self.bus.writer("worker").unwrap().append(&[request]).unwrap();
    }

    /// The causations of the replies since the last time, and their kinds.
    pub(crate) fn told(&mut self) -> Vec<(String, Kind)> {
        let envelopes = self.replies().into_iter().map(|reply| reply.headers.envelope().unwrap());
        envelopes.map(|reply| (reply.causation.unwrap(), reply.kind)).collect()
    }

    pub(crate) fn replies(&mut self) -> Vec<Record> {
        let mut replies = Vec::new();
        self.replies.poll(1_000, Duration::ZERO, &mut replies).unwrap();
        replies
    }

    pub(crate) fn executed(&self) -> usize {
        self.speaker.audit().iter().filter(|entry| matches!(entry.deed, Deed::Executed { .. })).count()
    }

    /// The committed offset and note of the partition of [`install`]'s switch.
    pub(crate) fn committed(&self) -> (u64, String) {
        let mut member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, "observer")).unwrap();
        let mut arrivals = Vec::new();
        member.poll(10, Duration::ZERO, &mut arrivals).unwrap();
        let left = member.take_over(partition()).unwrap().committed.unwrap();
        member.leave().unwrap();
        (left.next, left.note)
    }
}

/// Turns it until it has nothing more to do.
pub(crate) fn settle(part: &mut SpeakerPart) -> Turn {
    for _ in 0..20 {
        let turn = part.turn(Duration::ZERO).unwrap();
        if !turn.worked {
            return turn;
        }
    }
    panic!("it never rests");
}

pub(crate) fn partition() -> u32 {
    wire::routing::lane_of(b"of:08", 2)
}

pub(crate) fn install(n: u32, attempt: u32) -> Outgoing {
    let rule =
        Rule { switch: SwitchId::numbered(8), flow: format!("flow-{n}").into(), number: 8, cookie: n.into(), meter: n };
    let command = Command { action: Action::Install { rule }, error: None };
    let mut envelope = Envelope::new(Kind::Call, format!("op/1/{n}/speaker/{attempt}"), "/nave/flows/hub/1");
    envelope.call = Some(CallId::new(OperationId::new("op").unwrap(), 1, n));
    envelope.attempt = Some(attempt);
    envelope.reply_to = Some(INBOX.into());
    envelope.reply_partition = Some(1);
    Outgoing::keyed(TOPIC, "of:08", serde_json::to_vec(&command).unwrap()).with(&envelope)
}

pub(crate) fn reply_to(n: u32, attempt: u32) -> (String, Kind) {
    (format!("op/1/{n}/speaker/{attempt}"), Kind::Reply)
}

/// A turn of one that is dead.
pub(crate) const DOWN: Turn = Turn { worked: false, next: None };

pub(crate) fn crash(after: u32, told: bool) -> FaultKind {
    FaultKind::Crash { after, told }
}
