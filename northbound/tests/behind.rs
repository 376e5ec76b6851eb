//! How far a silent lane is behind: its last published position, and the end of its inbox.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bus::{
    Bus, BusError, Cleanup, Clock, Embedded, EmbeddedOptions, FaultScript, FaultyBus, ManualClock, Outgoing, Task,
    TopicFault, TopicSpec,
};
use northbound::{Directory, Gateway, GatewayOptions, Lag, Outlet, Submission};
use serde_json::json;
use uuid::Uuid;
use wire::answer::LanePosition;
use wire::routing::lane_of;
use wire::{Envelope, Kind};

const INBOX: &str = "nave.flows.hub.in";
const VIEW: &str = "nave.flows.hub.view";
const LANES: u32 = 4;
const KEY: &str = "test-01";

/// A northbound of one topology, and the lane of its requests.
struct Harness {
    clock: Arc<ManualClock>,
    bus: Embedded,
    script: Arc<FaultScript>,
    gateway: Arc<Gateway>,
    outlet: Outlet,
    lag: Lag,
    lane: u32,
}

impl Harness {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
        for topic in [INBOX, "nave.flows.hub.out"] {
            bus.ensure_topic(&TopicSpec::log(topic, LANES)).unwrap();
        }
        bus.ensure_topic(&TopicSpec::log(VIEW, LANES).with_cleanup(Cleanup::Compact)).unwrap();
        let options = GatewayOptions::new("flows", "hub", LANES);
        let gateway = Arc::new(Gateway::new(options, Arc::clone(&clock) as Arc<dyn Clock>));
        let outlet = Outlet::open(Arc::new(bus.clone()), Arc::clone(&gateway)).unwrap();
        let directory = Arc::new(Directory::of(Arc::clone(&gateway), Arc::clone(&clock) as Arc<dyn Clock>));
        let script = Arc::new(FaultScript::default());
        let seen = FaultyBus::new(Arc::new(bus.clone()), Arc::clone(&script) as _);
        let lag = Lag::new(Arc::new(seen), directory);
        Self { clock, bus, script, gateway, outlet, lag, lane: lane_of(KEY.as_bytes(), LANES) }
    }

    /// Writes requests of other clients that no hub handles.
    fn fill(&self, records: usize) {
        let record = || Outgoing::keyed(INBOX, KEY, "{}").to(self.lane);
        self.bus.writer("test").unwrap().append(&vec![record(); records]).unwrap();
    }

    /// Publishes a position of the lane.
    fn stands_at(&mut self, next: u64) {
        let mut envelope = Envelope::new(Kind::View, format!("lane/{}", self.lane), "/nave/flows/hub");
        envelope.subject = Some("lane".to_owned());
        let position = LanePosition { lane: self.lane, owner: "member".into(), next };
        let body = serde_json::to_vec(&position).unwrap();
        let record = Outgoing::keyed(VIEW, format!("lane/{}", self.lane), body).with(&envelope).to(self.lane);
        self.bus.writer("test").unwrap().append(&[record]).unwrap();
        self.outlet.poll(Duration::ZERO).unwrap();
    }

    fn pass_seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance_ms(1_000);
            self.outlet.poll(Duration::ZERO).unwrap();
            self.lag.poll(Duration::ZERO).unwrap();
        }
    }

    fn silent(&self) -> Vec<String> {
        self.gateway.silent_lanes().iter().map(ToString::to_string).collect()
    }

    fn line(&self, silent: &str) -> [String; 1] {
        [format!("lane {}: silent for {silent}; it has no owner, or its owner cannot commit", self.lane)]
    }
}

#[test]
fn a_silent_lane_reports_how_many_records_it_is_behind() {
    let mut harness = Harness::new();
    harness.stands_at(10);
    harness.fill(130);
    let request = json!({"flowid": KEY, "length": 3});
    let ticket = harness.gateway.submit(Submission::new("create-flow", KEY, request, Uuid::from_u128(1))).unwrap();
    let operation = harness.gateway.progress(&ticket, "create-flow", KEY).operation;
    harness.pass_seconds(3);
    assert_eq!(harness.silent(), [""; 0]);
    harness.pass_seconds(1);
    assert_eq!(harness.silent(), harness.line("4.0 s, 120 records behind"), "known when the lane becomes silent");
    harness.fill(7);
    harness.pass_seconds(1);
    assert_eq!(harness.silent(), harness.line("5.0 s, 127 records behind"));
    let until = harness.gateway.operation(&operation).unwrap().until.unwrap();
    assert_eq!([until.what], harness.line("5.0 s, 127 records behind"), "for `nave why`");

    // The last known end is kept while the bus does not answer.
    harness.script.topic(INBOX, TopicFault::Fails(BusError::Unavailable("injected".into())));
    harness.fill(1);
    harness.pass_seconds(1);
    assert_eq!(harness.silent(), harness.line("6.0 s, 127 records behind"));
    harness.stands_at(137);
    assert_eq!(harness.silent(), [""; 0], "it has published");
}

#[test]
fn a_silent_lane_without_a_published_position_is_not_reported_as_behind() {
    let mut harness = Harness::new();
    harness.fill(3);
    let request = json!({"flowid": KEY, "length": 3});
    let _ticket = harness.gateway.submit(Submission::new("create-flow", KEY, request, Uuid::from_u128(1))).unwrap();
    harness.pass_seconds(5);
    assert_eq!(harness.silent(), harness.line("5.0 s"));
}

/// Records of tuples, replies and timeouts fill an inbox too. Requests are refused until half of
/// the backlog is handled.
#[test]
fn a_lane_with_a_full_inbox_refuses_requests_and_other_lanes_accept_them() {
    let mut harness = Harness::new();
    let submit = |harness: &Harness, key: &str| {
        let submission = Submission::new("create-flow", key, json!({}), Uuid::nil());
        harness.gateway.submit(submission).map(drop)
    };
    let mut member = harness.bus.member(&bus::MemberSpec::new(INBOX, INBOX, "hub-0")).unwrap();
    member.poll(0, Duration::ZERO, &mut Vec::new()).unwrap();
    harness.fill(9_999);
    harness.pass_seconds(1);
    assert_eq!(submit(&harness, KEY), Ok(()));
    harness.fill(2);
    harness.pass_seconds(1);
    let busy = submit(&harness, KEY).unwrap_err();
    assert_eq!(busy.code, wire::Code::Busy);
    assert_eq!(busy.detail, format!("lane {} is 10001 records behind (limit 10000); try again later", harness.lane));
    let full = format!("inbox `{INBOX}` is full: lane {} is 10001 records behind, limit 10000", harness.lane);
    assert_eq!(harness.gateway.full_lanes().iter().map(ToString::to_string).collect::<Vec<_>>(), [full]);
    let other =
        (0..1_000).map(|n| format!("flow-{n}")).find(|key| lane_of(key.as_bytes(), LANES) != harness.lane).unwrap();
    assert_eq!(submit(&harness, &other), Ok(()));
    for (next, taken) in [(4_000, false), (5_001, true)] {
        let position = bus::Position { partition: harness.lane, next, metadata: "".into() };
        member.commit(&bus::Batch { records: vec![], positions: vec![position] }).unwrap();
        harness.pass_seconds(1);
        assert_eq!(submit(&harness, KEY).is_ok(), taken, "{next} handled");
    }
}
