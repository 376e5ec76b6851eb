//! The store: one physical log for all partitions, in one directory that one process locks.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use raft_engine::{Config, Engine, LogBatch, ReadableSize, RecoveryMode};

use super::DiskOptions;
use super::code::{self, META};
use super::files::Files;
use crate::BusError;

/// Larger batches are compressed with LZ4: pages always, commits under load. Text shrinks to a
/// fifth, at 0.2 us per record of 300 bytes.
const COMPRESSED_FROM_BYTES: u64 = 16 << 10;
/// Number of files before the store moves live data out of the oldest one.
const FILES: u64 = 4;

/// The store's own lock file.
const STORE_LOCK: &str = "LOCK";

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// The lock on the directory. It is released explicitly: a child process that is being spawned
/// holds a copy of the open file until it executes another program, so a lock that is only closed
/// would last as long.
struct DirLock(File);

impl Drop for DirLock {
    fn drop(&mut self) {
        // If unlocking fails, the lock is released when the last copy is closed.
        self.0.unlock().ok();
    }
}

/// An open store.
pub(in crate::embedded) struct Store {
    engine: Arc<Engine<Files>>,
    files: Arc<Files>,
    dir: PathBuf,
    file_bytes: usize,
    /// Bytes written since the last clean-up of old files.
    grown: AtomicUsize,
    /// The clean-up thread; at most one at a time.
    cleaner: Mutex<Option<JoinHandle<()>>>,
    /// The directory lock. The last field, so that it is released after everything else is closed.
    _lock: DirLock,
}

impl Store {
    /// Opens the store in `options.dir`, which is created if missing.
    ///
    /// # Errors
    /// If another process uses it, if it cannot be read, or if synced data is missing.
    pub(super) fn open(options: &DiskOptions) -> Result<Self, BusError> {
        let dir = options.dir.clone();
        let refuse = |what: String| BusError::Refused(format!("the data directory {} {what}", dir.display()));
        fs::create_dir_all(&dir).map_err(|fault| refuse(format!("cannot be created: {fault}")))?;
        let lock =
            File::create(dir.join("in-use.lock")).map_err(|fault| refuse(format!("cannot be locked: {fault}")))?;
        lock.try_lock().map_err(|fault| match fault {
            TryLockError::WouldBlock => refuse("is in use by another process".into()),
            TryLockError::Error(fault) => refuse(format!("cannot be locked: {fault}")),
        })?;
        // The store's own lock adds nothing to ours. It is closed but never unlocked, so a child
        // process that is being spawned would keep it (see `DirLock`).
        if let Err(fault) = fs::remove_file(dir.join(STORE_LOCK))
            && fault.kind() != ErrorKind::NotFound
        {
            return Err(refuse(format!("cannot be opened: {fault}")));
        }
        let files =
            Files::new(&dir, options.faults.clone()).map_err(|fault| refuse(format!("cannot be opened: {fault}")))?;
        let files = Arc::new(files);
        let config = Config {
            dir: dir.to_string_lossy().into_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            // One thread, so that the last read is the damaged one. Only the ends of batches are
            // read at this point.
            recovery_threads: 1,
            batch_compression_threshold: ReadableSize(COMPRESSED_FROM_BYTES),
            target_file_size: ReadableSize(options.file_bytes as u64),
            purge_threshold: ReadableSize(options.file_bytes as u64 * FILES),
            // A recycled file has old batches behind the new ones, and so no clear tail.
            enable_log_recycle: false,
            ..Config::default()
        };
        // The store panics in places if the disk fails while it opens.
        let opened = catch_unwind(AssertUnwindSafe(|| Engine::open_with_file_system(config, Arc::clone(&files))));
        let engine = match opened {
            Ok(Ok(engine)) => engine,
            Ok(Err(fault)) => return Err(refuse(format!("cannot be opened: {fault}{}", files.last_read(true)))),
            Err(_) => {
                return Err(refuse("cannot be opened: the store panicked; see standard error".into()));
            }
        };
        files.opened();
        let (grown, cleaner) = (AtomicUsize::new(0), Mutex::new(None));
        let store = Self {
            engine: Arc::new(engine),
            files,
            dir,
            file_bytes: options.file_bytes,
            grown,
            cleaner,
            _lock: DirLock(lock),
        };
        store.check_version()?;
        // A crashed process may have written data without syncing it; from here on it counts as
        // synced.
        store.sync()?;
        Ok(store)
    }

    fn check_version(&self) -> Result<(), BusError> {
        match self.engine.get(META, code::keys::VERSION).map(|version| postcard::from_bytes::<u32>(&version)) {
            None if !self.engine.is_empty() => Err(self.refuse("is missing its beginning")),
            None => {
                let mut batch = LogBatch::default();
                self.put(&mut batch, META, code::keys::VERSION.to_vec(), code::write(&code::VERSION, Vec::new()))?;
                self.write(&mut batch)
            }
            Some(Ok(code::VERSION)) => Ok(()),
            Some(version) => Err(self.refuse(&format!("has version {version:?}; this build reads {}", code::VERSION))),
        }
    }

    /// Writes a whole batch or nothing. Does not sync.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if the batch could not be written; [`BusError::Refused`] if
    /// writing is disabled.
    pub(in crate::embedded) fn write(&self, batch: &mut LogBatch) -> Result<(), BusError> {
        self.intact()?;
        // The store panics if it cannot sync the directory of a new file.
        let Ok(written) = catch_unwind(AssertUnwindSafe(|| self.engine.write(batch, false))) else {
            self.files.disable("the store panicked during a write".into());
            return self.intact();
        };
        // A full file is synced when the store leaves it; that may have failed.
        self.intact()?;
        match written {
            Ok(bytes) => {
                self.grown.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(fault) => {
                // Deleting old files may make room.
                self.grown.store(self.file_bytes, Ordering::Relaxed);
                self.clean_up();
                Err(BusError::Unavailable(fault.to_string()))
            }
        }
    }

    /// Adds a pair to a batch.
    pub(in crate::embedded) fn put(
        &self,
        batch: &mut LogBatch,
        log: u64,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), BusError> {
        batch.put(log, key, value).map_err(|fault| self.refuse(&format!("cannot store a key: {fault}")))
    }

    /// Syncs what was written before this call; others may write meanwhile.
    ///
    /// # Errors
    /// [`BusError::Refused`] if it fails, and ever after.
    pub(in crate::embedded) fn sync(&self) -> Result<(), BusError> {
        self.intact()?;
        let synced = self.files.sync();
        self.intact()?;
        synced.map_err(|fault| BusError::Refused(fault.to_string()))
    }

    /// Fails after a failed sync.
    pub(in crate::embedded) fn intact(&self) -> Result<(), BusError> {
        match self.files.broken() {
            None => Ok(()),
            Some(why) => Err(self.refuse(&format!(
                "accepts no more writes: {why}; data confirmed before that is there after a restart, later data may be lost"
            ))),
        }
    }

    /// Returns the numbers of the first and last entry of a log; `None` without entries.
    pub(super) fn span(&self, log: u64) -> Option<(u64, u64)> {
        Some((self.engine.first_index(log)?, self.engine.last_index(log)?))
    }

    /// Returns all pairs of a log.
    pub(super) fn pairs(&self, log: u64) -> Result<Vec<Pair>, BusError> {
        let mut pairs: Vec<Pair> = Vec::new();
        self.engine
            .scan_raw_messages(log, None, None, false, |key, value| {
                pairs.push((key.to_vec(), value.to_vec()));
                true
            })
            .map_err(|fault| self.damaged(&fault))?;
        Ok(pairs)
    }

    /// Reads an entry. Call only within [`Store::aside`].
    pub(super) fn entry(&self, log: u64, number: u64) -> Result<Vec<u8>, BusError> {
        let entry = code::read_entry(&self.engine, log, number).map_err(|fault| self.damaged(&fault))?;
        entry.ok_or_else(|| self.refuse(&format!("is missing entry {number} of log {log:#x}")))
    }

    /// Runs `read` on a separate thread.
    ///
    /// The store caches the last block per thread, by file name, and confuses it with a block of
    /// another store in this process. A fresh thread has no cache. It costs some 20 us, which is
    /// little compared with a page of 256 KiB.
    pub(super) fn aside<T: Send>(&self, read: impl FnOnce() -> Result<T, BusError> + Send) -> Result<T, BusError> {
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("bus-read".into()).spawn_scoped(scope, read);
            let reader =
                reader.map_err(|fault| BusError::Unavailable(format!("cannot start a reader thread: {fault}")))?;
            reader.join().unwrap_or_else(|_| Err(self.refuse("cannot be read: the store panicked")))
        })
    }

    /// Starts a clean-up of old files if enough was written since the last one: moves live data and
    /// deletes the files.
    ///
    /// This may move some hundred megabytes, for which no lane can wait; so it runs on a temporary
    /// thread.
    pub(in crate::embedded) fn clean_up(&self) {
        if self.grown.load(Ordering::Relaxed) < self.file_bytes {
            return;
        }
        let Ok(mut cleaner) = self.cleaner.try_lock() else { return };
        if cleaner.as_ref().is_some_and(|cleaner| !cleaner.is_finished()) {
            return;
        }
        self.grown.store(0, Ordering::Relaxed);
        self.join_cleaner(cleaner.take());
        let (engine, dir) = (Arc::clone(&self.engine), self.dir.clone());
        let work = move || {
            if let Err(fault) = engine.purge_expired_files() {
                tracing::warn!(dir = %dir.display(), %fault, "cannot clean up old files; retrying later");
            }
        };
        match thread::Builder::new().name("bus-keep".into()).spawn(work) {
            Ok(thread) => *cleaner = Some(thread),
            Err(fault) => tracing::warn!(%fault, "cannot start the clean-up thread; retrying later"),
        }
    }

    fn join_cleaner(&self, cleaner: Option<JoinHandle<()>>) {
        if cleaner.is_some_and(|cleaner| cleaner.join().is_err()) {
            // The panic left an inconsistent state in memory; the data on disk is intact.
            self.files.disable("cleaning up old files failed".into());
        }
    }

    fn damaged(&self, fault: &raft_engine::Error) -> BusError {
        self.refuse(&format!("cannot be read: {fault}{}", self.files.last_read(false)))
    }

    /// Returns a refusal that names the directory.
    pub(super) fn refuse(&self, what: &str) -> BusError {
        BusError::Refused(format!("the data directory {} {what}", self.dir.display()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let cleaner = self.cleaner.get_mut().ok().and_then(Option::take);
        self.join_cleaner(cleaner);
        if let Err(fault) = self.sync() {
            tracing::error!(%fault, "the last records may be lost");
        }
    }
}
