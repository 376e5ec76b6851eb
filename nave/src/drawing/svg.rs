//! Writes a drawing as SVG.

use super::layout::{Area, LINE, Layout, text_width};
use super::{Arrow, Drawing, Node};

impl Drawing {
    /// Returns an SVG document. Thick arrows pass a topic.
    pub(crate) fn svg(&self) -> String {
        let layout = Layout::of(self);
        let (width, height) = (layout.width, layout.height);
        let mut out = vec![format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\" text-anchor=\"middle\">"
        )];
        out.push(HEAD.to_owned());
        for (title, area) in self.stages.iter().zip(&layout.stages) {
            out.push(rectangle(area, 4, "fill=\"#f3f5f7\" stroke=\"#c5ccd3\""));
            out.push(text(area.x + area.width / 2, area.y + LINE, title, "font-weight=\"bold\""));
        }
        for (node, area) in self.nodes.iter().zip(&layout.nodes) {
            draw_node(node, area, &mut out);
        }
        let mut labels = Vec::new();
        for arrow in &self.arrows {
            draw_arrow(arrow, &layout, &mut out, &mut labels);
        }
        out.append(&mut labels);
        out.push("</svg>\n".to_owned());
        out.join("\n")
    }
}

const HEAD: &str = "\
<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#46525e\"/></marker></defs>
<rect width=\"100%\" height=\"100%\" fill=\"white\"/>";

fn draw_node(node: &Node, area: &Area, out: &mut Vec<String>) {
    let round = if node.is_source { LINE } else { 2 };
    out.push(rectangle(area, round, "fill=\"white\" stroke=\"#46525e\""));
    for (index, line) in node.lines.iter().enumerate() {
        let style = if index == 0 { "font-weight=\"bold\"" } else { "fill=\"#46525e\"" };
        out.push(text(area.x + area.width / 2, area.y + LINE + LINE / 4 + index * LINE, line, style));
    }
}

/// Draws an arrow from side to side if no node of the layers between is in its way. Otherwise it
/// passes above them; one that leads back passes below.
fn draw_arrow(arrow: &Arrow, layout: &Layout, out: &mut Vec<String>, labels: &mut Vec<String>) {
    let (from, to) = (&layout.nodes[arrow.from], &layout.nodes[arrow.to]);
    let (left, right) = (layout.layers[arrow.from], layout.layers[arrow.to]);
    let depth = (LINE * (left.abs_diff(right) + 1)).min(layout.bend);
    let center = from.y + from.height / 2;
    let passed = || layout.nodes.iter().zip(&layout.layers).filter(|(_, layer)| (left + 1..right).contains(*layer));
    let is_free = passed().all(|(node, _)| center < node.y || center > node.y + node.height);
    // The path up to the curve, the curve as in SVG, and the place of its labels.
    let (start, [(bx1, by1), (bx2, by2), (x2, y2)], (x, y)) = if right > left && is_free {
        let (x1, x2, y2) = (from.x + from.width, to.x, to.y + to.height / 2);
        let turn = passed().map(|(node, _)| node.x + node.width).max().unwrap_or(x1);
        let middle = turn.midpoint(x2);
        let start = if turn > x1 { format!("{x1} {center}H{turn}") } else { format!("{x1} {center}") };
        // Nearer to the source, where fewer arrows meet.
        (start, [(middle, center), (middle, y2), (x2, y2)], (middle, (2 * center + y2) / 3))
    } else {
        let is_forward = right > left;
        let (out_at, in_at) = if is_forward { (2, 1) } else { (1, 2) };
        let (x1, x2) = (from.x + from.width * out_at / 3, to.x + to.width * in_at / 3);
        let (y1, y2) = if is_forward { (from.y, to.y) } else { (from.y + from.height, to.y + to.height) };
        let bend = if is_forward { y1.min(y2).saturating_sub(depth) } else { y1.max(y2) + depth };
        (format!("{x1} {y1}"), [(x1, bend), (x2, bend), (x2, y2)], (x1.midpoint(x2), (y1 + 6 * bend + y2) / 8))
    };
    let stroke = if arrow.is_local { "1" } else { "2.5" };
    out.push(format!(
        "<path d=\"M{start}C{bx1} {by1} {bx2} {by2} {x2} {y2}\" fill=\"none\" stroke=\"#46525e\" \
         stroke-width=\"{stroke}\" marker-end=\"url(#tip)\"/>"
    ));
    // The font is a little smaller than that of a node.
    let width = arrow.labels.iter().map(|label| text_width(label) * 6 / 7).max().unwrap_or_default();
    let height = arrow.labels.len() * LINE;
    let y = y.saturating_sub(height / 2);
    labels.push(rectangle(&Area { x: x.saturating_sub(width / 2), y, width, height }, 2, "fill=\"#f3f5f7\""));
    for (index, label) in arrow.labels.iter().enumerate() {
        labels.push(text(x, y + index * LINE + LINE * 3 / 4, label, "font-size=\"11\""));
    }
}

fn rectangle(Area { x, y, width, height }: &Area, round: usize, style: &str) -> String {
    format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\" {style}/>")
}

fn text(x: usize, y: usize, text: &str, style: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" {style}>{}</text>", escaped(text))
}

/// Escapes the characters that have a meaning in XML, and replaces those that XML cannot contain.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            char if char.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::example;

    #[test]
    fn an_svg_shows_stages_components_and_edges() {
        assert_eq!(example().svg(), include_str!("example.svg"));
    }
}
