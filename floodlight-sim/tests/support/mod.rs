//! The speaker on the embedded bus, with scripted outcomes of commits.
#![expect(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use bus::{
    AppendFault, Bus, BusError, Clock, CommitFault, Embedded, EmbeddedOptions, FaultInjector, FaultScript, FaultyBus,
    ManualClock, MemberSpec, Outgoing, PollOutcome, Reader, Record, Task, TopicSpec,
};
use floodlight_sim::{CommandOutcome, Fault, FaultKind, Match, SpeakerHandle, SpeakerService};
use flow_messages::speaker::{Action, Command, Rule, SwitchId};
use spoke::{SpokeOptions, SpokeTask};
use wire::topics::Topics;
use wire::{CallId, Envelope, Kind, OperationId};

pub(crate) const TOPIC: &str = "nave.spoke.speaker";
pub(crate) const INBOX: &str = "nave.flows.hub.in";

/// The outcome of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Fails,
    Fenced,
    UnknownButCommitted,
    UnknownAndLost,
}

fn lost() -> BusError {
    BusError::Unavailable("no connection".into())
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) bus: Embedded,
    pub(crate) speaker: SpeakerHandle,
    /// The outcomes of the next commits and appends, and the committed positions.
    pub(crate) script: Arc<FaultScript>,
    pub(crate) replies: Box<dyn Reader>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let options = EmbeddedOptions { keep_bytes: None, ..EmbeddedOptions::default() };
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, options);
        for topic in [TOPIC, INBOX] {
            bus.ensure_topic(&TopicSpec::log(topic, 2)).unwrap();
        }
        let mut replies = bus.reader().unwrap();
        for partition in 0..2 {
            replies.assign(INBOX, partition, 0).unwrap();
        }
        Self { clock, bus, speaker: SpeakerHandle::new(), script: Arc::default(), replies }
    }

    pub(crate) fn task(&self, name: &str) -> Box<SpokeTask<SpeakerService>> {
        self.task_with(name, &SpokeOptions::default())
    }

    pub(crate) fn task_with(&self, name: &str, options: &SpokeOptions) -> Box<SpokeTask<SpeakerService>> {
        let task = self.speaker.join_with(&self.faulty(), &Topics::default(), "speaker", name, options);
        Box::new(task.unwrap())
    }

    fn faulty(&self) -> FaultyBus {
        FaultyBus::new(Arc::new(self.bus.clone()), Arc::clone(&self.script) as Arc<dyn FaultInjector>)
    }

    /// Makes the next `count` appends fail.
    pub(crate) fn fail_appends(&self, count: usize) {
        (0..count).for_each(|_| self.script.append(AppendFault::Fails(lost())));
    }

    /// The committed offsets, in order, with their metadata.
    pub(crate) fn positions(&self) -> Vec<(u64, String)> {
        let committed = self.script.committed();
        committed.iter().map(|position| (position.next, position.metadata.to_string())).collect()
    }

    pub(crate) fn fate(&self, fate: Fate) {
        self.script.commit(match fate {
            Fate::Fails => CommitFault::Fails(lost()),
            Fate::Fenced => CommitFault::Fenced,
            Fate::UnknownButCommitted => CommitFault::UnknownButCommitted,
            Fate::UnknownAndLost => CommitFault::UnknownNotCommitted,
        });
    }

    pub(crate) fn fault(&self, kind: FaultKind) {
        self.speaker.inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    }

    pub(crate) fn send(&self, request: Outgoing) {
        self.bus.writer("worker").unwrap().append(&[request]).unwrap();
    }

    /// The causations and kinds of the answers since the last call.
    pub(crate) fn answers(&mut self) -> Vec<(String, Kind)> {
        let envelopes = self.replies().into_iter().map(|reply| reply.headers.envelope().unwrap());
        envelopes.map(|reply| (reply.causation.unwrap(), reply.kind)).collect()
    }

    pub(crate) fn replies(&mut self) -> Vec<Record> {
        let mut replies = Vec::new();
        self.replies.poll(1_000, Duration::ZERO, &mut replies).unwrap();
        replies
    }

    pub(crate) fn executed(&self) -> usize {
        self.speaker.audit().iter().filter(|entry| matches!(entry.outcome, CommandOutcome::Executed { .. })).count()
    }

    /// The committed offset and metadata of [`partition`].
    pub(crate) fn committed(&self) -> (u64, String) {
        let mut member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, "observer")).unwrap();
        let mut arrivals = Vec::new();
        member.poll(10, Duration::ZERO, &mut arrivals).unwrap();
        let left = member.take_over(partition()).unwrap().committed.unwrap();
        member.leave().unwrap();
        (left.next, left.metadata)
    }
}

/// Polls the task until it is idle.
pub(crate) fn settle(task: &mut SpokeTask<SpeakerService>) -> PollOutcome {
    for _ in 0..20 {
        let turn = task.poll(Duration::ZERO).unwrap();
        if !turn.worked {
            return turn;
        }
    }
    panic!("the task is never idle");
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

/// The result of a poll of a crashed speaker.
pub(crate) const DOWN: PollOutcome = PollOutcome { worked: false, next: None };

pub(crate) fn crash(after: u32, answered: bool) -> FaultKind {
    FaultKind::Crash { after, answered }
}
