//! A spoke that begins later: when its topic is there, since it may be started before the topology that it serves is submitted; and, where it
//! stands by, when no other process serves that topic.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, MonoTime, Part, Turn};
use topology::driver::MakePart;

/// Interval between two looks at whether it can begin: two questions to the cluster.
const LOOK_MS: u64 = 500;

/// Waits for a topic, then is the part that it makes.
pub(super) struct Later {
    bus: Arc<dyn Bus>,
    topic: String,
    stands_by: bool,
    look: MonoTime,
    waiting: Option<MakePart>,
    part: Option<Box<dyn Part>>,
}

impl Later {
    /// `make`, as soon as there is `topic`.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: String, make: MakePart) -> Self {
        let look = MonoTime::default();
        Self { bus, topic, stands_by: false, look, waiting: Some(make), part: None }
    }

    /// The same; where `stands_by`, it waits for as long as another process serves the topic. A spoke that keeps tables in its memory must
    /// not share a topic with another one: each would know half of what was done.
    pub(super) fn standing_by(self, stands_by: bool) -> Self {
        Self { stands_by, ..self }
    }

    fn can_begin(&self) -> Result<bool, BusError> {
        // The group of a spoke is called like its topic.
        Ok(self.bus.topic(&self.topic)?.is_some() && (!self.stands_by || self.bus.members(&self.topic)? == 0))
    }
}

impl Part for Later {
    fn name(&self) -> &str {
        self.part.as_ref().map_or(&self.topic, |part| part.name())
    }

    fn turn(&mut self, wait: Duration) -> Result<Turn, BusError> {
        if let Some(part) = &mut self.part {
            return part.turn(wait);
        }
        let now = self.bus.clock().mono();
        if now >= self.look {
            let can_begin = match self.can_begin() {
                Ok(can_begin) => can_begin,
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(topic = self.topic, why, "cannot look whether a spoke can begin; trying again");
                    false
                }
                Err(error) => return Err(error),
            };
            if let (true, Some(make)) = (can_begin, self.waiting.take_if(|_| can_begin)) {
                self.part = Some(make()?);
                return Ok(Turn { worked: true, next: None });
            }
            self.look = self.bus.clock().mono().plus_ms(LOOK_MS);
        }
        std::thread::park_timeout(wait.min(self.look.since(now)));
        Ok(Turn { worked: false, next: Some(self.look) })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.part.map(Part::stop).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bus::{Clock, Embedded, EmbeddedOptions, ManualClock, MemberSpec, TopicSpec};

    use super::*;

    struct Spoke;

    impl Part for Spoke {
        fn name(&self) -> &'static str {
            "spoke"
        }

        fn turn(&mut self, _: Duration) -> Result<Turn, BusError> {
            Ok(Turn { worked: false, next: None })
        }

        fn stop(self: Box<Self>) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn a_spoke_begins_when_its_topic_is_there_and_one_that_stands_by_when_nobody_serves_it() {
        let clock = Arc::new(ManualClock::default());
        let bus = Arc::new(Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default()));
        let later = |stands_by| {
            let make: MakePart = Box::new(|| Ok(Box::new(Spoke) as Box<dyn Part>));
            Later::new(Arc::clone(&bus) as Arc<dyn Bus>, "calls".to_owned(), make).standing_by(stands_by)
        };
        let (mut plain, mut second) = (later(false), later(true));
        let looks = |parts: [(&mut Later, bool); 2], why: &str| {
            clock.advance_ms(LOOK_MS);
            for (part, has_begun) in parts {
                part.turn(Duration::ZERO).expect("the bus answers");
                assert_eq!(part.name() == "spoke", has_begun, "{why}");
            }
        };
        looks([(&mut plain, false), (&mut second, false)], "there is no topic");
        bus.ensure_topic(&TopicSpec::log("calls", 1)).expect("a topic");
        let other = bus.member(&MemberSpec::new("calls", "calls", "other")).expect("a member");
        looks([(&mut plain, true), (&mut second, false)], "another process serves it");
        other.leave().expect("it may go");
        looks([(&mut plain, true), (&mut second, true)], "nobody serves it");
    }
}
