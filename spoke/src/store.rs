//! A memory in a directory: one table of entries, by number.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use wire::{CallId, Kind};

use crate::memory::{Answer, Change, MemoryError, Outcome};

/// The version of what follows.
const VERSION: u64 = 1;
/// Cache of the store. Every entry is in [`crate::memory::Memory`] too and is read once, so it needs little.
const CACHE_BYTES: usize = 8 << 20;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const CALLS: TableDefinition<u64, &[u8]> = TableDefinition::new("calls");

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Entry {
    call: CallId,
    /// `ce_type` and body of the answer; none for a call that was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<(String, String)>,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    database: Database,
}

type Entries = Vec<(u64, CallId, Outcome)>;

impl Store {
    /// Opens a directory and reads its entries, in the order of their numbers.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Entries), MemoryError> {
        let unusable = |reason: String| MemoryError::Unusable { directory: directory.to_owned(), reason };
        std::fs::create_dir_all(directory).map_err(|error| unusable(error.to_string()))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(directory.join("calls.redb"));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => MemoryError::InUse(directory.to_owned()),
            other => unusable(other.to_string()),
        })?;
        let store = Self { directory: directory.to_owned(), database };
        let found = store.version().map_err(|error| unusable(error.to_string()))?;
        if found != VERSION {
            return Err(MemoryError::Version { directory: store.directory, found, expected: VERSION });
        }
        let entries = store.entries().map_err(|error| unusable(error.to_string()))?;
        let entries = entries.into_iter().map(|(number, value)| read(number, &value));
        let entries = entries.collect::<Result<_, _>>().map_err(|error| unusable(format!("an entry: {error}")))?;
        Ok((store, entries))
    }

    /// Writes all changes or none. They are durable when this returns.
    pub(crate) fn write(&self, changes: &[Change]) -> Result<(), MemoryError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.try_write(changes)
            .map_err(|error| MemoryError::Unusable { directory: self.directory.clone(), reason: error.to_string() })
    }

    /// Returns the schema version. A new directory gets ours, and its tables.
    fn version(&self) -> Result<u64, redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        if let Some(found) = found {
            return Ok(found);
        }
        meta.insert("version", VERSION)?;
        drop(meta);
        transaction.open_table(CALLS)?;
        transaction.commit()?;
        Ok(VERSION)
    }

    fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut entries = Vec::new();
        for entry in transaction.open_table(CALLS)?.iter()? {
            let (number, value) = entry?;
            entries.push((number.value(), value.value().to_vec()));
        }
        Ok(entries)
    }

    fn try_write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut calls = transaction.open_table(CALLS)?;
        for change in changes {
            match change {
                Change::Added(number, call, outcome) => {
                    calls.insert(*number, written(call, outcome).as_slice())?;
                }
                Change::Forgotten(number) => {
                    calls.remove(*number)?;
                }
            }
        }
        drop(calls);
        transaction.commit()?;
        Ok(())
    }
}

fn written(call: &CallId, outcome: &Outcome) -> Vec<u8> {
    let answer = match outcome {
        Outcome::Answered(Answer { kind, body }) => {
            Some((kind.as_str().to_owned(), String::from_utf8_lossy(body).into_owned()))
        }
        Outcome::Undone => None,
    };
    serde_json::to_vec(&Entry { call: call.clone(), answer }).expect("ids and strings can be written as JSON")
}

fn read(number: u64, value: &[u8]) -> Result<(u64, CallId, Outcome), String> {
    let Entry { call, answer } = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let outcome = match answer {
        Some((kind, body)) => {
            let kind = kind.parse::<Kind>().map_err(|error| error.to_string())?;
            Outcome::Answered(Answer { kind, body: Bytes::from(body) })
        }
        None => Outcome::Undone,
    };
    Ok((number, call, outcome))
}
