//! Draws the graph of a topology: stages as boxes, components in them, edges between these.
//!
//! [`Drawing`] holds the texts, `mermaid` and `svg` write them, `layout` places the boxes of an SVG.

mod layout;
mod mermaid;
mod svg;

use std::collections::BTreeMap;

use wire::graph::{Component, ComponentKind, Edge, Graph};

/// The boxes, arrows and texts of a drawing.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    /// The titles of the stages.
    stages: Vec<String>,
    nodes: Vec<Node>,
    arrows: Vec<Arrow>,
}

#[derive(Debug)]
struct Node {
    stage: usize,
    is_source: bool,
    /// Its name, its kind and, if known, what becomes of its state.
    lines: Vec<String>,
}

/// All edges from one component to another that travel the same way.
#[derive(Debug)]
struct Arrow {
    from: usize,
    to: usize,
    is_local: bool,
    /// Stream and grouping of each edge.
    labels: Vec<String>,
}

impl Drawing {
    /// Collects what a drawing of this graph shows. `lanes` holds the number of lanes by stage.
    pub(crate) fn of(graph: &Graph, lanes: &BTreeMap<String, u32>) -> Self {
        let mut drawing = Self::default();
        let mut stages: Vec<&str> = Vec::new();
        for component in &graph.components {
            let known = stages.iter().position(|stage| *stage == component.stage);
            let stage = known.unwrap_or_else(|| {
                stages.push(&component.stage);
                stages.len() - 1
            });
            drawing.nodes.push(Node::of(component, stage));
        }
        drawing.stages = stages.iter().map(|stage| title(stage, lanes.get(*stage).copied())).collect();
        let index = |name: &str| graph.components.iter().position(|component| component.name == name);
        for edge in &graph.edges {
            if let (Some(from), Some(to)) = (index(&edge.from), index(&edge.to)) {
                drawing.add(from, to, edge);
            }
        }
        drawing
    }

    fn add(&mut self, from: usize, to: usize, edge: &Edge) {
        let (is_local, label) = (edge.is_local(), format!("{}, {}", edge.stream, edge.grouping));
        let same = |arrow: &&mut Arrow| (arrow.from, arrow.to, arrow.is_local) == (from, to, is_local);
        match self.arrows.iter_mut().find(same) {
            Some(arrow) => arrow.labels.push(label),
            None => self.arrows.push(Arrow { from, to, is_local, labels: vec![label] }),
        }
    }
}

impl Node {
    fn of(component: &Component, stage: usize) -> Self {
        let lines = [component.name.clone(), component.kind.as_str().to_owned(), component.state()];
        Self {
            stage,
            is_source: component.kind != ComponentKind::Bolt,
            lines: lines.into_iter().filter(|line| !line.is_empty()).collect(),
        }
    }
}

fn title(stage: &str, lanes: Option<u32>) -> String {
    match lanes {
        None => format!("stage {stage}"),
        Some(1) => format!("stage {stage}, 1 lane"),
        Some(lanes) => format!("stage {stage}, {lanes} lanes"),
    }
}

/// A small graph, with a cycle over topics and names that need escapes.
#[cfg(test)]
fn example() -> Drawing {
    let component = |name: &str, kind, stage: &str, saves: Option<&[&str]>| Component {
        name: name.into(),
        kind,
        stage: stage.into(),
        saves: saves.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        tracks: false,
    };
    let edge = |from: &str, stream: &str, to: &str, grouping: &str| Edge {
        from: from.into(),
        stream: stream.into(),
        to: to.into(),
        grouping: grouping.into(),
    };
    let graph = Graph {
        components: vec![
            component("lines", ComponentKind::Spout, "lines", None),
            component("split", ComponentKind::Bolt, "lines", None),
            component("count", ComponentKind::Bolt, "count", Some(&["a<b & \"c\""])),
        ],
        edges: vec![
            edge("lines", "default", "split", "local"),
            edge("split", "default", "count", "fields"),
            edge("split", "odd#|words", "count", "all"),
            edge("count", "default", "split", "shuffle"),
        ],
    };
    Drawing::of(&graph, &BTreeMap::from([("lines".to_owned(), 1), ("count".to_owned(), 4)]))
}
