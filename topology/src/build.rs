//! Turns declarations into a plan: derives the stages from the edges and reports all errors at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wire::control::DeliveryMode;
use wire::graph::ComponentKind;

use crate::arrangement::Arrangement;
use crate::budget::{self, Budget};
use crate::build_error::{BuildError, BuildErrors};
use crate::declarations::{Builder, ComponentDeclaration, Declarations, EdgeDeclaration, Origin};
use crate::plan::{self, ComponentPlan, EdgePlan, Plan, StagePlan, Topology};
use crate::settings::Settings;

impl Topology {
    /// Returns the same topology with another arrangement.
    ///
    /// # Errors
    /// If the arrangement names a stage that does not exist.
    pub fn arranged(&self, arrangement: &Arrangement) -> Result<Self, BuildErrors> {
        self.rebuilt(|graph| graph.arrangement = arrangement.clone())
    }

    /// Returns the same topology with these settings. They replace the declared ones entry by
    /// entry.
    ///
    /// # Errors
    /// If a timeout is too short with these settings.
    pub fn with_settings(&self, settings: &Settings) -> Result<Self, BuildErrors> {
        self.rebuilt(|graph| graph.settings.take(settings))
    }

    fn rebuilt(&self, change: impl FnOnce(&mut Declarations)) -> Result<Self, BuildErrors> {
        let mut graph = Declarations::clone(&self.plan.declared);
        change(&mut graph);
        build(&Builder::of(graph))
    }
}

impl Builder {
    /// Checks all declarations and makes the plan.
    ///
    /// # Errors
    /// All errors of the topology.
    pub fn build(&self) -> Result<Topology, BuildErrors> {
        build(self)
    }
}

fn build(builder: &Builder) -> Result<Topology, BuildErrors> {
    let declared = Arc::new(builder.graph.borrow().clone());
    attach_helpers(builder);
    let graph = builder.graph.borrow();
    let mut errors = graph.errors.clone();
    check_names(&graph, &mut errors);
    let ends = check_edges(&graph, &mut errors);
    check_readers(&graph, &ends, &mut errors);
    check_spouts(&graph, &ends, &mut errors);
    let stages = stages(&graph, &ends, declared.components.len(), &mut errors);
    let probes = graph.components.iter().filter_map(|component| component.probe.as_ref());
    let budgets: Vec<Budget> = probes.flat_map(|probe| probe().budgets(&graph.settings)).collect();
    errors.extend(budget::too_short(&budgets).into_iter().map(BuildError::Budget));
    if !errors.is_empty() {
        errors.sort();
        errors.dedup();
        return Err(BuildErrors { topology: graph.name.clone(), errors });
    }
    let mut plan = Plan {
        name: graph.name.as_str().into(),
        settings: graph.settings.clone(),
        declared,
        components: Vec::new(),
        edges: Vec::new(),
        stages,
    };
    for (index, component) in graph.components.iter().enumerate() {
        let stage = plan.stages.iter().position(|stage| stage.components.contains(&index));
        plan.components.push(ComponentPlan {
            name: component.name.clone(),
            kind: component.kind,
            schema: component.probe.as_ref().and_then(|probe| probe().schema()),
            stage: stage.expect("every component is in a stage"),
            limits: component.limits,
            sides: component.sides.clone(),
            make: Arc::clone(&component.make),
            probe: component.probe.clone(),
            offers: component.offers.clone(),
        });
    }
    for (edge, from) in graph.edges.iter().zip(&ends) {
        let from = from.expect("an edge without a source is an error");
        let (stream, stays) = (edge.stream.clone(), stays(&graph, edge));
        plan.edges.push(EdgePlan { from, stream, to: edge.to, stays, edge: Arc::clone(&edge.edge) });
    }
    Ok(Topology::new(plan))
}

/// Installs the helpers that components attach, once per stage.
fn attach_helpers(builder: &Builder) {
    let (requested, names) = {
        let mut graph = builder.graph.borrow_mut();
        let ends: Vec<_> = graph.edges.iter().map(|edge| find(&graph, &edge.from)).collect();
        let groups = groups(&graph, &ends, |edge| stays(&graph, edge));
        let strict = strict(&graph, &ends, graph.components.len());
        let mut requested = Vec::new();
        for (index, component) in graph.components.iter_mut().enumerate() {
            for attachment in component.attachments.drain(..) {
                requested.push((groups[index], index, attachment));
            }
        }
        let names: BTreeMap<usize, String> =
            groups.iter().map(|group| (*group, stage_name(&graph, &groups, &strict, *group))).collect();
        (requested, names)
    };
    let mut installed = BTreeMap::new();
    for (group, component, attachment) in requested {
        let handles =
            installed.entry((group, attachment.name)).or_insert_with(|| (attachment.install)(builder, &names[&group]));
        let number = plan::component_number(&builder.graph.borrow().components[component].name);
        (attachment.connect)(builder, handles.as_ref(), component, number);
    }
}

fn check_names(graph: &Declarations, errors: &mut Vec<BuildError>) {
    let mut check = |kind: &'static str, name: &str, more: &[u8]| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b) || more.contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            errors.push(BuildError::BadName { kind, name: name.to_owned() });
        }
    };
    check("topology", &graph.name, b"");
    for component in &graph.components {
        check("component", &component.name, b"@");
        if let Some(stage) = &component.stage {
            check("stage", stage, b"");
        }
        for state in states(component) {
            check("saved state", state, b"");
        }
    }
    if graph.components.is_empty() {
        errors.push(BuildError::Empty);
    }
    let mut seen = BTreeSet::new();
    for component in &graph.components {
        if !seen.insert(&component.name) {
            errors.push(BuildError::DuplicateName(component.name.clone()));
        }
        if component.lanes == Some(0) {
            errors.push(BuildError::NoLanes(component.name.clone()));
        }
        let mut known = BTreeSet::new();
        for state in states(component).into_iter().filter(|state| !known.insert(*state)) {
            errors.push(BuildError::DuplicateState { component: component.name.clone(), state });
        }
    }
    let mut numbers: BTreeMap<u16, &str> = BTreeMap::new();
    for name in seen {
        if let Some(other) = numbers.insert(plan::component_number(name), name) {
            errors.push(BuildError::NumbersCollide(other.to_owned(), name.clone()));
        }
    }
}

/// Returns the names of a component's saved states.
fn states(component: &ComponentDeclaration) -> Vec<&'static str> {
    let schema = component.probe.as_ref().and_then(|probe| probe().schema());
    schema.map_or_else(Vec::new, |schema| schema.parts)
}

fn find(graph: &Declarations, origin: &Origin) -> Option<usize> {
    match origin {
        Origin::Declared(index) => Some(*index),
        Origin::Named(name) => graph.components.iter().position(|component| component.name == *name),
    }
}

/// Reports edges with an unknown source, stream or type. Returns the source of each edge, if it
/// exists.
fn check_edges(graph: &Declarations, errors: &mut Vec<BuildError>) -> Vec<Option<usize>> {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut ends = Vec::new();
    for edge in &graph.edges {
        let from = find(graph, &edge.from);
        ends.push(from);
        let reader = graph.components[edge.to].name.clone();
        let Some(from) = from else {
            let Origin::Named(component) = &edge.from else { continue };
            let known = names(graph.components.iter().map(|component| component.name.as_str()).collect());
            errors.push(BuildError::UnknownComponent { reader, component: component.clone(), known });
            continue;
        };
        let source = &graph.components[from];
        let (component, stream) = (source.name.clone(), edge.stream.clone());
        match source.streams.iter().find(|known| known.name == edge.stream) {
            None => {
                let known = names(source.streams.iter().map(|stream| stream.name).collect());
                errors.push(BuildError::UnknownStream { reader, component, stream, known });
            }
            Some(found) if found.tuples != edge.tuples => {
                let (expected, found) = (edge.tuples, found.tuples);
                errors.push(BuildError::WrongType { reader, component, stream, expected, found });
            }
            Some(_) => {}
        }
    }
    ends
}

fn check_readers(graph: &Declarations, ends: &[Option<usize>], errors: &mut Vec<BuildError>) {
    for (index, component) in graph.components.iter().enumerate() {
        for stream in &component.streams {
            let read =
                graph.edges.iter().zip(ends).any(|(edge, from)| *from == Some(index) && edge.stream == stream.name);
            if !read && !stream.may_be_unread {
                let (component, stream) = (component.name.clone(), stream.name.to_owned());
                errors.push(BuildError::Unread { component, stream });
            }
        }
        if component.kind == ComponentKind::Bolt && !graph.edges.iter().any(|edge| edge.to == index) {
            errors.push(BuildError::ReadsNothing(component.name.clone()));
        }
    }
}

/// Reports saved state that a spout without a position feeds within a lane.
fn check_spouts(graph: &Declarations, ends: &[Option<usize>], errors: &mut Vec<BuildError>) {
    let local: Vec<(usize, usize)> = graph
        .edges
        .iter()
        .zip(ends)
        .filter(|(edge, _)| stays(graph, edge))
        .filter_map(|(edge, from)| Some(((*from)?, edge.to)))
        .collect();
    for (spout, declared) in graph.components.iter().enumerate() {
        if declared.kind != ComponentKind::Spout || !states(declared).is_empty() {
            continue;
        }
        let (mut reached, mut open) = (BTreeSet::new(), vec![spout]);
        while let Some(from) = open.pop() {
            open.extend(local.iter().filter(|(of, to)| *of == from && reached.insert(*to)).map(|(_, to)| *to));
        }
        for component in reached.into_iter().map(|component| &graph.components[component]) {
            if component.probe.as_ref().is_some_and(|probe| probe().schema().is_some()) {
                let (spout, component) = (declared.name.clone(), component.name.clone());
                errors.push(BuildError::SpoutFeedsState { spout, component });
            }
        }
    }
}

/// True if tuples of this edge stay in their lane.
fn stays(graph: &Declarations, edge: &EdgeDeclaration) -> bool {
    edge.edge.is_local() || (edge.may_stay && !graph.arrangement.apart)
}

/// Returns, for each component, the first component of its group. Edges that stay in a lane join
/// components into groups.
fn groups(graph: &Declarations, ends: &[Option<usize>], stays: impl Fn(&EdgeDeclaration) -> bool) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..graph.components.len()).collect();
    for (edge, from) in graph.edges.iter().zip(ends) {
        let Some(from) = from.filter(|_| stays(edge)) else { continue };
        let (a, b) = (groups[from], groups[edge.to]);
        let (low, high) = (a.min(b), a.max(b));
        groups.iter_mut().filter(|group| **group == high).for_each(|group| *group = low);
    }
    groups
}

/// Returns the groups that no arrangement can split, among the first `declared` components. Helpers
/// have higher indices; they belong to the stage of the component that attached them.
fn strict(graph: &Declarations, ends: &[Option<usize>], declared: usize) -> Vec<usize> {
    let of_user = |origin: &Origin| find(graph, origin).is_some_and(|from| from < declared);
    groups(graph, ends, |edge| edge.edge.is_local() && edge.to < declared && of_user(&edge.from))
}

/// Returns the name of a stage: the first name that one of its components sets, or else the name of
/// its first component.
fn stage_name(graph: &Declarations, groups: &[usize], strict: &[usize], group: usize) -> String {
    // The components that no arrangement separates from the first one go first: they name the
    // stage.
    let mut members: Vec<usize> = (0..groups.len()).filter(|index| groups[*index] == group).collect();
    members.sort_by_key(|index| (strict[*index] != strict[group], *index));
    let named = members.iter().find_map(|index| graph.components[*index].stage.clone());
    named.unwrap_or_else(|| graph.components[group].name.clone())
}

fn stages(
    graph: &Declarations,
    ends: &[Option<usize>],
    declared: usize,
    errors: &mut Vec<BuildError>,
) -> Vec<StagePlan> {
    let groups = groups(graph, ends, |edge| stays(graph, edge));
    let strict = strict(graph, ends, declared);
    check_agreement(graph, &strict, errors);
    let mut stages: Vec<StagePlan> = Vec::new();
    let roots: BTreeSet<usize> = groups.iter().copied().collect();
    for group in roots {
        let components: Vec<usize> = (0..groups.len()).filter(|index| groups[*index] == group).collect();
        let name = stage_name(graph, &groups, &strict, group);
        if stages.iter().any(|stage| *stage.name == *name) {
            errors.push(BuildError::StageNames(name.clone(), "another stage of that name".into()));
        }
        let of = |index: &&usize| strict[**index] == strict[group];
        let lanes_of = |index: &usize| graph.components[*index].lanes;
        let lanes = components.iter().filter(of).find_map(lanes_of).or_else(|| components.iter().find_map(lanes_of));
        let lanes = graph.arrangement.lanes.get(&name).copied().or(lanes).unwrap_or(1);
        if lanes == 0 {
            errors.push(BuildError::NoLanes(name.clone()));
        }
        if lanes > 1 {
            let idle = components.iter().map(|index| &graph.components[*index]).filter(|known| known.one_lane);
            errors.extend(idle.map(|spout| BuildError::OneLane {
                spout: spout.name.clone(),
                stage: name.clone(),
                lanes,
            }));
        }
        let mode = graph
            .arrangement
            .modes
            .get(&name)
            .copied()
            .unwrap_or_else(|| mode(graph, &strict[..declared], &components));
        stages.push(StagePlan { name: name.as_str().into(), lanes, mode, components });
    }
    let known: Vec<&str> = stages.iter().map(|stage| &*stage.name).collect();
    for stage in graph.arrangement.lanes.keys().chain(graph.arrangement.modes.keys()) {
        if !known.contains(&stage.as_str()) {
            errors.push(BuildError::UnknownStage { stage: stage.clone(), known: known.join(", ") });
        }
    }
    stages
}

/// Checks that components that no arrangement can split agree on the stage's name and lanes.
fn check_agreement(graph: &Declarations, strict: &[usize], errors: &mut Vec<BuildError>) {
    for group in strict.iter().copied().collect::<BTreeSet<usize>>() {
        let members: Vec<_> =
            (0..strict.len()).filter(|index| strict[*index] == group).map(|index| &graph.components[index]).collect();
        let mut names: Vec<String> = members.iter().filter_map(|component| component.stage.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let mut lanes: Vec<u32> = members.iter().filter_map(|component| component.lanes).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let name = names.first().cloned().unwrap_or_else(|| members[0].name.clone());
        if lanes.len() > 1 {
            errors.push(BuildError::LanesDiffer { stage: name.clone(), lanes });
        }
        if names.len() > 1 {
            errors.push(BuildError::StageNames(name, names[1..].join(", ")));
        }
    }
}

/// Returns at-least-once if each group of components asks for it, else exactly-once.
fn mode(graph: &Declarations, strict: &[usize], components: &[usize]) -> DeliveryMode {
    let groups: BTreeSet<usize> = components.iter().filter_map(|index| strict.get(*index)).copied().collect();
    let at_least_once = |group: &usize| {
        let modes = (0..strict.len()).filter(|index| strict[*index] == *group).filter_map(|i| graph.components[i].mode);
        let modes: Vec<DeliveryMode> = modes.collect();
        !modes.is_empty() && modes.iter().all(|mode| *mode == DeliveryMode::AtLeastOnce)
    };
    if groups.iter().all(at_least_once) { DeliveryMode::AtLeastOnce } else { DeliveryMode::ExactlyOnce }
}
