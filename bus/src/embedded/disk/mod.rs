//! The embedded bus on disk: one physical log for all partitions, in [raft-engine].
//!
//! **Why raft-engine.** A batch over all partitions and positions is one append to one file, atomic
//! by its checksum. A log is cut from below without deleting single records. It accepts a custom
//! file system, so that a sync does not block appends, and a full or broken disk can be simulated.
//! `docs/performance.md` compares it with fjall and redb, under "The store of the embedded bus".
//!
//! **Gaps of raft-engine, and the files that fill them.** Its `sync` does nothing (tikv/raft-engine,
//! issue 395), and a failed sync panics: `files`. It takes a damaged batch in its last file for a
//! torn tail: `mark`. It caches the last block per thread, not per store: `Store::aside`. It
//! forgets deletions and cuts when it cleans up (issue 141): `code::Watermark`. It keeps the
//! location of each entry in memory: pages, in `tail`. It cleans up only on request:
//! `Store::clean_up`.
//!
//! Read in this order: `code` (format), `store`, `files` and `mark` (below it; `faults` injects
//! faults), `tail` (index of a partition), `cuts` (pending cuts), `restore` (reading at start).
//!
//! [raft-engine]: https://docs.rs/raft-engine

pub(super) mod code;
pub(super) mod cuts;
mod faults;
mod files;
mod mark;
mod restore;
pub(super) mod store;
pub(super) mod tail;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Condvar};
use std::time::Duration;

pub use self::faults::DiskFaults;

use self::cuts::PendingCuts;
use self::store::Store;
use super::state::{BusState, PartitionRef};
use crate::{BusError, MonoTime};

/// Directory of the embedded bus, and durability.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directory. Created if missing; used by one process at a time.
    pub dir: PathBuf,
    /// When records are synced.
    pub sync: Sync,
    /// Size of a log file, in bytes. A new file costs a few milliseconds; old files are cleaned up
    /// each time that this much was written.
    pub file_bytes: usize,
    /// Disk faults to inject, for tests.
    pub faults: DiskFaults,
}

impl DiskOptions {
    /// Options for `dir`: synced before anything leaves the process, files of 16 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), sync: Sync::Always, file_bytes: 16 << 20, faults: DiskFaults::default() }
    }

    /// Sets when records are synced.
    #[must_use]
    pub fn synced(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }
}

/// When records are synced to the disk.
///
/// In every mode a batch survives a crash whole or not at all, and so does everything before it. A
/// crashed process loses nothing that a commit or an append confirmed; the modes differ only when
/// the machine crashes. A clean close syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before data leaves the process: answers to clients wait for it, and so do durable appends.
    /// No data that is known outside is lost. Lanes do not wait, and one sync serves all waiting
    /// threads.
    Always,
    /// At this interval. Data confirmed since the last sync may be lost; a client may hold an
    /// answer that the system has lost.
    Interval(Duration),
    /// When the operating system decides, usually within half a minute. All of that may be lost.
    Never,
}

impl Sync {
    /// [`Sync::Interval`] of 100 ms: a client that loses its answer only has to repeat its request.
    pub const INTERVAL: Self = Self::Interval(Duration::from_millis(100));
}

/// The store, and its state under the bus lock.
pub(super) struct Disk {
    pub(super) store: Arc<Store>,
    pub(super) sync: Sync,
    /// Number of batches written.
    pub(super) written: u64,
    /// Number of batches synced.
    pub(super) synced: u64,
    /// True while a thread syncs.
    pub(super) syncing: bool,
    /// Signalled at the end of a sync.
    pub(super) done: Arc<Condvar>,
    /// The partitions written since the last sync began.
    pub(super) dirty: BTreeSet<PartitionRef>,
    /// When the next sync is due, with an interval.
    pub(super) due: Option<MonoTime>,
    pub(super) cuts: PendingCuts,
}

impl Disk {
    /// Opens the store and reads its content.
    pub(super) fn open(options: &DiskOptions) -> Result<(BusState, Arc<Store>), BusError> {
        let store = Arc::new(Store::open(options)?);
        let mut state = store.aside(|| restore::state(&store))?;
        state.disk = Some(Self {
            store: Arc::clone(&store),
            sync: options.sync,
            written: 0,
            synced: 0,
            syncing: false,
            done: Arc::default(),
            dirty: BTreeSet::new(),
            due: None,
            cuts: PendingCuts::default(),
        });
        Ok((state, store))
    }
}
