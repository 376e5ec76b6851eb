//! From declarations to a plan: stages are derived from the edges, and all faults are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::builder::{Builder, ComponentKind, Graph, Origin};
use crate::plan::{ComponentPlan, EdgePlan, Plan, StagePlan, Topology};

/// One fault of a topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// The topology's or a stage's name cannot be part of a topic's name.
    #[error("{what} `{name}` has a bad name: allowed are 1 to 64 characters of A-Z a-z 0-9 _ -")]
    BadName {
        /// What is called so.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two components have one name.
    #[error("two components are called `{0}`")]
    DuplicateName(String),
    /// A component has no lanes.
    #[error("component `{0}` has 0 lanes; at least 1 is needed")]
    NoLanes(String),
    /// Components of one stage have different lanes.
    #[error("stage `{stage}` has {lanes:?} lanes; components that are joined by local edges share one number")]
    LanesDiffer {
        /// The stage.
        stage: String,
        /// The numbers that its components ask for.
        lanes: Vec<u32>,
    },
    /// Components of one stage name it differently, or two stages have one name.
    #[error("the name of stage `{0}` is not clear: also {1}")]
    StageNames(String, String),
    /// A component reads one that does not exist.
    #[error("`{reader}` reads `{component}`, which does not exist; there are: {known}")]
    UnknownComponent {
        /// Who reads.
        reader: String,
        /// Who is not there.
        component: String,
        /// Who is.
        known: String,
    },
    /// A component reads a stream that its source does not have.
    #[error("`{reader}` reads stream `{stream}` of `{component}`, which has only: {known}")]
    UnknownStream {
        /// Who reads.
        reader: String,
        /// The source.
        component: String,
        /// What it does not have.
        stream: String,
        /// What it has.
        known: String,
    },
    /// A component reads a stream as another type than it has.
    #[error("`{reader}` reads stream `{stream}` of `{component}` as {asked}, but it carries {found}")]
    WrongType {
        /// Who reads.
        reader: String,
        /// The source.
        component: String,
        /// The stream.
        stream: String,
        /// The type that the reader names.
        asked: &'static str,
        /// The type of the stream.
        found: &'static str,
    },
    /// Nobody reads a stream.
    #[error("nobody reads stream `{stream}` of `{component}`; read it, or mark it with `may_be_unread`")]
    Unread {
        /// The source.
        component: String,
        /// The stream.
        stream: String,
    },
    /// A bolt reads nothing.
    #[error("bolt `{0}` reads nothing")]
    ReadsNothing(String),
    /// A topology without components.
    #[error("the topology has no components")]
    Empty,
}

/// All faults of a topology, sorted and numbered when printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildErrors {
    /// The topology.
    pub topology: String,
    /// Its faults; never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let faults = if count == 1 { "fault" } else { "faults" };
        write!(f, "{}: topology \"{}\" cannot be built ({count} {faults})", wire::Code::CannotBuild, self.topology)?;
        for (i, fault) in self.faults.iter().enumerate() {
            write!(f, "\n  {}  {fault}", i + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildErrors {}

pub(crate) fn build(builder: &Builder) -> Result<Topology, BuildErrors> {
    attach_helpers(builder);
    let graph = builder.graph.borrow();
    let mut faults = graph.faults.clone();
    check_names(&graph, &mut faults);
    let ends = check_edges(&graph, &mut faults);
    check_readers(&graph, &ends, &mut faults);
    let groups = groups(&graph, &ends);
    let stages = stages(&graph, &groups, &mut faults);
    if !faults.is_empty() {
        faults.sort();
        faults.dedup();
        return Err(BuildErrors { topology: graph.name.clone(), faults });
    }
    let mut plan = Plan {
        name: graph.name.as_str().into(),
        settings: graph.settings.clone(),
        components: Vec::new(),
        edges: Vec::new(),
        stages,
    };
    for (index, component) in graph.components.iter().enumerate() {
        let stage = plan.stages.iter().position(|stage| stage.components.contains(&index));
        plan.components.push(ComponentPlan {
            name: component.name.clone(),
            kind: component.kind,
            stage: stage.expect("every component is in a stage"),
            sides: component.sides.clone(),
            make: Arc::clone(&component.make),
        });
    }
    for (edge, from) in graph.edges.iter().zip(&ends) {
        let from = from.expect("an edge without a source is a fault");
        plan.edges.push(EdgePlan { from, stream: edge.stream.clone(), to: edge.to, edge: Arc::clone(&edge.edge) });
    }
    Ok(Topology::new(plan))
}

/// Lets helpers be declared in each stage that has somebody who asks for them.
fn attach_helpers(builder: &Builder) {
    let (asked, names) = {
        let mut graph = builder.graph.borrow_mut();
        let ends: Vec<_> = graph.edges.iter().map(|edge| find(&graph, &edge.from)).collect();
        let groups = groups(&graph, &ends);
        let mut asked = Vec::new();
        for (index, component) in graph.components.iter_mut().enumerate() {
            for attachment in component.attachments.drain(..) {
                asked.push((groups[index], index, attachment));
            }
        }
        let names: BTreeMap<usize, String> =
            groups.iter().map(|group| (*group, stage_name(&graph, &groups, *group).0)).collect();
        (asked, names)
    };
    let mut installed = BTreeMap::new();
    for (group, component, attachment) in asked {
        let handles =
            installed.entry((group, attachment.name)).or_insert_with(|| (attachment.install)(builder, &names[&group]));
        let number = u16::try_from(component).expect("a topology has fewer than 65,536 components");
        (attachment.connect)(builder, handles.as_ref(), component, number);
    }
}

fn check_names(graph: &Graph, faults: &mut Vec<Fault>) {
    let mut check = |what: &'static str, name: &str, more: &[u8]| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b) || more.contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            faults.push(Fault::BadName { what, name: name.to_owned() });
        }
    };
    check("topology", &graph.name, b"");
    for component in &graph.components {
        check("component", &component.name, b"@");
        if let Some(stage) = &component.stage {
            check("stage", stage, b"");
        }
    }
    if graph.components.is_empty() {
        faults.push(Fault::Empty);
    }
    let mut seen = BTreeSet::new();
    for component in &graph.components {
        if !seen.insert(&component.name) {
            faults.push(Fault::DuplicateName(component.name.clone()));
        }
        if component.lanes == Some(0) {
            faults.push(Fault::NoLanes(component.name.clone()));
        }
    }
}

fn find(graph: &Graph, origin: &Origin) -> Option<usize> {
    match origin {
        Origin::Declared(index) => Some(*index),
        Origin::Named(name) => graph.components.iter().position(|component| component.name == *name),
    }
}

/// The source of each edge, where it has one.
fn check_edges(graph: &Graph, faults: &mut Vec<Fault>) -> Vec<Option<usize>> {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut ends = Vec::new();
    for edge in &graph.edges {
        let from = find(graph, &edge.from);
        ends.push(from);
        let reader = graph.components[edge.to].name.clone();
        let Some(from) = from else {
            let Origin::Named(component) = &edge.from else { continue };
            let known = names(graph.components.iter().map(|component| component.name.as_str()).collect());
            faults.push(Fault::UnknownComponent { reader, component: component.clone(), known });
            continue;
        };
        let source = &graph.components[from];
        let (component, stream) = (source.name.clone(), edge.stream.clone());
        match source.streams.iter().find(|known| known.name == edge.stream) {
            None => {
                let known = names(source.streams.iter().map(|stream| stream.name).collect());
                faults.push(Fault::UnknownStream { reader, component, stream, known });
            }
            Some(found) if found.tuples != edge.tuples => {
                let (asked, found) = (edge.tuples, found.tuples);
                faults.push(Fault::WrongType { reader, component, stream, asked, found });
            }
            Some(_) => {}
        }
    }
    ends
}

fn check_readers(graph: &Graph, ends: &[Option<usize>], faults: &mut Vec<Fault>) {
    for (index, component) in graph.components.iter().enumerate() {
        for stream in &component.streams {
            let read =
                graph.edges.iter().zip(ends).any(|(edge, from)| *from == Some(index) && edge.stream == stream.name);
            if !read && !stream.may_be_unread {
                let (component, stream) = (component.name.clone(), stream.name.to_owned());
                faults.push(Fault::Unread { component, stream });
            }
        }
        if component.kind == ComponentKind::Bolt && !graph.edges.iter().any(|edge| edge.to == index) {
            faults.push(Fault::ReadsNothing(component.name.clone()));
        }
    }
}

/// For each component the first component that it is joined to by local edges.
fn groups(graph: &Graph, ends: &[Option<usize>]) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..graph.components.len()).collect();
    for (edge, from) in graph.edges.iter().zip(ends) {
        let Some(from) = from.filter(|_| edge.edge.is_local()) else { continue };
        let (a, b) = (groups[from], groups[edge.to]);
        let (low, high) = (a.min(b), a.max(b));
        groups.iter_mut().filter(|group| **group == high).for_each(|group| *group = low);
    }
    groups
}

/// A stage's name, and the other names that its components give it.
fn stage_name(graph: &Graph, groups: &[usize], group: usize) -> (String, Vec<String>) {
    let members = (0..groups.len()).filter(|index| groups[*index] == group);
    let mut names: Vec<String> = members.filter_map(|index| graph.components[index].stage.clone()).collect();
    names.dedup();
    if names.is_empty() {
        (graph.components[group].name.clone(), names)
    } else {
        let name = names.remove(0);
        names.retain(|other| *other != name);
        (name, names)
    }
}

fn stages(graph: &Graph, groups: &[usize], faults: &mut Vec<Fault>) -> Vec<StagePlan> {
    let mut stages: Vec<StagePlan> = Vec::new();
    let roots: BTreeSet<usize> = groups.iter().copied().collect();
    for group in roots {
        let components: Vec<usize> = (0..groups.len()).filter(|index| groups[*index] == group).collect();
        let (name, others) = stage_name(graph, groups, group);
        if !others.is_empty() {
            faults.push(Fault::StageNames(name.clone(), others.join(", ")));
        }
        if stages.iter().any(|stage| *stage.name == *name) {
            faults.push(Fault::StageNames(name.clone(), "another stage of that name".into()));
        }
        let mut lanes: Vec<u32> = components.iter().filter_map(|index| graph.components[*index].lanes).collect();
        lanes.sort_unstable();
        lanes.dedup();
        if lanes.len() > 1 {
            faults.push(Fault::LanesDiffer { stage: name.clone(), lanes: lanes.clone() });
        }
        stages.push(StagePlan { name: name.as_str().into(), lanes: lanes.first().copied().unwrap_or(1), components });
    }
    stages
}
