//! Places stages and components in layers, from left to right.
//!
//! A stage is right of the stages upstream of it, and a component is right of the components
//! upstream of it in its stage, as far as there are no cycles. Stages of one layer are below each
//! other, and so are components.

use super::{Arrow, Drawing};

/// Space around a node and at the edge of a box.
pub(super) const GAP: usize = 24;
/// Height of a stage's title.
const TITLE: usize = 24;
/// Height of a line of text.
pub(super) const LINE: usize = 16;

/// A rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The places of stages and nodes, by their index.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) stages: Vec<Area>,
    pub(super) nodes: Vec<Area>,
    /// The layer of each node, counted through all stages.
    pub(super) layers: Vec<usize>,
    /// Space above and below a node, for arrows that skip layers or lead back.
    pub(super) bend: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Layout {
    pub(super) fn of(drawing: &Drawing) -> Self {
        let stage_of = |node: usize| drawing.nodes[node].stage;
        let between = |arrow: &Arrow| (stage_of(arrow.from), stage_of(arrow.to));
        let (inside, across): (Vec<&Arrow>, Vec<&Arrow>) =
            drawing.arrows.iter().partition(|arrow| between(arrow).0 == between(arrow).1);
        let inside: Vec<_> = inside.into_iter().map(|arrow| (arrow.from, arrow.to)).collect();
        let across: Vec<_> = across.into_iter().map(between).collect();
        let (node_ranks, stage_ranks) = (ranks(drawing.nodes.len(), &inside), ranks(drawing.stages.len(), &across));

        let node_width = drawing.nodes.iter().flat_map(|node| &node.lines).map(|line| text_width(line)).max();
        let node_width = node_width.unwrap_or_default() + GAP;
        let lines = drawing.nodes.iter().map(|node| node.lines.len()).max().unwrap_or_default();
        let node_height = lines * LINE + LINE;
        let labels = drawing.arrows.iter().flat_map(|arrow| &arrow.labels);
        let gap = labels.map(|label| text_width(label)).max().unwrap_or_default() + GAP;
        let bend = LINE * (node_ranks.iter().max().unwrap_or(&0) + 1);

        // Sources are below the bolts of their layer, so that the arrows between bolts are straight.
        let mut bolts_first: Vec<usize> = (0..drawing.nodes.len()).collect();
        bolts_first.sort_by_key(|node| drawing.nodes[*node].is_source);

        let mut layout = Self {
            stages: vec![Area::default(); drawing.stages.len()],
            nodes: vec![Area::default(); drawing.nodes.len()],
            layers: vec![0; drawing.nodes.len()],
            bend,
            ..Self::default()
        };
        let (mut x, mut layer) = (GAP, 0);
        for rank in 0..=stage_ranks.iter().copied().max().unwrap_or_default() {
            let (mut y, mut widest) = (GAP, 0);
            for stage in (0..drawing.stages.len()).filter(|stage| stage_ranks[*stage] == rank) {
                let mut rows: Vec<usize> = Vec::new();
                for node in bolts_first.iter().copied().filter(|node| stage_of(*node) == stage) {
                    let column = node_ranks[node];
                    rows.resize(rows.len().max(column + 1), 0);
                    layout.nodes[node] = Area {
                        x: x + GAP + column * (node_width + gap),
                        y: y + TITLE + bend + rows[column] * (node_height + bend),
                        width: node_width,
                        height: node_height,
                    };
                    layout.layers[node] = layer + column;
                    rows[column] += 1;
                }
                let rows_high = rows.iter().copied().max().unwrap_or_default();
                let width =
                    (rows.len() * (node_width + gap) + 2 * GAP - gap).max(text_width(&drawing.stages[stage]) + GAP);
                let height = TITLE + bend + rows_high * (node_height + bend);
                layout.stages[stage] = Area { x, y, width, height };
                y += height + GAP;
                widest = widest.max(rows.len());
                layout.width = layout.width.max(x + width + GAP);
            }
            layout.height = layout.height.max(y);
            x = layout.width + gap - GAP;
            layer += widest;
        }
        layout
    }
}

/// Estimates the width of a text at the size of a node's text.
pub(super) fn text_width(text: &str) -> usize {
    text.chars().count() * 7
}

/// Returns the layer of each node: one more than those of the nodes before it. In a cycle the node
/// that is reached first is before the others. A node without nodes before it is directly before the
/// first node that it leads to.
fn ranks(count: usize, arrows: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks: Vec<Option<usize>> = vec![None; count];
    let before =
        |node: usize| arrows.iter().filter(move |(from, to)| *to == node && *from != node).map(|(from, _)| *from);
    for _ in 0..count {
        let mut open = (0..count).filter(|node| ranks[*node].is_none());
        let next = open
            .clone()
            .find(|node| before(*node).all(|from| ranks[from].is_some()))
            .or_else(|| open.clone().find(|node| before(*node).any(|from| ranks[from].is_some())))
            .or_else(|| open.next());
        let Some(next) = next else { break };
        ranks[next] = Some(before(next).filter_map(|from| ranks[from]).map(|rank| rank + 1).max().unwrap_or(0));
    }
    let ranks: Vec<usize> = ranks.into_iter().map(Option::unwrap_or_default).collect();
    let pulled = |node: usize| {
        let after = arrows.iter().filter(|(from, to)| *from == node && *to != node).map(|(_, to)| ranks[*to]);
        if ranks[node] == 0 { after.min().map_or(0, |rank| rank.saturating_sub(1)) } else { ranks[node] }
    };
    (0..count).map(pulled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_behind_the_nodes_before_it_also_around_a_cycle() {
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]), [0, 1, 2, 3]);
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (2, 1), (2, 3)]), [0, 1, 2, 3]);
        assert_eq!(ranks(2, &[(0, 0), (0, 1), (1, 0)]), [0, 1]);
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (3, 2)]), [0, 1, 2, 1]);
        assert_eq!(ranks(0, &[]), [0; 0]);
    }
}
