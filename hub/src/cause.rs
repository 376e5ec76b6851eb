//! The request or command that an answer refers to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The request or command that an answer refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SavedCause", into = "SavedCause")]
pub struct Cause {
    /// The `ce_id` of the request; `ce_causationid` of the answer.
    pub id: String,
    /// The `ce_correlationid`: opaque, copied to the answer.
    pub correlation: Option<String>,
}

/// Most causes have no correlation; they are saved as one text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SavedCause {
    Id(String),
    Both(String, String),
}

impl From<SavedCause> for Cause {
    fn from(saved: SavedCause) -> Self {
        match saved {
            SavedCause::Id(id) => Self { id, correlation: None },
            SavedCause::Both(id, correlation) => Self { id, correlation: Some(correlation) },
        }
    }
}

impl From<Cause> for SavedCause {
    fn from(Cause { id, correlation }: Cause) -> Self {
        match correlation {
            None => SavedCause::Id(id),
            Some(correlation) => SavedCause::Both(id, correlation),
        }
    }
}

impl From<&str> for Cause {
    fn from(id: &str) -> Self {
        Self { id: id.to_owned(), correlation: None }
    }
}

impl From<String> for Cause {
    fn from(id: String) -> Self {
        Self { id, correlation: None }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}
