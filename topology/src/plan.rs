//! A built topology: its stages, lanes and edges.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bus::{Cleanup, TopicSpec};
use wire::control::{DeliveryMode, WorkflowType};
use wire::graph::{Component, ComponentKind, Edge, Graph};
use wire::topics::Topics;

use crate::context::{AnyQueue, LaneContext};
use crate::declarations::{Builder, DEFAULT_STREAM, Declarations, Make, MakeProbe, Offer, Probe, SideDeclaration};
use crate::lane::{Lane, LaneNode};
use crate::ledger::Limits;
use crate::node::NodeContext;
use crate::place::LaneInfo;
use crate::settings::Settings;
use crate::snapshot::StateSchema;
use crate::wiring::{AnyEdge, FarEnd};

pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings,
    /// The declarations, from which another arrangement is built.
    pub(crate) declared: Arc<Declarations>,
    pub(crate) components: Vec<ComponentPlan>,
    pub(crate) edges: Vec<EdgePlan>,
    pub(crate) stages: Vec<StagePlan>,
}

impl Plan {
    /// Returns the stages that edges over topics reach from a stage, directly or through others. It
    /// contains the stage itself if the stage is in a cycle.
    fn reached_from(&self, stage: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(from) = open.pop() {
            let out = self.edges.iter().filter(|edge| !edge.stays && self.components[edge.from].stage == from);
            open.extend(out.map(|edge| self.components[edge.to].stage).filter(|to| reached.insert(*to)));
        }
        reached
    }
}

pub(crate) struct ComponentPlan {
    pub(crate) name: String,
    pub(crate) kind: ComponentKind,
    /// The schema of its saved state; `None` if nothing is saved.
    pub(crate) schema: Option<StateSchema>,
    pub(crate) stage: usize,
    /// The limits of a spout that tracks its tuples.
    pub(crate) limits: Option<Limits>,
    pub(crate) sides: Vec<SideDeclaration>,
    pub(crate) make: Arc<dyn Make>,
    pub(crate) probe: MakeProbe,
    pub(crate) offers: Vec<Offer>,
}

pub(crate) struct EdgePlan {
    pub(crate) from: usize,
    pub(crate) stream: String,
    pub(crate) to: usize,
    /// True if tuples stay in their lane.
    pub(crate) stays: bool,
    pub(crate) edge: Arc<dyn AnyEdge>,
}

/// Returns a component's number. It depends only on the name, so it stays the same when other
/// components are added or removed. The timers of a coordinator
/// contain it.
pub fn component_number(component: &str) -> u16 {
    let hash = wire::hash::fnv1a(component.bytes());
    u16::try_from((hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) & 0xffff).expect("16 bits are left")
}

/// A stage: components that exchange tuples inside a lane.
pub(crate) struct StagePlan {
    pub(crate) name: Arc<str>,
    pub(crate) lanes: u32,
    pub(crate) mode: DeliveryMode,
    pub(crate) components: Vec<usize>,
}

/// A checked topology. Cheap to clone; each thread makes its own lanes from it.
#[derive(Clone)]
pub struct Topology {
    pub(crate) plan: Arc<Plan>,
}

/// A stage downstream of another one, directly or through others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownstreamStage {
    pub(crate) stage: Arc<str>,
    /// True if it also feeds the upstream stage: the two are in a cycle.
    pub(crate) feeds_back: bool,
}

/// The public description of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: Arc<str>,
    /// Its number of lanes.
    pub lanes: u32,
    /// Its delivery mode.
    pub mode: DeliveryMode,
}

impl Topology {
    /// Starts the declaration of a topology.
    pub fn named(name: &str) -> Builder {
        Builder::of(Declarations { name: name.to_owned(), ..Declarations::default() })
    }

    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan: Arc::new(plan) }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Returns its stages.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |stage: &StagePlan| Stage { name: Arc::clone(&stage.name), lanes: stage.lanes, mode: stage.mode };
        self.plan.stages.iter().map(stage).collect()
    }

    /// Returns the services whose heartbeats a stage watches.
    pub fn watches(&self, stage: &str) -> Vec<String> {
        let mut services: Vec<String> = self.probes(stage).flat_map(|probe| probe.watches()).collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    /// Returns the probes of the components of a stage.
    pub(crate) fn probes(&self, stage: &str) -> impl Iterator<Item = Box<dyn Probe>> {
        let stage = self.plan.stages.iter().find(|known| *known.name == *stage);
        let components = stage.into_iter().flat_map(|stage| &stage.components);
        components.filter_map(|component| self.plan.components[*component].probe.as_ref()).map(|probe| probe())
    }

    /// Returns the stages that a stage feeds over topics, directly or through others.
    pub(crate) fn downstream_of(&self, stage: &str) -> Vec<DownstreamStage> {
        let Some(own) = self.plan.stages.iter().position(|known| *known.name == *stage) else { return Vec::new() };
        let reached = self.plan.reached_from(own);
        let fed = |to: &usize| DownstreamStage {
            stage: Arc::clone(&self.plan.stages[*to].name),
            feeds_back: self.plan.reached_from(*to).contains(&own),
        };
        reached.iter().map(fed).collect()
    }

    /// Returns the workflows that clients can start.
    pub fn workflows(&self) -> Vec<WorkflowType> {
        let of = |component: &ComponentPlan| {
            let stage = self.plan.stages[component.stage].name.to_string();
            let offer = move |offer: &Offer| WorkflowType {
                name: offer.name.to_owned(),
                stage: stage.clone(),
                request: offer.request.clone(),
            };
            component.offers.iter().map(offer).collect::<Vec<_>>()
        };
        self.plan.components.iter().flat_map(of).collect()
    }

    /// Returns the components and edges. A build can continue the work of another build if its graph
    /// contains the other's graph.
    pub fn graph(&self) -> Graph {
        let plan = &self.plan;
        let saves = |schema: &StateSchema| schema.parts.iter().map(|part| (*part).to_owned()).collect();
        let component = |component: &ComponentPlan| Component {
            name: component.name.clone(),
            kind: component.kind,
            stage: plan.stages[component.stage].name.to_string(),
            saves: component.schema.as_ref().map(saves),
            tracks: component.limits.is_some(),
        };
        Graph {
            components: plan.components.iter().map(component).collect(),
            edges: plan.edges.iter().map(|edge| self.edge(edge)).collect(),
        }
    }

    /// Returns the versions of the deciding code of a stage, by workflow name.
    pub fn decides_by(&self, stage: &str) -> BTreeMap<String, u32> {
        let of_stage = |component: &&ComponentPlan| *self.plan.stages[component.stage].name == *stage;
        let components = self.plan.components.iter().filter(of_stage);
        components.flat_map(|component| &component.offers).map(|offer| (offer.name.to_owned(), offer.version)).collect()
    }

    /// Returns the settings that lane code sees until an owner record replaces them.
    pub fn settings(&self) -> &Settings {
        &self.plan.settings
    }

    /// Returns the topics that the topology needs: an inbox, an egress, a view topic and a snapshot
    /// topic for each stage, the topics that components write to, and the dead-letter topic.
    pub fn topics(&self, names: &Topics) -> Vec<TopicSpec> {
        let mut topics = Vec::new();
        for stage in &self.plan.stages {
            // No retention by time: unread records must stay until a snapshot covers them.
            topics.push(TopicSpec::log(&names.inbox(self.name(), &stage.name), stage.lanes));
            let snapshots = TopicSpec::log(&names.snapshot(self.name(), &stage.name), stage.lanes);
            topics.push(snapshots.with_cleanup(Cleanup::Compact));
            let egress = TopicSpec::log(&names.egress(self.name(), &stage.name), stage.lanes);
            topics.push(egress.with_cleanup(Cleanup::DeleteAfterMs(KEEP_ANSWERS_MS)));
            let view = TopicSpec::log(&names.view(self.name(), &stage.name), stage.lanes);
            topics.push(view.with_cleanup(Cleanup::Compact));
            let components = stage.components.iter().map(|component| &self.plan.components[*component]);
            let probes = components.filter_map(|component| component.probe.as_ref());
            topics.extend(probes.flat_map(|probe| probe().topics(names, stage.lanes)));
        }
        topics.push(TopicSpec::log(&names.dead(self.name()), 1).with_cleanup(Cleanup::DeleteAfterMs(KEEP_DEAD_MS)));
        topics
    }

    /// Makes a lane of a stage. The lane belongs to the calling thread.
    ///
    /// # Panics
    /// If the topology has no such stage or lane.
    pub fn lane(&self, names: &Topics, stage: &str, lane: u32) -> Lane {
        let plan = &self.plan;
        let index = plan.stages.iter().position(|known| *known.name == *stage).expect("a stage of this topology");
        let stage = &plan.stages[index];
        assert!(lane < stage.lanes, "stage `{}` has {} lanes; there is no lane {lane}", stage.name, stage.lanes);
        let info = LaneInfo {
            topology: Arc::clone(&plan.name),
            stage: Arc::clone(&stage.name),
            inbox: names.inbox(&plan.name, &stage.name).into(),
            names: names.clone(),
            lane,
            lanes: stage.lanes,
        };
        let queues: Vec<Rc<dyn AnyQueue>> = plan.components.iter().map(|component| component.make.queue()).collect();
        let spouts = stage.components.iter().map(|component| plan.components[*component].limits).collect();
        let context = Rc::new(LaneContext::new(info, queues.clone(), spouts));
        let node_of = |component: usize| {
            let node = stage.components.iter().position(|known| *known == component);
            u16::try_from(node.expect("a component of this stage")).expect("a stage has fewer than 65,536 components")
        };
        let mut nodes = Vec::new();
        for component in &stage.components {
            let readers = |stream: &str| -> Vec<Box<dyn Any>> {
                let edges = plan.edges.iter().filter(|edge| edge.from == *component && edge.stream == stream);
                edges
                    .map(|edge| {
                        edge.edge.wire(if edge.stays {
                            FarEnd::Here { node: node_of(edge.to), queue: &queues[edge.to] }
                        } else {
                            let far = &plan.stages[plan.components[edge.to].stage];
                            let name: Arc<str> = self.edge(edge).name().into();
                            FarEnd::There {
                                inbox: names.inbox(&plan.name, &far.name).into(),
                                lanes: far.lanes,
                                lane: &context,
                                edge: name,
                            }
                        })
                    })
                    .collect()
            };
            let made = &plan.components[*component];
            let node_context = NodeContext {
                component: node_of(*component),
                lane: Rc::clone(&context),
                queue: Rc::clone(&queues[*component]),
                main: readers(DEFAULT_STREAM),
                sides: made.sides.iter().map(|side| (side.name, (side.port)(readers(side.name)))).collect(),
            };
            nodes.push(LaneNode {
                name: made.name.as_str().into(),
                number: component_number(&made.name),
                kind: made.kind,
                node: made.make.node(node_context),
            });
        }
        let arriving = plan.edges.iter().filter(|edge| !edge.stays && stage.components.contains(&edge.to));
        let decoders = arriving
            .map(|edge| (self.edge(edge).name(), edge.edge.decoder(node_of(edge.to), &queues[edge.to])))
            .collect();
        Lane::new(context, nodes, decoders, names.dead(&plan.name).into(), &plan.settings)
    }

    fn edge(&self, edge: &EdgePlan) -> Edge {
        Edge {
            from: self.plan.components[edge.from].name.clone(),
            stream: edge.stream.clone(),
            to: self.plan.components[edge.to].name.clone(),
            grouping: if edge.stays { Edge::LOCAL } else { edge.edge.grouping() }.to_owned(),
        }
    }
}

/// Default retention of answers and dead letters: a week, so that a person back from holidays finds
/// them.
const KEEP_ANSWERS_MS: u64 = 7 * 24 * 3_600 * 1_000;
const KEEP_DEAD_MS: u64 = KEEP_ANSWERS_MS;
