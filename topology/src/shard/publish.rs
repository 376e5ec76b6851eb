//! Adds records to the next commit: messages, and those of the [`super::publisher`].

use bus::Outgoing;
use wire::WallTime;

use super::Shard;
use super::owned::Phase;
use super::publisher::ViewName;
use crate::View;
use crate::names;
use crate::outbox::{Message, Timeout};
use crate::timers::DueOf;
use crate::views::ViewKey;

impl Shard {
    /// Adds a message to the next commit. The lifetime of a message that a tuple of another stage
    /// caused starts when that tuple was sent: while the tuple waited here, the other stage may
    /// have timed out, relying on no late effects. The component's own expiry is a second bound.
    pub(super) fn send(&mut self, partition: u32, message: Message, now: WallTime, sent: Option<WallTime>) {
        let Message { topic, route, key, mut envelope, expires_after_ms, body } = message;
        envelope.time = Some(now);
        let since = sent.map_or(now, |sent| sent.min(now));
        let expires = expires_after_ms.map(|ms| since.plus_ms(ms));
        envelope.expires = envelope.expires.into_iter().chain(expires).min();
        self.write(partition, Outgoing::packed(topic, route, key.as_deref(), &envelope, body));
    }

    pub(super) fn write(&mut self, partition: u32, record: Outgoing) {
        self.pressure.wrote(&record.topic, record.size());
        self.queue.push(partition, record);
    }

    /// Adds the current views of these keys to the next commit.
    pub(super) fn publish(&mut self, partition: u32, keys: &[ViewKey]) {
        for (component, key) in keys {
            let Some(owned) = self.owned.get(&partition) else { return };
            let due =
                DueOf { timers: &owned.timers, lane: &owned.lane, component: *component, clock: &*self.context.clock };
            let view = owned.lane.view(*component, key, &due);
            self.show(partition, *component, key, view);
        }
        self.counters.add(names::VIEWS, keys.len() as u64);
    }

    /// Writes the view of a component's key; `None` deletes the published view.
    pub(super) fn show(&mut self, partition: u32, component: u16, key: &str, view: Option<View>) {
        let Some(owned) = self.owned.get(&partition) else { return };
        let subject = owned.lane.view_subject(component);
        let name = ViewName { component: owned.lane.component(component), subject, key };
        let (lane, record) = self.publisher.view(owned.lane.info(), name, view, self.context.clock.wall());
        self.write(lane, record);
    }

    /// Adds the positions of lanes that moved to the next commit.
    pub(super) fn publish_positions(&mut self) {
        let live = self.owned.values().filter(|owned| owned.phase == Phase::Live);
        let positions = live.map(|owned| (owned.lane.info(), owned.position));
        for (lane, record) in self.publisher.positions(positions, self.context.clock.mono(), self.context.clock.wall())
        {
            self.write(lane, record);
        }
    }

    /// Adds a timeout for each deadline that has passed.
    pub(super) fn fire(&mut self) {
        let now = self.context.clock.mono();
        for owned in self.owned.values_mut().filter(|owned| owned.phase == Phase::Live) {
            for expired in owned.timers.fire(now) {
                metrics::histogram!(names::TIMER_LATENESS).record(now.since(expired.due).as_secs_f64());
                let (component, timer) = expired.id;
                let timeout = Timeout { timer, generation: expired.generation };
                let (info, component) = (owned.lane.info(), owned.lane.component(component));
                let (lane, record) = self.publisher.timeout(info, component, &timeout, self.context.clock.wall());
                self.queue.push(lane, record);
            }
        }
    }

    /// Notifies each live lane of changes in the liveness of the services that its stage watches.
    pub(super) fn notify_liveness(&mut self) {
        if let Err(error) = self.publisher.look(&*self.context.clock) {
            tracing::warn!(stage = %self.context.options.stage, %error, "heartbeats cannot be read");
        }
        let live = self.owned.values().filter(|owned| owned.phase == Phase::Live);
        let notices = self.publisher.notices(&live.map(|owned| owned.lane.info()), self.context.clock.wall());
        for (lane, record) in notices {
            self.queue.push(lane, record);
        }
    }

    pub(super) fn publish_due(&mut self) {
        let now = self.context.clock.mono();
        for lane in self.live() {
            let keys = self.owned.get_mut(&lane).map(|owned| owned.views.take_due(now)).unwrap_or_default();
            self.publish(lane, &keys);
        }
    }
}
