//! `ce_expirytime` of messages that a tuple of another stage causes.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use bus::{Clock, Outgoing};
use bytes::Bytes;
use topology::testing::Lanes;
use topology::{Bolt, Delivery, Emitter, InboxSpout, Message, Route, Topology, Unreadable};
use wire::{Envelope, EnvelopeRef, Kind, WallTime};

const OUT: &str = "nave.orders.main.out";

/// Makes orders of numbers.
struct Orders;

impl InboxSpout for Orders {
    type Out = u32;
    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u32>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Holds each order until the next one arrives, then sends both. Each message expires after a
/// second.
#[derive(Default)]
struct Doing {
    waits: Option<(u32, Option<WallTime>)>,
}

fn message(order: u32, bound: Option<WallTime>) -> Message {
    let mut envelope = Envelope::new(Kind::Call, order.to_string(), "/test");
    envelope.expires = bound;
    Message {
        topic: OUT.into(),
        route: Route::To(0),
        key: None,
        envelope,
        expires_after_ms: Some(1_000),
        body: Bytes::new(),
    }
}

impl Bolt for Doing {
    type In = u32;
    type Out = ();
    fn execute(&mut self, order: u32, out: &mut Emitter<()>) {
        let until = out.sent_time().map(|sent| sent.plus_ms(1_000));
        if let Some((waited, until)) = self.waits.replace((order, until)) {
            out.publish(message(waited, until));
            out.publish(message(order, None));
        }
    }
}

/// Returns the expiry of each message in milliseconds after the start. Two orders arrive 400 ms
/// apart at a stage whose process starts `late_ms` later.
fn expire(two_stages: bool, late_ms: u64) -> Vec<u64> {
    let t = Topology::named("orders");
    let orders = t.inbox_spout("orders", || Orders);
    let doing = t.bolt("doing", Doing::default).stage(if two_stages { "doing" } else { "main" }).lanes(1);
    let asked = if two_stages {
        let sorting = t.bolt("sorting", || Sorting).stage("main").lanes(1).reads(orders.local());
        sorting.global()
    } else {
        orders.local()
    };
    doing.reads(asked);
    let mut lanes = Lanes::of(t.build().unwrap(), 0);
    lanes.join_stage("main").unwrap();
    lanes.run_ms(100);
    let began = lanes.clock.wall();
    for order in 1..=2 {
        let record = Outgoing::keyed("nave.orders.main.in", "order".to_owned(), order.to_string());
        let record = record.with(&Envelope::new(Kind::Request, format!("{order}"), "/test"));
        lanes.write(&[record]);
        let next = lanes.clock.mono().plus_ms(400);
        lanes.run_ms(100);
        lanes.clock.advance_to(next);
    }
    if two_stages {
        // The orders waited without an owner.
        lanes.clock.advance_ms(late_ms);
        lanes.join_stage("doing").unwrap();
    }
    lanes.run_ms(100);
    let expires = |record: &bus::Record| record.headers.envelope().unwrap().expires.unwrap();
    lanes.records(OUT).iter().map(|record| expires(record).ms_since(began)).collect()
}

struct Sorting;

impl Bolt for Sorting {
    type In = u32;
    type Out = u32;
    fn execute(&mut self, order: u32, out: &mut Emitter<u32>) {
        out.emit(order);
    }
}

/// The other stage has timed out by then: its time includes all waiting of its tuple and of the
/// message.
#[test]
fn a_message_for_another_stage_expires_by_that_stages_time() {
    assert_eq!(expire(true, 0), [1_000, 1_400]);
    assert_eq!(expire(true, 60_000), [1_000, 1_400], "waiting does not extend the lifetime");
}

/// Within a lane, one step handles the record and sends the message, without delay in between.
#[test]
fn a_message_for_the_own_lane_expires_from_its_sending_on() {
    assert_eq!(expire(false, 0), [1_400, 1_400]);
}
