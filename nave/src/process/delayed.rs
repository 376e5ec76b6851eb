//! A spoke that starts later: once its topic exists, because a spoke may start before its topology
//! is submitted. A spoke in standby also waits until no other process serves the topic.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, MonoTime, PollOutcome, Task};
use topology::driver::MakeTask;

/// Interval between two checks in milliseconds; each sends two queries to the cluster.
const CHECK_MS: u64 = 500;

/// Waits for a topic, then runs the task that it creates.
pub(super) struct DelayedSpoke {
    bus: Arc<dyn Bus>,
    topic: String,
    is_standby: bool,
    check_at: MonoTime,
    waiting: Option<MakeTask>,
    task: Option<Box<dyn Task>>,
}

impl DelayedSpoke {
    /// Runs `make` once `topic` exists.
    pub(super) fn new(bus: Arc<dyn Bus>, topic: String, make: MakeTask) -> Self {
        let check_at = MonoTime::default();
        Self { bus, topic, is_standby: false, check_at, waiting: Some(make), task: None }
    }

    /// If `is_standby`, waits until no other process serves the topic. Two spokes that keep tables
    /// in memory must not share a topic: each would know half of the calls.
    pub(super) fn standby(self, is_standby: bool) -> Self {
        Self { is_standby, ..self }
    }

    fn can_start(&self) -> Result<bool, BusError> {
        // The group of a spoke has the name of its topic.
        Ok(self.bus.topic(&self.topic)?.is_some() && (!self.is_standby || self.bus.members(&self.topic)? == 0))
    }
}

impl Task for DelayedSpoke {
    fn name(&self) -> &str {
        self.task.as_ref().map_or(&self.topic, |task| task.name())
    }

    fn poll(&mut self, wait: Duration) -> Result<PollOutcome, BusError> {
        if let Some(task) = &mut self.task {
            return task.poll(wait);
        }
        let now = self.bus.clock().mono();
        if now >= self.check_at {
            let can_start = match self.can_start() {
                Ok(can_start) => can_start,
                Err(BusError::Unavailable(why)) => {
                    tracing::warn!(topic = self.topic, why, "cannot check whether a spoke can start; retrying");
                    false
                }
                Err(error) => return Err(error),
            };
            if let (true, Some(make)) = (can_start, self.waiting.take_if(|_| can_start)) {
                self.task = Some(make()?);
                return Ok(PollOutcome { worked: true, next: None });
            }
            self.check_at = self.bus.clock().mono().plus_ms(CHECK_MS);
        }
        std::thread::park_timeout(wait.min(self.check_at.since(now)));
        Ok(PollOutcome { worked: false, next: Some(self.check_at) })
    }

    fn stop(self: Box<Self>) -> Vec<String> {
        self.task.map(Task::stop).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bus::{Clock, Embedded, EmbeddedOptions, ManualClock, MemberSpec, TopicSpec};

    use super::*;

    struct Spoke;

    impl Task for Spoke {
        fn name(&self) -> &'static str {
            "spoke"
        }

        fn poll(&mut self, _: Duration) -> Result<PollOutcome, BusError> {
            Ok(PollOutcome { worked: false, next: None })
        }

        fn stop(self: Box<Self>) -> Vec<String> {
            Vec::new()
        }
    }

    #[test]
    fn a_spoke_starts_once_its_topic_exists_and_a_standby_once_it_is_unserved() {
        let clock = Arc::new(ManualClock::default());
        let bus = Arc::new(Embedded::open(Arc::clone(&clock) as Arc<dyn Clock>, EmbeddedOptions::default()));
        let delayed = |is_standby| {
            let make: MakeTask = Box::new(|| Ok(Box::new(Spoke) as Box<dyn Task>));
            DelayedSpoke::new(Arc::clone(&bus) as Arc<dyn Bus>, "calls".to_owned(), make).standby(is_standby)
        };
        let (mut plain, mut second) = (delayed(false), delayed(true));
        let check = |tasks: [(&mut DelayedSpoke, bool); 2], why: &str| {
            clock.advance_ms(CHECK_MS);
            for (task, has_started) in tasks {
                task.poll(Duration::ZERO).expect("the bus answers");
                assert_eq!(task.name() == "spoke", has_started, "{why}");
            }
        };
        check([(&mut plain, false), (&mut second, false)], "the topic does not exist");
        bus.ensure_topic(&TopicSpec::log("calls", 1)).expect("a topic");
        let other = bus.member(&MemberSpec::new("calls", "calls", "other")).expect("a member");
        check([(&mut plain, true), (&mut second, false)], "another process serves it");
        other.leave().expect("it leaves");
        check([(&mut plain, true), (&mut second, true)], "no process serves it");
    }
}
