//! Restores a lane from its snapshot.

use bus::{BusError, Clock, MonoTime};

use super::image::{Build, Checksums, Image, LaneHead, RestoreError, SnapshotHead};
use super::standby::Standby;
use crate::input::Unreadable;
use crate::lane::Lane;
use crate::settings::Settings;
use crate::timers::Timers;
use crate::views::Views;

/// A lane in the state of its last snapshot.
pub(super) struct Restored {
    pub(super) lane: Lane,
    pub(super) timers: Timers,
    pub(super) views: Views,
    pub(super) checksums: Checksums,
    /// The head of the snapshot.
    pub(super) head: LaneHead,
}

/// The content of the snapshot topic for a lane.
pub(super) enum Found {
    /// No snapshot: the lane starts from the beginning of its inbox.
    Nothing,
    /// A complete snapshot.
    Whole(Box<Restored>),
    /// A corrupt snapshot: the reason, and the keys that the next snapshot deletes.
    Corrupt(RestoreError, Checksums),
}

/// Restores a lane from the last owner's snapshot. `position` is the offset that the snapshot must
/// cover, if known.
///
/// # Errors
/// If the bus fails, or this build cannot continue the state.
pub(super) fn restore(
    standby: &mut Standby,
    lane: u32,
    position: Option<u64>,
    build: &Build,
    make: &dyn Fn() -> Lane,
    clock: &dyn Clock,
) -> Result<Result<Found, RestoreError>, BusError> {
    let now = clock.mono();
    let mut image = standby.take(lane, position)?;
    let mut found = whole(&image, position, build);
    if matches!(found, Err(RestoreError::Corrupt(_))) {
        image = standby.take_again(lane, position)?;
        found = whole(&image, position, build);
    }
    let restored = match found {
        Ok(None) => return Ok(Ok(Found::Nothing)),
        Ok(Some(head)) => load(&image, &head, make(), now),
        Err(error) => Err(error),
    };
    Ok(match restored {
        Ok(restored) => Ok(Found::Whole(Box::new(restored))),
        Err(incompatible @ RestoreError::Incompatible(_)) => Err(incompatible),
        Err(corrupt @ RestoreError::Corrupt(_)) => Ok(Found::Corrupt(corrupt, image.checksums().mark_unusable())),
    })
}

/// Returns the head if the snapshot is complete and covers `position`.
fn whole(image: &Image, position: Option<u64>, build: &Build) -> Result<Option<SnapshotHead>, RestoreError> {
    let head = image.head(build)?;
    let covers = head.as_ref().map_or(0, |head| head.lane.position);
    if let Some(position) = position.filter(|position| *position != covers) {
        let text =
            format!("a snapshot of offset {position} was committed, but the last one in the topic covers {covers}");
        return Err(RestoreError::Corrupt(text));
    }
    if let Some(head) = &head {
        image.check(head)?;
    }
    Ok(head)
}

fn load(image: &Image, head: &SnapshotHead, mut lane: Lane, now: MonoTime) -> Result<Restored, RestoreError> {
    // All checksums are correct, so an unreadable state was written by another build.
    let incompatible = |Unreadable(reason)| RestoreError::Incompatible(reason);
    lane.configure(Settings::new(head.lane.settings.clone()));
    lane.resume(&head.lane.sent);
    for state in image.states() {
        let (key, state) = state?;
        lane.load(key, &head.lane.components, &state).map_err(incompatible)?;
    }
    let mut timers = Timers::new(now);
    for block in image.timers() {
        let (component, block, saved) = block?;
        let number = lane.number(component);
        let number = number.ok_or_else(|| {
            RestoreError::Incompatible(format!("timers of `{component}`, which this build does not have"))
        })?;
        let saved = serde_json::from_slice(saved).map_err(|error| {
            RestoreError::Incompatible(format!("block {block} of the timers of `{component}`: {error}"))
        })?;
        timers.load((number, block), saved);
    }
    let mut views = Views::new(now);
    for key in lane.loaded().map_err(incompatible)? {
        views.restored(key, now);
    }
    Ok(Restored { lane, timers, views, checksums: image.checksums(), head: head.lane.clone() })
}
