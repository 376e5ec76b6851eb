//! The graph of a topology, as data: to compare two builds, and to draw it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The components of a topology and the edges between them, in the order of their declaration.
/// Lanes and modes are not part of it.
///
/// A build is compatible with an older graph if its own graph has all components and edges of that
/// graph: every tuple in flight finds its edge, and every saved state its component.
///
/// ```
/// use wire::graph::{Component, ComponentKind, Graph};
/// let bolt = |name: &str| Component { name: name.into(), kind: ComponentKind::Bolt, stage: "hub".into(), saves: None, tracks: false };
/// let old = Graph { components: vec![bolt("orders")], edges: vec![] };
/// let new = Graph { components: vec![bolt("orders"), bolt("audit")], edges: vec![] };
/// assert!(new.lacks(&old).is_empty());
/// assert_eq!(old.lacks(&new), ["bolt audit in stage hub"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The components.
    pub components: Vec<Component>,
    /// The edges.
    pub edges: Vec<Edge>,
}

/// A component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: ComponentKind,
    /// The stage that it runs in.
    pub stage: String,
    /// The names of its saved states; none if it saves nothing. An empty list if it saves state that
    /// has no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saves: Option<Vec<String>>,
    /// True for a spout that learns what becomes of its tuples, and may emit them again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tracks: bool,
}

/// The kind of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// Emits tuples from outside the stage's inbox.
    Spout,
    /// Emits tuples from records of the stage's inbox.
    InboxSpout,
    /// Emits the tuples that clients POST, records of the stage's inbox.
    HttpSource,
    /// Receives tuples.
    Bolt,
}

/// A stream that a component reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The component that emits the stream.
    pub from: String,
    /// The stream.
    pub stream: String,
    /// The component that reads it.
    pub to: String,
    /// The grouping that selects the lane of each tuple; `local` if tuples stay in their lane.
    pub grouping: String,
}

impl Graph {
    /// Returns the components and edges of `other` that this graph lacks; empty if this graph is
    /// compatible. The saved states are not compared: they have schema versions of their own.
    pub fn lacks(&self, other: &Self) -> Vec<String> {
        let has = |part: &Component| {
            self.components.iter().any(|own| (&own.name, own.kind, &own.stage) == (&part.name, part.kind, &part.stage))
        };
        let components = other.components.iter().filter(|part| !has(part)).map(Component::to_string);
        let edges = other.edges.iter().filter(|part| !self.edges.contains(part)).map(Edge::to_string);
        components.chain(edges).collect()
    }

    /// Returns the components of a stage.
    pub fn of_stage(&self, stage: &str) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(move |component| component.stage == stage)
    }

    /// Returns the components of a stage, and all components that their tuples can come from.
    pub fn upstream_of(&self, stage: &str) -> Vec<&Component> {
        let mut open: Vec<&str> = self.of_stage(stage).map(|component| component.name.as_str()).collect();
        let mut upstream: BTreeSet<&str> = open.iter().copied().collect();
        while let Some(to) = open.pop() {
            let from = self.edges.iter().filter(|edge| edge.to == to).map(|edge| edge.from.as_str());
            open.extend(from.filter(|from| upstream.insert(from)));
        }
        self.components.iter().filter(|component| upstream.contains(component.name.as_str())).collect()
    }
}

impl Component {
    /// True for a spout that has no position to continue from.
    pub fn starts_anew(&self) -> bool {
        self.kind == ComponentKind::Spout && self.saves.is_none()
    }

    /// Describes what becomes of its state, for people; empty if nothing is known. Fields that are
    /// not saved are unknown.
    pub fn state(&self) -> String {
        let tracks = if self.tracks { "; tracks its tuples" } else { "" };
        match (self.kind, self.saves.as_deref()) {
            (ComponentKind::Spout, None) => format!("no position: starts anew with each owner{tracks}"),
            (ComponentKind::Spout, Some(_)) => format!("position saved{tracks}"),
            (ComponentKind::InboxSpout | ComponentKind::HttpSource | ComponentKind::Bolt, saves) => match saves {
                None => String::new(),
                Some([]) => "saved".to_owned(),
                Some(names) => format!("saved: {}", names.join(", ")),
            },
        }
    }
}

impl ComponentKind {
    /// Its name, as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            ComponentKind::Spout => "spout",
            ComponentKind::InboxSpout => "inbox spout",
            ComponentKind::HttpSource => "http source",
            ComponentKind::Bolt => "bolt",
        }
    }
}

impl Edge {
    /// The grouping of an edge whose tuples stay in their lane.
    pub const LOCAL: &str = "local";

    /// Its name, the `ce_subject` of its records.
    pub fn name(&self) -> String {
        format!("{}/{}>{}", self.from, self.stream, self.to)
    }

    /// True if its tuples stay in their lane.
    pub fn is_local(&self) -> bool {
        self.grouping == Self::LOCAL
    }

    /// Describes how tuples reach the reader, for people.
    pub fn how(&self) -> String {
        if self.is_local() { "local, in the lane".to_owned() } else { format!("{}, by topic", self.grouping) }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in stage {}", self.kind.as_str(), self.name, self.stage)
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edge {} ({})", self.name(), self.how())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, stage: &str) -> Component {
        Component { name: name.into(), kind: ComponentKind::Bolt, stage: stage.into(), saves: None, tracks: false }
    }

    fn edge(from: &str, to: &str, grouping: &str) -> Edge {
        Edge { from: from.into(), stream: "default".into(), to: to.into(), grouping: grouping.into() }
    }

    #[test]
    fn a_graph_names_the_components_and_edges_that_it_lacks() {
        let old =
            Graph { components: vec![component("a", "s"), component("b", "s")], edges: vec![edge("a", "b", "local")] };
        let components = vec![component("b", "t"), component("c", "t"), component("a", "s")];
        let new = Graph { components, edges: vec![edge("a", "b", "fields")] };
        assert_eq!(new.lacks(&old), ["bolt b in stage s", "edge a/default>b (local, in the lane)"]);
    }

    #[test]
    fn other_saved_states_and_another_order_are_compatible() {
        let old = Graph { components: vec![component("a", "s"), component("b", "s")], edges: vec![] };
        let saving = Component { saves: Some(vec!["counts".into()]), ..component("a", "s") };
        let new = Graph { components: vec![component("b", "s"), saving], edges: vec![] };
        assert_eq!((new.lacks(&old), old.lacks(&new)), (vec![], vec![]));
    }

    #[test]
    fn a_graph_has_its_documented_json() {
        let spout = Component { kind: ComponentKind::InboxSpout, ..component("in", "s") };
        let bolt = Component { saves: Some(vec!["counts".into()]), ..component("count", "s") };
        let graph = Graph { components: vec![spout, bolt], edges: vec![edge("in", "count", Edge::LOCAL)] };
        let json = serde_json::json!({
            "components": [
                {"name": "in", "kind": "inbox-spout", "stage": "s"},
                {"name": "count", "kind": "bolt", "stage": "s", "saves": ["counts"]},
            ],
            "edges": [{"from": "in", "stream": "default", "to": "count", "grouping": "local"}],
        });
        assert_eq!(serde_json::to_value(&graph).unwrap(), json);
        assert_eq!(serde_json::from_value::<Graph>(json).unwrap(), graph);
    }
}
