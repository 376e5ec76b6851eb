//! A component with timers of its own beside its deadlines: neither receives the timeouts of the
//! other.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use bus::Outgoing;
use coordinator::{DEADLINES, Deadline, TimedOut, deadlines};
use topology::testing::Lanes;
use topology::{Bolt, Declarer, Delivery, Emitter, InboxSpout, Message, Route, Topology, Unreadable};
use wire::topics::Topics;
use wire::{Envelope, EnvelopeRef, Kind};

/// The key of the deadline, and of the component's own timer.
const KEY: u64 = 7;

enum In {
    Begin(u16),
    TimedOut(TimedOut),
}

impl From<u16> for In {
    fn from(number: u16) -> Self {
        In::Begin(number)
    }
}

impl From<TimedOut> for In {
    fn from(timed_out: TimedOut) -> Self {
        In::TimedOut(timed_out)
    }
}

struct Requests;

impl InboxSpout for Requests {
    type Out = u16;
    fn accepts(&self, head: &EnvelopeRef<'_>) -> bool {
        head.kind == Kind::Request
    }
    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<u16>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}

/// Registers a deadline of 1 s, and arms two timers of 10 ms: one with the key of the deadline, one
/// with the number that the coordinator uses for the deadline.
struct Keeper;

impl Keeper {
    fn say(text: &str, out: &mut Emitter<()>) {
        out.publish(Message {
            topic: Topics::default().egress("timers", "keeper").into(),
            route: Route::To(0),
            key: None,
            envelope: Envelope::new(Kind::Answer, text, "/test"),
            expires_after_ms: None,
            body: text.as_bytes().to_vec().into(),
        });
    }
}

impl Bolt for Keeper {
    type In = In;
    type Out = ();
    fn declare(declarer: &mut Declarer<In>) {
        deadlines(declarer);
    }
    fn execute(&mut self, input: In, out: &mut Emitter<()>) {
        match input {
            In::Begin(number) => {
                out.side(DEADLINES, Deadline::Register { key: KEY, generation: 1, after_ms: 1_000 });
                out.after(KEY, 10);
                out.after((u64::from(number) << 48) | KEY, 10);
            }
            In::TimedOut(timed_out) => Self::say(&format!("deadline {}", timed_out.key), out),
        }
    }
    fn on_timer(&mut self, key: u64, out: &mut Emitter<()>) {
        Self::say(&format!("timer {}", key & 0xff), out);
    }
}

/// Returns the keeper's output within 999 ms, and in the millisecond after.
fn said() -> (Vec<String>, Vec<String>) {
    let t = Topology::named("timers");
    let requests = t.inbox_spout("requests", || Requests);
    t.bolt("keeper", || Keeper).stage("keeper").lanes(1).reads(requests.local());
    let mut lanes = Lanes::of(t.build().unwrap(), 1);
    lanes.join();
    // The keeper's number in the topology is unknown here. One of these makes its timer number
    // equal that of the deadline.
    for number in 0..8_u16 {
        let envelope = Envelope::new(Kind::Request, number.to_string(), "/test");
        lanes.write(&[Outgoing::keyed(&lanes.inbox("keeper"), "k", number.to_string()).with(&envelope)]);
    }
    let mut said_by = |ms: u64| {
        lanes.run_ms(ms);
        let records = lanes.records(&lanes.egress("keeper"));
        records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect::<Vec<_>>()
    };
    let early = said_by(999);
    let later = said_by(1).split_off(early.len());
    (early, later)
}

#[test]
fn a_component_gets_its_own_timers_and_its_deadlines() {
    // Key 7 is number 0 too: it is armed by the first request, and again by all others.
    assert_eq!(said(), (vec!["timer 7".to_owned(); 8], vec!["deadline 7".to_owned()]));
}
