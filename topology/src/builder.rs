//! Declaring a topology.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bus::TopicSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::control::Mode;
use wire::topics::Topics;

use crate::arrangement::Arrangement;
use crate::budget::Budget;
use crate::build::{self, BuildErrors, Fault};
use crate::component::{Bolt, InboxSpout, Spout};
use crate::declare::{Attachment, Declarer, Offer, SideDeclaration};
use crate::emitter::Side;
use crate::grouping::Grouping;
use crate::node::{BoltNode, InboxNode, Node, Seat, SpoutNode};
use crate::plan::Topology;
use crate::settings::Settings;
use crate::snapshot::Keeps;
use crate::wiring::{AnyEdge, Codec, Convert, Edge, Queue};

/// The name of the main stream, as Storm has it.
pub const DEFAULT_STREAM: &str = "default";

/// What kind of component one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentKind {
    /// A source of its own.
    Spout,
    /// A source fed by the stage's inbox.
    InboxSpout,
    /// Receives tuples.
    Bolt,
}

impl ComponentKind {
    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ComponentKind::Spout => "spout",
            ComponentKind::InboxSpout => "inbox spout",
            ComponentKind::Bolt => "bolt",
        }
    }
}

/// Makes the parts of a component for one lane.
pub(crate) trait Make: Send + Sync {
    fn queue(&self) -> Rc<dyn Any>;
    fn node(&self, seat: Seat) -> Box<dyn Node>;
}

struct Maker<In, F> {
    make: F,
    receives: PhantomData<fn(In)>,
}

impl<In: 'static, F: Fn(Seat) -> Box<dyn Node> + Send + Sync> Make for Maker<In, F> {
    fn queue(&self) -> Rc<dyn Any> {
        let queue: Queue<In> = Rc::new(RefCell::new(VecDeque::new()));
        queue
    }

    fn node(&self, seat: Seat) -> Box<dyn Node> {
        (self.make)(seat)
    }
}

/// What a component tells of itself before it runs.
pub(crate) trait Probe {
    fn topics(&self, names: &Topics, lanes: u32) -> Vec<TopicSpec>;
    fn watches(&self) -> Vec<String>;
    fn budgets(&self, settings: &Settings) -> Vec<Budget>;
    fn keeps(&self) -> Keeps;
}

impl<B: Bolt> Probe for B {
    fn topics(&self, names: &Topics, lanes: u32) -> Vec<TopicSpec> {
        Bolt::topics(self, names, lanes)
    }

    fn watches(&self) -> Vec<String> {
        Bolt::watches(self)
    }

    fn budgets(&self, settings: &Settings) -> Vec<Budget> {
        Bolt::budgets(self, settings)
    }

    fn keeps(&self) -> Keeps {
        B::KEEPS
    }
}

/// Makes one to ask; none of a component that has nothing to tell.
pub(crate) type MakeProbe = Option<Arc<dyn Fn() -> Box<dyn Probe> + Send + Sync>>;

#[derive(Clone)]
pub(crate) struct StreamDeclaration {
    pub(crate) name: &'static str,
    pub(crate) tuples: &'static str,
    /// Nobody has to read it.
    pub(crate) may_be_unread: bool,
}

#[derive(Clone)]
pub(crate) struct ComponentDeclaration {
    pub(crate) name: String,
    pub(crate) kind: ComponentKind,
    pub(crate) lanes: Option<u32>,
    pub(crate) stage: Option<String>,
    pub(crate) mode: Option<Mode>,
    pub(crate) streams: Vec<StreamDeclaration>,
    pub(crate) sides: Vec<SideDeclaration>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) make: Arc<dyn Make>,
    pub(crate) probe: MakeProbe,
    pub(crate) offers: Vec<Offer>,
}

#[derive(Clone)]
pub(crate) struct EdgeDeclaration {
    /// Component and stream that are read.
    pub(crate) from: Origin,
    pub(crate) stream: String,
    pub(crate) tuples: &'static str,
    pub(crate) to: usize,
    /// It stays in its lane unless stages are kept apart.
    pub(crate) may_stay: bool,
    pub(crate) edge: Arc<dyn AnyEdge>,
}

#[derive(Clone)]
pub(crate) enum Origin {
    Declared(usize),
    Named(String),
}

#[derive(Clone, Default)]
pub(crate) struct Declarations {
    pub(crate) name: String,
    pub(crate) components: Vec<ComponentDeclaration>,
    pub(crate) edges: Vec<EdgeDeclaration>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) settings: Settings,
    pub(crate) arrangement: Arrangement,
}

/// Declares a topology. Faults are collected and reported together by [`Builder::build`].
#[derive(Clone)]
pub struct Builder {
    pub(crate) graph: Rc<RefCell<Declarations>>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(Declarations { name: name.to_owned(), ..Declarations::default() })
    }

    pub(crate) fn of(graph: Declarations) -> Self {
        Self { graph: Rc::new(RefCell::new(graph)) }
    }

    /// Declares a spout. `make` is called once for each lane.
    pub fn spout<S: Spout>(&self, name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Declared<(), S::Out> {
        let mut declarer = Declarer::default();
        S::declare(&mut declarer);
        let make = move |seat: Seat| Box::new(SpoutNode::new(make(), seat)) as Box<dyn Node>;
        self.declare(name, ComponentKind::Spout, declarer, make, None)
    }

    /// Declares a spout that is fed by the inbox of its stage.
    pub fn inbox_spout<S: InboxSpout>(
        &self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Declared<(), S::Out> {
        let make = move |seat: Seat| Box::new(InboxNode::new(make(), seat)) as Box<dyn Node>;
        self.declare(name, ComponentKind::InboxSpout, Declarer::default(), make, None)
    }

    /// Declares a bolt. `make` is called once for each lane.
    pub fn bolt<B: Bolt>(&self, name: &str, make: impl Fn() -> B + Send + Sync + 'static) -> Declared<B::In, B::Out> {
        let mut declarer = Declarer::default();
        B::declare(&mut declarer);
        let make = Arc::new(make);
        let bolt = Arc::clone(&make);
        let probe: MakeProbe = Some(Arc::new(move || Box::new(bolt()) as Box<dyn Probe>));
        let make = move |seat: Seat| Box::new(BoltNode::new(make(), seat)) as Box<dyn Node>;
        self.declare(name, ComponentKind::Bolt, declarer, make, probe)
    }

    /// A stream by the names of its component and itself, which are checked when the topology is built.
    pub fn stream<T: 'static>(&self, component: &str, stream: &str) -> Stream<T> {
        Stream { from: Origin::Named(component.into()), name: stream.into(), tuples: PhantomData }
    }

    /// The settings that lane code sees until an owner record brings others.
    pub fn settings(&self, settings: Settings) {
        self.graph.borrow_mut().settings = settings;
    }

    /// Checks everything and makes the plan.
    ///
    /// # Errors
    /// All faults at once.
    pub fn build(&self) -> Result<Topology, BuildErrors> {
        build::build(self)
    }

    fn declare<In: 'static, Out: 'static>(
        &self,
        name: &str,
        kind: ComponentKind,
        declarer: Declarer<In>,
        make: impl Fn(Seat) -> Box<dyn Node> + Send + Sync + 'static,
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

/// A component that was declared: receives `In`, emits `Out` on its main stream.
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
    /// How many lanes its stage has. Whoever says nothing takes what others of the stage say; 1 where nobody does.
    pub fn lanes(self, lanes: u32) -> Self {
        self.with(|component| component.lanes = Some(lanes))
    }

    /// What its stage is called. Without it a stage has the name of its first component.
    pub fn stage(self, name: &str) -> Self {
        self.with(|component| component.stage = Some(name.to_owned()))
    }

    /// When the effects of its stage leave; see [`Mode`]. Exactly-once where nobody says anything, and where a stage has
    /// components that say both.
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|component| component.mode = Some(mode))
    }

    /// Nobody has to read its main stream.
    pub fn may_be_unread(self) -> Self {
        self.with(|component| {
            component.streams.iter_mut().filter(|s| s.name == DEFAULT_STREAM).for_each(|s| s.may_be_unread = true);
        })
    }

    /// Nobody has to read this side stream.
    pub fn side_may_be_unread<T>(self, side: Side<T>) -> Self {
        self.with(|component| {
            component.streams.iter_mut().filter(|s| s.name == side.name()).for_each(|s| s.may_be_unread = true);
        })
    }

    fn with(self, change: impl FnOnce(&mut ComponentDeclaration)) -> Self {
        change(&mut self.builder.graph.borrow_mut().components[self.component]);
        self
    }

    /// Reads a stream.
    pub fn reads<T: Clone + 'static>(self, subscription: impl Into<Subscription<T, In>>) -> Self {
        let subscription = subscription.into();
        let edge = Edge {
            grouping: subscription.grouping,
            convert: subscription.convert,
            codec: subscription.codec,
            copy: T::clone,
        };
        let may_stay = subscription.may_stay;
        self.builder.graph.borrow_mut().edges.push(EdgeDeclaration {
            from: subscription.stream.from,
            stream: subscription.stream.name,
            tuples: type_name::<T>(),
            to: self.component,
            may_stay,
            edge: Arc::new(edge),
        });
        self
    }

    /// Its main stream.
    pub fn out(&self) -> Stream<Out> {
        self.stream_named(DEFAULT_STREAM)
    }

    /// One of its side streams.
    pub fn side<T: 'static>(&self, side: Side<T>) -> Stream<T> {
        self.stream_named(side.name())
    }

    fn stream_named<T>(&self, name: &str) -> Stream<T> {
        Stream { from: Origin::Declared(self.component), name: name.to_owned(), tuples: PhantomData }
    }

    /// Its main stream, read in the same lane.
    pub fn local(&self) -> Read<Out> {
        self.out().local()
    }

    /// Its main stream, shared round and round.
    pub fn shuffle(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().shuffle()
    }

    /// Its main stream, shared by a key.
    pub fn fields<K: AsRef<[u8]>>(&self, key: impl Fn(&Out) -> K + Send + Sync + 'static) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().fields(key)
    }

    /// Its main stream, to every lane.
    pub fn all(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().all()
    }

    /// Its main stream, to lane 0.
    pub fn global(&self) -> Read<Out>
    where
        Out: Serialize + DeserializeOwned,
    {
        self.out().global()
    }
}

/// A stream.
pub struct Stream<T> {
    from: Origin,
    name: String,
    tuples: PhantomData<fn() -> T>,
}

impl<T: 'static> Stream<T> {
    /// Read in the same lane: the reader is in the same stage.
    pub fn local(self) -> Read<T> {
        Read { stream: self, grouping: Grouping::Local, codec: None, may_stay: true }
    }

    fn spread(self, grouping: Grouping<T>) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let codec = Codec { encode: |tuple| serde_json::to_vec(tuple), decode: |body| serde_json::from_slice(body) };
        Read { stream: self, grouping, codec: Some(codec), may_stay: false }
    }

    /// Shared round and round.
    pub fn shuffle(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Shuffle)
    }

    /// Shared by a key: tuples with equal keys go to one lane.
    pub fn fields<K: AsRef<[u8]>>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Fields(Arc::new(move |tuple| key(tuple).as_ref().to_vec())))
    }

    /// To every lane.
    pub fn all(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::All)
    }

    /// To lane 0.
    pub fn global(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Global)
    }

    /// To the lane that `lane` gives for the tuple.
    pub fn direct(self, lane: impl Fn(&T) -> u32 + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Direct(Arc::new(lane)))
    }
}

/// A stream and the way it is read.
pub struct Read<T> {
    stream: Stream<T>,
    grouping: Grouping<T>,
    codec: Option<Codec<T>>,
    may_stay: bool,
}

impl<T: 'static> Read<T> {
    /// In the same lane, and one stage with the source, unless the topology is arranged [`Arrangement::apart`]: then it is
    /// read with the grouping, over a topic. The code is the same for both.
    #[must_use]
    pub fn or_local(self) -> Self {
        Self { may_stay: true, ..self }
    }

    /// Turns each tuple into what the reader receives; none where it is not for this reader.
    pub fn with<In>(self, convert: impl Fn(T) -> Option<In> + Send + Sync + 'static) -> Subscription<T, In> {
        let Self { stream, grouping, codec, may_stay } = self;
        Subscription { stream, grouping, codec, may_stay, convert: Arc::new(convert) }
    }
}

/// A stream, the way it is read, and what becomes of each tuple.
pub struct Subscription<T, In> {
    stream: Stream<T>,
    grouping: Grouping<T>,
    codec: Option<Codec<T>>,
    may_stay: bool,
    convert: Convert<T, In>,
}

impl<T: Into<In> + 'static, In> From<Read<T>> for Subscription<T, In> {
    fn from(read: Read<T>) -> Self {
        read.with(|tuple| Some(tuple.into()))
    }
}
