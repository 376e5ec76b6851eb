//! Inlet and outlet: what they write, where they read, and how they handle a bus that does not
//! answer.

#![expect(clippy::unwrap_used, reason = "what a helper of these tests needs is there")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::{
    AppendFault, Bus, BusError, Clock, Embedded, EmbeddedOptions, FaultInjector, FaultScript, FaultyBus, ManualClock,
    Outgoing, Task, TopicSpec,
};
use flow_messages::codes;
use northbound::{Gateway, GatewayOptions, Inlet, Outlet, Submission, Ticket};
use support::{EGRESS, INBOX, VIEW, about, ended, failed, refused, running, up};
use uuid::Uuid;
use wire::{Code, Kind, OperationId};

/// A bus with scripted writes and reads.
#[derive(Clone)]
struct Harness {
    bus: Embedded,
    faulty: FaultyBus,
    clock: Arc<ManualClock>,
    script: Arc<FaultScript>,
}

impl Harness {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
        for topic in [INBOX, EGRESS, VIEW] {
            bus.ensure_topic(&TopicSpec::log(topic, 2)).unwrap();
        }
        let script = Arc::new(FaultScript::default());
        let faulty = FaultyBus::new(Arc::new(bus.clone()), Arc::clone(&script) as Arc<dyn FaultInjector>);
        Self { bus, faulty, clock, script }
    }

    fn outlet(&self, gateway: &Arc<Gateway>) -> Outlet {
        Outlet::open(Arc::new(self.faulty.clone()), Arc::clone(gateway)).unwrap()
    }

    /// A gateway that caches at most `known` operations.
    fn gateway(&self, known: usize) -> Arc<Gateway> {
        let mut options = GatewayOptions::new("flows", "hub", 2);
        options.limits.cached_operations = known;
        Arc::new(Gateway::new(options, self.faulty.clock()))
    }

    fn write(&self, records: &[Outgoing]) {
        self.bus.writer("hub").unwrap().append(records).unwrap();
    }

    /// Number of records in a topic.
    fn count(&self, topic: &str) -> u64 {
        (0..2).map(|partition| self.bus.bounds(topic, partition).unwrap().end).sum()
    }
}

fn ticket(gateway: &Arc<Gateway>, n: u128) -> Ticket {
    let key = format!("flow-{n}");
    let (request, http_id) = (serde_json::Value::Null, Uuid::from_u128(n));
    gateway.submit(Submission::new("create-flow", &key, request, http_id)).unwrap()
}

fn id(n: u32) -> OperationId {
    OperationId::new(&format!("op-{n}")).unwrap()
}

fn unavailable() -> BusError {
    BusError::Unavailable("connection lost".into())
}

#[test]
fn waiting_requests_are_written_as_one_batch() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let mut inlet = Inlet::open(&bus.faulty).unwrap();
    assert!(!inlet.poll(Duration::ZERO).unwrap().worked);
    let tickets: Vec<Ticket> = (1..=100).map(|n| ticket(&gateway, n)).collect();
    for ticket in &tickets {
        inlet.handle().send(ticket).unwrap();
    }
    assert!(inlet.poll(Duration::ZERO).unwrap().worked);
    assert_eq!(bus.count(INBOX), 100);
    assert!(!inlet.poll(Duration::ZERO).unwrap().worked);
}

#[test]
fn a_failed_write_is_reported_to_its_requests_and_the_next_one_works() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let mut inlet = Inlet::open(&bus.faulty).unwrap();
    let mut tickets = [1, 2].map(|n| ticket(&gateway, n));
    for ticket in &tickets {
        inlet.handle().send(ticket).unwrap();
    }
    bus.script.append(AppendFault::Fails(unavailable()));
    inlet.poll(Duration::ZERO).unwrap();
    for ticket in &mut tickets {
        let problem = ticket.answer.try_recv().unwrap().unwrap_err();
        assert_eq!(problem.code, Code::NotReady);
        assert!(problem.detail.contains("it is unknown whether"), "{problem}");
        assert!(problem.detail.contains(ticket.operation.as_str()), "{problem}");
    }
    let mut next = ticket(&gateway, 3);
    inlet.handle().send(&next).unwrap();
    inlet.poll(Duration::ZERO).unwrap();
    assert_eq!((bus.count(INBOX), next.answer.try_recv().is_err()), (1, true));
}

#[test]
fn an_inlet_without_its_topic_ends_with_an_error() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let mut inlet = Inlet::open(&bus.faulty).unwrap();
    let mut waiting = ticket(&gateway, 1);
    inlet.handle().send(&waiting).unwrap();
    bus.script.append(AppendFault::Fails(BusError::NoTopic(INBOX.into())));
    assert_eq!(inlet.poll(Duration::ZERO), Err(BusError::NoTopic(INBOX.into())));
    assert!(waiting.answer.try_recv().unwrap().is_err());
}

#[test]
fn a_full_inlet_is_busy_and_a_stopped_inlet_writes_its_queue() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let inlet = Box::new(Inlet::open(&bus.faulty).unwrap());
    let handle = inlet.handle();
    let one = ticket(&gateway, 1);
    for _ in 0..1_024 {
        handle.send(&one).unwrap();
    }
    assert_eq!(handle.send(&one).unwrap_err().code, Code::Busy);
    assert_eq!(inlet.stop(), [""; 0]);
    assert_eq!(bus.count(INBOX), 1_024);
    assert_eq!(handle.send(&one).unwrap_err().code, Code::NotReady);
}

#[test]
fn a_restarted_northbound_reads_the_views_and_the_newest_answers() {
    let bus = Harness::new();
    for n in 1..=20 {
        bus.write(&[about(Kind::Answer, &ended(&id(n), up(&id(n), false)), "x").to(0)]);
    }
    bus.write(&[about(Kind::View, &running(&id(99), 1), "x")]);
    let gateway = bus.gateway(20);
    let mut outlet = bus.outlet(&gateway);
    assert!(!outlet.ready().load(Ordering::Acquire));
    assert!(outlet.poll(Duration::ZERO).unwrap().worked);
    assert!(outlet.ready().load(Ordering::Acquire));
    // Two partitions share twenty operations: ten answers of each are read.
    assert_eq!([10, 11, 20, 99].map(|n| gateway.operation(&id(n)).is_some()), [false, true, true, true]);
}

#[test]
fn an_answer_that_is_written_before_the_first_poll_is_not_missed() {
    let bus = Harness::new();
    let gateway = bus.gateway(1);
    let mut outlet = bus.outlet(&gateway);
    let tickets: Vec<Ticket> = (1..=50).map(|n| ticket(&gateway, n)).collect();
    for ticket in &tickets {
        let operation = &ticket.operation;
        bus.write(&[about(Kind::Answer, &ended(operation, failed(operation, codes::INSTALL_FAILED)), ticket.id())]);
    }
    outlet.poll(Duration::ZERO).unwrap();
    for mut ticket in tickets {
        assert!(ticket.answer.try_recv().unwrap().is_ok());
    }
}

#[test]
fn an_outlet_that_cannot_read_is_not_ready_and_retries_after_a_pause() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let mut outlet = Box::new(bus.outlet(&gateway));
    let mut waiting = ticket(&gateway, 1);
    let answer = ended(&waiting.operation, refused(Code::QueueFull));
    bus.write(&[about(Kind::Answer, &answer, waiting.id())]);
    bus.script.read(unavailable());
    let turn = outlet.poll(Duration::ZERO).unwrap();
    assert_eq!((turn.next, outlet.ready().load(Ordering::Acquire)), (Some(bus.clock.mono().plus_ms(50)), false));
    bus.clock.advance_ms(49);
    outlet.poll(Duration::ZERO).unwrap();
    assert!(waiting.answer.try_recv().is_err());
    bus.clock.advance_ms(1);
    assert_eq!(outlet.poll(Duration::ZERO).unwrap().next, None);
    assert_eq!(waiting.answer.try_recv(), Ok(Ok(answer)));
    assert!(outlet.ready().load(Ordering::Acquire));
    assert_eq!(outlet.stop(), ["northbound: 1 requests are unanswered; their operations continue"]);
}

#[test]
fn deleted_answers_are_skipped_and_the_next_ones_are_read() {
    let bus = Harness::new();
    let gateway = bus.gateway(100);
    let mut outlet = bus.outlet(&gateway);
    for n in 1..=4 {
        bus.write(&[about(Kind::Answer, &ended(&id(n), up(&id(n), false)), "x").to(1)]);
    }
    bus.bus.delete_records(EGRESS, 1, 2).unwrap();
    // More records are deleted after the first deletion is reported.
    outlet.poll(Duration::ZERO).unwrap();
    bus.bus.delete_records(EGRESS, 1, 3).unwrap();
    outlet.poll(Duration::ZERO).unwrap();
    outlet.poll(Duration::ZERO).unwrap();
    assert_eq!([1, 2, 3, 4].map(|n| gateway.operation(&id(n)).is_some()), [false, false, false, true]);
    assert!(outlet.ready().load(Ordering::Acquire));
}
