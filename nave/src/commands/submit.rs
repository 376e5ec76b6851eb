//! `nave submit` and `nave describe`: a topology of this program, as it is laid out and set up.

use std::path::PathBuf;
use std::sync::Arc;

use bus::{Bus, Clock};
use clap::Args;
use serde_json::{Value, json};
use topology::Topology;
use wire::{Code, Problem};

use super::said::{self, ConfigArgs};
use super::told::{Told, Usage};
use crate::clock::SystemClock;
use crate::config::{BusKind, Config};
use crate::near;
use crate::process;
use crate::program::Program;
use crate::submission;

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// The topology, by its name
    name: String,
    /// How it is laid out and what it is run with: what stands below `[topologies.NAME]` in a file of configuration
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write nothing: compare this program with what was submitted and with what running lanes have saved, and list what it could not go on with
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn submit(args: &SubmitArgs, program: &Program) -> anyhow::Result<Told> {
    let code = code_of(&args.name, program)?;
    let mut said = args.config.said()?;
    if let Some(path) = &args.file {
        said.topology_file(&args.name, &path.display().to_string(), &said::read(path)?)?;
    }
    let config = match args.config.usable(&said, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    if config.bus.kind == BusKind::Embedded && !args.check {
        let text = "the embedded bus lives in the process that opened it, and `nave up` submits there by itself: use --bus kafka";
        return Err(Usage(text.into()).into());
    }
    let topology = laid_out(&args.name, code, &config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = process::open_bus(&config, &clock)?;
    if args.check {
        return check(&bus, &config, &topology);
    }
    let (submitted, change) =
        submission::submit(&*bus, &config.topics(), &topology, clock.wall(), config.bus.kafka.strict)?;
    let weakness = submission::weakness(&*bus, &submitted)?;
    let warning = weakness.as_ref().map(|weakness| format!("warning: {weakness}\n")).unwrap_or_default();
    let text = format!(
        "{warning}{}   graph {}   {}\n{}",
        submitted.name,
        submitted.graph,
        change.as_str(),
        submitted.description
    );
    Ok(Told::Text { text, json: json!({"change": change.as_str(), "topology": submitted, "warning": weakness}) })
}

/// Lists the states that this program could not go on with, stage by stage.
fn check(bus: &Arc<dyn Bus>, config: &Config, topology: &Topology) -> anyhow::Result<Told> {
    submission::check(&**bus, &config.topics(), topology)?;
    let mut rows = Vec::new();
    for stage in topology.stages() {
        for (lane, why) in topology::incompatible(bus, topology, &config.topics(), &stage.name)? {
            rows.push(json!({"stage": &*stage.name, "lane": lane, "why": why}));
        }
    }
    if !rows.is_empty() {
        let line = |row: &Value| {
            format!("stage {} lane {}: {}", row["stage"], row["lane"], row["why"].as_str().unwrap_or_default())
        };
        let lines: Vec<String> = rows.iter().map(line).collect();
        let detail = format!(
            "this program could not go on with {} of what lanes of `{}` have saved, and nothing was changed\n  {}",
            rows.len(),
            topology.name(),
            lines.join("\n  ")
        );
        return Err(Problem::new(Code::StateIncompatible, detail).into());
    }
    let text = format!("this program can go on with all that lanes of `{}` have saved", topology.name());
    Ok(Told::Text { text, json: json!({"incompatible": rows}) })
}

pub(super) fn describe(name: Option<&str>, args: &ConfigArgs, program: &Program) -> anyhow::Result<Told> {
    let config = match args.usable(&args.said()?, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    let chosen: Vec<(&str, &Topology)> = match name {
        Some(name) => vec![(name, code_of(name, program)?)],
        None => program.topologies().collect(),
    };
    let mut texts = Vec::new();
    let mut all = Vec::new();
    for (name, code) in chosen {
        let topology = laid_out(name, code, &config)?;
        let workflows = topology.workflows();
        all.push(json!({
            "name": name, "graph": topology.graph(), "description": topology.describe(), "workflows": workflows,
            "settings": topology.settings().as_value(),
        }));
        texts.push(topology.describe());
    }
    Ok(Told::Text { text: texts.join("\n"), json: all.into() })
}

/// The code for a topology.
pub(super) fn code_of<'a>(name: &str, program: &'a Program) -> Result<&'a Topology, Problem> {
    program.topology(name).ok_or_else(|| {
        let known = program.topologies().map(|(name, _)| name);
        let meant = near::nearest(name, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Problem::new(Code::NoCode, format!("this program has no topology `{name}`; it has: {}{meant}", program.names()))
    })
}

/// A topology as the configuration lays it out.
pub(super) fn laid_out(name: &str, code: &Topology, config: &Config) -> anyhow::Result<Topology> {
    Ok(config.topologies.get(name).map_or_else(|| Ok(code.clone()), |layout| layout.apply(code))?)
}
