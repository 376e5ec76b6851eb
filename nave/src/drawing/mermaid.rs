//! Writes a drawing as a Mermaid flowchart.

use std::fmt::Write as _;

use super::{Drawing, Node};

impl Drawing {
    /// Returns a Mermaid flowchart. Thick arrows pass a topic.
    pub(crate) fn mermaid(&self) -> String {
        let mut lines = vec!["flowchart LR".to_owned()];
        for (stage, title) in self.stages.iter().enumerate() {
            lines.push(format!("  subgraph s{stage}[\"{}\"]", escaped(title)));
            let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.stage == stage);
            lines.extend(nodes.map(|(index, node)| format!("    c{index}{}", shape(node))));
            lines.push("  end".to_owned());
        }
        for arrow in &self.arrows {
            let line = if arrow.is_local { "-->" } else { "==>" };
            lines.push(format!("  c{} {line}|\"{}\"| c{}", arrow.from, text(&arrow.labels), arrow.to));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn shape(node: &Node) -> String {
    let text = text(&node.lines);
    if node.is_source { format!("([\"{text}\"])") } else { format!("[\"{text}\"]") }
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br/>")
}

/// Replaces each character that may have a meaning in Mermaid or HTML by its entity code.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_alphanumeric() || " -_.,:/@".contains(char) {
            escaped.push(char);
        } else {
            write!(escaped, "#{};", u32::from(char)).expect("a string takes all text");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::example;

    #[test]
    fn a_mermaid_flowchart_shows_stages_components_and_edges() {
        assert_eq!(
            example().mermaid(),
            "\
flowchart LR
  subgraph s0[\"stage lines, 1 lane\"]
    c0([\"lines<br/>spout<br/>no position: starts anew with each owner\"])
    c1[\"split<br/>bolt\"]
  end
  subgraph s1[\"stage count, 4 lanes\"]
    c2[\"count<br/>bolt<br/>saved: a#60;b #38; #34;c#34;\"]
  end
  c0 -->|\"default, local\"| c1
  c1 ==>|\"default, fields<br/>odd#35;#124;words, all\"| c2
  c2 ==>|\"default, shuffle\"| c1
"
        );
    }
}
