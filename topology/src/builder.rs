//! Declares a topology.

use std::any::{TypeId, type_name};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::control::DeliveryMode;
use wire::graph::ComponentKind;

use crate::build_error::BuildError;
use crate::declarations::{
    Builder, ComponentDeclaration, DEFAULT_STREAM, EdgeDeclaration, Extras, Make, MakeProbe, Origin, StreamDeclaration,
};
use crate::emitter::Side;
use crate::grouping::Key;
use crate::ledger::Limits;
use crate::settings::Settings;
use crate::stream::{Feeds, Keyed, Read, Stream, Subscription};
use crate::wiring::Edge;

impl Builder {
    /// Returns a stream by component and stream name. [`Builder::build`] checks both names.
    pub fn stream<T: 'static>(&self, component: &str, stream: &str) -> Stream<T> {
        let (builder, from) = (self.clone(), Origin::Named(component.into()));
        Stream { builder, from, name: stream.into(), tuples: PhantomData }
    }

    /// Sets the settings that lane code sees until an owner record replaces them.
    pub fn settings(&self, settings: Settings) {
        self.graph.borrow_mut().settings = settings;
    }

    pub(crate) fn declare<In: 'static, Out: 'static>(
        &self,
        name: &str,
        kind: ComponentKind,
        extras: Extras,
        make: Arc<dyn Make>,
        probe: MakeProbe,
    ) -> Declared<In, Out> {
        let mut streams = Vec::new();
        if TypeId::of::<Out>() != TypeId::of::<()>() {
            streams.push(StreamDeclaration { name: DEFAULT_STREAM, tuples: type_name::<Out>(), may_be_unread: false });
        }
        for side in &extras.sides {
            streams.push(StreamDeclaration { name: side.name, tuples: side.tuples, may_be_unread: false });
        }
        let mut graph = self.graph.borrow_mut();
        graph.components.push(ComponentDeclaration {
            name: name.to_owned(),
            kind,
            lanes: None,
            one_lane: false,
            stage: None,
            mode: None,
            limits: extras.tracks.then(Limits::default),
            streams,
            sides: extras.sides,
            attachments: extras.attachments,
            make,
            probe,
            offers: extras.offers,
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

    /// For a spout with [`crate::Spout::TRACKS`]: sets the maximum number of roots that are neither acked
    /// nor failed; the default is 1,024. The spout is not called beyond.
    pub fn max_pending(self, roots: u32) -> Self {
        self.limit("max_pending", roots > 0, |limits| limits.max_pending = roots)
    }

    /// For a spout with [`crate::Spout::TRACKS`]: sets the time in milliseconds after which a root that is
    /// not acked fails; the default is 30,000. With `None` a root never fails by time.
    pub fn timeout_ms(self, timeout_ms: impl Into<Option<u64>>) -> Self {
        let timeout_ms = timeout_ms.into();
        self.limit("timeout_ms", timeout_ms != Some(0), |limits| limits.timeout_ms = timeout_ms)
    }

    /// Sets a limit of a spout. Reports a bad value, and a component that does not track its tuples.
    fn limit(self, name: &'static str, is_good: bool, set: impl FnOnce(&mut Limits)) -> Self {
        let mut graph = self.builder.graph.borrow_mut();
        let component = &mut graph.components[self.component];
        let error = match &mut component.limits {
            None => Some(BuildError::NotTracking { component: component.name.clone(), limit: name }),
            Some(_) if !is_good => Some(BuildError::ZeroLimit { component: component.name.clone(), limit: name }),
            Some(limits) => {
                set(limits);
                None
            }
        };
        graph.errors.extend(error);
        drop(graph);
        self
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

    /// Declares that the component can run in one lane only.
    pub(crate) fn one_lane(self) -> Self {
        self.with(|component| component.one_lane = true)
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
