//! How a topology is laid out where it runs: configuration, not code.

use std::collections::BTreeMap;

use wire::control::Mode;

/// What may be changed about a topology without touching its code; see [`crate::Topology::arranged`].
///
/// ```
/// use topology::{Arrangement, Mode};
/// let mut apart = Arrangement { apart: true, ..Arrangement::default() };
/// apart.lanes.insert("speaker".into(), 8);
/// apart.modes.insert("speaker".into(), Mode::ExactlyOnce);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// False: components that are joined by edges which may stay in their lane ([`crate::builder::Read::or_local`]) share one stage,
    /// which has the name and the lanes of the one that was declared first. True: each is a stage of its own, with a topic
    /// between them, and is scaled and placed apart.
    pub apart: bool,
    /// How many lanes a stage has, by its name, in place of what the code says. Fixed for the life of its topics.
    pub lanes: BTreeMap<String, u32>,
    /// When the effects of a stage leave, by its name, in place of what the code says.
    pub modes: BTreeMap<String, Mode>,
}
