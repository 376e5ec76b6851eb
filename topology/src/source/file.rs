//! A spout over the lines of a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::Retried;
use crate::component::Spout;
use crate::emitter::Emitter;
use crate::place::SourceContext;

/// Maximum length of a line in bytes: the maximum size of a record on the bus.
const LINE_BYTES: u64 = 1 << 20;

pub(super) struct Lines {
    path: PathBuf,
    /// The file behind the last line that was read; `None` if it must be opened.
    file: Option<BufReader<File>>,
    runs: bool,
    retried: Retried,
}

impl Lines {
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, file: None, runs: false, retried: Retried::default() }
    }

    fn opened(&mut self, position: u64) -> io::Result<&mut BufReader<File>> {
        if self.file.is_none() {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            if length < position {
                return Err(io::Error::other(format!("it has {length} bytes, and {position} were read before")));
            }
            file.seek(SeekFrom::Start(position))?;
            self.file = Some(BufReader::new(file));
        }
        Ok(self.file.as_mut().expect("it was just opened"))
    }

    /// Reads a line with its end. Returns `None` if its end is not written yet.
    fn line(&mut self, position: u64) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.opened(position)?.take(LINE_BYTES + 1).read_until(b'\n', &mut line)?;
        let is_whole = line.ends_with(b"\n") || line.len() as u64 > LINE_BYTES;
        if !is_whole {
            // The next call reads the line from its beginning.
            self.file = None;
        }
        Ok(is_whole.then_some(line))
    }

    /// Reads the rest of a line that is too long. Returns its length, or `None` if its end is not
    /// written yet.
    fn skip_rest(&mut self, position: u64) -> io::Result<Option<u64>> {
        let file = self.opened(position)?;
        let mut skipped = 0;
        loop {
            let buffer = file.fill_buf()?;
            if buffer.is_empty() {
                self.file = None;
                return Ok(None);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let many = end.map_or(buffer.len(), |end| end + 1);
            file.consume(many);
            skipped += many as u64;
            if end.is_some() {
                return Ok(Some(skipped));
            }
        }
    }

    fn emit_next(&mut self, position: &mut u64, out: &mut Emitter<String>) -> io::Result<bool> {
        let Some(mut line) = self.line(*position)? else { return Ok(false) };
        let (at, end) = (*position, *position + line.len() as u64);
        if !line.ends_with(b"\n") {
            let Some(rest) = self.skip_rest(end)? else { return Ok(false) };
            *position = end + rest;
            out.fail(format!("the line at byte {at} of {} has more than {LINE_BYTES} bytes", self.path.display()));
            return Ok(true);
        }
        *position = end;
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        match String::from_utf8(line) {
            Ok(line) => out.emit(line),
            Err(_) => out.fail(format!("the line at byte {at} of {} is not UTF-8", self.path.display())),
        }
        Ok(true)
    }
}

impl Spout for Lines {
    type Out = String;
    /// The offset of the next line in bytes.
    type Position = u64;

    fn open(&mut self, source: &SourceContext) {
        self.runs = source.lane.lane == 0;
    }

    fn next(&mut self, position: &mut u64, out: &mut Emitter<String>) -> bool {
        if !self.runs {
            return false;
        }
        let outcome = self.emit_next(position, out);
        if outcome.is_err() {
            self.file = None;
        }
        self.retried.outcome(&self.path.to_string_lossy(), outcome).unwrap_or_default()
    }
}
