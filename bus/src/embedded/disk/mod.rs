//! The embedded bus on disk: one physical log for all partitions, in [raft-engine].
//!
//! **Why raft-engine.** A batch of all partitions and positions is one append to one file, atomic by its checksum; a log is cut
//! from below without deleting record by record; and it is given its file system, so that a sync does not hold up appends, and
//! a full or broken disk can be tested without one. `docs/performance.md` compares it with fjall and redb, under "The store of
//! the embedded bus".
//!
//! **What raft-engine does not do, and where it is made good.** Its `sync` does nothing (tikv/raft-engine, issue 395) and a sync that fails
//! panics: `files`. It takes a damaged batch in its last file for a torn tail: `mark`. It remembers the last block by thread,
//! not by store: `Store::aside`. It forgets deletions and cuts when it cleans up (issue 141): `code::Watermark`. It keeps
//! the place of each entry in memory: pages, in `tail`. It cleans up when it is asked to: `Store::keep_house`.
//!
//! Read in this order: `code` (what is written), `store` (where), `files` and `mark` (below it; `faults` breaks them), `tail`
//! (what of a partition is where), `chores` (what is cut), `restore` (reading it again).
//!
//! [raft-engine]: https://docs.rs/raft-engine

pub(super) mod chores;
pub(super) mod code;
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

use self::chores::Chores;
use self::store::Store;
use super::state::{Place, State};
use crate::{BusError, MonoTime};

/// Where the embedded bus keeps its records, and how soon they are safe.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The directory. It is made where there is none, and belongs to one process at a time.
    pub dir: PathBuf,
    /// When records are synced.
    pub sync: Sync,
    /// The size of a file of the log, in bytes. A new one costs a few milliseconds; old ones are looked through each time
    /// that so much was written.
    pub file_bytes: usize,
    /// Breaks the disk, for tests and drills.
    pub faults: DiskFaults,
}

impl DiskOptions {
    /// In `dir`, synced before anything leaves the process, in files of 16 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), sync: Sync::Always, file_bytes: 16 << 20, faults: DiskFaults::default() }
    }

    /// The same with records synced at another time.
    #[must_use]
    pub fn synced(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }
}

/// When records are synced to the disk.
///
/// Whatever is chosen, a batch is there after a crash whole or not at all, and so is all that came before it. A process that
/// dies loses nothing that a commit or an append confirmed; what is said here is about a machine that does. A clean close
/// syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it leaves the process: answers to clients wait for it, and so does an append that says that it is durable.
    /// Nothing that anybody outside knows of is lost. Lanes do not wait, and one sync serves all who do.
    Always,
    /// After so long. What was confirmed since then may be lost; a client may hold an answer that nobody remembers.
    Interval(Duration),
    /// When the system likes, usually within half a minute. All of that may be lost.
    Never,
}

impl Sync {
    /// [`Sync::Interval`] of 100 ms: a client that lost its answer notices no more than that it has to ask again.
    pub const INTERVAL: Self = Self::Interval(Duration::from_millis(100));
}

/// The store, and what is known of it under the lock of the bus.
pub(super) struct Disk {
    pub(super) store: Arc<Store>,
    pub(super) sync: Sync,
    /// So many batches were written.
    pub(super) written: u64,
    /// So many of them are synced.
    pub(super) synced: u64,
    /// True while somebody syncs.
    pub(super) syncing: bool,
    /// Where those wait who want it too.
    pub(super) done: Arc<Condvar>,
    /// The partitions that were written since the last sync began.
    pub(super) dirty: BTreeSet<Place>,
    /// When the next sync is due, where that is at an interval.
    pub(super) due: Option<MonoTime>,
    pub(super) chores: Chores,
}

impl Disk {
    /// Opens the store, and reads everything that is in it.
    pub(super) fn open(options: &DiskOptions) -> Result<(State, Arc<Store>), BusError> {
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
            chores: Chores::default(),
        });
        Ok((state, store))
    }
}
