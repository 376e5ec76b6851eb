//! The file system below the store, which controls writes and syncs.
//!
//! The store accepts a custom file system. This one forwards to the real one. In addition it
//! - syncs the current file without holding a lock of the store, so that appends continue meanwhile;
//! - records how far each file is synced, to distinguish damage from a torn tail;
//! - remembers a failed sync: nothing is written or deleted afterwards, since the disk's content is
//!   unknown;
//! - remembers the last read, to name its location if it is damaged;
//! - injects faults.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

use super::faults::DiskFaults;
use super::mark::{FileQueue, SyncMark};

type RawHandle = <DefaultFileSystem as FileSystem>::Handle;
type RawFile = <DefaultFileSystem as FileSystem>::Reader;

/// The file system of one store.
pub(super) struct Files {
    shared: Arc<SharedFiles>,
    /// The file that batches are appended to.
    active: Mutex<Option<Arc<OpenFile>>>,
}

/// State that all files of a store share.
struct SharedFiles {
    append: Mutex<SyncMark>,
    rewrite: Mutex<SyncMark>,
    /// True until the store has been read; only until then does the store truncate files.
    opening: AtomicBool,
    /// Why writing is disabled.
    broken: OnceLock<String>,
    /// The last read of each queue, the latest last.
    read: Mutex<Vec<(FileQueue, Arc<Path>, u64)>>,
    faults: DiskFaults,
}

impl Files {
    /// Checks the files in `dir`.
    ///
    /// # Errors
    /// If synced data is missing, or a file cannot be read.
    pub(super) fn new(dir: &Path, faults: DiskFaults) -> io::Result<Self> {
        let shared = SharedFiles {
            append: Mutex::new(SyncMark::open(dir, FileQueue::Append)?),
            rewrite: Mutex::new(SyncMark::open(dir, FileQueue::Rewrite)?),
            opening: AtomicBool::new(true),
            broken: OnceLock::new(),
            read: Mutex::default(),
            faults,
        };
        Ok(Self { shared: Arc::new(shared), active: Mutex::new(None) })
    }

    /// Called once the store has been read.
    pub(super) fn opened(&self) {
        self.shared.opening.store(false, Ordering::Release);
    }

    /// Syncs what was appended before this call, without blocking others. Files that are no longer
    /// active were synced when the store left them.
    pub(super) fn sync(&self) -> io::Result<()> {
        let active = self.active.lock().expect("no thread panics while it holds a file").clone();
        active.map_or(Ok(()), |file| file.sync())
    }

    /// Returns why writing is disabled, if it is.
    pub(super) fn broken(&self) -> Option<&str> {
        self.shared.broken.get().map(String::as_str)
    }

    /// Disables writing.
    pub(super) fn disable(&self, why: String) {
        // The first reason counts.
        drop(self.shared.broken.set(why));
    }

    /// Returns the location of the last read as text. If `both`, returns one location per queue: the
    /// failed read may be in either.
    pub(super) fn last_read(&self, both: bool) -> String {
        let read = self.shared.read.lock().expect("no thread panics while it holds the lock");
        let skipped = if both { 0 } else { read.len().saturating_sub(1) };
        let place =
            |(_, path, from): &(FileQueue, Arc<Path>, u64)| format!("{} at or after byte {from}", path.display());
        let places: Vec<String> = read.iter().skip(skipped).map(place).collect();
        if places.is_empty() { String::new() } else { format!(", in {}", places.join(", or in ")) }
    }

    fn watch(&self, raw: RawHandle, path: &Path) -> OpenFile {
        OpenFile {
            raw: Arc::new(raw),
            path: path.into(),
            queue: FileQueue::of(path),
            written: AtomicU64::new(0),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl SharedFiles {
    fn intact(&self) -> io::Result<()> {
        self.broken.get().map_or(Ok(()), |why| Err(io::Error::other(why.clone())))
    }

    fn mark(&self, queue: FileQueue) -> &Mutex<SyncMark> {
        match queue {
            FileQueue::Append => &self.append,
            FileQueue::Rewrite => &self.rewrite,
        }
    }
}

impl FileSystem for Files {
    type Handle = OpenFile;
    type Reader = FileReader;
    type Writer = FileWriter;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<OpenFile> {
        self.shared.intact()?;
        Ok(self.watch(DefaultFileSystem.create(path.as_ref())?, path.as_ref()))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<OpenFile> {
        Ok(self.watch(DefaultFileSystem.open(path.as_ref(), permission)?, path.as_ref()))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        // Live data of the file was written elsewhere: to an inactive and thus synced file, or to
        // the active one.
        self.sync()?;
        self.shared.intact()?;
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.shared.intact()?;
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<OpenFile>) -> io::Result<FileReader> {
        let file = DefaultFileSystem.new_reader(Arc::clone(&handle.raw))?;
        Ok(FileReader { file, at: 0, handle })
    }

    fn new_writer(&self, handle: Arc<OpenFile>) -> io::Result<FileWriter> {
        let file = DefaultFileSystem.new_writer(Arc::clone(&handle.raw))?;
        handle.written.store(handle.file_size()? as u64, Ordering::Release);
        if handle.queue == FileQueue::Append {
            *self.active.lock().expect("no thread panics while it holds a file") = Some(Arc::clone(&handle));
        }
        Ok(FileWriter { file, at: 0, handle })
    }
}

/// An open file.
pub(super) struct OpenFile {
    raw: Arc<RawHandle>,
    path: Arc<Path>,
    queue: FileQueue,
    /// Number of bytes written.
    written: AtomicU64,
    shared: Arc<SharedFiles>,
}

impl Handle for OpenFile {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        if self.shared.opening.load(Ordering::Acquire) {
            // The store truncates its last file at the first damage. That is right only for a tail
            // that was never synced.
            let mark = self.shared.mark(self.queue).lock().expect("no thread panics while it holds a mark");
            mark.check_cut(&self.path, offset as u64)?;
        }
        self.raw.truncate(offset).map_err(|fault| {
            let what = format!("{} cannot be truncated at byte {offset}: {fault}", self.path.display());
            io::Error::new(fault.kind(), what)
        })
    }

    fn file_size(&self) -> io::Result<usize> {
        self.raw.file_size()
    }

    /// Never fails, because the store would panic; the failure is stored in [`Files::broken`].
    fn sync(&self) -> io::Result<()> {
        let written = self.written.load(Ordering::Acquire);
        let synced = self.shared.faults.sync().and_then(|()| Handle::sync(&*self.raw));
        if let Err(fault) = synced {
            // After a failed sync the system may drop the unwritten data and report success for the
            // next sync. So there is no second attempt.
            let why = format!("{} could not be synced: {fault}", self.path.display());
            drop(self.shared.broken.set(why));
            return Ok(());
        }
        if self.shared.broken.get().is_none() {
            self.shared
                .mark(self.queue)
                .lock()
                .expect("no thread panics while it holds a mark")
                .advance(&self.path, written);
        }
        Ok(())
    }
}

/// Reads a file.
pub(super) struct FileReader {
    file: RawFile,
    at: u64,
    handle: Arc<OpenFile>,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read > 0 {
            let OpenFile { queue, path, shared, .. } = &*self.handle;
            let mut read = shared.read.lock().expect("no thread panics while it holds the lock");
            read.retain(|(other, ..)| other != queue);
            read.push((*queue, Arc::clone(path), self.at));
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Writes a file.
pub(super) struct FileWriter {
    file: RawFile,
    at: u64,
    handle: Arc<OpenFile>,
}

impl Write for FileWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.handle.shared.intact()?;
        let room = self.handle.shared.faults.room_for(buffer.len());
        // On a "no space" error the store would open a new file, again for each retry. So it gets
        // another error kind.
        let full = |kind| io::Error::new(kind, format!("{} cannot be written: {kind}", self.handle.path.display()));
        let written = self.file.write(&buffer[..room]).map_err(|fault| full(fault.kind()))?;
        if room < buffer.len() {
            return Err(full(io::ErrorKind::StorageFull));
        }
        self.at += written as u64;
        self.handle.written.store(self.at, Ordering::Release);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for FileWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

impl WriteExt for FileWriter {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.file.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.file.allocate(offset, size)
    }
}
