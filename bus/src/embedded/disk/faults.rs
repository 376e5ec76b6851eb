//! A disk that breaks when it is told to.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const ALONE: &str = "nobody panics while holding the gate";

/// Breaks the disk of a bus, for tests and drills. A clone breaks the same disk; the default one breaks nothing.
///
/// ```
/// let faults = bus::DiskFaults::default();
/// faults.leave_room(4096);       // the disk is full after 4 KiB more: appends fail, and nothing of them is kept
/// faults.free();                 // there is room again: appends go on
/// ```
#[derive(Clone)]
pub struct DiskFaults(Arc<Faults>);

struct Faults {
    /// So many bytes can be written still.
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
    /// The disk is full after so many bytes more. A write that does not fit leaves its beginning behind, as real ones do.
    pub fn leave_room(&self, bytes: u64) {
        self.0.room.store(bytes, Ordering::SeqCst);
    }

    /// There is room again.
    pub fn free(&self) {
        self.leave_room(u64::MAX);
    }

    /// Every sync fails from now on.
    pub fn fail_syncs(&self) {
        self.0.syncs_fail.store(true, Ordering::SeqCst);
    }

    /// Every sync waits from now on, until [`DiskFaults::let_syncs_go`].
    pub fn hold_syncs(&self) {
        self.gate().closed = true;
    }

    /// Syncs go on.
    pub fn let_syncs_go(&self) {
        self.gate().closed = false;
        self.0.moved.notify_all();
    }

    /// Returns when a sync waits.
    pub fn until_a_sync_waits(&self) {
        let gate = self.0.moved.wait_while(self.gate(), |gate| gate.waiting == 0);
        drop(gate.expect(ALONE));
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().expect(ALONE)
    }

    /// How many of `bytes` can be written now; they are taken.
    pub(super) fn room_for(&self, bytes: usize) -> usize {
        let room = self.0.room.load(Ordering::Relaxed);
        if room == u64::MAX {
            return bytes;
        }
        let taken = bytes.min(usize::try_from(room).unwrap_or(usize::MAX));
        self.0.room.fetch_sub(taken as u64, Ordering::SeqCst);
        taken
    }

    /// Waits where syncs are to wait, and fails where they are to fail.
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
            return Err(io::Error::other("it was told to fail"));
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
