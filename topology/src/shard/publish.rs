//! Records that a shard writes for its lanes: messages, timeouts, views, positions, liveness.

use std::sync::Arc;

use bus::{Outgoing, Route};
use bytes::Bytes;
use wire::alive::Liveness;
use wire::answer::LanePosition;
use wire::{Envelope, Kind, WallTime};

use super::owned::Phase;
use super::{Shard, Timeout};
use crate::View;
use crate::names;
use crate::outbox::Message;
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
            let due = DueOf { timers: &owned.timers, lane: &owned.lane, component: *component, clock: &*self.clock };
            let view = owned.lane.view(*component, key, &due);
            self.show(partition, *component, key, view);
        }
        self.counters.add_unexported(names::VIEWS, keys.len() as u64);
    }

    /// Writes the view of a component's key; none deletes the published view.
    pub(super) fn show(&mut self, partition: u32, component: u16, key: &str, view: Option<View>) {
        let Some(owned) = self.owned.get(&partition) else { return };
        let name = format!("{}/{key}", owned.lane.component(component));
        let mut envelope = Envelope::new(Kind::View, name.as_str(), owned.lane.info().source());
        envelope.time = Some(self.clock.wall());
        envelope.subject = Some(owned.lane.view_subject(component).to_owned());
        envelope.operation = wire::OperationId::new(key).ok();
        let record = Outgoing {
            topic: Arc::clone(&self.view_topic),
            route: Route::To(partition),
            key: Some(Bytes::from(name)),
            headers: bus::Headers::of(&envelope),
            value: view.map(|View(body)| body).unwrap_or_default(),
        };
        self.write(partition, record);
    }

    /// Adds the positions of lanes that moved to the next commit, each at most every
    /// [`super::ShardOptions::POSITION_MS`].
    pub(super) fn publish_positions(&mut self) {
        let now = self.clock.mono();
        for lane in self.live() {
            let Some(owned) = self.owned.get_mut(&lane) else { continue };
            if owned.position_due().is_none_or(|due| due > now) {
                continue;
            }
            owned.published = Some((owned.position, now));
            let position = LanePosition { lane, owner: self.options.member.clone(), next: owned.position };
            let name = format!("lane/{lane}");
            let mut envelope = Envelope::new(Kind::View, name.as_str(), owned.lane.info().source());
            envelope.time = Some(self.clock.wall());
            envelope.subject = Some("lane".to_owned());
            let record = Outgoing {
                topic: Arc::clone(&self.view_topic),
                route: Route::To(lane),
                key: Some(Bytes::from(name)),
                headers: bus::Headers::of(&envelope),
                value: serde_json::to_vec(&position).expect("a position is plain data").into(),
            };
            self.write(lane, record);
        }
    }

    /// Appends a timeout for each deadline that has passed.
    pub(super) fn fire(&mut self) {
        let now = self.clock.mono();
        let live: Vec<u32> = self.live();
        for lane in live {
            let Some(owned) = self.owned.get_mut(&lane) else { continue };
            for expired in owned.timers.fire(now) {
                metrics::histogram!(names::TIMER_LATENESS).record(now.since(expired.due).as_secs_f64());
                let (component, timer) = expired.id;
                let component = Arc::clone(owned.lane.component(component));
                let source = owned.lane.info().source();
                let body = Timeout { timer, generation: expired.generation };
                let mut envelope = Envelope::new(
                    Kind::Timeout,
                    format!("{source}/{component}/{timer}/{}", expired.generation),
                    source,
                );
                envelope.subject = Some(component.to_string());
                envelope.time = Some(self.clock.wall());
                self.queue.push(
                    lane,
                    Outgoing {
                        topic: Arc::clone(&self.inbox),
                        route: Route::To(lane),
                        key: None,
                        headers: bus::Headers::of(&envelope),
                        value: serde_json::to_vec(&body).expect("a timeout is plain data").into(),
                    },
                );
            }
        }
    }

    /// Notifies each live lane of changes in the liveness of the services that its stage watches,
    /// by records in its inbox.
    pub(super) fn notify_liveness(&mut self) {
        if let Err(error) = self.alive.look(&*self.clock) {
            tracing::warn!(stage = %self.options.stage, %error, "heartbeats cannot be read");
        }
        let now = self.clock.wall();
        for (service, up) in self.alive.liveness() {
            for (lane, owned) in self.owned.iter_mut().filter(|(_, owned)| owned.phase == Phase::Live) {
                if owned.liveness.get(service) == Some(&up) {
                    continue;
                }
                owned.liveness.insert(service.to_owned(), up);
                let source = owned.lane.info().source();
                let state = match up {
                    Some(true) => "up",
                    Some(false) => "down",
                    None => "unknown",
                };
                let name = format!("{source}/{service}/{state}");
                let mut envelope = Envelope::new(Kind::Liveness, name, source);
                envelope.subject = Some(service.to_owned());
                envelope.time = Some(now);
                let body = Liveness { service: service.to_owned(), up };
                self.queue.push(
                    *lane,
                    Outgoing {
                        topic: Arc::clone(&self.inbox),
                        route: Route::To(*lane),
                        key: None,
                        headers: bus::Headers::of(&envelope),
                        value: serde_json::to_vec(&body).expect("it is plain data").into(),
                    },
                );
            }
        }
    }

    pub(super) fn publish_due(&mut self) {
        let now = self.clock.mono();
        for lane in self.live() {
            let keys = self.owned.get_mut(&lane).map(|owned| owned.views.take_due(now)).unwrap_or_default();
            self.publish(lane, &keys);
        }
    }
}
