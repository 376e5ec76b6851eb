//! The speaker on the embedded bus, through whatever may become of a commit or of a partition.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

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

const TOPIC: &str = "nave.spoke.speaker";
const INBOX: &str = "nave.flows.hub.in";

/// What becomes of a commit.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Fails,
    IsFenced,
    HappensInSilence,
    IsLostInSilence,
}

/// A member whose next commits have these fates.
struct Fated {
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

struct World {
    clock: Arc<ManualClock>,
    bus: Embedded,
    speaker: SpeakerHandle,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    replies: Box<dyn Reader>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
        for topic in [TOPIC, INBOX] {
            bus.ensure_topic(&TopicSpec::log(topic, 2)).unwrap();
        }
        let mut replies = bus.reader().unwrap();
        for partition in 0..2 {
            replies.assign(INBOX, partition, 0).unwrap();
        }
        Self { clock, bus, speaker: SpeakerHandle::new(), fates: Arc::default(), replies }
    }

    fn part(&self, name: &str) -> Box<SpeakerPart> {
        let member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, name)).unwrap();
        let member = Box::new(Fated { member, fates: Arc::clone(&self.fates) });
        Box::new(SpeakerPart::over(member, name, self.bus.clock(), self.speaker.clone()))
    }

    fn fate(&self, fate: Fate) {
        self.fates.lock().unwrap().push_back(fate);
    }

    fn fault(&self, kind: FaultKind) {
        self.speaker.inject(Fault { when: Match::default(), kind, times: Some(1) }).unwrap();
    }

    fn send(&self, request: Outgoing) {
        self.bus.writer("worker").unwrap().append(&[request]).unwrap();
    }

    /// The causations of the replies since the last time, and their kinds.
    fn told(&mut self) -> Vec<(String, Kind)> {
        let envelopes = self.replies().into_iter().map(|reply| reply.headers.envelope().unwrap());
        envelopes.map(|reply| (reply.causation.unwrap(), reply.kind)).collect()
    }

    fn replies(&mut self) -> Vec<Record> {
        let mut replies = Vec::new();
        self.replies.poll(1_000, Duration::ZERO, &mut replies).unwrap();
        replies
    }

    fn executed(&self) -> usize {
        self.speaker.audit().iter().filter(|entry| matches!(entry.deed, Deed::Executed { .. })).count()
    }

    /// The committed offset and note of the partition of [`install`]'s switch.
    fn committed(&self) -> (u64, String) {
        let mut member = self.bus.member(&MemberSpec::new(TOPIC, TOPIC, "observer")).unwrap();
        let mut arrivals = Vec::new();
        member.poll(10, Duration::ZERO, &mut arrivals).unwrap();
        let left = member.take_over(partition()).unwrap().committed.unwrap();
        member.leave().unwrap();
        (left.next, left.note)
    }
}

/// Turns it until it has nothing more to do.
fn settle(part: &mut SpeakerPart) -> Turn {
    for _ in 0..20 {
        let turn = part.turn(Duration::ZERO).unwrap();
        if !turn.worked {
            return turn;
        }
    }
    panic!("it never rests");
}

fn partition() -> u32 {
    wire::routing::lane_of(b"of:08", 2)
}

fn install(n: u32, attempt: u32) -> Outgoing {
    let rule = Rule { switch: SwitchId::numbered(8), flow: format!("flow-{n}"), number: 8, cookie: n.into(), meter: n };
    let command = Command { action: Action::Install { rule }, error: None };
    let mut envelope = Envelope::new(Kind::Call, format!("op/1/{n}/speaker/{attempt}"), "/nave/flows/hub/1");
    envelope.call = Some(CallId::new(OperationId::new("op").unwrap(), 1, n));
    envelope.attempt = Some(attempt);
    envelope.reply_to = Some(INBOX.into());
    envelope.reply_partition = Some(1);
    Outgoing::keyed(TOPIC, "of:08", serde_json::to_vec(&command).unwrap()).with(&envelope)
}

fn reply_to(n: u32, attempt: u32) -> (String, Kind) {
    (format!("op/1/{n}/speaker/{attempt}"), Kind::Reply)
}

#[test]
fn a_request_is_answered_where_it_says_and_its_position_goes_with_the_answer() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.send(install(1, 1));
    settle(&mut part);
    let replies = world.replies();
    let [reply] = &replies[..] else { panic!("one reply: {replies:?}") };
    assert_eq!((reply.partition, reply.key.as_deref()), (1, Some(&b"of:08"[..])));
    assert_eq!(reply.headers.envelope().unwrap().time, Some(world.clock.wall()));
    assert_eq!(part.stop(), [""; 0]);
    assert_eq!(world.committed(), (1, "v1 speaker-0 0 released".into()));
}

#[test]
fn what_cannot_be_read_or_told_does_not_stop_it() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    let garbage = Outgoing { value: "null".into(), ..install(1, 1) };
    let bare = Outgoing { headers: bus::Headers::default(), ..install(2, 1) };
    let mut lost = install(3, 1).headers.envelope().unwrap();
    lost.reply_to = Some("nowhere".into());
    let mut far = install(4, 1).headers.envelope().unwrap();
    far.reply_partition = Some(77);
    for request in [garbage, bare, install(3, 1).with(&lost), install(4, 1).with(&far), install(5, 1)] {
        world.send(request);
    }
    settle(&mut part);
    assert_eq!(world.told(), [("op/1/1/speaker/1".into(), Kind::Refusal), reply_to(5, 1)]);
    assert_eq!(world.executed(), 3);
}

#[test]
fn a_delayed_answer_comes_at_its_time_and_never_before() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayReply { ms: 100 });
    world.send(install(1, 1));
    let due = world.clock.mono().plus_ms(100);
    assert_eq!(settle(&mut part), Turn { worked: false, next: Some(due) });
    world.clock.advance_ms(99);
    settle(&mut part);
    assert_eq!(world.told(), []);
    world.clock.advance_ms(1);
    assert_eq!(settle(&mut part).next, None);
    assert_eq!(world.told(), [reply_to(1, 1)]);
}

#[test]
fn a_commit_that_fails_is_tried_again_with_the_same_answers_after_a_pause() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fate(Fate::Fails);
    world.send(install(1, 1));
    let turn = settle(&mut part);
    assert_eq!((world.told(), turn.next), (vec![], Some(world.clock.mono().plus_ms(50))));
    world.clock.advance_ms(50);
    assert_eq!(settle(&mut part).next, None);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn a_commit_with_unknown_outcome_is_settled_and_nothing_is_lost_or_told_twice() {
    for fate in [Fate::HappensInSilence, Fate::IsLostInSilence] {
        let mut world = World::new();
        let mut part = world.part("speaker-0");
        world.fate(fate);
        world.send(install(1, 1));
        settle(&mut part);
        // More comes before it is settled.
        world.send(install(2, 1));
        world.clock.advance_ms(50);
        assert_eq!(settle(&mut part).next, None, "{fate:?}");
        assert_eq!(world.told(), [reply_to(1, 1), reply_to(2, 1)], "{fate:?}");
        assert_eq!(world.executed(), 2, "{fate:?}");
    }
}

#[test]
fn one_that_is_fenced_and_still_owns_its_partitions_goes_on() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.fate(Fate::IsFenced);
    world.send(install(1, 1));
    settle(&mut part);
    world.clock.advance_ms(50);
    settle(&mut part);
    assert_eq!((world.told(), world.executed()), (vec![reply_to(1, 1)], 1));
}

#[test]
fn one_that_was_given_up_by_its_group_joins_again_and_repeats_nothing() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    settle(&mut part);
    world.send(install(1, 1));
    world.fate(Fate::Fails);
    settle(&mut part);
    world.bus.expel(TOPIC);
    world.clock.advance_ms(50);
    for _ in 0..5 {
        settle(&mut part);
        world.clock.advance_ms(1_000);
    }
    // Its answer was kept, and the request was read again and answered from memory: at least once.
    assert_eq!(world.told(), [reply_to(1, 1), reply_to(1, 1)]);
    assert_eq!(world.executed(), 1);
}

#[test]
fn a_new_part_goes_on_with_the_same_rules_and_memory_where_the_last_one_stopped() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    world.send(install(1, 1));
    settle(&mut part);
    part.stop();
    let mut part = world.part("speaker-1");
    world.send(install(1, 2));
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(1, 1), reply_to(1, 2)]);
    assert_eq!((world.executed(), world.speaker.all_rules().len()), (1, 1));
}

#[test]
fn a_partition_that_is_asked_back_is_given_up_with_all_that_was_answered() {
    let mut world = World::new();
    let mut first = world.part("speaker-0");
    settle(&mut first);
    let mut second = world.part("speaker-1");
    for n in 1..=3 {
        world.send(install(n, 1));
        settle(&mut first);
        settle(&mut second);
    }
    assert_eq!(world.told(), [1, 2, 3].map(|n| reply_to(n, 1)));
    assert_eq!(world.executed(), 3);
    first.stop();
    settle(&mut second);
    world.send(install(4, 1));
    settle(&mut second);
    assert_eq!(world.told(), [reply_to(4, 1)]);
}

#[test]
fn requests_that_were_deleted_are_passed_over_and_the_next_is_served() {
    let mut world = World::new();
    let mut part = world.part("speaker-0");
    settle(&mut part);
    for n in 1..=3 {
        world.send(install(n, 1));
    }
    world.bus.delete_records(TOPIC, partition(), 2).unwrap();
    settle(&mut part);
    assert_eq!(world.told(), [reply_to(3, 1)]);
}

#[test]
fn a_stop_says_what_is_left() {
    let world = World::new();
    let mut part = world.part("speaker-0");
    world.fault(FaultKind::DelayExecution { ms: 100 });
    world.send(install(1, 1));
    settle(&mut part);
    world.fate(Fate::Fails);
    world.send(install(2, 1));
    settle(&mut part);
    world.fate(Fate::Fails);
    assert_eq!(
        part.stop(),
        ["speaker: 1 answers could not be committed", "speaker: 1 commands or answers are still delayed by a fault",]
    );
}
