//! A Rust spoke on its topic.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Clock, Embedded, EmbeddedOptions, ManualClock, Outgoing, Task, TopicSpec};
use nave::spoke::{Call, Spoke, SpokeError, SpokeService, SpokeTask};
use wire::topics::Topics;
use wire::{CallId, Envelope, Kind, MessageId, OperationId};

/// Number of calls handled, and key, id, attempt and remaining time of each.
#[derive(Default)]
struct Desk(u32, Vec<(String, u32, Option<Duration>)>);

impl Spoke for Desk {
    type Request = u32;
    type Reply = u32;

    fn handle(&mut self, call: &Call, request: u32) -> Result<u32, SpokeError> {
        self.0 += 1;
        self.1.push((format!("{} {}", call.key, call.id), call.attempt, call.remaining()));
        if request == 0 {
            return Err(SpokeError::retry("closed", "not yet"));
        }
        Ok(request)
    }
}

#[test]
fn an_invalid_message_is_counted_and_the_next_is_answered() {
    let clock = Arc::new(ManualClock::default());
    let bus = Embedded::open(clock as Arc<dyn Clock>, EmbeddedOptions::default());
    let names = Topics::default();
    let topic = names.spoke("desk");
    for topic in [topic.as_str(), "inbox"] {
        bus.ensure_topic(&TopicSpec::log(topic, 1)).unwrap();
    }
    let desk = SpokeService::new(Desk::default());
    let mut part = SpokeTask::join(&bus, &names, "desk", "desk-1", desk.clone()).unwrap();

    let call = CallId::new(OperationId::new("op-1").unwrap(), 1, 1);
    let mut request = Envelope::new(Kind::Call, MessageId::text(&call, "desk", 1), "/test");
    request.call = Some(call);
    let no_address = request.clone();
    request.reply_to = Some("inbox".into());
    request.reply_partition = Some(0);
    let record = |body: &str| Outgoing::keyed(&topic, "rome", body.to_owned());
    let records = [record("no envelope"), record("1").with(&no_address), record("1").with(&request)];
    bus.writer("test").unwrap().append(&records).unwrap();

    while part.poll(Duration::ZERO).unwrap().worked {}
    assert_eq!((desk.unreadable(), desk.look(|desk| desk.0)), (2, 1));
    assert_eq!(bus.bounds("inbox", 0).unwrap().end, 1, "the spoke answers once");
}

/// A system behind the spoke can use the call id as idempotency key to execute each call once.
#[test]
fn a_spoke_receives_call_id_attempt_and_deadline() {
    let clock = Arc::new(ManualClock::default());
    let bus = Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default());
    let names = Topics::default();
    let topic = names.spoke("desk");
    for topic in [topic.as_str(), "inbox"] {
        bus.ensure_topic(&TopicSpec::log(topic, 1)).unwrap();
    }
    let desk = SpokeService::new(Desk::default());
    let mut part = SpokeTask::join(&bus, &names, "desk", "desk-1", desk.clone()).unwrap();
    let call = CallId::new(OperationId::new("op-1").unwrap(), 1, 1);
    for (attempt, left_ms) in [(1, 1_500), (2, 700)] {
        let mut request = Envelope::new(Kind::Call, MessageId::text(&call, "desk", attempt), "/test");
        request.call = Some(call.clone());
        request.attempt = Some(attempt);
        request.reply_to = Some("inbox".into());
        request.expires = Some(clock.wall().plus_ms(left_ms));
        bus.writer("test").unwrap().append(&[Outgoing::keyed(&topic, "rome", "0".to_owned()).with(&request)]).unwrap();
        while part.poll(Duration::ZERO).unwrap().worked {}
        clock.advance_ms(800);
    }
    let seen = |attempt, ms| ("rome op-1/1/1".to_owned(), attempt, Some(Duration::from_millis(ms)));
    assert_eq!(desk.look(|desk| desk.1.clone()), [seen(1, 1_500), seen(2, 700)]);
}
