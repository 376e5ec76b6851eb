//! The layout of a topology: configuration, not code.

use std::collections::BTreeMap;

use wire::control::DeliveryMode;

/// Changes to a topology that need no code change; see [`crate::Topology::arranged`].
///
/// ```
/// use topology::{Arrangement, DeliveryMode};
/// let mut apart = Arrangement { apart: true, ..Arrangement::default() };
/// apart.lanes.insert("speaker".into(), 8);
/// apart.modes.insert("speaker".into(), DeliveryMode::ExactlyOnce);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// False: components that are joined by edges that may stay in their lane
    /// ([`crate::stream::Read::or_local`]) share one stage. It has the name and the lanes of the
    /// component that was declared first. True: each of them is a stage; a topic connects the
    /// stages, and each scales independently.
    pub apart: bool,
    /// Number of lanes by stage name; overrides the code. Fixed for the lifetime of the stage's
    /// topics.
    pub lanes: BTreeMap<String, u32>,
    /// Delivery mode by stage name; overrides the code.
    pub modes: BTreeMap<String, DeliveryMode>,
}
