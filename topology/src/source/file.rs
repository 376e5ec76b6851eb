//! A spout over the lines of a file.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Retried;
use crate::component::Spout;
use crate::emitter::Emitter;

/// Maximum length of a line in bytes: the maximum size of a record on the bus.
const LINE_BYTES: usize = 1 << 20;

/// The next line of a file.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct FilePosition {
    /// The path of the file; empty before the first call.
    path: String,
    /// The offset of the line in bytes.
    bytes: u64,
}

pub(super) struct Lines {
    path: PathBuf,
    /// `None` if the file must be opened.
    reading: Option<Reading>,
    retried: Retried,
}

/// An open file, and what was read of its next line.
struct Reading {
    file: BufReader<File>,
    /// The beginning of the line, at most [`LINE_BYTES`] and its end.
    line: Vec<u8>,
    /// The number of bytes that follow `line` in a line that is too long.
    skipped: u64,
}

impl Reading {
    /// Opens a file that was read up to `position`.
    fn open(path: &Path, position: u64) -> io::Result<Self> {
        // Before it is opened: that would wait for the writer of a named pipe.
        let length = regular(path)?;
        if length < position {
            return Err(io::Error::other(format!("it has {length} bytes, and {position} were read before")));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        Ok(Self { file: BufReader::new(file), line: Vec::new(), skipped: 0 })
    }

    /// Reads the line to its end. Returns false if its end is not written yet: the next call continues.
    fn finish_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let many = end.map_or(buffer.len(), |end| end + 1);
            let kept = many.min(LINE_BYTES + 1 - self.line.len());
            self.line.extend_from_slice(&buffer[..kept]);
            self.skipped += (many - kept) as u64;
            self.file.consume(many);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Returns the number of bytes that were read of the line.
    fn bytes(&self) -> u64 {
        self.line.len() as u64 + self.skipped
    }
}

/// Returns the length of a regular file.
fn regular(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    if found.is_file() {
        return Ok(found.len());
    }
    let what = if found.is_dir() { "a directory" } else { "no regular file" };
    Err(io::Error::other(format!("it is {what}; a file source reads regular files only")))
}

impl Lines {
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, reading: None, retried: Retried::default() }
    }

    fn emit_next(&mut self, position: &mut u64, out: &mut Emitter<String>) -> io::Result<bool> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            none => none.insert(Reading::open(&self.path, *position)?),
        };
        if !reading.finish_line()? {
            // The path names another file if its length is not that of the open one.
            if regular(&self.path)? != *position + reading.bytes() {
                self.reading = None;
            }
            return Ok(false);
        }
        let (at, path) = (*position, self.path.display());
        *position += reading.bytes();
        let mut line = std::mem::take(&mut reading.line);
        if std::mem::take(&mut reading.skipped) > 0 {
            out.fail(format!("the line at byte {at} of {path} has more than {LINE_BYTES} bytes"));
            return Ok(true);
        }
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        match String::from_utf8(line) {
            Ok(line) => out.emit(line),
            Err(_) => out.fail(format!("the line at byte {at} of {path} is not UTF-8")),
        }
        Ok(true)
    }
}

impl Spout for Lines {
    type Out = String;
    type Position = FilePosition;

    fn next(&mut self, position: &mut FilePosition, out: &mut Emitter<String>) -> bool {
        let path = self.path.to_string_lossy();
        if position.path != path {
            if !position.path.is_empty() {
                let before = &*position.path;
                tracing::warn!(%path, before, "a source reads another file than before, from its beginning");
            }
            *position = FilePosition { path: path.into_owned(), bytes: 0 };
        }
        let outcome = self.emit_next(&mut position.bytes, out);
        if outcome.is_err() {
            self.reading = None;
        }
        self.retried.outcome(&position.path, outcome).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = Reading::open(dir.path(), 0).map(drop).map_err(|error| error.to_string());
        assert_eq!(refused, Err("it is a directory; a file source reads regular files only".into()));
        let pipe = dir.path().join("pipe");
        std::process::Command::new("mkfifo").arg(&pipe).status().expect("a named pipe");
        let refused = Reading::open(&pipe, 0).map(drop).map_err(|error| error.to_string());
        assert_eq!(refused, Err("it is no regular file; a file source reads regular files only".into()));
    }

    #[test]
    fn a_line_without_its_end_is_kept_and_not_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lines");
        let long = "x".repeat(LINE_BYTES + 10);
        fs::write(&path, &long).expect("a file");
        let mut reading = Reading::open(&path, 0).expect("a regular file");
        assert!(!reading.finish_line().expect("it can be read"));
        assert_eq!((reading.line.len(), reading.bytes()), (LINE_BYTES + 1, long.len() as u64), "it is bounded");
        fs::write(&path, long + "\n").expect("a file");
        assert!(reading.finish_line().expect("it can be read"));
        assert_eq!(reading.skipped, 10);
    }
}
