//! Marks: how far the store's files are known to be synced.
//!
//! After a crash the store truncates a broken batch at the end of its last file. It cannot know
//! whether that batch was never synced, or was synced and damaged later; so it would silently drop
//! a flipped bit and everything after it. The mark tells them apart. It is a line of text in a
//! separate file, written after each sync and never synced itself. Every mark that survives is true;
//! an old one only means that less damage is recognized.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// One of the two file sequences of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileQueue {
    /// New batches.
    Append,
    /// Live old entries, moved so that their file could be deleted.
    Rewrite,
}

impl FileQueue {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Append => ".raftlog",
            Self::Rewrite => ".rewrite",
        }
    }

    /// Returns the queue of a file.
    pub(super) fn of(path: &Path) -> Self {
        if path.to_string_lossy().ends_with(Self::Rewrite.suffix()) { Self::Rewrite } else { Self::Append }
    }
}

/// The mark of one queue.
pub(super) struct SyncMark {
    line: File,
    /// The newest synced file, and its number of synced bytes. File names contain numbers of fixed
    /// width, so they are ordered.
    name: String,
    bytes: u64,
}

impl SyncMark {
    /// Reads the mark, and compares it with the files in `dir`.
    ///
    /// # Errors
    /// If a file is missing, or is shorter than its synced length.
    pub(super) fn open(dir: &Path, queue: FileQueue) -> io::Result<Self> {
        let path = dir.join(format!("synced{}.txt", queue.suffix()));
        let mut line = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        line.read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        let (name, bytes) = match (words.next(), words.next().and_then(|word| word.parse().ok()), words.next()) {
            (Some(name), Some(bytes), Some("bytes")) => (name.to_owned(), bytes),
            // Torn or never written: nothing is known.
            (Some(_) | None, _, _) => (String::new(), 0),
        };
        let mark = Self { line, name, bytes };
        mark.check(dir, queue)?;
        Ok(mark)
    }

    fn check(&self, dir: &Path, queue: FileQueue) -> io::Result<()> {
        let mut files: Vec<(u64, String)> = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(number) = name.strip_suffix(queue.suffix()).and_then(|number| number.parse().ok()) {
                files.push((number, name));
            }
        }
        files.sort_unstable();
        if let Some([(_, before), (_, after)]) = files.array_windows().find(|[(a, _), (b, _)]| a + 1 != *b) {
            return Err(damaged(format!("files are missing in {} between {before} and {after}", dir.display())));
        }
        if self.name.is_empty() {
            return Ok(());
        }
        match files.last() {
            Some((_, last)) if *last > self.name => Ok(()),
            Some((_, last)) if *last == self.name => {
                let path = dir.join(last);
                self.check_cut(&path, fs::metadata(&path)?.len())
            }
            Some(_) | None => Err(damaged(format!("{} is missing in {}", self.name, dir.display()))),
        }
    }

    /// Checks that `path` may be truncated at `offset`.
    ///
    /// # Errors
    /// If synced data would be lost.
    pub(super) fn check_cut(&self, path: &Path, offset: u64) -> io::Result<()> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        // An older file was synced when the store left it.
        if (name.as_str(), offset) >= (self.name.as_str(), self.bytes) {
            return Ok(());
        }
        Err(damaged(format!("{} is damaged from byte {offset} on, although that part was synced", path.display())))
    }

    /// Records that `bytes` of `path` are synced.
    pub(super) fn advance(&mut self, path: &Path, bytes: u64) {
        let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else { return };
        if (&*name, bytes) <= (self.name.as_str(), self.bytes) {
            return;
        }
        (self.name, self.bytes) = (name.into_owned(), bytes);
        let line = format!("{} {:>20} bytes\n", self.name, self.bytes);
        // If writing fails, the older mark remains, which is true as well.
        let written = self.line.rewind().and_then(|()| self.line.write_all(line.as_bytes()));
        if let Err(fault) = written {
            tracing::debug!(%fault, "cannot update the sync mark");
        }
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
