//! The records that a shard writes for its lanes beside their messages: views, positions, timeouts
//! and notices about the liveness of services.

use std::collections::BTreeMap;
use std::sync::Arc;

use bus::{BusError, Clock, Headers, MonoTime, Outgoing, Route};
use bytes::Bytes;
use serde::Serialize;
use wire::alive::Liveness;
use wire::answer::LanePosition;
use wire::{Envelope, Kind, WallTime};

use super::ShardOptions;
use super::alive::LivenessWatch;
use crate::View;
use crate::outbox::Timeout;
use crate::place::LaneInfo;

/// A record and the lane that writes it.
pub(super) type LaneRecord = (u32, Outgoing);

/// Makes these records, and knows the lanes' last positions and notices.
#[derive(Default)]
pub(super) struct Publisher {
    /// The name of the shard, in the positions of its lanes.
    member: String,
    inbox: Arc<str>,
    view_topic: Arc<str>,
    alive: LivenessWatch,
    /// The last published position of each lane, and its time.
    positions: BTreeMap<u32, (u64, MonoTime)>,
    notified: Notified,
}

/// The liveness of services that each lane was notified of.
#[derive(Debug, Default)]
struct Notified(BTreeMap<u32, BTreeMap<String, Option<bool>>>);

impl Notified {
    /// Returns the changes for each service and lane since the last call.
    fn changes<'a, 's>(
        &mut self,
        services: impl Iterator<Item = (&'s str, Option<bool>)>,
        lanes: &(impl Iterator<Item = &'a LaneInfo> + Clone),
    ) -> Vec<(&'a LaneInfo, Liveness)> {
        let mut changes = Vec::new();
        for (service, up) in services {
            for lane in lanes.clone() {
                let notified = self.0.entry(lane.lane).or_default();
                if notified.get(service) != Some(&up) {
                    notified.insert(service.to_owned(), up);
                    changes.push((lane, Liveness { service: service.to_owned(), up }));
                }
            }
        }
        changes
    }
}

/// The key of a view, as the record names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewName<'a> {
    pub(super) component: &'a str,
    pub(super) subject: &'static str,
    pub(super) key: &'a str,
}

impl Publisher {
    pub(super) fn new(member: &str, inbox: &Arc<str>, view_topic: Arc<str>, alive: LivenessWatch) -> Self {
        Self { member: member.to_owned(), inbox: Arc::clone(inbox), view_topic, alive, ..Self::default() }
    }

    /// Returns the record of a view; `None` deletes the published view.
    pub(super) fn view(&self, lane: &LaneInfo, name: ViewName<'_>, view: Option<View>, time: WallTime) -> LaneRecord {
        let id = format!("{}/{}", name.component, name.key);
        let mut envelope = Envelope::new(Kind::View, id.as_str(), lane.source());
        envelope.time = Some(time);
        envelope.subject = Some(name.subject.to_owned());
        envelope.operation = wire::OperationId::new(name.key).ok();
        self.in_views(lane, id, &envelope, view.map(|View(body)| body).unwrap_or_default())
    }

    /// Returns the record of each lane whose position is due.
    pub(super) fn positions<'a>(
        &mut self,
        lanes: impl Iterator<Item = (&'a LaneInfo, u64)>,
        now: MonoTime,
        time: WallTime,
    ) -> Vec<LaneRecord> {
        let mut records = Vec::new();
        for (lane, next) in lanes {
            if self.position_due(lane.lane, next).is_none_or(|due| due > now) {
                continue;
            }
            self.positions.insert(lane.lane, (next, now));
            let name = format!("lane/{}", lane.lane);
            let mut envelope = Envelope::new(Kind::View, name.as_str(), lane.source());
            envelope.time = Some(time);
            envelope.subject = Some("lane".to_owned());
            let position = LanePosition { lane: lane.lane, owner: self.member.clone(), next };
            records.push(self.in_views(lane, name, &envelope, json(&position)));
        }
        records
    }

    /// Returns when the position of a lane is due, at most every [`ShardOptions::POSITION_MS`];
    /// `None` if it has not changed.
    pub(super) fn position_due(&self, lane: u32, next: u64) -> Option<MonoTime> {
        match self.positions.get(&lane) {
            None => Some(MonoTime::default()),
            Some((published, _)) if *published == next => None,
            Some((_, at)) => Some(at.plus_ms(ShardOptions::POSITION_MS)),
        }
    }

    /// Returns the timeout record of a component's timer.
    pub(super) fn timeout(&self, lane: &LaneInfo, component: &str, timeout: &Timeout, time: WallTime) -> LaneRecord {
        let source = lane.source();
        let id = format!("{source}/{component}/{}/{}", timeout.timer, timeout.generation);
        let mut envelope = Envelope::new(Kind::Timeout, id, source);
        envelope.subject = Some(component.to_owned());
        envelope.time = Some(time);
        self.in_inbox(lane, &envelope, json(timeout))
    }

    /// Reads the heartbeats of the watched services.
    pub(super) fn look(&mut self, clock: &dyn Clock) -> Result<(), BusError> {
        self.alive.look(clock)
    }

    /// Returns when the liveness of a service changes unless it sends heartbeats.
    pub(super) fn liveness_due(&self) -> Option<MonoTime> {
        self.alive.next()
    }

    /// Returns a notice for each lane and service whose liveness has changed since the last notice.
    pub(super) fn notices<'a>(
        &mut self,
        lanes: &(impl Iterator<Item = &'a LaneInfo> + Clone),
        time: WallTime,
    ) -> Vec<LaneRecord> {
        let changes = self.notified.changes(self.alive.liveness(), lanes);
        changes.into_iter().map(|(lane, liveness)| self.notice(lane, &liveness, time)).collect()
    }

    fn notice(&self, lane: &LaneInfo, liveness: &Liveness, time: WallTime) -> LaneRecord {
        let source = lane.source();
        let state = match liveness.up {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        let id = format!("{source}/{}/{state}", liveness.service);
        let mut envelope = Envelope::new(Kind::Liveness, id, source);
        envelope.subject = Some(liveness.service.clone());
        envelope.time = Some(time);
        self.in_inbox(lane, &envelope, json(liveness))
    }

    /// Forgets a lane: its next owner, or this shard after another takeover, starts anew.
    pub(super) fn forget(&mut self, lane: u32) {
        self.positions.remove(&lane);
        self.notified.0.remove(&lane);
    }

    fn in_views(&self, lane: &LaneInfo, key: String, envelope: &Envelope, value: Bytes) -> LaneRecord {
        record(&self.view_topic, lane.lane, Some(key.into()), envelope, value)
    }

    fn in_inbox(&self, lane: &LaneInfo, envelope: &Envelope, value: Bytes) -> LaneRecord {
        record(&self.inbox, lane.lane, None, envelope, value)
    }
}

fn record(topic: &Arc<str>, lane: u32, key: Option<Bytes>, envelope: &Envelope, value: Bytes) -> LaneRecord {
    let (topic, headers) = (Arc::clone(topic), Headers::of(envelope));
    (lane, Outgoing { topic, route: Route::To(lane), key, headers, value })
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("the body is plain data").into()
}

#[cfg(test)]
mod tests {
    use wire::topics::Topics;

    use super::*;

    const NOW: MonoTime = MonoTime(5_000_000_000);

    fn publisher() -> Publisher {
        Publisher::new("member", &"inbox".into(), "views".into(), LivenessWatch::default())
    }

    fn lane(lane: u32) -> LaneInfo {
        let (topology, stage, inbox) = ("t".into(), "s".into(), "inbox".into());
        LaneInfo { topology, stage, inbox, names: Topics::default(), lane, lanes: 2 }
    }

    fn id(record: &Outgoing) -> String {
        record.headers.envelope().expect("its headers are complete").id
    }

    #[test]
    fn a_position_is_published_at_most_once_per_interval_and_only_if_it_has_changed() {
        let mut publisher = publisher();
        let lane = lane(1);
        let mut at = |next, ms| {
            let records = publisher.positions([(&lane, next)].into_iter(), NOW.plus_ms(ms), WallTime::default());
            records.len()
        };
        let interval = ShardOptions::POSITION_MS;
        assert_eq!([at(7, 0), at(7, interval), at(8, interval - 1), at(8, interval)], [1, 0, 0, 1]);
        assert_eq!(publisher.position_due(1, 9), Some(NOW.plus_ms(2 * interval)));
        publisher.forget(1);
        assert_eq!(publisher.position_due(1, 8), Some(MonoTime::default()), "due at once after a takeover");
    }

    #[test]
    fn a_position_names_its_lane_and_owner() {
        let records = publisher().positions([(&lane(1), 7)].into_iter(), NOW, WallTime::default());
        let [(1, record)] = &records[..] else { panic!("one record of lane 1: {records:?}") };
        assert_eq!(
            (&*record.topic, record.route, record.key.as_deref()),
            ("views", Route::To(1), Some(&b"lane/1"[..]))
        );
        let position: LanePosition = serde_json::from_slice(&record.value).expect("a position");
        assert_eq!((position.lane, &*position.owner, position.next), (1, "member", 7));
    }

    #[test]
    fn each_lane_gets_one_notice_per_change_of_liveness() {
        let mut notified = Notified::default();
        let lanes = [lane(0), lane(1)];
        let mut changes = |lanes: &[LaneInfo], car| -> Vec<(u32, String, Option<bool>)> {
            let services = [("car", car), ("room", None)];
            let changes = notified.changes(services.into_iter(), &lanes.iter());
            changes.into_iter().map(|(lane, Liveness { service, up })| (lane.lane, service, up)).collect()
        };
        let of = |lane, service: &str, up| (lane, service.to_owned(), up);
        assert_eq!(changes(&lanes[..1], Some(true)), [of(0, "car", Some(true)), of(0, "room", None)]);
        assert_eq!(changes(&lanes, Some(true)), [of(1, "car", Some(true)), of(1, "room", None)]);
        assert_eq!(changes(&lanes, Some(false)), [of(0, "car", Some(false)), of(1, "car", Some(false))]);
        assert_eq!(changes(&lanes, Some(false)), []);
    }

    #[test]
    fn a_notice_goes_to_the_inbox_and_tells_the_state() {
        let ids = [(Some(true), "up"), (Some(false), "down"), (None, "unknown")].map(|(up, state)| {
            let (of, record) =
                publisher().notice(&lane(1), &Liveness { service: "car".into(), up }, WallTime::default());
            assert_eq!((of, &*record.topic, record.route), (1, "inbox", Route::To(1)));
            (id(&record), state)
        });
        assert!(ids.iter().all(|(id, state)| *id == format!("/nave/t/s/1/car/{state}")), "{ids:?}");
    }

    #[test]
    fn an_empty_view_deletes_the_published_one() {
        let name = ViewName { component: "hub", subject: "operation", key: "a" };
        let publisher = publisher();
        let of = |view| publisher.view(&lane(0), name, view, WallTime::default()).1;
        let (shown, deleted) = (of(Some(View(Bytes::from("{}")))), of(None));
        assert_eq!((&*shown.value, &*deleted.value), (&b"{}"[..], &b""[..]));
        assert_eq!(shown.key, deleted.key);
        assert_eq!(id(&shown), "hub/a");
    }

    #[test]
    fn a_timeout_goes_to_the_inbox_of_its_lane() {
        let timeout = Timeout { timer: 3, generation: 2 };
        let (of, record) = publisher().timeout(&lane(1), "hub", &timeout, WallTime::default());
        assert_eq!((of, &*record.topic, record.route), (1, "inbox", Route::To(1)));
        assert_eq!(id(&record), "/nave/t/s/1/hub/3/2");
        assert_eq!(serde_json::from_slice::<Timeout>(&record.value).expect("a timeout"), timeout);
    }
}
