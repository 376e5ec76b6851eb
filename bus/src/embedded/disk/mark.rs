//! How far the files of the store are known to be synced.
//!
//! After a crash the store finds a broken batch at the end of its last file and cuts it off. It cannot know whether that
//! batch was only on its way, or synced and damaged later: so it would drop, without a word, a flipped bit and all that
//! comes after it. The mark knows. It is one line of text in a file of its own, written after each sync and never synced
//! itself: whatever of it survives was true, and a mark that is too old only means that less damage is told from a tail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// One of the two rows of files that the store writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Batches as they come.
    Append,
    /// Old entries that are still needed, and were moved so that their file could go.
    Rewrite,
}

impl Queue {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Append => ".raftlog",
            Self::Rewrite => ".rewrite",
        }
    }

    /// The row that the file is in.
    pub(super) fn of(path: &Path) -> Self {
        if path.to_string_lossy().ends_with(Self::Rewrite.suffix()) { Self::Rewrite } else { Self::Append }
    }
}

/// The mark of one row.
pub(super) struct Mark {
    line: File,
    /// The newest file that was synced, and how many bytes of it. Names have numbers of a fixed width, so they are ordered.
    name: String,
    bytes: u64,
}

impl Mark {
    /// Reads the mark, and compares it with the files in `dir`.
    ///
    /// # Errors
    /// Where a file is missing, or is shorter than it was when it was synced.
    pub(super) fn open(dir: &Path, queue: Queue) -> io::Result<Self> {
        let path = dir.join(format!("synced{}.txt", queue.suffix()));
        let mut line = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut text = String::new();
        line.read_to_string(&mut text)?;
        let mut words = text.split_whitespace();
        let (name, bytes) = match (words.next(), words.next().and_then(|word| word.parse().ok()), words.next()) {
            (Some(name), Some(bytes), Some("bytes")) => (name.to_owned(), bytes),
            // Torn, or never written: then nothing is known.
            (Some(_) | None, _, _) => (String::new(), 0),
        };
        let mark = Self { line, name, bytes };
        mark.check(dir, queue)?;
        Ok(mark)
    }

    fn check(&self, dir: &Path, queue: Queue) -> io::Result<()> {
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

    /// May `path` be cut at `offset`?
    ///
    /// # Errors
    /// Where what would be cut off was synced.
    pub(super) fn check_cut(&self, path: &Path, offset: u64) -> io::Result<()> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        // An older file was synced when it was left.
        if (name.as_str(), offset) >= (self.name.as_str(), self.bytes) {
            return Ok(());
        }
        Err(damaged(format!("{} is damaged from byte {offset} on, and was synced further", path.display())))
    }

    /// `bytes` of `path` are synced.
    pub(super) fn note(&mut self, path: &Path, bytes: u64) {
        let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else { return };
        if (&*name, bytes) <= (self.name.as_str(), self.bytes) {
            return;
        }
        (self.name, self.bytes) = (name.into_owned(), bytes);
        let line = format!("{} {:>20} bytes\n", self.name, self.bytes);
        // Where it cannot be written, the older mark stays, which is true as well.
        let written = self.line.rewind().and_then(|()| self.line.write_all(line.as_bytes()));
        if let Err(fault) = written {
            tracing::debug!(%fault, "the mark of what is synced was not moved");
        }
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
