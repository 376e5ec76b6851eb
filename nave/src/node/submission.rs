//! Submission of a topology: what it writes to the control topic, and which changes a second
//! submission may make.
//!
//! | submitted before | submitted now | result |
//! |---|---|---|
//! | nothing | anything | written; processes that have its code start its stages |
//! | the same | the same | no change |
//! | the same | other settings | written; a lane uses them from its next owner record |
//! | a graph | a graph with more parts, or other saved states | written; a process with the new code uses it from its start |
//! | a graph | a graph that lacks some of its parts | refused: [`Code::OtherGraph`] |
//! | anything | the same, with or without `inactive` | written if that makes it inactive; otherwise its state stays |
//! | other lanes or modes | - | refused: [`Code::FixedForLife`] |
//! | a topic that was recreated since | - | refused: [`Code::TopicReplaced`] |
//! | a topology that is being killed | anything | refused while a process still runs it: [`Code::NameTaken`] |

use std::collections::BTreeMap;

use bus::{Bus, BusError};
use topology::Topology;
use wire::control::{DesiredState, Submitted};
use wire::topics::Topics;
use wire::{Code, Problem, WallTime};

use super::control::{self, ControlReader};

/// The change that a submission made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The name was free.
    New,
    /// No change.
    Same,
    /// Other settings; a lane uses them from its next owner record.
    Settings,
    /// A graph with more parts, or components with other saved states.
    Graph,
}

impl Change {
    /// Returns the description for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::New => "submitted; processes that have its code start its stages",
            Change::Same => "same as submitted before; nothing changed",
            Change::Settings => {
                "submitted with other settings; a lane uses them after its next takeover: restart its processes one by one"
            }
            Change::Graph => {
                "submitted with a changed graph; a lane uses it after a process with this code takes it over: restart its \
                 processes one by one"
            }
        }
    }
}

/// Submits a topology with its layout and settings: creates its topics and writes it to the control
/// topic.
///
/// With `inactive` it neither opens nor calls its spouts until it is activated. Otherwise a new topology
/// is active, and one that was submitted before keeps its state. The number of threads of a rebalance
/// stays.
///
/// Concurrent submissions of one name are not detected: the last one wins.
///
/// # Errors
/// A [`Problem`] with a code of the table above, [`Code::WrongTopic`] if a topic has the wrong
/// shape, [`Code::NotReady`] if the bus does not answer. With `strict` also [`Code::WeakBus`] if
/// the bus may lose acknowledged records.
pub fn submit(
    bus: &dyn Bus,
    topics: &Topics,
    topology: &Topology,
    at: WallTime,
    inactive: bool,
    strict: bool,
) -> Result<(Submitted, Change), Problem> {
    let mut reader = ControlReader::open(bus, topics).map_err(|error| problem(&error))?;
    reader.catch_up(bus).map_err(|error| problem(&error))?;
    let before = reader.topologies().get(topology.name());
    let before = match before.and_then(|before| Some((before, before.desired.ends()?))) {
        Some((killed, by)) => {
            ended(bus, topics, killed, by)?;
            None
        }
        None => before,
    };
    if let Some(before) = before {
        // Compared before any topic is created: otherwise the error would name a topic instead of
        // the difference.
        same_shape(before, topology)?;
    }
    let mut submitted = topology.record(bus, topics, env!("CARGO_PKG_VERSION"), at).map_err(|error| problem(&error))?;
    let desired = before.map_or(DesiredState::Run, |before| before.desired);
    submitted.threads = before.and_then(|before| before.threads);
    submitted.desired = if inactive { DesiredState::Inactive } else { desired };
    let change = before.map_or(Ok(Change::New), |before| compare(before, &submitted))?;
    if let (true, Some(weakness)) = (strict, weakness(bus, &submitted)?) {
        return Err(weakness);
    }
    if change != Change::Same || submitted.desired != desired {
        control::write(bus, topics, &submitted).map_err(|error| problem(&error))?;
    }
    Ok((submitted, change))
}

/// Compares a topology with the submitted one of the same name, and writes nothing.
///
/// # Errors
/// A [`Problem`] with a code of the table above.
pub fn check(bus: &dyn Bus, topics: &Topics, topology: &Topology) -> Result<(), Problem> {
    let mut reader = ControlReader::open(bus, topics).map_err(|error| problem(&error))?;
    reader.catch_up(bus).map_err(|error| problem(&error))?;
    let name = topology.name();
    let none = || {
        Problem::new(Code::NoCode, format!("no topology `{name}` was submitted, so there is nothing to compare with"))
    };
    same_shape(reader.topologies().get(name).ok_or_else(none)?, topology)
}

/// Returns a [`Code::WeakBus`] problem if the topics of a topology may lose acknowledged records.
///
/// # Errors
/// If the bus does not answer.
pub fn weakness(bus: &dyn Bus, submitted: &Submitted) -> Result<Option<Problem>, Problem> {
    let topics = submitted.stages.iter().flat_map(|stage| &stage.topics).map(|(topic, _)| topic);
    let mut weak: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for topic in topics {
        for weakness in bus.topic_warnings(topic).map_err(|error| problem(&error))? {
            weak.entry(weakness).or_default().push(topic);
        }
    }
    // The topics of a topology share their settings, so one name with a count is enough.
    let line = |(weakness, topics): (&String, &Vec<&String>)| match topics.len() {
        1 => format!("topic `{}`: {weakness}", topics[0]),
        count => format!("topic `{}` and {} more: {weakness}", topics[0], count - 1),
    };
    let lines: Vec<String> = weak.iter().map(line).collect();
    Ok((!lines.is_empty()).then(|| Problem::new(Code::WeakBus, lines.join("; "))))
}

/// Refuses the name of a killed topology while processes still run it.
fn ended(bus: &dyn Bus, topics: &Topics, before: &Submitted, by: WallTime) -> Result<(), Problem> {
    let left = control::members(bus, topics, before).map_err(|error| problem(&error))?;
    if left == 0 {
        return Ok(());
    }
    let name = &before.name;
    let detail = format!(
        "topology `{name}` is being killed, and {left} threads still run it; it ends by {by} at the latest: retry then"
    );
    Err(Problem::new(Code::NameTaken, detail))
}

/// Checks graph, lanes and modes, before topics are looked at.
fn same_shape(before: &Submitted, topology: &Topology) -> Result<(), Problem> {
    let (name, program) = (&before.name, crate::program::name());
    let remedy =
        format!("kill `{name}` first ({program} topologies kill {name}), or give the new topology another name");
    let lacks = topology.graph().lacks(&before.graph);
    if !lacks.is_empty() {
        let detail = format!(
            "topology `{name}` was submitted with parts that this one lacks: {}; parts may be added, not removed. Give the \
             new one another name, or kill `{name}` ({program} topologies kill {name}) and delete its topics and their records",
            lacks.join("; ")
        );
        return Err(Problem::new(Code::OtherGraph, detail));
    }
    for stage in topology.stages() {
        let Some(was) = before.stage(&stage.name) else { continue };
        let stage_name = &stage.name;
        if was.lanes != stage.lanes {
            let detail = format!(
                "stage `{stage_name}` of `{name}` has {} lanes, not {}: keys would move to other lanes and lose their state. \
                 Keep {}, or submit the topology under another name or prefix, so that it gets new topics",
                was.lanes, stage.lanes, was.lanes
            );
            return Err(Problem::new(Code::FixedForLife, detail));
        }
        if was.mode != stage.mode {
            let (was, is) = (was.mode.as_str(), stage.mode.as_str());
            let detail = format!("stage `{stage_name}` of `{name}` runs {was}, not {is}; {remedy}");
            return Err(Problem::new(Code::FixedForLife, detail));
        }
    }
    Ok(())
}

/// Returns the change between two submissions with the same lanes and modes.
///
/// # Errors
/// [`Code::TopicReplaced`] if a topic has another id.
pub fn compare(before: &Submitted, now: &Submitted) -> Result<Change, Problem> {
    for stage in &now.stages {
        let was = before.stage(&stage.name).map(|stage| &stage.topics[..]).unwrap_or_default();
        for (topic, id) in &stage.topics {
            if was.iter().any(|(known, then)| known == topic && then != id) {
                let (name, program) = (&now.name, crate::program::name());
                let detail = format!(
                    "topic `{topic}` was deleted and recreated since `{name}` was submitted; to \
                     start without data: {program} topologies kill {name}, delete all its topics, {program} submit {name}"
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

/// Converts an error of the bus into a problem for users.
pub fn problem(error: &BusError) -> Problem {
    match error {
        BusError::WrongTopic { .. } => Problem::new(
            Code::WrongTopic,
            format!(
                "{error}; delete it, change it, or use another prefix (`{} topics plan` shows the required settings)",
                crate::program::name()
            ),
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
