//! A part that begins when its topic is there: a spoke may be started before the topology that it serves is submitted.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Part, Turn};
use topology::driver::MakePart;

/// Waits for a topic, then is the part that it makes.
pub(super) struct Later {
    bus: Arc<dyn Bus>,
    topic: String,
    waiting: Option<MakePart>,
    part: Option<Box<dyn Part>>,
}

impl Later {
    /// `make`, as soon as there is `topic`.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: String, make: MakePart) -> Self {
        Self { bus, topic, waiting: Some(make), part: None }
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
        let there = match self.bus.topic(&self.topic) {
            Ok(topic) => topic.is_some(),
            Err(BusError::Unavailable(why)) => {
                tracing::warn!(topic = self.topic, why, "cannot look for the topic; trying again");
                false
            }
            Err(error) => return Err(error),
        };
        if let (true, Some(make)) = (there, self.waiting.take_if(|_| there)) {
            self.part = Some(make()?);
            return Ok(Turn { worked: true, next: None });
        }
        std::thread::park_timeout(wait);
        Ok(Turn { worked: false, next: None })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.part.map(Part::stop).unwrap_or_default()
    }
}
