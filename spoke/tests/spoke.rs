//! Spokes on the embedded bus: each call once, in order for each key, several at once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use bus::{
    Arrival, Bus, Clock, CommitFault, Embedded, EmbeddedOptions, FaultScript, FaultyBus, ManualClock, Member,
    MemberSpec, Outgoing, Reader, Record, Task, TopicSpec,
};
use spoke::{
    AsyncSpoke, Call, CallRunner, Concurrent, Delivery, Handler, Spoke, SpokeError, SpokeOptions, SpokeService,
    SpokeTask,
};
use wire::topics::Topics;
use wire::{CallId, Envelope, Kind, MessageId, OperationId};

const INBOX: &str = "inbox";

struct World {
    clock: Arc<ManualClock>,
    bus: Embedded,
    names: Topics,
    answers: Box<dyn Reader>,
}

impl World {
    fn new() -> Self {
        Self::with_partitions(1)
    }

    fn with_partitions(calls: u32) -> Self {
        let clock = Arc::new(ManualClock::default());
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
        let names = Topics::default();
        for (topic, partitions) in [(&*names.spoke("desk"), calls), (&*names.alive("desk"), 1), (INBOX, 1)] {
            bus.ensure_topic(&TopicSpec::log(topic, partitions)).unwrap();
        }
        let mut answers = bus.reader().unwrap();
        answers.assign(INBOX, 0, 0).unwrap();
        Self { clock, bus, names, answers }
    }

    fn task<S: Handler>(&self, service: &SpokeService<S>) -> SpokeTask<CallRunner<S>> {
        SpokeTask::join(&self.bus, &self.names, "desk", "desk-1", service.clone()).unwrap()
    }

    fn send(&self, envelope: &Envelope, key: &str, body: &str) {
        let record = Outgoing::keyed(&self.names.spoke("desk"), key.to_owned(), body.to_owned()).with(envelope);
        self.bus.writer("test").unwrap().append(&[record]).unwrap();
    }

    fn call(&self, n: u32, key: &str, body: &str) {
        self.send(&call(n, 1), key, body);
    }

    /// The new answers: kind, number of the call, body.
    fn answers(&mut self) -> Vec<(Kind, u32, String)> {
        let mut records = Vec::new();
        self.answers.poll(1_000, Duration::ZERO, &mut records).unwrap();
        records.iter().map(read).collect()
    }
}

fn id(n: u32) -> CallId {
    CallId::new(OperationId::new("op-1").unwrap(), 1, n)
}

fn call(n: u32, attempt: u32) -> Envelope {
    let mut envelope = Envelope::new(Kind::Call, MessageId::text(&id(n), "desk", attempt), "/test");
    envelope.call = Some(id(n));
    envelope.attempt = Some(attempt);
    envelope.reply_to = Some(INBOX.into());
    envelope.reply_partition = Some(0);
    envelope
}

fn read(record: &Record) -> (Kind, u32, String) {
    let envelope = record.headers.envelope().unwrap();
    let n = envelope.call.unwrap().to_string().rsplit('/').next().unwrap().parse().unwrap();
    (envelope.kind, n, String::from_utf8(record.value.to_vec()).unwrap())
}

fn poll_until_idle(task: &mut impl Task) {
    while task.poll(Duration::ZERO).unwrap().worked {}
}

fn reply(n: u32, body: &str) -> (Kind, u32, String) {
    (Kind::Reply, n, body.to_owned())
}

/// Adds numbers up, refuses 13, and asks to retry 0 until its third call.
#[derive(Default)]
struct Desk {
    handled: Vec<u32>,
    sum: u32,
}

impl Spoke for Desk {
    type Request = u32;
    type Reply = u32;

    fn handle(&mut self, _: &Call, request: u32) -> Result<u32, SpokeError> {
        self.handled.push(request);
        match request {
            13 => Err(SpokeError::refuse("unlucky", "thirteen")),
            0 if self.handled.len() < 3 => Err(SpokeError::retry("closed", "not yet")),
            _ => {
                self.sum += request;
                Ok(self.sum)
            }
        }
    }
}

#[test]
fn a_repeated_call_gets_the_first_answer_and_is_handled_once() {
    let mut world = World::new();
    let service = SpokeService::new(Desk::default());
    let mut task = world.task(&service);
    for (n, body) in [(1, "5"), (2, "13"), (1, "5"), (2, "13")] {
        world.call(n, "k", body);
    }
    poll_until_idle(&mut task);
    let refusal = (Kind::Refusal, 2, r#"{"error":"unlucky","detail":"thirteen"}"#.to_owned());
    assert_eq!(world.answers(), [reply(1, "5"), refusal.clone(), reply(1, "5"), refusal]);
    assert_eq!(service.look(|desk| desk.handled.clone()), [5, 13]);
}

#[test]
fn a_call_that_asks_to_retry_is_handled_again_at_its_next_attempt() {
    let mut world = World::new();
    let service = SpokeService::new(Desk::default());
    let mut task = world.task(&service);
    for attempt in 1..=4 {
        world.send(&call(1, attempt), "k", "0");
        poll_until_idle(&mut task);
    }
    let failure = (Kind::Failure, 1, r#"{"error":"closed","detail":"not yet"}"#.to_owned());
    assert_eq!(world.answers(), [failure.clone(), failure, reply(1, "0"), reply(1, "0")]);
    assert_eq!(service.look(|desk| desk.handled.len()), 3, "the fourth is answered from memory");
}

#[test]
fn undone_and_expired_calls_are_refused_and_stay_refused() {
    let mut world = World::new();
    let service = SpokeService::new(Desk::default());
    let mut task = world.task(&service);
    let undo = Envelope { kind: Kind::Undo, undoes: vec![id(1)], ..call(9, 1) };
    world.send(&undo, "k", "1");
    world.call(1, "k", "5");
    world.clock.advance_ms(10_000);
    let expired = Envelope { expires: Some(world.clock.wall().plus_ms(0)), ..call(2, 1) };
    world.clock.advance_ms(1);
    world.send(&expired, "k", "5");
    world.send(&Envelope { expires: None, ..call(2, 2) }, "k", "5");
    poll_until_idle(&mut task);
    let told: Vec<_> = world.answers().into_iter().map(|(kind, n, _)| (kind, n)).collect();
    assert_eq!(told, [(Kind::Reply, 9), (Kind::Refusal, 1), (Kind::Refusal, 2), (Kind::Refusal, 2)]);
    assert_eq!(service.look(|desk| desk.handled.clone()), [1]);
}

#[test]
fn an_answer_that_cannot_be_delivered_does_not_hold_up_the_others() {
    let mut world = World::new();
    let service = SpokeService::new(Desk::default());
    let mut task = world.task(&service);
    for (n, topic) in [(1, "no.such.topic"), (2, "bad topic name!"), (3, INBOX)] {
        world.send(&Envelope { reply_to: Some(topic.into()), reply_partition: None, ..call(n, 1) }, "k", "5");
    }
    world.send(&Envelope { reply_partition: Some(7), ..call(4, 1) }, "k", "5");
    world.call(5, "k", "5");
    poll_until_idle(&mut task);
    assert_eq!(world.answers(), [reply(3, "15"), reply(5, "25")]);
    assert_eq!(Box::new(task).stop(), Vec::<String>::new());
    let mut task = world.task(&service);
    poll_until_idle(&mut task);
    assert_eq!(service.look(|desk| desk.handled.len()), 5, "none is read again");
}

#[test]
fn a_record_that_is_no_call_is_counted_and_the_next_is_answered() {
    let mut world = World::new();
    let service = SpokeService::new(Desk::default());
    let mut task = world.task(&service);
    let bare = Outgoing::keyed(&world.names.spoke("desk"), "k", "1");
    world.bus.writer("test").unwrap().append(&[bare]).unwrap();
    world.send(&Envelope { reply_to: None, ..call(1, 1) }, "k", "1");
    world.call(2, "k", "1");
    poll_until_idle(&mut task);
    assert_eq!((service.unreadable(), world.answers()), (2, vec![reply(2, "1")]));
}

/// Remembers the calls that it saw.
#[derive(Default)]
struct Witness(Vec<Call>);

impl Spoke for Witness {
    type Request = ();
    type Reply = ();

    fn handle(&mut self, call: &Call, (): ()) -> Result<(), SpokeError> {
        self.0.push(call.clone());
        Err(SpokeError::retry("again", "not yet"))
    }
}

/// With the id of the call as its idempotency key, a system behind the spoke executes each call once.
#[test]
fn a_handler_sees_call_id_attempt_and_deadline() {
    let world = World::new();
    let service = SpokeService::new(Witness::default());
    let mut task = world.task(&service);
    for (attempt, left_ms) in [(1, 1_500), (2, 700)] {
        let expires = Some(world.clock.wall().plus_ms(left_ms));
        world.send(&Envelope { expires, ..call(1, attempt) }, "rome", "null");
        poll_until_idle(&mut task);
        world.clock.advance_ms(800);
    }
    let seen: Vec<_> = service.look(|witness| {
        witness.0.iter().map(|call| (call.key.clone(), call.id.clone(), call.attempt, call.remaining())).collect()
    });
    let expected = |attempt, ms| ("rome".to_owned(), id(1), attempt, Some(Duration::from_millis(ms)));
    assert_eq!(seen, [expected(1, 1_500), expected(2, 700)]);
}

/// Ends a call when [`Slow::end`] names its body.
#[derive(Default)]
struct Slow {
    started: Mutex<Vec<String>>,
    ended: Mutex<BTreeMap<String, bool>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Slow {
    fn end(&self, body: &str) {
        self.ended.lock().unwrap().insert(body.to_owned(), true);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

struct Shared(Arc<Slow>);

impl AsyncSpoke for Shared {
    type Request = String;
    type Reply = String;

    async fn handle(self: Arc<Self>, _: Call, request: String) -> Result<String, SpokeError> {
        self.0.started.lock().unwrap().push(request.clone());
        poll_fn(|context| {
            if self.0.ended.lock().unwrap().contains_key(&request) {
                return Poll::Ready(());
            }
            self.0.wakers.lock().unwrap().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        Ok(request)
    }
}

fn concurrent(slow: &Arc<Slow>, max: usize) -> SpokeService<Concurrent<Shared>> {
    SpokeService::new(Concurrent::new(Shared(Arc::clone(slow)), max))
}

#[test]
fn calls_with_different_keys_run_at_once_and_those_of_one_key_in_order() {
    let (mut world, slow) = (World::new(), Arc::new(Slow::default()));
    let mut task = world.task(&concurrent(&slow, 3));
    for (n, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d")] {
        world.call(n, key, &format!("\"{key}{n}\""));
    }
    let started = || slow.started.lock().unwrap().clone();
    poll_until_idle(&mut task);
    assert_eq!(started(), ["a1", "b3", "c4"], "three at once, one of each key");
    slow.end("b3");
    poll_until_idle(&mut task);
    assert_eq!((started().len(), started().last().map(String::as_str)), (4, Some("d5")), "a2 waits for a1");
    slow.end("a1");
    poll_until_idle(&mut task);
    assert_eq!(started().last().map(String::as_str), Some("a2"));
    for body in ["d5", "c4", "a2"] {
        slow.end(body);
    }
    poll_until_idle(&mut task);
    let mut answered: Vec<u32> = world.answers().into_iter().map(|(_, n, _)| n).collect();
    assert_eq!(answered[..2], [3, 1], "an answer does not wait for older calls");
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
}

/// The offset is committed up to the oldest call that still runs, so a crash repeats that one and those after it.
#[test]
fn a_call_that_runs_when_its_task_crashes_is_handled_by_the_next() {
    let (mut world, slow) = (World::new(), Arc::new(Slow::default()));
    let service = concurrent(&slow, 3);
    let mut task = world.task(&service);
    for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
        world.call(n, key, &format!("\"{key}\""));
    }
    slow.end("b");
    poll_until_idle(&mut task);
    assert_eq!(world.answers(), [reply(2, "\"b\"")]);
    drop(task);
    world.clock.advance_ms(60_000);
    slow.end("a");
    slow.end("c");
    let mut task = world.task(&service);
    poll_until_idle(&mut task);
    assert_eq!(world.answers(), [reply(2, "\"b\""), reply(1, "\"a\""), reply(3, "\"c\"")]);
    assert_eq!(*slow.started.lock().unwrap(), ["a", "b", "c", "a", "c"], "b was answered from memory");
}

/// A commit of an answer while an older call runs moves no offset; its number tells whether it succeeded.
#[test]
fn an_answer_whose_commit_has_an_unknown_outcome_is_sent_once() {
    for fate in [CommitFault::UnknownButCommitted, CommitFault::UnknownNotCommitted] {
        let (mut world, slow) = (World::new(), Arc::new(Slow::default()));
        let script = Arc::new(FaultScript::default());
        let faulty = FaultyBus::new(Arc::new(world.bus.clone()), Arc::clone(&script) as Arc<_>);
        let mut task = SpokeTask::join(&faulty, &world.names, "desk", "desk-1", concurrent(&slow, 3)).unwrap();
        for (n, key) in [(1, "a"), (2, "b")] {
            world.call(n, key, &format!("\"{key}\""));
        }
        poll_until_idle(&mut task);
        script.commit(fate.clone());
        slow.end("b");
        poll_until_idle(&mut task);
        world.clock.advance_ms(60_000);
        poll_until_idle(&mut task);
        slow.end("a");
        poll_until_idle(&mut task);
        assert_eq!(world.answers(), [reply(2, "\"b\""), reply(1, "\"a\"")], "{fate:?}");
    }
}

/// An earlier task of this name left the number of the commit in doubt in another partition, which
/// is assigned before the outcome is known.
#[test]
fn a_commit_in_doubt_is_not_mistaken_for_one_of_another_partition() {
    let mut world = World::with_partitions(2);
    let service = SpokeService::new(Desk::default());
    let key = |partition: u32| -> String {
        let of = |key: &String| wire::routing::lane_of(key.as_bytes(), 2) == partition;
        (0..100).map(|n| format!("k{n}")).find(of).unwrap()
    };
    let mut task = world.task(&service);
    for (n, partition) in [(0, 1), (1, 0)] {
        world.call(n, &key(partition), "1");
        poll_until_idle(&mut task);
    }
    drop(task);
    world.clock.advance_ms(60_000);
    // A member that commits nothing, so the metadata of the earlier task stays.
    let topic = world.names.spoke("desk");
    let mut other = world.bus.member(&MemberSpec::new(&topic, &topic, "desk-2")).unwrap();
    let share = |other: &mut Box<dyn Member>| {
        let mut arrivals = Vec::new();
        other.poll(10, Duration::ZERO, &mut arrivals).unwrap();
        for arrival in arrivals {
            if let Arrival::Revoking(partitions) = arrival {
                other.release(&partitions).unwrap();
            }
        }
    };
    share(&mut other);
    let script = Arc::new(FaultScript::default());
    let faulty = FaultyBus::new(Arc::new(world.bus.clone()), Arc::clone(&script) as Arc<_>);
    let mut task = SpokeTask::join(&faulty, &world.names, "desk", "desk-1", service.clone()).unwrap();
    for _ in 0..4 {
        poll_until_idle(&mut task);
        share(&mut other);
    }
    script.commit(CommitFault::UnknownNotCommitted);
    world.call(10, &key(1), "5");
    poll_until_idle(&mut task);
    assert!(world.answers().iter().all(|(_, n, _)| *n != 10), "the second partition is this task's");
    other.leave().unwrap();
    // The other partition is assigned before the retry is due.
    for advance_ms in [0, 0, 0, 1_000, 1_000] {
        world.clock.advance_ms(advance_ms);
        poll_until_idle(&mut task);
    }
    assert_eq!(world.answers().last(), Some(&reply(10, "7")));
}

#[test]
fn a_task_that_stops_answers_the_calls_that_end_in_time() {
    let (mut world, slow) = (World::new(), Arc::new(Slow::default()));
    let mut task = world.task(&concurrent(&slow, 1));
    world.call(1, "a", "\"a\"");
    world.call(2, "b", "\"b\"");
    poll_until_idle(&mut task);
    slow.end("a");
    assert_eq!(Box::new(task).stop(), Vec::<String>::new());
    assert_eq!(world.answers(), [reply(1, "\"a\"")]);
    assert_eq!(*slow.started.lock().unwrap(), ["a"], "b waits for the next instance");
}

/// Immediate delivery commits offsets later, and never beyond a call that still runs.
#[test]
fn an_immediate_answer_is_sent_before_its_offset_and_survives_a_crash() {
    let (mut world, slow) = (World::new(), Arc::new(Slow::default()));
    let service = concurrent(&slow, 3);
    let options = SpokeOptions { delivery: Delivery::Immediate { commit_every_ms: 500 }, ..SpokeOptions::default() };
    let join = |options: &SpokeOptions| {
        SpokeTask::join_with(&world.bus, &world.names, "desk", "desk-1", service.clone(), options).unwrap()
    };
    let mut task = join(&options);
    for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
        world.call(n, key, &format!("\"{key}\""));
    }
    slow.end("a");
    slow.end("c");
    poll_until_idle(&mut task);
    let due = task.poll(Duration::ZERO).unwrap().next;
    assert_eq!(due, Some(world.clock.mono().plus_ms(500)));
    world.clock.advance_ms(500);
    poll_until_idle(&mut task);
    drop(task);
    world.clock.advance_ms(60_000);
    slow.end("b");
    let mut task = join(&options);
    poll_until_idle(&mut task);
    let mut answered: Vec<u32> = world.answers().into_iter().map(|(_, n, _)| n).collect();
    answered[..2].sort_unstable();
    answered[2..].sort_unstable();
    assert_eq!(answered, [1, 3, 2, 3], "the first is committed, and the third is answered from memory");
    let mut started = slow.started.lock().unwrap().clone();
    started.sort_unstable();
    assert_eq!(started, ["a", "b", "b", "c"], "only the call that ran at the crash is handled again");
}

#[test]
fn a_memory_on_disk_outlives_the_process() {
    let (mut world, directory) = (World::new(), tempfile::tempdir().unwrap());
    let options = SpokeOptions { memory: Some(directory.path().into()), ..SpokeOptions::default() };
    let join = |world: &World, service: &SpokeService<Desk>| {
        SpokeTask::join_with(&world.bus, &world.names, "desk", "desk-1", service.clone(), &options)
    };
    let service = SpokeService::new(Desk::default());
    let mut task = join(&world, &service).unwrap();
    world.call(1, "k", "5");
    poll_until_idle(&mut task);
    let refused = join(&world, &SpokeService::new(Desk::default())).err().unwrap().to_string();
    assert!(refused.contains("is used by another spoke"), "{refused}");
    drop((task, service));
    let service = SpokeService::new(Desk::default());
    world.clock.advance_ms(60_000);
    let mut task = join(&world, &service).unwrap();
    world.call(1, "k", "5");
    poll_until_idle(&mut task);
    assert_eq!(world.answers(), [reply(1, "5"), reply(1, "5")]);
    assert_eq!(service.look(|desk| desk.handled.len()), 0);
}

#[test]
fn heartbeats_come_at_their_interval_and_end_with_a_goodbye() {
    let world = World::new();
    let options = SpokeOptions { heartbeat_ms: SpokeOptions::HEARTBEAT_MS, ..SpokeOptions::default() };
    let service = SpokeService::new(Desk::default());
    let mut task = SpokeTask::join_with(&world.bus, &world.names, "desk", "desk-1", service, &options).unwrap();
    for _ in 0..4 {
        task.poll(Duration::ZERO).unwrap();
        world.clock.advance_ms(SpokeOptions::HEARTBEAT_MS / 2);
    }
    assert_eq!(Box::new(task).stop(), Vec::<String>::new());
    let mut reader = world.bus.reader().unwrap();
    reader.assign(&world.names.alive("desk"), 0, 0).unwrap();
    let mut records = Vec::new();
    reader.poll(10, Duration::ZERO, &mut records).unwrap();
    let bodies: Vec<wire::alive::Heartbeat> =
        records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
    assert_eq!(bodies.iter().map(|beat| beat.bye).collect::<Vec<_>>(), [false, false, true]);
    assert!(bodies.iter().all(|beat| beat.instance == "desk-1" && beat.every_ms == SpokeOptions::HEARTBEAT_MS));
}
