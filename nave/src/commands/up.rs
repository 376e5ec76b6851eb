//! `nave up` and `nave run`: start a process.

use std::collections::BTreeSet;

use clap::Args;

use super::options::{ConfigArgs, ProcessArgs};
use super::output::{Output, Usage};
use crate::config::{BusKind, Layout};
use crate::node::StageSelection;
use crate::process::{self, Purpose};
use crate::program::Program;

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    process: ProcessArgs,
    /// Lanes per stage, which run in parallel; fixed for the lifetime of the topics [default: as in
    /// the code]
    #[arg(long)]
    lanes: Option<u32>,
    /// Run hub and worker in 1 stage, or in 2 with a topic between them [default: 1 embedded, 2 on
    /// Kafka]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2))]
    stages: Option<u32>,
    /// Do not run this spoke, because another process serves it; may be repeated
    #[arg(long = "without", value_name = "SERVICE")]
    without: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    process: ProcessArgs,
    /// Stage to run; may be repeated. Processes that run the same stage share its lanes
    #[arg(long = "stage", value_name = "STAGE")]
    stages: Vec<String>,
    /// Topology of these stages, if several topologies have a stage of that name
    #[arg(long)]
    topology: Option<String>,
    /// Role of the process: northbound, a stage or a simulator of this program; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Spoke of this program to run; may be repeated
    #[arg(long = "spoke", value_name = "SERVICE")]
    spokes: Vec<String>,
}

/// The role that serves the REST interface.
const NORTHBOUND: &str = "northbound";

pub(super) fn up(args: &UpArgs, program: &Program) -> anyhow::Result<Output> {
    let mut raw = args.config.raw()?;
    args.process.apply(&mut raw);
    if let Some(lanes) = args.lanes {
        raw.option_for_all_stages("--lanes", "lanes", i64::from(lanes), program);
    }
    if let Some(stages) = args.stages {
        for (name, _) in program.topologies() {
            raw.option("--stages", &format!("topologies.{name}.apart"), stages == 2);
        }
    }
    let config = match args.config.resolve(&raw, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    let mut purpose = Purpose::everything(program);
    for service in &args.without {
        let known = purpose.spokes.remove(service);
        let simulated = program.simulator().is_some_and(|simulator| service == simulator.service);
        purpose.simulates &= !simulated;
        if !known && !simulated {
            return Err(no_spoke(service, program).into());
        }
    }
    args.process.refuse_unused(&purpose)?;
    process::run(program, &config, &purpose)?;
    Ok(Output::Nothing)
}

fn no_spoke(service: &str, program: &Program) -> Usage {
    Usage(format!("this program has no spoke `{service}`; {}", available(program)))
}

pub(super) fn run(args: &RunArgs, program: &Program) -> anyhow::Result<Output> {
    let mut raw = args.config.raw()?;
    args.process.apply(&mut raw);
    let config = match args.config.resolve(&raw, program)? {
        Ok(config) => config,
        Err(printed) => return Ok(printed),
    };
    let purpose = purpose(args, program)?;
    if config.bus.kind == BusKind::Embedded {
        let text = format!(
            "the embedded bus lives in one process, and other processes cannot reach it: use `{} up`, or --bus kafka",
            crate::program::name()
        );
        return Err(Usage(text).into());
    }
    args.process.refuse_unused(&purpose)?;
    process::run(program, &config, &purpose)?;
    Ok(Output::Nothing)
}

fn purpose(args: &RunArgs, program: &Program) -> Result<Purpose, Usage> {
    let mut stages = Vec::new();
    if let (Some(topology), true) = (&args.topology, args.stages.is_empty()) {
        return Err(Usage(format!("--topology {topology} has no effect without --stage")));
    }
    for stage in &args.stages {
        let of: Vec<&str> = topologies_with(program, stage, args.topology.as_deref());
        match &of[..] {
            [one] => stages.push(((*one).to_owned(), stage.clone())),
            [] => return Err(Usage(format!("there is no stage `{stage}`; {}", available(program)))),
            several => {
                let names = several.join(", ");
                return Err(Usage(format!(
                    "several topologies have a stage `{stage}`: {names}; choose one with --topology"
                )));
            }
        }
    }
    let (mut northbound, mut simulates) = (false, false);
    for role in &args.roles {
        if role == NORTHBOUND {
            northbound = true;
        } else if program.simulator().is_some_and(|simulator| role == simulator.role) {
            simulates = true;
        } else if let Some((_, topology, stage)) = program.roles().iter().find(|(name, ..)| role == name) {
            stages.push(((*topology).to_owned(), (*stage).to_owned()));
        } else {
            return Err(Usage(format!("this program has no role `{role}`; {}", available(program))));
        }
    }
    stages.sort_unstable();
    stages.dedup();
    let known: BTreeSet<&String> = program.spokes().map(|(service, _)| service).collect();
    if let Some(unknown) = args.spokes.iter().find(|service| !known.contains(service)) {
        return Err(no_spoke(unknown, program));
    }
    let spokes: BTreeSet<String> = args.spokes.iter().cloned().collect();
    if stages.is_empty() && !northbound && !simulates && spokes.is_empty() {
        return Err(Usage(format!("nothing to run: give --stage, --role or --spoke; {}", available(program))));
    }
    Ok(Purpose { submits: false, wanted: StageSelection::Stages(stages), northbound, simulates, spokes })
}

fn topologies_with<'a>(program: &'a Program, stage: &str, only: Option<&str>) -> Vec<&'a str> {
    let all = program.topologies().filter(|(name, _)| only.is_none_or(|only| only == *name));
    all.filter(|(_, topology)| Layout::of(topology, BusKind::Kafka).stages.contains_key(stage))
        .map(|(name, _)| name)
        .collect()
}

/// Lists what this program can run, for people.
fn available(program: &Program) -> String {
    let stages = program.topologies().flat_map(|(name, topology)| {
        let stages = Layout::of(topology, BusKind::Kafka).stages;
        stages.into_keys().map(move |stage| format!("{name}/{stage}"))
    });
    let stages: Vec<String> = stages.collect();
    let roles = program.roles().iter().map(|(name, ..)| *name).chain([NORTHBOUND]);
    let roles: Vec<&str> = roles.chain(program.simulator().map(|simulator| simulator.role)).collect();
    let spokes: Vec<&str> = program.spokes().map(|(service, _)| service.as_str()).collect();
    let or_none = |names: String| if names.is_empty() { "none".to_owned() } else { names };
    let (stages, spokes) = (or_none(stages.join(", ")), or_none(spokes.join(", ")));
    format!("available stages: {stages}; roles: {}; spokes: {spokes}", roles.join(", "))
}
