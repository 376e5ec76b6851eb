//! Disk syncs. The bus has no thread for them: the threads that wait for a sync perform it. One
//! sync serves all waiting threads and runs outside the lock.

use std::sync::Arc;

use super::Shared;
use super::disk::Sync;
use super::state::{BusState, PartitionRef};
use crate::BusError;

impl BusState {
    /// Returns the offset below which clients outside the process may read a partition.
    pub(super) fn visible_outside(&self, place: PartitionRef) -> u64 {
        match &self.disk {
            Some(disk) if disk.sync == Sync::Always => self.log_ref(place).synced,
            Some(_) | None => u64::MAX,
        }
    }

    /// True if one of these partitions, from its offset on, has records that only a sync makes
    /// visible outside.
    pub(super) fn hides(&self, mut places: impl Iterator<Item = (PartitionRef, u64)>) -> bool {
        self.disk.is_some()
            && places.any(|(place, from)| {
                let until = self.visible_outside(place);
                until != u64::MAX && self.log_ref(place).bounds().end > from.max(until)
            })
    }
}

impl Shared {
    /// Returns once everything written so far is synced, with [`Sync::Always`].
    ///
    /// # Errors
    /// [`BusError::Refused`] if the sync fails: then nothing can be written any more.
    pub(super) fn sync_now(&self) -> Result<(), BusError> {
        if !matches!(&self.disk, Some((_, Sync::Always))) {
            return Ok(());
        }
        let target = self.lock().disk.as_ref().map_or(0, |disk| disk.written);
        self.sync_to(target)
    }

    /// Syncs if the interval has passed.
    pub(super) fn sync_due(&self) -> Result<(), BusError> {
        let Some((_, Sync::Interval(interval))) = &self.disk else { return Ok(()) };
        let mut state = self.lock();
        let Some(disk) = &mut state.disk else { return Ok(()) };
        if disk.written == disk.synced || disk.syncing {
            return Ok(());
        }
        let now = self.clock.mono();
        match disk.due {
            None => disk.due = Some(now.plus_ms(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX))),
            Some(due) if due <= now => {
                let target = disk.written;
                drop(state);
                return self.sync_to(target);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn sync_to(&self, target: u64) -> Result<(), BusError> {
        let mut state = self.lock();
        loop {
            let Some(disk) = &mut state.disk else { return Ok(()) };
            if disk.synced >= target {
                return Ok(());
            }
            disk.store.intact()?;
            if disk.syncing {
                let done = Arc::clone(&disk.done);
                state = done.wait(state).expect("no thread panics while it holds the bus");
                continue;
            }
            disk.syncing = true;
            let (written, dirty, store) = (disk.written, std::mem::take(&mut disk.dirty), Arc::clone(&disk.store));
            let ends: Vec<(PartitionRef, u64)> =
                dirty.into_iter().map(|place| (place, state.log_ref(place).bounds().end)).collect();
            drop(state);
            let synced = store.sync();
            state = self.lock();
            if synced.is_ok() {
                for (place, end) in ends {
                    state.log(place).synced = end;
                }
            }
            let Some(disk) = &mut state.disk else { return Ok(()) };
            disk.syncing = false;
            disk.done.notify_all();
            if synced.is_err() {
                state.wake_all();
                return synced;
            }
            (disk.synced, disk.due) = (written, None);
        }
    }
}
