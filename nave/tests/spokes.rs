//! A spoke in Rust, on its topic.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, Outgoing, Part, TopicSpec};
use nave::spoke::{No, Served, Spoke, SpokePart};
use wire::topics::Topics;
use wire::{CallId, Envelope, Kind, MessageId, OperationId};

/// How often it was asked.
struct Desk(u32);

impl Spoke for Desk {
    type Request = u32;
    type Reply = u32;

    fn handle(&mut self, _: &str, request: u32) -> Result<u32, No> {
        self.0 += 1;
        Ok(request)
    }
}

#[test]
fn a_message_that_is_no_request_is_counted_and_the_next_one_is_answered() {
    let clock = Arc::new(ManualClock::default());
    let bus = Embedded::open(clock as Arc<dyn Clock>, EmbeddedOptions::default());
    let names = Topics::default();
    let topic = names.spoke("desk");
    for topic in [topic.as_str(), "inbox"] {
        bus.ensure_topic(&TopicSpec::log(topic, 1)).unwrap();
    }
    let desk = Served::new(Desk(0));
    let mut part = SpokePart::join(&bus, &names, "desk", "desk-1", desk.clone()).unwrap();

    let call = CallId::new(OperationId::new("op-1").unwrap(), 1, 1);
    let mut request = Envelope::new(Kind::Call, MessageId::text(&call, "desk", 1), "/test");
    request.call = Some(call);
    let no_address = request.clone();
    request.reply_to = Some("inbox".into());
    request.reply_partition = Some(0);
    let record = |body: &str| Outgoing::keyed(&topic, "rome", body.to_owned());
    let records = [record("no envelope"), record("1").with(&no_address), record("1").with(&request)];
    bus.writer("test").unwrap().append(&records).unwrap();

    while part.turn(Duration::ZERO).unwrap().worked {}
    assert_eq!((desk.unreadable(), desk.look(|desk| desk.0)), (2, 1));
    assert_eq!(bus.bounds("inbox", 0).unwrap().end, 1, "one answer");
}
