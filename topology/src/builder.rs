//! Declares a topology.

use std::any::{TypeId, type_name};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bus::TopicSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::control::DeliveryMode;
use wire::graph::ComponentKind;
use wire::topics::Topics;

use crate::arrangement::Arrangement;
use crate::budget::Budget;
use crate::build::{self, BuildError, BuildErrors};
use crate::component::{InboxSpout, Spout, StateSchema, SystemBolt};
use crate::declare::{Attachment, Declarer, Offer, SideDeclaration};
use crate::emitter::Side;
use crate::grouping::Key;
use crate::node::{BoltNode, InboxNode, Node, NodeContext, SpoutNode};
use crate::plan::Topology;
use crate::settings::Settings;
use crate::stream::{Feeds, Keyed, Origin, Read, Stream, Subscription};
use crate::wiring::{AnyEdge, AnyQueue, Edge, Queue};

/// The name of the main stream, as in Storm.
pub const DEFAULT_STREAM: &str = "default";

/// Makes the queue and the node of a component for one lane.
pub(crate) trait Make: Send + Sync {
    fn queue(&self) -> Rc<dyn AnyQueue>;
    fn node(&self, context: NodeContext) -> Box<dyn Node>;
}

struct Maker<In, F> {
    make: F,
    receives: PhantomData<fn(In)>,
}

impl<In: 'static, F: Fn(NodeContext) -> Box<dyn Node> + Send + Sync> Make for Maker<In, F> {
    fn queue(&self) -> Rc<dyn AnyQueue> {
        Rc::new(Queue::<In>::default())
    }

    fn node(&self, context: NodeContext) -> Box<dyn Node> {
        (self.make)(context)
    }
}

/// The properties of a component that are needed before it runs.
pub(crate) trait Probe {
    fn topics(&self, _names: &Topics, _lanes: u32) -> Vec<TopicSpec> {
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

impl<B: SystemBolt> Probe for B {
    fn topics(&self, names: &Topics, lanes: u32) -> Vec<TopicSpec> {
        SystemBolt::topics(self, names, lanes)
    }

    fn watches(&self) -> Vec<String> {
        SystemBolt::watches(self)
    }

    fn budgets(&self, settings: &Settings) -> Vec<Budget> {
        SystemBolt::budgets(self, settings)
    }

    fn schema(&mut self) -> Option<StateSchema> {
        SystemBolt::schema(self)
    }
}

/// The probe of a spout: the schema of its saved position.
struct SpoutProbe(Option<StateSchema>);

impl Probe for SpoutProbe {
    fn schema(&mut self) -> Option<StateSchema> {
        self.0.clone()
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
    pub(crate) stage: Option<String>,
    pub(crate) mode: Option<DeliveryMode>,
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
    pub(crate) errors: Vec<BuildError>,
    pub(crate) settings: Settings,
    pub(crate) arrangement: Arrangement,
}

/// Declares a topology. [`Builder::build`] reports all errors together.
#[derive(Clone)]
pub struct Builder {
    pub(crate) graph: Rc<RefCell<Declarations>>,
}

impl Topology {
    /// Starts the declaration of a topology.
    pub fn named(name: &str) -> Builder {
        Builder::new(name)
    }
}

impl Builder {
    fn new(name: &str) -> Self {
        Self::of(Declarations { name: name.to_owned(), ..Declarations::default() })
    }

    pub(crate) fn of(graph: Declarations) -> Self {
        Self { graph: Rc::new(RefCell::new(graph)) }
    }

    /// Declares a spout. `make` is called once per lane.
    pub fn spout<S: Spout>(&self, name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Declared<(), S::Out> {
        let mut declarer = Declarer::default();
        S::declare(&mut declarer);
        let make = move |context: NodeContext| Box::new(SpoutNode::new(make(), context)) as Box<dyn Node>;
        let probe: MakeProbe = Some(Arc::new(|| Box::new(SpoutProbe(SpoutNode::<S>::schema())) as Box<dyn Probe>));
        self.declare(name, ComponentKind::Spout, declarer, make, probe)
    }

    /// Declares a spout that reads the inbox of its stage. `make` is called once per lane.
    pub fn inbox_spout<S: InboxSpout>(
        &self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Declared<(), S::Out> {
        let make = move |context: NodeContext| Box::new(InboxNode::new(make(), context)) as Box<dyn Node>;
        self.declare(name, ComponentKind::InboxSpout, Declarer::default(), make, None)
    }

    /// Declares a bolt. `make` is called once per lane.
    pub fn bolt<B: SystemBolt>(
        &self,
        name: &str,
        make: impl Fn() -> B + Send + Sync + 'static,
    ) -> Declared<B::In, B::Out> {
        let mut declarer = Declarer::default();
        B::declare(&mut declarer);
        let make = Arc::new(make);
        let bolt = Arc::clone(&make);
        let probe: MakeProbe = Some(Arc::new(move || Box::new(bolt()) as Box<dyn Probe>));
        let make = move |context: NodeContext| Box::new(BoltNode::new(make(), context)) as Box<dyn Node>;
        self.declare(name, ComponentKind::Bolt, declarer, make, probe)
    }

    /// Returns a stream by component and stream name. [`Builder::build`] checks both names.
    pub fn stream<T: 'static>(&self, component: &str, stream: &str) -> Stream<T> {
        let (builder, from) = (self.clone(), Origin::Named(component.into()));
        Stream { builder, from, name: stream.into(), tuples: PhantomData }
    }

    /// Sets the settings that lane code sees until an owner record replaces them.
    pub fn settings(&self, settings: Settings) {
        self.graph.borrow_mut().settings = settings;
    }

    /// Checks all declarations and makes the plan.
    ///
    /// # Errors
    /// All errors of the topology.
    pub fn build(&self) -> Result<Topology, BuildErrors> {
        build::build(self)
    }

    fn declare<In: 'static, Out: 'static>(
        &self,
        name: &str,
        kind: ComponentKind,
        declarer: Declarer<In>,
        make: impl Fn(NodeContext) -> Box<dyn Node> + Send + Sync + 'static,
        probe: MakeProbe,
    ) -> Declared<In, Out> {
        let mut streams = Vec::new();
        if TypeId::of::<Out>() != TypeId::of::<()>() {
            streams.push(StreamDeclaration { name: DEFAULT_STREAM, tuples: type_name::<Out>(), may_be_unread: false });
        }
        for side in &declarer.sides {
            streams.push(StreamDeclaration { name: side.name, tuples: side.tuples, may_be_unread: false });
        }
        let mut graph = self.graph.borrow_mut();
        graph.components.push(ComponentDeclaration {
            name: name.to_owned(),
            kind,
            lanes: None,
            stage: None,
            mode: None,
            streams,
            sides: declarer.sides,
            attachments: declarer.attachments,
            make: Arc::new(Maker::<In, _> { make, receives: PhantomData }),
            probe,
            offers: declarer.offers,
        });
        let component = graph.components.len() - 1;
        drop(graph);
        self.declared(component)
    }

    pub(crate) fn declared<In, Out>(&self, component: usize) -> Declared<In, Out> {
        Declared { builder: self.clone(), component, types: PhantomData }
    }
}

/// A declared component: receives `In`, emits `Out` on its main stream.
pub struct Declared<In, Out> {
    builder: Builder,
    component: usize,
    types: PhantomData<fn(In) -> Out>,
}

impl<In, Out> Clone for Declared<In, Out> {
    fn clone(&self) -> Self {
        Self { builder: self.builder.clone(), component: self.component, types: PhantomData }
    }
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "a handle on what was declared already; not a value that must be used"
)]
impl<In: 'static, Out: 'static> Declared<In, Out> {
    /// Sets the number of lanes of its stage. By default a component takes the number that another
    /// component of the stage sets, or 1.
    pub fn lanes(self, lanes: u32) -> Self {
        self.with(|component| component.lanes = Some(lanes))
    }

    /// Sets the name of its stage. The default is the name of the stage's first component.
    pub fn stage(self, name: &str) -> Self {
        self.with(|component| component.stage = Some(name.to_owned()))
    }

    /// Sets the delivery mode of its stage; see [`DeliveryMode`]. The default is exactly-once. It
    /// also wins if components of one stage ask for different modes.
    pub fn mode(self, mode: DeliveryMode) -> Self {
        self.with(|component| component.mode = Some(mode))
    }

    /// Accepts a main stream without readers.
    pub fn may_be_unread(self) -> Self {
        self.with(|component| {
            component.streams.iter_mut().filter(|s| s.name == DEFAULT_STREAM).for_each(|s| s.may_be_unread = true);
        })
    }

    /// Accepts a side stream without readers.
    pub fn side_may_be_unread<T>(self, side: Side<T>) -> Self {
        self.with(|component| {
            component.streams.iter_mut().filter(|s| s.name == side.name()).for_each(|s| s.may_be_unread = true);
        })
    }

    fn with(self, change: impl FnOnce(&mut ComponentDeclaration)) -> Self {
        change(&mut self.builder.graph.borrow_mut().components[self.component]);
        self
    }

    /// Subscribes to a stream. A bolt that reads streams of several types has an enum as its input,
    /// with a `From` for each type.
    ///
    /// ```compile_fail,E0277
    /// # use topology::{Bolt, Emitter, Topology};
    /// # struct Length;
    /// # impl Bolt for Length {
    /// #     type In = u64;
    /// #     type Out = ();
    /// #     fn execute(&mut self, _: u64, _: &mut Emitter<()>) {}
    /// # }
    /// # let t = Topology::named("words");
    /// let words = t.items("words", || ["a".to_owned()]);
    /// t.bolt("length", || Length).reads(words.local()); // its input is `u64`, not `String`
    /// ```
    pub fn reads<S: Feeds<In>>(self, stream: S) -> Self {
        let Subscription { from, stream, grouping, codec, may_stay, convert } = stream.subscription();
        let tuples = type_name::<S::Tuple>();
        let edge = Arc::new(Edge { grouping, convert, codec, copy: <S::Tuple as Clone>::clone });
        let edge = EdgeDeclaration { from, stream, tuples, to: self.component, may_stay, edge };
        self.builder.graph.borrow_mut().edges.push(edge);
        self
    }

    /// Returns its main stream.
    pub fn out(&self) -> Stream<Out> {
        self.stream_named(DEFAULT_STREAM)
    }

    /// Returns one of its side streams.
    pub fn side<T: 'static>(&self, side: Side<T>) -> Stream<T> {
        self.stream_named(side.name())
    }

    fn stream_named<T>(&self, name: &str) -> Stream<T> {
        let (builder, from) = (self.builder.clone(), Origin::Declared(self.component));
        Stream { builder, from, name: name.to_owned(), tuples: PhantomData }
    }

    /// Reads the main stream in the same lane.
    pub fn local(&self) -> Read<Out> {
        self.out().local()
    }

    /// Reads the main stream with round-robin distribution.
    pub fn shuffle(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().shuffle()
    }

    /// Reads the main stream distributed by a key that the tuples contain; see [`Stream::fields`].
    pub fn fields<K: Key + ?Sized>(&self, key: impl Fn(&Out) -> &K + Send + Sync + 'static) -> Read<Out, Keyed>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().fields(key)
    }

    /// Reads the main stream distributed by a computed key; see [`Stream::fields_with`].
    pub fn fields_with<K: Key>(&self, key: impl Fn(&Out) -> K + Send + Sync + 'static) -> Read<Out, Keyed>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().fields_with(key)
    }

    /// Reads the main stream in every lane.
    pub fn all(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().all()
    }

    /// Reads the main stream in lane 0.
    pub fn global(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().global()
    }
}
