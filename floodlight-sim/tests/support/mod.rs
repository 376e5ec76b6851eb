//! The speaker on the embedded bus, with commits that fare as a test says.
#![expect(dead_code, reason = "each test file uses some of it")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{
    Arrival, Batch, Bus, BusError, Clock, CommitError, Embedded, EmbeddedOptions, ManualClock, Member, MemberSpec,
    Outgoing, Part, Reader, Record, Takeover, TopicSpec, Turn,
};
use floodlight_sim::{Deed, Fault, FaultKind, Match, SpeakerHandle, SpeakerPart};
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
            None => self.member.commit(batch),
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

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Embedded,
    pub(crate) speaker: SpeakerHandle,
    pub(crate) fates: Arc<Mutex<VecDeque<Fate>>>,
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
        Self { clock, bus, speaker: SpeakerHandle::new(), fates: Arc::default(), replies }
    }

    pub(crate) fn part(&self, name: &str) -> Box<SpeakerPart> {
        let member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, name)).unwrap();
        let member = Box::new(Fated { member, fates: Arc::clone(&self.fates) });
        Box::new(SpeakerPart::over(member, name, self.bus.clock(), self.speaker.clone()))
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
    let rule = Rule { switch: SwitchId::numbered(8), flow: format!("flow-{n}"), number: 8, cookie: n.into(), meter: n };
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
