//! Fault injection for the disk.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const ALONE: &str = "no thread panics while it holds the gate";

/// Injects disk faults into a bus, for tests. Clones affect the same disk. The default injects
/// nothing.
///
/// ```
/// let faults = bus::DiskFaults::default();
/// faults.leave_room(4096);       // full after 4 KiB: appends fail and leave nothing
/// faults.free();                 // room again: appends succeed
/// ```
#[derive(Clone)]
pub struct DiskFaults(Arc<Faults>);

struct Faults {
    /// Number of bytes that can still be written.
    room: AtomicU64,
    syncs_fail: AtomicBool,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    waiting: usize,
}

impl DiskFaults {
    /// Makes the disk full after this many bytes. A write that does not fit leaves its beginning
    /// behind, as on real disks.
    pub fn leave_room(&self, bytes: u64) {
        self.0.room.store(bytes, Ordering::SeqCst);
    }

    /// Makes room again.
    pub fn free(&self) {
        self.leave_room(u64::MAX);
    }

    /// Makes every sync fail from now on.
    pub fn fail_syncs(&self) {
        self.0.syncs_fail.store(true, Ordering::SeqCst);
    }

    /// Makes every sync wait until [`DiskFaults::release_syncs`].
    pub fn hold_syncs(&self) {
        self.gate().closed = true;
    }

    /// Lets syncs continue.
    pub fn release_syncs(&self) {
        self.gate().closed = false;
        self.0.moved.notify_all();
    }

    /// Waits until a sync is waiting.
    pub fn wait_for_a_sync(&self) {
        let gate = self.0.moved.wait_while(self.gate(), |gate| gate.waiting == 0);
        drop(gate.expect(ALONE));
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().expect(ALONE)
    }

    /// Returns how many of `bytes` can be written, and reserves them.
    pub(super) fn room_for(&self, bytes: usize) -> usize {
        let room = self.0.room.load(Ordering::Relaxed);
        if room == u64::MAX {
            return bytes;
        }
        let taken = bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
        self.0.room.fetch_sub(taken as u64, Ordering::SeqCst);
        taken
    }

    /// Waits or fails as configured.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut gate = self.gate();
        if gate.closed {
            gate.waiting += 1;
            self.0.moved.notify_all();
            gate = self.0.moved.wait_while(gate, |gate| gate.closed).expect(ALONE);
            gate.waiting -= 1;
        }
        drop(gate);
        if self.0.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected fault"));
        }
        Ok(())
    }
}

impl Default for DiskFaults {
    fn default() -> Self {
        let (gate, moved) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Faults { room: AtomicU64::new(u64::MAX), syncs_fail: AtomicBool::new(false), gate, moved }))
    }
}

impl fmt::Debug for DiskFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let syncs_fail = self.0.syncs_fail.load(Ordering::SeqCst);
        f.debug_struct("DiskFaults")
            .field("room", &self.0.room.load(Ordering::SeqCst))
            .field("syncs_fail", &syncs_fail)
            .finish()
    }
}
