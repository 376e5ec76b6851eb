//! Rule tables and memory on disk.
//!
//! One process uses a directory at a time. Two speakers of one group have separate directories, and
//! so separate tables. All changes of a poll are one transaction, which is durable before the
//! answers of that poll are sent. So after a crash at any moment rules and memory match, and sent
//! answers are true.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `version` | [`VERSION`] |
//! | `rules` | switch, cookie | the rule, as JSON |
//! | `replies` | number | call and reply, as JSON |
//! | `undone` | number | the call, as JSON |
//! | `cookies` | number | switch, cookie, flow and number of the rule, as JSON |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_messages::speaker::{Reply, Rule, SwitchId};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::CallId;

use crate::memory::{FactKind, Named};
use crate::tables::{Change, Fact, NumberedFact, Tables};

/// The schema version of the tables. A build does not open another version.
pub const VERSION: u64 = 1;

/// The page cache of the store. It is small: the speaker holds all data in memory too.
const CACHE_BYTES: usize = 8 << 20;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RULES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("rules");
const REPLIES: TableDefinition<u64, &[u8]> = TableDefinition::new("replies");
const UNDONE: TableDefinition<u64, &[u8]> = TableDefinition::new("undone");
const COOKIES: TableDefinition<u64, &[u8]> = TableDefinition::new("cookies");

/// The directory of one speaker.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    database: Database,
}

/// The error of a directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another speaker of this process, uses it.
    #[error("the speaker's directory `{0}` is in use by another process; give each speaker its own directory")]
    InUse(PathBuf),
    /// A build with another schema version wrote it.
    #[error("the speaker's directory `{directory}` has version {found}; this build supports {VERSION}")]
    Version {
        /// The directory.
        directory: PathBuf,
        /// The version in the directory.
        found: u64,
    },
    /// Its content is corrupt.
    #[error("the speaker's directory `{directory}` is damaged: {why}; remove it to start with empty tables")]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        why: String,
    },
    /// The system cannot read or write it.
    #[error("the speaker's directory `{directory}` cannot be used: {why}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// The error of the system.
        why: String,
    },
}

/// An error without its directory.
enum StoreFault {
    /// An error of the store.
    Store(redb::Error),
    /// An invalid value.
    Value(String),
}

impl<E: Into<redb::Error>> From<E> for StoreFault {
    fn from(error: E) -> Self {
        StoreFault::Store(error.into())
    }
}

impl Store {
    /// Opens or creates the directory. It contains the file `speaker.redb`.
    ///
    /// # Errors
    /// The directory is in use, of another version, damaged, or not writable.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        std::fs::create_dir_all(&directory)
            .map_err(|error| StoreError::Unusable { directory: directory.clone(), why: error.to_string() })?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(directory.join("speaker.redb"));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(directory.clone()),
            other => store_error(&directory, other.into()),
        })?;
        let store = Self { directory, database };
        let found = store.version().map_err(|fault| store_error(&store.directory, fault))?;
        if found != VERSION {
            return Err(StoreError::Version { directory: store.directory, found });
        }
        Ok(store)
    }

    /// Loads the stored tables. They record their changes from here on.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn tables(&self) -> Result<Tables, StoreError> {
        self.read().map_err(|fault| store_error(&self.directory, fault))
    }

    /// Writes these changes in one transaction. They are durable on return.
    ///
    /// # Errors
    /// The changes cannot be written; none of them is.
    pub fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.try_write(changes).map_err(|fault| store_error(&self.directory, fault))
    }

    /// Returns the schema version. Creates the tables of a new directory.
    fn version(&self) -> Result<u64, StoreFault> {
        let transaction = self.database.begin_write()?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("version")?.map(|version| version.value());
        if let Some(found) = found {
            return Ok(found);
        }
        meta.insert("version", VERSION)?;
        drop(meta);
        transaction.open_table(RULES)?;
        for table in [REPLIES, UNDONE, COOKIES] {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(VERSION)
    }

    fn read(&self) -> Result<Tables, StoreFault> {
        let transaction = self.database.begin_read()?;
        let mut rules: Vec<Rule> = Vec::new();
        for entry in transaction.open_table(RULES)?.iter()? {
            rules.push(parsed(entry?.1.value())?);
        }
        let mut facts = Vec::new();
        for table in [REPLIES, UNDONE, COOKIES] {
            for entry in transaction.open_table(table)?.iter()? {
                let (number, value) = entry?;
                facts.push(NumberedFact { number: number.value(), fact: parsed::<StoredFact>(value.value())?.into() });
            }
        }
        Tables::restored(&rules, facts).map_err(|taken| StoreFault::Value(taken.to_string()))
    }

    fn try_write(&self, changes: &[Change]) -> Result<(), StoreFault> {
        let transaction = self.database.begin_write()?;
        {
            let mut rules = transaction.open_table(RULES)?;
            let mut replies = transaction.open_table(REPLIES)?;
            let mut undone = transaction.open_table(UNDONE)?;
            let mut cookies = transaction.open_table(COOKIES)?;
            let facts = [&mut replies, &mut undone, &mut cookies];
            let place = |kind| match kind {
                FactKind::Replied => 0,
                FactKind::Undone => 1,
                FactKind::Named => 2,
            };
            for change in changes {
                match change {
                    Change::Rule(rule) => {
                        rules.insert((&*rule.switch.0, rule.cookie), json(rule).as_slice())?;
                    }
                    Change::RuleRemoved { switch, cookie } => {
                        rules.remove((&*switch.0, *cookie))?;
                    }
                    Change::Remembered(NumberedFact { number, fact }) => {
                        let value = json(&StoredFact::from(fact.clone()));
                        facts[place(fact.kind())].insert(*number, value.as_slice())?;
                    }
                    Change::Forgotten { kind, number } => {
                        facts[place(*kind)].remove(*number)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// The stored form of a fact.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum StoredFact {
    Replied { call: CallId, reply: Reply },
    Undone { undone: CallId },
    Named { switch: SwitchId, cookie: u64, flow: Arc<str>, number: u32 },
}

impl From<Fact> for StoredFact {
    fn from(fact: Fact) -> Self {
        match fact {
            Fact::Replied { call, reply } => StoredFact::Replied { call, reply },
            Fact::Undone { call } => StoredFact::Undone { undone: call },
            Fact::Named { switch, cookie, named: Named { flow, number } } => {
                StoredFact::Named { switch, cookie, flow, number }
            }
        }
    }
}

impl From<StoredFact> for Fact {
    fn from(written: StoredFact) -> Self {
        match written {
            StoredFact::Replied { call, reply } => Fact::Replied { call, reply },
            StoredFact::Undone { undone } => Fact::Undone { call: undone },
            StoredFact::Named { switch, cookie, flow, number } => {
                Fact::Named { switch, cookie, named: Named { flow, number } }
            }
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers can be written as JSON")
}

fn parsed<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreFault> {
    serde_json::from_slice(value).map_err(|error| StoreFault::Value(format!("a value is not valid: {error}")))
}

/// Adds the directory: damaged for corrupt content, unusable for an error of the system.
fn store_error(directory: &Path, fault: StoreFault) -> StoreError {
    let directory = directory.to_owned();
    match fault {
        StoreFault::Value(why) => StoreError::Damaged { directory, why },
        StoreFault::Store(redb::Error::Io(error)) if !is_corrupt(&error) => {
            StoreError::Unusable { directory, why: error.to_string() }
        }
        StoreFault::Store(redb::Error::PreviousIo) => {
            StoreError::Unusable { directory, why: "an earlier write failed".into() }
        }
        StoreFault::Store(error) => StoreError::Damaged { directory, why: error.to_string() },
    }
}

/// Returns true for the errors of a truncated or foreign file.
fn is_corrupt(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}
