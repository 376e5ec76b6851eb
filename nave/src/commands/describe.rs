//! `nave describe` and `nave topologies describe`: a topology of this program or a submitted one, as
//! text or as a drawing.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use topology::Topology;
use wire::graph::Graph;

use super::RemoteArgs;
use super::options::ConfigArgs;
use super::output::{Output, Usage, cell};
use super::submit::{code_of, laid_out};
use crate::drawing::Drawing;
use crate::program::Program;

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// Name of the topology [default: all]
    name: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
pub(super) struct RemoteDescribeArgs {
    /// Name of the topology
    name: String,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    at: RemoteArgs,
}

#[derive(Debug, Args)]
struct FormatArgs {
    /// Text, or a drawing; `--json` prints the graph as data
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Mermaid,
    Svg,
}

impl Format {
    /// Draws a graph; returns nothing for text.
    fn draw(self, graph: &Graph, lanes: &BTreeMap<String, u32>) -> Option<Output> {
        match self {
            Format::Text => None,
            Format::Mermaid => Some(Output::Raw(Drawing::of(graph, lanes).mermaid())),
            Format::Svg => Some(Output::Raw(Drawing::of(graph, lanes).svg())),
        }
    }
}

/// Describes topologies of this program.
pub(super) fn local(args: &DescribeArgs, program: &Program) -> anyhow::Result<Output> {
    let config = match args.config.resolve(&args.config.raw()?, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    let chosen: Vec<(&str, &Topology)> = match &args.name {
        Some(name) => vec![(name, code_of(name, program)?)],
        None => program.topologies().collect(),
    };
    let format = args.format.format;
    if format != Format::Text && chosen.len() != 1 {
        return Err(Usage(format!("a drawing shows one topology; give the name of one: {}", program.names())).into());
    }
    let mut texts = Vec::new();
    let mut all = Vec::new();
    for (name, code) in chosen {
        let topology = laid_out(name, code, &config)?;
        let (graph, description) = (topology.graph(), topology.describe());
        let lanes = topology.stages().into_iter().map(|stage| (stage.name.to_string(), stage.lanes)).collect();
        if let Some(drawing) = format.draw(&graph, &lanes) {
            return Ok(drawing);
        }
        all.push(json!({
            "name": name, "graph": graph, "description": description, "workflows": topology.workflows(),
            "settings": topology.settings().as_value(),
        }));
        texts.push(description);
    }
    Ok(Output::Text { text: texts.join("\n"), json: all.into() })
}

/// The fields of a submitted topology that a drawing needs.
#[derive(Deserialize)]
struct Submitted {
    graph: Graph,
    stages: Vec<SubmittedStage>,
}

#[derive(Deserialize)]
struct SubmittedStage {
    name: String,
    lanes: u32,
}

/// Describes a submitted topology.
pub(super) fn submitted(args: &RemoteDescribeArgs) -> anyhow::Result<Output> {
    let body = args.at.client()?.topology(&args.name)?;
    let (graph, lanes) = graph_and_lanes(&body)?;
    let drawing = args.format.format.draw(&graph, &lanes);
    Ok(drawing.unwrap_or_else(|| Output::Text { text: described(&body), json: body }))
}

/// Returns the graph of a submitted topology, and the number of lanes of each stage.
pub(super) fn graph_and_lanes(body: &Value) -> anyhow::Result<(Graph, BTreeMap<String, u32>)> {
    let Submitted { graph, stages } =
        Submitted::deserialize(body).context("the answer has no graph that this build can read")?;
    Ok((graph, stages.into_iter().map(|stage| (stage.name, stage.lanes)).collect()))
}

fn described(body: &Value) -> String {
    let mut lines = vec![cell(body, "/description").trim_end().to_owned()];
    lines.push(format!("build {}   {}", cell(body, "/build"), cell(body, "/state")));
    for workflow in body.get("workflows").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("workflow {} in stage {}", cell(workflow, "/name"), cell(workflow, "/stage")));
    }
    lines.join("\n")
}
