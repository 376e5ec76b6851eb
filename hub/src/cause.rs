//! The request or the command that an answer names as its cause.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A request or a command, as its answer names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Cause {
    /// Its `ce_id`: the `ce_causationid` of the answer.
    pub id: String,
    /// Its `ce_correlationid`: opaque, and given back.
    pub correlation: Option<String>,
}

/// In a saved state most causes are one text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Saved {
    Id(String),
    Both(String, String),
}

impl From<Saved> for Cause {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::Id(id) => Self { id, correlation: None },
            Saved::Both(id, correlation) => Self { id, correlation: Some(correlation) },
        }
    }
}

impl From<Cause> for Saved {
    fn from(Cause { id, correlation }: Cause) -> Self {
        match correlation {
            None => Saved::Id(id),
            Some(correlation) => Saved::Both(id, correlation),
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
