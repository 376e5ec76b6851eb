//! Submitting a topology: what is written to the control topic, and what may change when it is submitted again.
//!
//! | was submitted before | is submitted now | what happens |
//! |---|---|---|
//! | nothing | anything | it is written, and processes that have the code take it up |
//! | the same | the same | nothing |
//! | the same | other settings | they are written; a lane gets them with its next owner record |
//! | a graph | one with more parts | it is written: a process with the new code takes the lanes up as it starts |
//! | a graph | one that lacks parts of it | refused: [`Code::OtherGraph`] |
//! | other lanes, another mode | - | refused: [`Code::FixedForLife`] |
//! | a topic that was made anew | - | refused: [`Code::TopicReplaced`] |
//! | it is being killed | anything | refused while a process still runs it: [`Code::NameTaken`] |

use std::collections::BTreeMap;

use bus::{Bus, BusError, TopicInfo};
use topology::Topology;
use wire::control::{Submitted, SubmittedStage, Wish};
use wire::topics::Topics;
use wire::{Code, Problem, WallTime};

use crate::control::{self, ControlReader};

/// What a submission changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none of that name.
    New,
    /// Nothing.
    Same,
    /// The settings: a lane gets them with its next owner record.
    Settings,
    /// The graph: it has more parts.
    Graph,
}

impl Change {
    /// What it means, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::New => "submitted; processes that have its code take its stages up",
            Change::Same => "was submitted like this before; nothing changed",
            Change::Settings => {
                "submitted with other settings; a lane gets them when it is next taken over: restart its processes one by one"
            }
            Change::Graph => {
                "submitted with more parts than before; lanes have them when a process with this code takes them over: restart its \
                 processes one by one"
            }
        }
    }
}

/// Submits a topology that is laid out and set up: makes its topics, and writes it to the control topic.
///
/// Two that submit one name at once are not told apart: the last one counts.
///
/// # Errors
/// A [`Problem`] with the code of the table above; with `strict` [`Code::WeakBus`] where the bus may lose what it acknowledged; [`Code::WrongTopic`] where a topic is not as it must be; [`Code::NotReady`]
/// where the bus does not answer.
pub fn submit(
    bus: &dyn Bus,
    topics: &Topics,
    topology: &Topology,
    at: WallTime,
    strict: bool,
) -> Result<(Submitted, Change), Problem> {
    let mut reader = ControlReader::open(bus, topics).map_err(|error| problem(&error))?;
    reader.catch_up(bus).map_err(|error| problem(&error))?;
    let before = reader.known().get(topology.name());
    let before = match before {
        Some(before) if before.wish != Wish::Run => {
            ended(bus, topics, before)?;
            None
        }
        before => before,
    };
    if let Some(before) = before {
        // Before any topic is touched: a topic of another shape would be named instead of what is wrong.
        same_shape(before, topology)?;
    }
    let submitted = describe(bus, topics, topology, at)?;
    let change = before.map_or(Ok(Change::New), |before| compare(before, &submitted))?;
    if let (true, Some(weakness)) = (strict, weakness(bus, &submitted)?) {
        return Err(weakness);
    }
    if change != Change::Same {
        control::write(bus, topics, &submitted).map_err(|error| problem(&error))?;
    }
    Ok((submitted, change))
}

/// Compares a topology with what was submitted under its name, and writes nothing.
///
/// # Errors
/// A [`Problem`] with the code of the table above.
pub fn check(bus: &dyn Bus, topics: &Topics, topology: &Topology) -> Result<(), Problem> {
    let mut reader = ControlReader::open(bus, topics).map_err(|error| problem(&error))?;
    reader.catch_up(bus).map_err(|error| problem(&error))?;
    let name = topology.name();
    let none =
        || Problem::new(Code::NoCode, format!("no topology `{name}` was submitted: there is nothing to compare with"));
    same_shape(reader.known().get(name).ok_or_else(none)?, topology)
}

/// What about the topics of a topology could lose records that were acknowledged, if anything: a [`Code::WeakBus`].
///
/// # Errors
/// Where the bus does not answer.
pub fn weakness(bus: &dyn Bus, submitted: &Submitted) -> Result<Option<Problem>, Problem> {
    let topics = submitted.stages.iter().flat_map(|stage| &stage.topics).map(|(topic, _)| topic);
    let mut weak: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for topic in topics {
        for weakness in bus.weaknesses(topic).map_err(|error| problem(&error))? {
            weak.entry(weakness).or_default().push(topic);
        }
    }
    // The topics of a topology are made alike: one of them tells, and a hundred would hide it.
    let line = |(weakness, topics): (&String, &Vec<&String>)| match topics.len() {
        1 => format!("topic `{}`: {weakness}", topics[0]),
        count => format!("topic `{}` and {} more: {weakness}", topics[0], count - 1),
    };
    let lines: Vec<String> = weak.iter().map(line).collect();
    Ok((!lines.is_empty()).then(|| Problem::new(Code::WeakBus, lines.join("; "))))
}

/// What is written for a topology. Its topics are made, or checked.
pub(crate) fn describe(
    bus: &dyn Bus,
    topics: &Topics,
    topology: &Topology,
    at: WallTime,
) -> Result<Submitted, Problem> {
    let mut made: Vec<TopicInfo> = Vec::new();
    for spec in topology.topics(topics) {
        made.push(bus.ensure_topic(&spec).map_err(|error| problem(&error))?);
    }
    let stage = |stage: topology::Stage| {
        let own = [
            topics.inbox(topology.name(), &stage.name),
            topics.egress(topology.name(), &stage.name),
            topics.view(topology.name(), &stage.name),
            topics.snapshot(topology.name(), &stage.name),
        ];
        let of_stage = made.iter().filter(|topic| own.contains(&topic.name));
        SubmittedStage {
            name: stage.name.to_string(),
            lanes: stage.lanes,
            mode: stage.mode,
            topics: of_stage.map(|topic| (topic.name.clone(), topic.id.clone())).collect(),
        }
    };
    let mut services: Vec<String> = topology.stages().iter().flat_map(|stage| topology.watches(&stage.name)).collect();
    services.sort_unstable();
    services.dedup();
    Ok(Submitted {
        name: topology.name().to_owned(),
        graph: topology.graph(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        at,
        wish: Wish::Run,
        stages: topology.stages().into_iter().map(stage).collect(),
        settings: topology.settings().as_value().clone(),
        workflows: topology.workflows(),
        services,
        description: topology.describe(),
    })
}

/// A topology that is being killed keeps its name while somebody runs it.
fn ended(bus: &dyn Bus, topics: &Topics, before: &Submitted) -> Result<(), Problem> {
    let left = control::members(bus, topics, before).map_err(|error| problem(&error))?;
    if left == 0 {
        return Ok(());
    }
    let (name, by) = (&before.name, before.wish);
    let by = match by {
        Wish::Kill { by } => by.to_string(),
        Wish::Run => "now".to_owned(),
    };
    let detail = format!(
        "topology `{name}` is being killed, and {left} threads still run it; it ends by {by} at the latest: try again then"
    );
    Err(Problem::new(Code::NameTaken, detail))
}

/// What must be the same before topics are looked at.
fn same_shape(before: &Submitted, topology: &Topology) -> Result<(), Problem> {
    let name = &before.name;
    let then = format!("kill `{name}` first (nave topologies kill {name}), or give the new one another name");
    let lacks = topology.graph();
    let lacks = lacks.lacks(&before.graph);
    if !lacks.is_empty() {
        let detail = format!(
            "topology `{name}` was submitted with parts that this one lacks: {}; parts may be added, not taken away. Give the \
             new one another name, or kill `{name}` (nave topologies kill {name}) and delete its topics, with all they hold",
            lacks.join("; ")
        );
        return Err(Problem::new(Code::OtherGraph, detail));
    }
    for stage in topology.stages() {
        let Some(was) = before.stage(&stage.name) else { continue };
        let stage_name = &stage.name;
        if was.lanes != stage.lanes {
            let detail = format!(
                "stage `{stage_name}` of `{name}` has {} lanes, not {}: keys would change their lanes and lose their state. \
                 Keep {}, or submit the topology under another name or prefix, with topics of its own",
                was.lanes, stage.lanes, was.lanes
            );
            return Err(Problem::new(Code::FixedForLife, detail));
        }
        if was.mode != stage.mode {
            let (was, is) = (was.mode.as_str(), stage.mode.as_str());
            let detail = format!("stage `{stage_name}` of `{name}` runs {was}, not {is}; {then}");
            return Err(Problem::new(Code::FixedForLife, detail));
        }
    }
    Ok(())
}

/// What changed between two submissions of one shape.
///
/// # Errors
/// [`Code::TopicReplaced`] where a topic has another id.
pub fn compare(before: &Submitted, now: &Submitted) -> Result<Change, Problem> {
    for stage in &now.stages {
        let was = before.stage(&stage.name).map(|stage| &stage.topics[..]).unwrap_or_default();
        for (topic, id) in &stage.topics {
            if was.iter().any(|(known, then)| known == topic && then != id) {
                let name = &now.name;
                let detail = format!(
                    "topic `{topic}` is not the one that `{name}` was submitted with: it was deleted and made anew; to \
                     begin with nothing: nave topologies kill {name}, delete all its topics, nave submit {name}"
                );
                return Err(Problem::new(Code::TopicReplaced, detail));
            }
        }
    }
    Ok(match (before.graph == now.graph, before.settings == now.settings) {
        (true, true) => Change::Same,
        (true, false) => Change::Settings,
        (false, _) => Change::Graph,
    })
}

/// A fault of the bus, as users see it.
pub fn problem(error: &BusError) -> Problem {
    match error {
        BusError::WrongTopic { .. } => Problem::new(
            Code::WrongTopic,
            format!("{error}; delete it, change it, or use another prefix (`nave topics plan` says how each must be)"),
        ),
        BusError::NoTopic(_)
        | BusError::NoPartition { .. }
        | BusError::TooLarge { .. }
        | BusError::NotOwned(_)
        | BusError::Gone { .. }
        | BusError::Unavailable(_)
        | BusError::Refused(_) => Problem::new(Code::NotReady, error.to_string()),
    }
}
