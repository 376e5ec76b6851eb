//! A build that cannot go on with what another one left holds the lane and says why; nothing that was decided is decided again.
#![expect(clippy::unwrap_used, reason = "tests panic")]

#[expect(dead_code, reason = "this file uses a part of it")]
mod support;

use std::sync::Arc;

use bus::{Clock, Faulty, Outgoing, Part, Script};
use bytes::Bytes;
use serde_json::Value;
use support::Lanes;
use topology::{
    Bolt, Declarer, Delivery, Emitter, InboxSpout, Keeps, Message, Route, Saver, Stored, Topology, Unreadable,
};
use wire::{Envelope, Head, Kind};

const INBOX: &str = "nave.sums.sum.in";
const OUT: &str = "nave.sums.sum.out";

struct Numbers;

impl InboxSpout for Numbers {
    type Out = u64;
    fn accepts(&self, head: &Head<'_>) -> bool {
        head.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Takes what nobody sends.
struct Audit;

impl InboxSpout for Audit {
    type Out = u64;
    fn accepts(&self, head: &Head<'_>) -> bool {
        head.kind == Kind::Heartbeat
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u64>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Adds up, and publishes each sum. `VERSION` is that of what it decides; from 3 on it cannot read what those before it saved.
#[derive(Default)]
struct Sum<const VERSION: u32>(u64);

impl<const VERSION: u32> Bolt for Sum<VERSION> {
    type In = u64;
    type Out = u64;
    const KEEPS: Keeps = Keeps::Saved(1);
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

/// Forgets what it sees.
struct Drain<const SAVED: bool>;

impl<const SAVED: bool> Bolt for Drain<SAVED> {
    type In = u64;
    type Out = ();
    const KEEPS: Keeps = if SAVED { Keeps::Nothing } else { Keeps::Everything };
    fn execute(&mut self, _: u64, _: &mut Emitter<()>) {}
}

/// The stage `sum`, with the parts that are asked for.
fn sums<const VERSION: u32>(audit: bool, far: bool) -> Topology {
    parts::<VERSION, true>(audit, far)
}

fn parts<const VERSION: u32, const SAVED: bool>(audit: bool, far: bool) -> Topology {
    let t = Topology::named("sums");
    // Declared before the others: nothing may depend on the place in the list.
    let more = audit.then(|| t.inbox_spout("audit", || Audit));
    let numbers = t.inbox_spout("numbers", || Numbers);
    let sum = t.bolt("sum", Sum::<VERSION>::default).stage("sum").reads(numbers.local());
    let drain = t.bolt("drain", || Drain::<SAVED>).stage("sum").reads(sum.local());
    if let Some(more) = more {
        drain.reads(more.local());
    }
    if far {
        t.bolt("far", || Drain::<true>).lanes(2).stage("far").reads(sum.shuffle());
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

/// A build goes on where the last one ended: with its topics.
fn start(lanes: &mut Lanes, topology: Topology) {
    for spec in topology.topics(&wire::topics::Topics::default()) {
        lanes.bus.ensure_topic(&spec).unwrap();
    }
    lanes.topology = topology;
    lanes.join_stage("sum", 1).unwrap();
    lanes.run_ms(5_000);
}

/// What `/readyz` says of the lane; none where it is live.
fn held(lanes: &Lanes) -> Option<String> {
    let waiting = lanes.status.waiting(lanes.clock.mono());
    assert_eq!(waiting.is_empty(), lanes.shards[0].live() == [0]);
    waiting.into_iter().next().map(|(_, line)| line)
}

/// With 3 saved, and 7 decided since the last snapshot where `tail`.
fn begun(topology: Topology, tail: bool) -> Lanes {
    // A bus that keeps every inbox whole: so it could be read from its beginning.
    let script = Arc::new(Script::default());
    script.keep();
    let mut lanes = Lanes::on(topology, 1, |bus| Arc::new(Faulty::new(Arc::new(bus), script)));
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
fn what_one_version_decided_after_its_last_snapshot_is_not_decided_again_by_another() {
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

/// The inbox is all there, and could be read from its beginning: then the past would be decided once more.
#[test]
fn a_state_that_a_build_cannot_read_holds_the_lane_and_nothing_moves() {
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
fn a_graph_with_more_parts_goes_on_with_what_was_left_and_one_with_less_does_not() {
    for tail in [false, true] {
        let mut lanes = begun(sums::<1>(false, false), tail);
        start(&mut lanes, sums::<1>(true, true));
        assert_eq!(held(&lanes), None, "a component and a stage more");
        give(&lanes, 5, "c");
        lanes.run_ms(5_000);
        assert_eq!(published(&lanes).len(), if tail { 3 } else { 2 });
        stop(&mut lanes);
        start(&mut lanes, sums::<1>(false, true));
        assert!(held(&lanes).unwrap().contains("NAVE-0061"), "it lacks a component");
        kill(&mut lanes);
        start(&mut lanes, sums::<1>(true, true));
        assert_eq!(held(&lanes), None);
    }
}

/// Such a stage has no snapshot: its state is what its inbox makes of it, by the graph that decided it.
#[test]
fn an_inbox_that_another_graph_decided_is_not_replayed() {
    let whole = || parts::<1, false>(true, false);
    let mut lanes = begun(whole(), true);
    start(&mut lanes, parts::<1, false>(false, false));
    assert!(held(&lanes).unwrap().contains("NAVE-0061"));
    lanes.run_ms(120_000);
    assert_eq!(published(&lanes), ["3", "7"]);
    kill(&mut lanes);
    start(&mut lanes, whole());
    assert_eq!(held(&lanes), None);
    kill(&mut lanes);
    start(&mut lanes, parts::<1, false>(true, true));
    give(&lanes, 5, "c");
    lanes.run_ms(5_000);
    assert_eq!((held(&lanes), published(&lanes)), (None, ["3", "7", "12"].map(String::from).to_vec()));
}

#[test]
fn what_a_build_cannot_go_on_with_is_listed_before_it_takes_a_lane_over() {
    let topics = wire::topics::Topics::default();
    let lanes = begun(sums::<1>(true, false), false);
    let check = |topology: &Topology| topology::incompatible(&lanes.bus, topology, &topics, "sum").unwrap();
    assert_eq!(check(&sums::<2>(true, true)), []);
    let unreadable = "saved `sum` cannot be read: missing field `currency`".to_owned();
    assert_eq!(check(&sums::<3>(true, false)), [(0, unreadable)]);
    assert!(
        check(&sums::<1>(false, false))[0]
            .1
            .ends_with("audit/default>drain, local, in the lane; inbox spout audit in stage sum")
    );
    assert_eq!(lanes.records(INBOX).len(), 2, "one owner record, one number: nothing was written");
}

/// A lane is read from its inbox where its snapshot is damaged; but only by the version that decided it.
#[test]
fn a_damaged_snapshot_is_replaced_by_the_inbox_only_where_this_version_decided_it() {
    let mut lanes = begun(sums::<1>(false, false), false);
    let spoilt = Outgoing::keyed("nave.sums.sum.snap", "sum/sum", "4").to(0);
    lanes.bus.writer("stranger").unwrap().append(&[spoilt]).unwrap();
    start(&mut lanes, sums::<2>(false, false));
    assert!(held(&lanes).is_some());
    lanes.run_ms(120_000);
    assert_eq!(published(&lanes), ["3"]);
    kill(&mut lanes);
    start(&mut lanes, sums::<1>(false, false));
    assert_eq!(held(&lanes), None);
}
