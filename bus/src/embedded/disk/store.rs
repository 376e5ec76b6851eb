//! The store: one physical log for all partitions, in one directory that one process holds.

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

/// Batches of more bytes are compressed (LZ4): pages always, commits where there is much to do. Text becomes a fifth; it costs
/// 0.2 us a record of 300 bytes.
const COMPRESSED_FROM_BYTES: u64 = 16 << 10;
/// So many files may hold anything before the store moves what is still needed out of the oldest.
const FILES: u64 = 4;

/// What the store locks.
const STORE_LOCK: &str = "LOCK";

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// The lock on the directory. It is given up in words when it goes: a process that was being started at that moment has a copy of
/// the open file for as long as it takes to become another program, and a lock that is only closed would last as long.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // What cannot be unlocked goes when the last copy is closed.
        self.0.unlock().ok();
    }
}

/// An open store.
pub(in crate::embedded) struct Store {
    engine: Arc<Engine<Files>>,
    files: Arc<Files>,
    dir: PathBuf,
    file_bytes: usize,
    /// Bytes written since old files were last looked through.
    grown: AtomicUsize,
    /// Looks old files through; at most one at a time.
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// Held while the directory is ours. The last field, so that it is given up when all else is closed.
    _lock: Held,
}

impl Store {
    /// Opens the store in `options.dir`, which is made where there is none.
    ///
    /// # Errors
    /// Where another process has it, where it cannot be read, or where something that was synced is not there any more.
    pub(super) fn open(options: &DiskOptions) -> Result<Self, BusError> {
        let dir = options.dir.clone();
        let refuse = |what: String| BusError::Refused(format!("the data directory {} {what}", dir.display()));
        fs::create_dir_all(&dir).map_err(|fault| refuse(format!("cannot be made: {fault}")))?;
        let lock =
            File::create(dir.join("in-use.lock")).map_err(|fault| refuse(format!("cannot be locked: {fault}")))?;
        lock.try_lock().map_err(|fault| match fault {
            TryLockError::WouldBlock => refuse("is in use by another process".into()),
            TryLockError::Error(fault) => refuse(format!("cannot be locked: {fault}")),
        })?;
        // The store's own lock says no more than ours, and is only closed: it would linger in such a copy.
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
            // One, so that what was read last is what was found damaged. Only the ends of batches are read at this time.
            recovery_threads: 1,
            batch_compression_threshold: ReadableSize(COMPRESSED_FROM_BYTES),
            target_file_size: ReadableSize(options.file_bytes as u64),
            purge_threshold: ReadableSize(options.file_bytes as u64 * FILES),
            // A file that is used again has old batches behind the new ones, and so no clear tail.
            enable_log_recycle: false,
            ..Config::default()
        };
        // Where the disk breaks while it is opened, the store panics in places.
        let opened = catch_unwind(AssertUnwindSafe(|| Engine::open_with_file_system(config, Arc::clone(&files))));
        let engine = match opened {
            Ok(Ok(engine)) => engine,
            Ok(Err(fault)) => return Err(refuse(format!("cannot be opened: {fault}{}", files.last_read(true)))),
            Err(_) => {
                return Err(refuse("cannot be opened: the store gave up, and said why on the standard error".into()));
            }
        };
        files.opened();
        let (grown, keeper) = (AtomicUsize::new(0), Mutex::new(None));
        let store = Self {
            engine: Arc::new(engine),
            files,
            dir,
            file_bytes: options.file_bytes,
            grown,
            keeper,
            _lock: Held(lock),
        };
        store.check_version()?;
        // A process that died may have written what it did not sync; from here on it is taken for synced.
        store.sync()?;
        Ok(store)
    }

    fn check_version(&self) -> Result<(), BusError> {
        match self.engine.get(META, code::keys::VERSION).map(|version| postcard::from_bytes::<u32>(&version)) {
            None if !self.engine.is_empty() => Err(self.refuse("misses its beginning")),
            None => {
                let mut batch = LogBatch::default();
                self.put(&mut batch, META, code::keys::VERSION.to_vec(), code::write(&code::VERSION, Vec::new()))?;
                self.write(&mut batch)
            }
            Some(Ok(code::VERSION)) => Ok(()),
            Some(version) => Err(self.refuse(&format!("has version {version:?}; this build reads {}", code::VERSION))),
        }
    }

    /// Writes all of a batch, or nothing. It is not synced.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] where it could not be written; [`BusError::Refused`] where nothing can be any more.
    pub(in crate::embedded) fn write(&self, batch: &mut LogBatch) -> Result<(), BusError> {
        self.intact()?;
        // It panics where it cannot sync the directory that a new file is in.
        let Ok(written) = catch_unwind(AssertUnwindSafe(|| self.engine.write(batch, false))) else {
            self.files.break_off("the store gave up while it wrote".into());
            return self.intact();
        };
        // A file that is full is synced when it is left.
        self.intact()?;
        match written {
            Ok(bytes) => {
                self.grown.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(fault) => {
                // Perhaps there is room when old files are gone.
                self.grown.store(self.file_bytes, Ordering::Relaxed);
                self.keep_house();
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
        batch.put(log, key, value).map_err(|fault| self.refuse(&format!("does not take a key: {fault}")))
    }

    /// Syncs what was written before this call, while others go on writing.
    ///
    /// # Errors
    /// [`BusError::Refused`] where it fails, and ever after.
    pub(in crate::embedded) fn sync(&self) -> Result<(), BusError> {
        self.intact()?;
        let synced = self.files.sync();
        self.intact()?;
        synced.map_err(|fault| BusError::Refused(fault.to_string()))
    }

    /// Whether there was no failed sync.
    pub(in crate::embedded) fn intact(&self) -> Result<(), BusError> {
        match self.files.broken() {
            None => Ok(()),
            Some(why) => Err(self.refuse(&format!(
                "takes nothing more: {why}; what was confirmed before is there after a restart, what came later may be lost"
            ))),
        }
    }

    /// The numbers of the first and the last entry of a log; none where it has none.
    pub(super) fn span(&self, log: u64) -> Option<(u64, u64)> {
        Some((self.engine.first_index(log)?, self.engine.last_index(log)?))
    }

    /// All pairs of a log.
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

    /// Reads an entry. Only within [`Store::aside`].
    pub(super) fn entry(&self, log: u64, number: u64) -> Result<Vec<u8>, BusError> {
        let entry = code::read_entry(&self.engine, log, number).map_err(|fault| self.damaged(&fault))?;
        entry.ok_or_else(|| self.refuse(&format!("has no entry {number} of log {log:#x}, though it should")))
    }

    /// Runs `read` on a thread of its own.
    ///
    /// The store remembers in each thread the block that it read last there, by the name of its file, and takes it for its
    /// own even where another store of this process read it. A fresh thread remembers nothing. It costs some 20 us, which is
    /// little beside a page of 256 KiB.
    pub(super) fn aside<T: Send>(&self, read: impl FnOnce() -> Result<T, BusError> + Send) -> Result<T, BusError> {
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("bus-read".into()).spawn_scoped(scope, read);
            let reader = reader.map_err(|fault| BusError::Unavailable(format!("no thread to read with: {fault}")))?;
            reader.join().unwrap_or_else(|_| Err(self.refuse("cannot be read: the store gave up")))
        })
    }

    /// Has old files looked through, where enough was written since the last time: what is still needed is moved, and the
    /// files are deleted.
    ///
    /// It may move some hundred megabytes, for which no lane can wait, so it has a thread of its own while it lasts.
    pub(in crate::embedded) fn keep_house(&self) {
        if self.grown.load(Ordering::Relaxed) < self.file_bytes {
            return;
        }
        let Ok(mut keeper) = self.keeper.try_lock() else { return };
        if keeper.as_ref().is_some_and(|keeper| !keeper.is_finished()) {
            return;
        }
        self.grown.store(0, Ordering::Relaxed);
        self.dismiss(keeper.take());
        let (engine, dir) = (Arc::clone(&self.engine), self.dir.clone());
        let work = move || {
            if let Err(fault) = engine.purge_expired_files() {
                tracing::warn!(dir = %dir.display(), %fault, "old files were not cleaned up; trying again later");
            }
        };
        match thread::Builder::new().name("bus-keep".into()).spawn(work) {
            Ok(thread) => *keeper = Some(thread),
            Err(fault) => tracing::warn!(%fault, "no thread to clean up old files with; trying again later"),
        }
    }

    fn dismiss(&self, keeper: Option<JoinHandle<()>>) {
        if keeper.is_some_and(|keeper| keeper.join().is_err()) {
            // It left something half-done in memory; what is on the disk is whole.
            self.files.break_off("cleaning up old files failed".into());
        }
    }

    fn damaged(&self, fault: &raft_engine::Error) -> BusError {
        self.refuse(&format!("cannot be read: {fault}{}", self.files.last_read(false)))
    }

    /// A refusal that names the directory.
    pub(super) fn refuse(&self, what: &str) -> BusError {
        BusError::Refused(format!("the data directory {} {what}", self.dir.display()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().ok().and_then(Option::take);
        self.dismiss(keeper);
        if let Err(fault) = self.sync() {
            tracing::error!(%fault, "the last records may be lost");
        }
    }
}
