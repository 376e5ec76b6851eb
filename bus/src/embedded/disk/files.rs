//! The files below the store: they are written, and above all synced, under our own eyes.
//!
//! The store is given its file system. This one passes everything on to the real one, and
//! - syncs the file that is written to without any lock of the store, so that appends go on meanwhile,
//! - notes how far each file is synced, so that damage there is told from a torn tail,
//! - remembers a failed sync: nothing is written or deleted any more, since nobody knows what the disk holds,
//! - remembers what was read last, to name it where it is damaged,
//! - breaks when it is told to.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

use super::faults::DiskFaults;
use super::mark::{Mark, Queue};

type Plain = <DefaultFileSystem as FileSystem>::Handle;
type PlainFile = <DefaultFileSystem as FileSystem>::Reader;

/// The file system of one store.
pub(super) struct Files {
    shared: Arc<Watch>,
    /// The file that batches are appended to.
    active: Mutex<Option<Arc<Opened>>>,
}

/// What all files of one store share.
struct Watch {
    append: Mutex<Mark>,
    rewrite: Mutex<Mark>,
    /// True until the store has read what there is: only then does it cut files.
    opening: AtomicBool,
    /// Why nothing may be written any more.
    broken: OnceLock<String>,
    /// What was read last in each row of files, the latest last.
    read: Mutex<Vec<(Queue, Arc<Path>, u64)>>,
    faults: DiskFaults,
}

impl Files {
    /// Looks at what is in `dir`.
    ///
    /// # Errors
    /// Where something that was synced is not there any more, or a file cannot be read.
    pub(super) fn new(dir: &Path, faults: DiskFaults) -> io::Result<Self> {
        let shared = Watch {
            append: Mutex::new(Mark::open(dir, Queue::Append)?),
            rewrite: Mutex::new(Mark::open(dir, Queue::Rewrite)?),
            opening: AtomicBool::new(true),
            broken: OnceLock::new(),
            read: Mutex::default(),
            faults,
        };
        Ok(Self { shared: Arc::new(shared), active: Mutex::new(None) })
    }

    /// The store has read what there is.
    pub(super) fn opened(&self) {
        self.shared.opening.store(false, Ordering::Release);
    }

    /// Syncs what was appended before this call. Blocks nobody else: files that are not active any more were synced when
    /// they were left.
    pub(super) fn sync(&self) -> io::Result<()> {
        let active = self.active.lock().expect("nobody panics while holding a file").clone();
        active.map_or(Ok(()), |file| file.sync())
    }

    /// Why nothing may be written any more, where that is so.
    pub(super) fn broken(&self) -> Option<&str> {
        self.shared.broken.get().map(String::as_str)
    }

    /// Nothing may be written any more.
    pub(super) fn break_off(&self, why: String) {
        // Where there is a reason already, the first one counts.
        drop(self.shared.broken.set(why));
    }

    /// What was read last, in words: in both rows of files where `both`, since nobody says which of them is meant.
    pub(super) fn last_read(&self, both: bool) -> String {
        let read = self.shared.read.lock().expect("nobody panics while holding it");
        let skipped = if both { 0 } else { read.len().saturating_sub(1) };
        let place = |(_, path, from): &(Queue, Arc<Path>, u64)| format!("{} at or after byte {from}", path.display());
        let places: Vec<String> = read.iter().skip(skipped).map(place).collect();
        if places.is_empty() { String::new() } else { format!(", in {}", places.join(", or in ")) }
    }

    fn watch(&self, plain: Plain, path: &Path) -> Opened {
        Opened {
            plain: Arc::new(plain),
            path: path.into(),
            queue: Queue::of(path),
            written: AtomicU64::new(0),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Watch {
    fn intact(&self) -> io::Result<()> {
        self.broken.get().map_or(Ok(()), |why| Err(io::Error::other(why.clone())))
    }

    fn mark(&self, queue: Queue) -> &Mutex<Mark> {
        match queue {
            Queue::Append => &self.append,
            Queue::Rewrite => &self.rewrite,
        }
    }
}

impl FileSystem for Files {
    type Handle = Opened;
    type Reader = Reading;
    type Writer = Writing;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Opened> {
        self.shared.intact()?;
        Ok(self.watch(DefaultFileSystem.create(path.as_ref())?, path.as_ref()))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Opened> {
        Ok(self.watch(DefaultFileSystem.open(path.as_ref(), permission)?, path.as_ref()))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        // What it held and is still needed was written elsewhere: in a file that is not written to any more and so is synced,
        // or in the active one.
        self.sync()?;
        self.shared.intact()?;
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.shared.intact()?;
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<Opened>) -> io::Result<Reading> {
        let file = DefaultFileSystem.new_reader(Arc::clone(&handle.plain))?;
        Ok(Reading { file, at: 0, handle })
    }

    fn new_writer(&self, handle: Arc<Opened>) -> io::Result<Writing> {
        let file = DefaultFileSystem.new_writer(Arc::clone(&handle.plain))?;
        handle.written.store(handle.file_size()? as u64, Ordering::Release);
        if handle.queue == Queue::Append {
            *self.active.lock().expect("nobody panics while holding a file") = Some(Arc::clone(&handle));
        }
        Ok(Writing { file, at: 0, handle })
    }
}

/// An open file.
pub(super) struct Opened {
    plain: Arc<Plain>,
    path: Arc<Path>,
    queue: Queue,
    /// So many bytes of it were written.
    written: AtomicU64,
    shared: Arc<Watch>,
}

impl Handle for Opened {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        if self.shared.opening.load(Ordering::Acquire) {
            // The store cuts its last file where it finds damage. That is right for a tail that was never synced alone.
            let mark = self.shared.mark(self.queue).lock().expect("nobody panics while holding a mark");
            mark.check_cut(&self.path, offset as u64)?;
        }
        self.plain.truncate(offset).map_err(|fault| {
            let what = format!("{} cannot be cut at byte {offset}: {fault}", self.path.display());
            io::Error::new(fault.kind(), what)
        })
    }

    fn file_size(&self) -> io::Result<usize> {
        self.plain.file_size()
    }

    /// Never fails, since the store would panic; it is found by [`Files::broken`] instead.
    fn sync(&self) -> io::Result<()> {
        let written = self.written.load(Ordering::Acquire);
        let synced = self.shared.faults.sync().and_then(|()| Handle::sync(&*self.plain));
        if let Err(fault) = synced {
            // After a failed sync the system may have dropped what it could not write, and a second one says that all is
            // well. So there is no second one.
            let why = format!("{} could not be synced: {fault}", self.path.display());
            drop(self.shared.broken.set(why));
            return Ok(());
        }
        if self.shared.broken.get().is_none() {
            self.shared.mark(self.queue).lock().expect("nobody panics while holding a mark").note(&self.path, written);
        }
        Ok(())
    }
}

/// Reads a file.
pub(super) struct Reading {
    file: PlainFile,
    at: u64,
    handle: Arc<Opened>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if read > 0 {
            let Opened { queue, path, shared, .. } = &*self.handle;
            let mut read = shared.read.lock().expect("nobody panics while holding it");
            read.retain(|(other, ..)| other != queue);
            read.push((*queue, Arc::clone(path), self.at));
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Reading {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Writes a file.
pub(super) struct Writing {
    file: PlainFile,
    at: u64,
    handle: Arc<Opened>,
}

impl Write for Writing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.handle.shared.intact()?;
        let room = self.handle.shared.faults.room_for(buffer.len());
        // The store would go to a new file where it is told that there is no space, and to a further one each time that it
        // is tried again; so it is told in other words.
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

impl Seek for Writing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

impl WriteExt for Writing {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.file.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.file.allocate(offset, size)
    }
}
