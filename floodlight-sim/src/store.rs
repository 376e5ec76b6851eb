//! Rule tables and memory on disk, in a directory of their own.
//!
//! One directory is one process: whoever opens it holds it until it ends, and two speakers of one group have separate
//! directories, so separate tables too. All that a turn has changed is one transaction of the store, which is durable before
//! the turn's answers are told: so after a crash at any moment rules and memory stand together, and what was told is true.
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

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::CallId;
use wire::speaker::{Reply, Rule, SwitchId};

use crate::memory::{Memo, Named};
use crate::tables::{Change, Fact, Numbered, Tables};

/// How the tables are written. A build that finds another one leaves them alone.
pub const VERSION: u64 = 1;

/// The store's own memory of pages. All that it holds is in the speaker's memory too, so it needs little.
const CACHE_BYTES: usize = 8 << 20;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RULES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("rules");
const REPLIES: TableDefinition<u64, &[u8]> = TableDefinition::new("replies");
const UNDONE: TableDefinition<u64, &[u8]> = TableDefinition::new("undone");
const COOKIES: TableDefinition<u64, &[u8]> = TableDefinition::new("cookies");

/// A directory with the tables of one speaker.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    database: Database,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another speaker of this one, holds it.
    #[error("the speaker's directory `{0}` is in use by another process; give each speaker one of its own")]
    InUse(PathBuf),
    /// Another build wrote it.
    #[error("the speaker's directory `{directory}` has version {found}; this build knows {VERSION}")]
    Version {
        /// The directory.
        directory: PathBuf,
        /// What it has.
        found: u64,
    },
    /// What it has cannot be read.
    #[error("the speaker's directory `{directory}` is damaged: {why}; take it away to begin with empty tables")]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot be read or written now.
    #[error("the speaker's directory `{directory}` cannot be used: {why}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        why: String,
    },
}

/// What went wrong, before it is known of which directory.
enum Fault {
    /// The store says so.
    Store(redb::Error),
    /// A value is not what it should be.
    Value(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Fault::Store(error.into())
    }
}

impl Store {
    /// Opens the directory, or makes it. The file in it is called `speaker.redb`.
    ///
    /// # Errors
    /// Where it is in use, of another version, damaged, or not to be written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        std::fs::create_dir_all(&directory)
            .map_err(|error| StoreError::Unusable { directory: directory.clone(), why: error.to_string() })?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(directory.join("speaker.redb"));
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(directory.clone()),
            other => named(&directory, other.into()),
        })?;
        let store = Self { directory, database };
        let found = store.version().map_err(|fault| named(&store.directory, fault))?;
        if found != VERSION {
            return Err(StoreError::Version { directory: store.directory, found });
        }
        Ok(store)
    }

    /// Tables as they were kept last; their changes are written down from here on.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn tables(&self) -> Result<Tables, StoreError> {
        self.read().map_err(|fault| named(&self.directory, fault))
    }

    /// Keeps these changes, all or none. They are durable when this returns.
    ///
    /// # Errors
    /// Where they cannot be written; then none of them is.
    pub fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.try_write(changes).map_err(|fault| named(&self.directory, fault))
    }

    /// The version that it has. One that is new gets ours, and its tables.
    fn version(&self) -> Result<u64, Fault> {
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

    fn read(&self) -> Result<Tables, Fault> {
        let transaction = self.database.begin_read()?;
        let mut rules: Vec<Rule> = Vec::new();
        for entry in transaction.open_table(RULES)?.iter()? {
            rules.push(parsed(entry?.1.value())?);
        }
        let mut facts = Vec::new();
        for table in [REPLIES, UNDONE, COOKIES] {
            for entry in transaction.open_table(table)?.iter()? {
                let (number, value) = entry?;
                facts.push(Numbered { number: number.value(), fact: parsed::<Written>(value.value())?.into() });
            }
        }
        Tables::kept(&rules, facts).map_err(|taken| Fault::Value(taken.to_string()))
    }

    fn try_write(&self, changes: &[Change]) -> Result<(), Fault> {
        let transaction = self.database.begin_write()?;
        {
            let mut rules = transaction.open_table(RULES)?;
            let mut replies = transaction.open_table(REPLIES)?;
            let mut undone = transaction.open_table(UNDONE)?;
            let mut cookies = transaction.open_table(COOKIES)?;
            let facts = [&mut replies, &mut undone, &mut cookies];
            let place = |memo| match memo {
                Memo::Replied => 0,
                Memo::Undone => 1,
                Memo::Named => 2,
            };
            for change in changes {
                match change {
                    Change::Rule(rule) => {
                        rules.insert((&*rule.switch.0, rule.cookie), json(rule).as_slice())?;
                    }
                    Change::NoRule { switch, cookie } => {
                        rules.remove((&*switch.0, *cookie))?;
                    }
                    Change::Remembered(Numbered { number, fact }) => {
                        let value = json(&Written::from(fact.clone()));
                        facts[place(fact.memo())].insert(*number, value.as_slice())?;
                    }
                    Change::Forgotten { memo, number } => {
                        facts[place(*memo)].remove(*number)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A fact as it is written.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Replied { call: CallId, reply: Reply },
    Undone { undone: CallId },
    Named { switch: SwitchId, cookie: u64, flow: Arc<str>, number: u32 },
}

impl From<Fact> for Written {
    fn from(fact: Fact) -> Self {
        match fact {
            Fact::Replied { call, reply } => Written::Replied { call, reply },
            Fact::Undone { call } => Written::Undone { undone: call },
            Fact::Named { switch, cookie, named: Named { flow, number } } => {
                Written::Named { switch, cookie, flow, number }
            }
        }
    }
}

impl From<Written> for Fact {
    fn from(written: Written) -> Self {
        match written {
            Written::Replied { call, reply } => Fact::Replied { call, reply },
            Written::Undone { undone } => Fact::Undone { call: undone },
            Written::Named { switch, cookie, flow, number } => {
                Fact::Named { switch, cookie, named: Named { flow, number } }
            }
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers can be written as JSON")
}

fn parsed<T: DeserializeOwned>(value: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(value).map_err(|error| Fault::Value(format!("a value cannot be read: {error}")))
}

/// A fault of this directory: damaged where what it has is wrong, unusable where the system does not let us.
fn named(directory: &Path, fault: Fault) -> StoreError {
    let directory = directory.to_owned();
    match fault {
        Fault::Value(why) => StoreError::Damaged { directory, why },
        Fault::Store(redb::Error::Io(error)) if !is_of_the_content(&error) => {
            StoreError::Unusable { directory, why: error.to_string() }
        }
        Fault::Store(redb::Error::PreviousIo) => {
            StoreError::Unusable { directory, why: "it could not be written before".into() }
        }
        Fault::Store(error) => StoreError::Damaged { directory, why: error.to_string() },
    }
}

/// A file that is cut short, or that is none of ours, is read as a fault of input.
fn is_of_the_content(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}
