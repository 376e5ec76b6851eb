//! Takeover of a lane: the body of an owner record, and the metadata of a committed offset.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::WireError;
use crate::graph::Graph;

/// The body of the record with which a process takes over a lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// The build that owns the lane from this record on.
    pub build: String,
    /// The graph of its topology.
    pub graph: Graph,
    /// The versions of its workflows, by workflow name. Decisions depend on them.
    pub versions: BTreeMap<String, u32>,
    /// The settings of lane code from this record on: an object with an entry per component.
    pub settings: Value,
    /// C at the takeover: this owner handled the records from `from` to this record only after
    /// writing it. Their timers run from this record on.
    pub from: u64,
}

/// The metadata of each committed offset, for the next owner.
///
/// As text `v1 <transactional id> <S> <commit> <open|released>`, readable in the tools of the
/// cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetMetadata {
    /// The transactional id of the owner, empty if it had none.
    pub transactional_id: String,
    /// S: the offset that the last snapshot covers; 0 if there is none.
    pub snapshot: u64,
    /// The number of this commit among those of its owner. By it the owner recognizes a commit
    /// whose outcome it does not know, even if the commit moved no offset. 0 if the owner does not
    /// number its commits.
    pub commit: u64,
    /// True after a clean stop: the owner left nothing open.
    pub released: bool,
}

impl fmt::Display for OffsetMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = if self.transactional_id.is_empty() { "-" } else { &self.transactional_id };
        write!(f, "v1 {id} {} {} {}", self.snapshot, self.commit, if self.released { "released" } else { "open" })
    }
}

impl FromStr for OffsetMetadata {
    type Err = WireError;
    fn from_str(text: &str) -> Result<Self, WireError> {
        let expected = "`v1 <transactional id> <offset> <commit> <open|released>`";
        let fault = || WireError::new("offset metadata", text, expected);
        let mut words = text.split(' ');
        let (Some("v1"), Some(id), Some(snapshot), Some(commit), Some(end), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return Err(fault());
        };
        let released = match end {
            "released" => true,
            "open" => false,
            _ => return Err(fault()),
        };
        let transactional_id = if id == "-" { String::new() } else { id.to_owned() };
        let number = |word: &str| word.parse().map_err(|_| fault());
        Ok(Self { transactional_id, snapshot: number(snapshot)?, commit: number(commit)?, released })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_metadata_survives_a_round_trip() {
        let owned = OffsetMetadata {
            transactional_id: "nave.flows.hub-4711-0".into(),
            snapshot: 42,
            commit: 7,
            released: false,
        };
        assert_eq!(owned.to_string(), "v1 nave.flows.hub-4711-0 42 7 open");
        assert_eq!(owned.to_string().parse(), Ok(owned));
        let bare = OffsetMetadata { transactional_id: String::new(), snapshot: 0, commit: 0, released: true };
        assert_eq!(bare.to_string().parse(), Ok(bare));
        for bad in
            ["", "v1", "v2 a 0 1 open", "v1 a x 1 open", "v1 a 0 x open", "v1 a 0 1 closed", "v1 a 0 1 open more"]
        {
            assert!(bad.parse::<OffsetMetadata>().is_err(), "{bad}");
        }
    }
}
