//! A build that cannot continue a saved lane holds it and reports the reason. Decided records are
//! never decided again.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::sync::Arc;

use bus::{Clock, FaultScript, FaultyBus, Outgoing, Task};
use bytes::Bytes;
use serde_json::Value;
use topology::testing::Lanes;
use topology::{
    Bolt, Declarer, Delivery, Emitter, InboxSpout, Message, RecoveryOptions, Route, Saver, StateSchema, Stored,
    SystemBolt, Topology, Unreadable,
};
use wire::{Envelope, EnvelopeRef, Kind};

const INBOX: &str = "nave.sums.sum.in";
const OUT: &str = "nave.sums.sum.out";

struct Numbers;

impl InboxSpout for Numbers {
    type Out = u64;
    fn accepts(&self, head: &EnvelopeRef<'_>) -> bool {
        head.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Accepts records that no client sends.
struct Audit;

impl InboxSpout for Audit {
    type Out = u64;
    fn accepts(&self, head: &EnvelopeRef<'_>) -> bool {
        head.kind == Kind::Heartbeat
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Publishes running sums. `VERSION` is the version of its decisions; versions from 3 on cannot
/// read older saved states.
#[derive(Default)]
struct Sum<const VERSION: u32>(u64);

impl<const VERSION: u32> SystemBolt for Sum<VERSION> {
    type In = u64;
    type Out = u64;
    fn declare(declarer: &mut Declarer<u64>) {
        declarer.offers("sum", VERSION, Value::Null);
    }
    fn execute(&mut self, n: u64, out: &mut Emitter<u64>) {
        self.0 += n;
        let text = self.0.to_string();
        out.emit(self.0);
        out.publish(Message {
            topic: OUT.into(),
            route: Route::To(0),
            key: None,
            envelope: Envelope::new(Kind::Answer, text.as_str(), "/test"),
            expires_after_ms: None,
            body: Bytes::from(text),
        });
    }
    fn schema(&mut self) -> Option<StateSchema> {
        Some(StateSchema { version: 1, parts: vec!["sum"] })
    }
    fn save(&mut self, saver: &mut Saver<'_>) {
        saver.put("sum", &self.0);
    }
    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        if VERSION >= 3 {
            return Err(Unreadable(format!("saved `{}` cannot be read: missing field `currency`", stored.key())));
        }
        self.0 = stored.read()?;
        Ok(())
    }
}

/// Drops its input.
struct Drain;

impl Bolt for Drain {
    type In = u64;
    type Out = ();
    fn execute(&mut self, _: u64, _: &mut Emitter<()>) {}
}

/// The stage `sum`, with optional components.
fn sums<const VERSION: u32>(audit: bool, far: bool) -> Topology {
    let t = Topology::named("sums");
    // Declared first: nothing may depend on the order of declarations.
    let more = audit.then(|| t.inbox_spout("audit", || Audit));
    let numbers = t.inbox_spout("numbers", || Numbers);
    let sum = t.bolt("sum", Sum::<VERSION>::default).stage("sum").reads(numbers.local());
    let drain = t.bolt("drain", || Drain).stage("sum").reads(sum.local());
    if let Some(more) = more {
        drain.reads(more.local());
    }
    if far {
        t.bolt("far", || Drain).lanes(2).stage("far").reads(sum.shuffle());
    }
    t.build().unwrap()
}

fn give(lanes: &Lanes, n: u64, id: &str) {
    let record = Outgoing::keyed(INBOX, "k", n.to_string()).with(&Envelope::new(Kind::Request, id, "/test"));
    lanes.bus.writer("test").unwrap().append(&[record]).unwrap();
}

fn published(lanes: &Lanes) -> Vec<String> {
    lanes.records(OUT).iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

fn kill(lanes: &mut Lanes) {
    lanes.shards.clear();
    lanes.embedded.expel(INBOX);
}

fn stop(lanes: &mut Lanes) {
    for shard in lanes.shards.drain(..) {
        assert_eq!(Box::new(shard).stop(), [""; 0]);
    }
}

/// Starts a build after the previous one, with its topics.
fn start(lanes: &mut Lanes, topology: Topology) {
    for spec in topology.topics(&wire::topics::Topics::default()) {
        lanes.bus.ensure_topic(&spec).unwrap();
    }
    lanes.topology = topology;
    lanes.join_stage("sum").unwrap();
    lanes.run_ms(5_000);
}

/// Returns the line of the lane in `/readyz`; `None` if the lane is live.
fn held(lanes: &Lanes) -> Option<String> {
    let waiting = lanes.status.waiting(lanes.clock.mono());
    assert_eq!(waiting.is_empty(), lanes.shards[0].live() == [0]);
    waiting.into_iter().next().map(|(_, line)| line)
}

/// Returns lanes with a saved sum of 3 and, if `tail`, an unsaved sum of 7.
fn begun(topology: Topology, tail: bool) -> Lanes {
    begun_with(RecoveryOptions::default(), topology, tail)
}

fn begun_with(recovery: RecoveryOptions, topology: Topology, tail: bool) -> Lanes {
    // The bus keeps whole inboxes, so a replay from the beginning is possible.
    let script = Arc::new(FaultScript::default());
    script.ignore_trims();
    let mut lanes = Lanes::on(topology, 1, |bus| Arc::new(FaultyBus::new(Arc::new(bus), script)));
    lanes.recovery = recovery;
    lanes.join();
    give(&lanes, 3, "a");
    lanes.run_ms(3_000);
    if tail {
        give(&lanes, 4, "b");
        lanes.run_ms(5);
        kill(&mut lanes);
    } else {
        stop(&mut lanes);
    }
    lanes
}

#[test]
fn records_handled_by_one_version_are_not_replayed_by_another() {
    let mut lanes = begun(sums::<1>(false, false), true);
    start(&mut lanes, sums::<2>(false, false));
    assert!(held(&lanes).unwrap().contains("NAVE-0061"));
    give(&lanes, 5, "c");
    lanes.run_ms(60_000);
    assert_eq!(published(&lanes), ["3", "7"], "nothing moves");
    kill(&mut lanes);
    start(&mut lanes, sums::<1>(false, false));
    assert_eq!((held(&lanes), published(&lanes)), (None, ["3", "7", "12"].map(String::from).to_vec()));
    stop(&mut lanes);
    start(&mut lanes, sums::<2>(false, false));
    give(&lanes, 1, "d");
    lanes.run_ms(5_000);
    assert_eq!((held(&lanes), published(&lanes).last().unwrap().as_str()), (None, "13"));
}

/// The inbox is complete. A replay from its beginning would decide the past again.
#[test]
fn an_unreadable_state_holds_the_lane_and_changes_nothing() {
    for tail in [false, true] {
        let mut lanes = begun(sums::<1>(false, false), tail);
        let before = published(&lanes);
        start(&mut lanes, sums::<3>(false, false));
        assert!(held(&lanes).unwrap().contains("NAVE-0061"));
        give(&lanes, 5, "c");
        lanes.run_ms(60_000);
        assert_eq!(published(&lanes), before);
        kill(&mut lanes);
        start(&mut lanes, sums::<1>(false, false));
        assert_eq!(held(&lanes), None);
        assert_eq!(published(&lanes).len(), before.len() + 1);
    }
}

#[test]
fn a_larger_graph_continues_saved_lanes_and_a_smaller_one_does_not() {
    for tail in [false, true] {
        let mut lanes = begun(sums::<1>(false, false), tail);
        start(&mut lanes, sums::<1>(true, true));
        assert_eq!(held(&lanes), None, "one more component and one more stage");
        give(&lanes, 5, "c");
        lanes.run_ms(5_000);
        assert_eq!(published(&lanes).len(), if tail { 3 } else { 2 });
        stop(&mut lanes);
        start(&mut lanes, sums::<1>(false, true));
        assert!(held(&lanes).unwrap().contains("NAVE-0061"), "a component is missing");
        kill(&mut lanes);
        start(&mut lanes, sums::<1>(true, true));
        assert_eq!(held(&lanes), None);
    }
}

/// This stage has no snapshot yet: its state is a replay of its inbox, by the graph that decided it.
#[test]
fn an_inbox_handled_by_another_graph_is_not_replayed() {
    let whole = || sums::<1>(true, false);
    let never = RecoveryOptions { snapshot_ms: 3_600_000, ..RecoveryOptions::default() };
    let mut lanes = begun_with(never, whole(), true);
    start(&mut lanes, sums::<1>(false, false));
    assert!(held(&lanes).unwrap().contains("NAVE-0061"));
    lanes.run_ms(120_000);
    assert_eq!(published(&lanes), ["3", "7"]);
    kill(&mut lanes);
    start(&mut lanes, whole());
    assert_eq!(held(&lanes), None);
    kill(&mut lanes);
    start(&mut lanes, sums::<1>(true, true));
    give(&lanes, 5, "c");
    lanes.run_ms(5_000);
    assert_eq!((held(&lanes), published(&lanes)), (None, ["3", "7", "12"].map(String::from).to_vec()));
}

#[test]
fn incompatible_states_are_listed_before_a_takeover() {
    let topics = wire::topics::Topics::default();
    let lanes = begun(sums::<1>(true, false), false);
    let check = |topology: &Topology| topology::incompatible(&lanes.bus, topology, &topics, "sum").unwrap();
    assert_eq!(check(&sums::<2>(true, true)), []);
    let unreadable = "saved `sum` cannot be read: missing field `currency`".to_owned();
    assert_eq!(check(&sums::<3>(true, false)), [(0, unreadable)]);
    assert!(
        check(&sums::<1>(false, false))[0]
            .1
            .ends_with("lacks: inbox spout audit in stage sum; edge audit/default>drain (local, in the lane)")
    );
    assert_eq!(lanes.records(INBOX).len(), 2, "one owner record, one number: the check writes nothing");
}

/// A corrupt snapshot is replaced by a replay of the inbox, but only with the version that decided
/// it.
#[test]
fn a_corrupt_snapshot_is_replaced_by_a_replay_of_the_same_version() {
    let mut lanes = begun(sums::<1>(false, false), false);
    let corrupt = Outgoing::keyed("nave.sums.sum.snap", "sum/sum", "4").to(0);
    lanes.bus.writer("stranger").unwrap().append(&[corrupt]).unwrap();
    start(&mut lanes, sums::<2>(false, false));
    assert!(held(&lanes).is_some());
    lanes.run_ms(120_000);
    assert_eq!(published(&lanes), ["3"]);
    kill(&mut lanes);
    start(&mut lanes, sums::<1>(false, false));
    assert_eq!(held(&lanes), None);
}
