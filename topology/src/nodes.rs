//! The components of a lane, and how the builder adds them.

use std::any::TypeId;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use bus::TopicSpec;
use wire::EnvelopeRef;
use wire::graph::ComponentKind;
use wire::topics::Topics;

use crate::budget::Budget;
use crate::builder::Declared;
use crate::component::{InboxSpout, Spout, SystemBolt};
use crate::context::{AnyQueue, ComponentWork};
use crate::declarations::{Builder, Extras, Make, MakeProbe, Probe};
use crate::declare::Declarer;
use crate::emitter::Emitter;
use crate::input::{Delivery, Rejected, Unreadable};
use crate::ledger::Anchor;
use crate::node::{Node, NodeContext, called, guarded};
use crate::place::{ForeignTopic, LaneInfo, Place, SourceContext};
use crate::settings::Settings;
use crate::snapshot::{Saver, StateSchema, Stored};
use crate::state::{SavedState, StateValue};
use crate::tracked::Failed;
use crate::views::{DueTimes, View};
use crate::waits::Wait;
use crate::wiring::{Queue, typed};

struct Maker<In, F> {
    make: F,
    receives: PhantomData<fn(In)>,
}

impl<In: 'static, F: Fn(NodeContext) -> Box<dyn Node> + Send + Sync + 'static> Maker<In, F> {
    fn shared(make: F) -> Arc<dyn Make> {
        Arc::new(Self { make, receives: PhantomData })
    }
}

impl<In: 'static, F: Fn(NodeContext) -> Box<dyn Node> + Send + Sync> Make for Maker<In, F> {
    fn queue(&self) -> Rc<dyn AnyQueue> {
        Rc::new(Queue::<In>::default())
    }

    fn node(&self, context: NodeContext) -> Box<dyn Node> {
        (self.make)(context)
    }
}

pub(crate) struct BoltNode<B: SystemBolt> {
    bolt: B,
    queue: Rc<Queue<B::In>>,
    out: Emitter<B::Out>,
}

impl<B: SystemBolt> BoltNode<B> {
    pub(crate) fn new(bolt: B, context: NodeContext) -> Self {
        Self { bolt, queue: typed(&context.queue), out: context.emitter() }
    }
}

impl<B: SystemBolt> Node for BoltNode<B> {
    fn prepare(&mut self, lane: &LaneInfo) {
        self.bolt.prepare(lane);
    }

    fn configure(&mut self, settings: &Settings) {
        self.bolt.configure(settings);
    }

    fn run(&mut self, most: usize) -> usize {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        let mut done = 0;
        while done < most
            && let Some((input, anchor)) = self.queue.pop()
        {
            lane.anchor.set(anchor);
            called(&lane, component, || self.bolt.execute(input, &mut self.out));
            if !anchor.is_none() {
                lane.ledger.borrow_mut().release(anchor);
            }
            done += 1;
        }
        lane.anchor.set(Anchor::NONE);
        ComponentWork::add(&lane.work(component).executed, done as u64);
        done
    }

    fn start(&mut self) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.bolt.start(&mut self.out));
    }

    fn on_timer(&mut self, key: u64) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.bolt.on_timer(key, &mut self.out));
    }

    fn discard(&mut self, reason: &str) -> bool {
        let lane = &self.out.lane;
        let mut any = false;
        while let Some((_, anchor)) = self.queue.pop() {
            lane.anchor.set(anchor);
            lane.fail(Place::Component(self.out.component), reason, 1);
            lane.ledger.borrow_mut().release(anchor);
            any = true;
        }
        lane.anchor.set(Anchor::NONE);
        any
    }

    fn view(&self, key: &str, timers: &dyn DueTimes) -> Option<View> {
        self.bolt.view(key, timers)
    }

    fn view_subject(&self) -> &'static str {
        B::VIEWS
    }

    fn timer_for(&self, component: u16, key: u64) -> Option<u64> {
        self.bolt.timer_for(component, key)
    }

    fn schema(&mut self) -> Option<StateSchema> {
        self.bolt.schema()
    }

    fn save(&mut self, saver: &mut Saver<'_>) -> Result<(), String> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.save(saver))
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.load(stored)).unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn loaded(&mut self) -> Result<Vec<Arc<str>>, Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.bolt.loaded()).unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn unfinished(&self) -> Vec<String> {
        self.bolt.unfinished()
    }

    fn waits(&self) -> Option<Vec<Wait>> {
        self.bolt.waits()
    }

    fn cleanup(&mut self) {
        self.bolt.cleanup();
    }
}

pub(crate) struct SpoutNode<S: Spout> {
    spout: S,
    position: StateValue<S::Position>,
    out: Emitter<S::Out>,
}

impl<S: Spout> SpoutNode<S> {
    pub(crate) fn new(spout: S, context: NodeContext) -> Self {
        Self { spout, position: StateValue::default(), out: context.emitter() }
    }

    /// The name of the saved position.
    const POSITION: &'static str = "position";

    /// Returns the schema of the saved position; `None` if the position is `()`.
    pub(crate) fn schema() -> Option<StateSchema> {
        let has_position = TypeId::of::<S::Position>() != TypeId::of::<()>();
        has_position.then(|| StateSchema { version: 1, parts: vec![Self::POSITION] })
    }
}

impl<S: Spout> Node for SpoutNode<S> {
    fn prepare(&mut self, _lane: &LaneInfo) {}

    fn open(&mut self, source: &SourceContext) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        called(&lane, component, || self.spout.open(source));
    }

    fn configure(&mut self, settings: &Settings) {
        self.spout.configure(settings);
    }

    fn run(&mut self, _most: usize) -> usize {
        0
    }

    fn next(&mut self) -> bool {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        if !lane.ledger.borrow().may_open(component) {
            return false;
        }
        called(&lane, component, || self.spout.next(&mut self.position, &mut self.out)).unwrap_or_default()
    }

    fn settle(&mut self, id: u64, failure: Option<Failed>) {
        let (lane, component) = (Rc::clone(&self.out.lane), self.out.component);
        let work = lane.work(component);
        ComponentWork::add(if failure.is_none() { &work.acked } else { &work.failed }, 1);
        called(&lane, component, || match &failure {
            None => self.spout.ack(id, &mut self.position),
            Some(failed) => self.spout.fail(id, failed, &mut self.position, &mut self.out),
        });
    }

    fn schema(&mut self) -> Option<StateSchema> {
        Self::schema()
    }

    fn save(&mut self, saver: &mut Saver<'_>) -> Result<(), String> {
        let lane = Rc::clone(&self.out.lane);
        let position = &mut self.position;
        guarded(&lane, || {
            if Self::schema().is_some() {
                SavedState::saving(saver).value(Self::POSITION, position);
            }
        })
    }

    fn load(&mut self, stored: &Stored<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        let position = &mut self.position;
        let loaded = guarded(&lane, || {
            let mut loading = SavedState::loading(stored);
            loading.value(Self::POSITION, position);
            loading.loaded()
        });
        loaded.unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn waits(&self) -> Option<Vec<Wait>> {
        Some(Vec::new())
    }

    fn cleanup(&mut self) {
        self.spout.close();
    }
}

pub(crate) struct InboxNode<S: InboxSpout> {
    spout: S,
    out: Emitter<S::Out>,
}

impl<S: InboxSpout> InboxNode<S> {
    pub(crate) fn new(spout: S, context: NodeContext) -> Self {
        Self { spout, out: context.emitter() }
    }
}

impl<S: InboxSpout> Node for InboxNode<S> {
    fn prepare(&mut self, lane: &LaneInfo) {
        self.spout.prepare(lane);
    }

    fn configure(&mut self, _settings: &Settings) {}

    fn run(&mut self, _most: usize) -> usize {
        0
    }

    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        self.spout.accepts(envelope)
    }

    fn reject(&mut self, rejected: &Rejected<'_>) -> bool {
        let lane = Rc::clone(&self.out.lane);
        guarded(&lane, || self.spout.reject(rejected, &mut self.out)).unwrap_or_default()
    }

    fn receive(&mut self, delivery: &Delivery<'_>) -> Result<(), Unreadable> {
        let lane = Rc::clone(&self.out.lane);
        let received = guarded(&lane, || self.spout.receive(delivery, &mut self.out));
        if received.is_ok() {
            lane.count_emits(self.out.component);
        }
        received.unwrap_or_else(|panic| Err(Unreadable(panic)))
    }

    fn cleanup(&mut self) {}
}

impl<B: SystemBolt> Probe for B {
    fn topics(&self, names: &Topics, lanes: u32) -> Vec<TopicSpec> {
        SystemBolt::topics(self, names, lanes)
    }

    fn foreign_topics(&self) -> Vec<ForeignTopic> {
        SystemBolt::foreign_topics(self)
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

impl Builder {
    /// Declares a spout. `make` is called once per lane.
    pub fn spout<S: Spout>(&self, name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Declared<(), S::Out> {
        let mut declarer = Declarer::default();
        S::declare(&mut declarer);
        declarer.extras.tracks = S::TRACKS;
        let make = Maker::<(), _>::shared(move |context| Box::new(SpoutNode::new(make(), context)));
        let probe: MakeProbe = Some(Arc::new(|| Box::new(SpoutProbe(SpoutNode::<S>::schema())) as Box<dyn Probe>));
        self.declare(name, ComponentKind::Spout, declarer.extras, make, probe)
    }

    /// Declares a spout that reads the inbox of its stage. `make` is called once per lane.
    pub fn inbox_spout<S: InboxSpout>(
        &self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Declared<(), S::Out> {
        self.inbox_component(name, ComponentKind::InboxSpout, make)
    }

    /// Declares a component that reads the inbox of its stage.
    pub(crate) fn inbox_component<S: InboxSpout>(
        &self,
        name: &str,
        kind: ComponentKind,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Declared<(), S::Out> {
        let make = Maker::<(), _>::shared(move |context| Box::new(InboxNode::new(make(), context)));
        self.declare(name, kind, Extras::default(), make, None)
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
        let make = Maker::<B::In, _>::shared(move |context| Box::new(BoltNode::new(make(), context)));
        self.declare(name, ComponentKind::Bolt, declarer.extras, make, probe)
    }
}
