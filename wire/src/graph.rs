//! The graph of a topology, for the comparison of two builds.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::fnv1a;

/// The parts of a topology: its stages, components and edges, one line each. Lanes and modes are
/// not part of it.
///
/// A build whose graph has all parts of an older graph is compatible: every tuple in flight finds
/// its edge, and every saved state its component.
///
/// ```
/// use wire::graph::Graph;
/// let old: Graph = ["stage hub, saved", "bolt orders in stage hub"].into_iter().collect();
/// let new: Graph = ["stage hub, saved", "bolt orders in stage hub", "bolt audit in stage hub"].into_iter().collect();
/// assert!(new.lacks(&old).is_empty());
/// assert_eq!(old.lacks(&new), ["bolt audit in stage hub"]);
/// assert_eq!(new.to_string().len(), 16);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Graph {
    parts: BTreeSet<String>,
}

impl Graph {
    /// The parts of `other` that this graph lacks; empty if this graph is compatible.
    pub fn lacks<'a>(&self, other: &'a Self) -> Vec<&'a str> {
        other.parts.iter().filter(|part| !self.parts.contains(*part)).map(String::as_str).collect()
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str)
    }
}

impl<S: Into<String>> FromIterator<S> for Graph {
    fn from_iter<I: IntoIterator<Item = S>>(parts: I) -> Self {
        Self { parts: parts.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Display for Graph {
    /// Its hash: 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.parts.iter().flat_map(|part| part.bytes().chain([b'\n']));
        write!(f, "{:016x}", fnv1a(bytes))
    }
}
