//! The declarations of a topology, as the builder collects them.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bus::TopicSpec;
use serde_json::Value;
use wire::control::DeliveryMode;
use wire::graph::ComponentKind;
use wire::topics::Topics;

use crate::arrangement::Arrangement;
use crate::budget::Budget;
use crate::build_error::BuildError;
use crate::context::AnyQueue;
use crate::ledger::Limits;
use crate::node::{Node, NodeContext};
use crate::place::ForeignTopic;
use crate::settings::Settings;
use crate::snapshot::StateSchema;
use crate::wiring::AnyEdge;

/// The name of the main stream, as in Storm.
pub(crate) const DEFAULT_STREAM: &str = "default";

/// Declares a topology. [`Builder::build`] reports all errors together.
#[derive(Clone)]
pub struct Builder {
    pub(crate) graph: Rc<RefCell<Declarations>>,
}

impl Builder {
    pub(crate) fn of(graph: Declarations) -> Self {
        Self { graph: Rc::new(RefCell::new(graph)) }
    }
}

/// Makes a component instance to query; `None` for inbox spouts, which have no such properties.
pub(crate) type MakeProbe = Option<Arc<dyn Fn() -> Box<dyn Probe> + Send + Sync>>;

#[derive(Clone)]
pub(crate) struct StreamDeclaration {
    pub(crate) name: &'static str,
    pub(crate) tuples: &'static str,
    /// A build without a reader of this stream is accepted.
    pub(crate) may_be_unread: bool,
}

#[derive(Clone)]
pub(crate) struct ComponentDeclaration {
    pub(crate) name: String,
    pub(crate) kind: ComponentKind,
    pub(crate) lanes: Option<u32>,
    /// True if its stage can have one lane only.
    pub(crate) one_lane: bool,
    pub(crate) stage: Option<String>,
    pub(crate) mode: Option<DeliveryMode>,
    /// The limits of a spout that tracks its tuples.
    pub(crate) limits: Option<Limits>,
    pub(crate) streams: Vec<StreamDeclaration>,
    pub(crate) sides: Vec<SideDeclaration>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) make: Arc<dyn Make>,
    pub(crate) probe: MakeProbe,
    pub(crate) offers: Vec<Offer>,
}

#[derive(Clone)]
pub(crate) struct EdgeDeclaration {
    /// The component and the stream that are read.
    pub(crate) from: Origin,
    pub(crate) stream: String,
    pub(crate) tuples: &'static str,
    pub(crate) to: usize,
    /// The edge stays in the lane unless the arrangement separates stages.
    pub(crate) may_stay: bool,
    pub(crate) edge: Arc<dyn AnyEdge>,
}

#[derive(Clone, Default)]
pub(crate) struct Declarations {
    pub(crate) name: String,
    pub(crate) components: Vec<ComponentDeclaration>,
    pub(crate) edges: Vec<EdgeDeclaration>,
    /// Found while the components were declared.
    pub(crate) errors: Vec<BuildError>,
    pub(crate) settings: Settings,
    pub(crate) arrangement: Arrangement,
}

/// The component that emits a stream: by its index, or by its name.
#[derive(Clone)]
pub(crate) enum Origin {
    Declared(usize),
    Named(String),
}

/// The declarations of a component beside its types.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) sides: Vec<SideDeclaration>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) offers: Vec<Offer>,
    /// True for a spout that tracks its tuples.
    pub(crate) tracks: bool,
}

/// A workflow that clients can start.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) name: &'static str,
    /// The version of the code that makes the workflow's decisions.
    pub(crate) version: u32,
    pub(crate) request: Value,
}

type MakePort = fn(Vec<Box<dyn Any>>) -> Box<dyn Any>;

#[derive(Clone)]
pub(crate) struct SideDeclaration {
    pub(crate) name: &'static str,
    pub(crate) tuples: &'static str,
    /// Makes a `Port<T>` of the wired edges of this stream.
    pub(crate) port: MakePort,
}

type Install = Arc<dyn Fn(&Builder, &str) -> Rc<dyn Any> + Send + Sync>;
type Connect = Arc<dyn Fn(&Builder, &dyn Any, usize, u16) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Attachment {
    pub(crate) name: &'static str,
    pub(crate) install: Install,
    pub(crate) connect: Connect,
}

/// Makes the queue and the node of a component for one lane.
pub(crate) trait Make: Send + Sync {
    fn queue(&self) -> Rc<dyn AnyQueue>;
    fn node(&self, context: NodeContext) -> Box<dyn Node>;
}

/// The properties of a component that are needed before it runs.
pub(crate) trait Probe {
    fn topics(&self, _names: &Topics, _lanes: u32) -> Vec<TopicSpec> {
        Vec::new()
    }
    fn foreign_topics(&self) -> Vec<ForeignTopic> {
        Vec::new()
    }
    fn watches(&self) -> Vec<String> {
        Vec::new()
    }
    fn budgets(&self, _settings: &Settings) -> Vec<Budget> {
        Vec::new()
    }
    fn schema(&mut self) -> Option<StateSchema>;
}
