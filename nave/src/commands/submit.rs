//! `nave submit`: a topology of this program, with its layout and its settings.

use std::path::PathBuf;
use std::sync::Arc;

use bus::{Bus, Clock};
use clap::Args;
use serde_json::{Value, json};
use topology::Topology;
use wire::control::DesiredState;
use wire::{Code, Problem};

use super::options::{self, ConfigArgs};
use super::output::{Output, Usage};
use crate::clock::SystemClock;
use crate::config::{BusKind, Config};
use crate::node::submission;
use crate::process;
use crate::program::Program;
use crate::suggest;

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// Name of the topology
    name: String,
    /// File with layout and settings: the section `[topologies.NAME]` of a configuration file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Do not open its spouts and accept no requests, until `topologies activate`
    #[arg(long, conflicts_with = "check")]
    inactive: bool,
    /// Write nothing: compare this program with the submitted topology and the saved state of its
    /// lanes, and list incompatible state
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn submit(args: &SubmitArgs, program: &Program) -> anyhow::Result<Output> {
    let code = code_of(&args.name, program)?;
    let mut raw = args.config.raw()?;
    if let Some(path) = &args.file {
        raw.topology_file(&args.name, &path.display().to_string(), &options::read(path)?)?;
    }
    let config = match args.config.resolve(&raw, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    if config.bus.kind == BusKind::Embedded && !args.check {
        let text = format!(
            "the embedded bus lives in the process that opened it, and `{} up` submits its topologies itself: use --bus kafka",
            crate::program::name()
        );
        return Err(Usage(text).into());
    }
    let topology = laid_out(&args.name, code, &config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let bus = process::open_bus(&config, &clock)?;
    if args.check {
        return check(&bus, &config, &topology);
    }
    let (submitted, change) =
        submission::submit(&*bus, &config.topics(), &topology, clock.wall(), args.inactive, config.bus.kafka.strict)?;
    let weakness = submission::weakness(&*bus, &submitted)?;
    let warning = weakness.as_ref().map(|weakness| format!("warning: {weakness}\n")).unwrap_or_default();
    let (name, program) = (&submitted.name, crate::program::name());
    let inactive = match submitted.desired {
        DesiredState::Inactive => format!("inactive until `{program} topologies activate {name}`\n"),
        DesiredState::Run | DesiredState::Kill { .. } => String::new(),
    };
    let text = format!("{warning}{name}   {}\n{inactive}{}", change.as_str(), submitted.description);
    Ok(Output::Text { text, json: json!({"change": change.as_str(), "topology": submitted, "warning": weakness}) })
}

/// Lists saved state that this program cannot read, by stage and lane.
fn check(bus: &Arc<dyn Bus>, config: &Config, topology: &Topology) -> anyhow::Result<Output> {
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
            "this program cannot read {} saved states of lanes of `{}`; nothing was changed\n  {}",
            rows.len(),
            topology.name(),
            lines.join("\n  ")
        );
        return Err(Problem::new(Code::StateIncompatible, detail).into());
    }
    let text = format!("this program can read all saved state of the lanes of `{}`", topology.name());
    Ok(Output::Text { text, json: json!({"incompatible": rows}) })
}

/// Returns the code of a topology.
pub(super) fn code_of<'a>(name: &str, program: &'a Program) -> Result<&'a Topology, Problem> {
    program.topology(name).ok_or_else(|| {
        let known = program.topologies().map(|(name, _)| name);
        let meant = suggest::nearest(name, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Problem::new(
            Code::NoCode,
            format!("this program has no topology `{name}`; available: {}{meant}", program.names()),
        )
    })
}

/// Returns the code of a topology with the configured layout and settings.
pub(super) fn laid_out(name: &str, code: &Topology, config: &Config) -> anyhow::Result<Topology> {
    Ok(config.topologies.get(name).map_or_else(|| Ok(code.clone()), |layout| layout.apply(code))?)
}
