//! Connects a stream to its readers: by a queue in the same lane, or by records to the inbox of
//! another stage.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bus::Route;
use bytes::Bytes;
use wire::{Envelope, Kind};

use crate::context::{AnyQueue, Emitted, LaneContext, Port, Sink};
use crate::grouping::{Chooser, Grouping, Target};
use crate::input::Unreadable;
use crate::ledger::{Anchor, Ledger};
use crate::outbox::Message;
use crate::place::Place;

/// The input queue of a component. It is empty between steps, since a step runs to completion.
/// Within a step, [`crate::Lane::EXECUTIONS`] bounds it.
pub(crate) struct Queue<In> {
    tuples: RefCell<VecDeque<(In, Anchor)>>,
    /// The last call that pushed a tuple, and the length before its first one.
    pushed: Cell<(u64, usize)>,
}

impl<In> Default for Queue<In> {
    fn default() -> Self {
        Self { tuples: RefCell::default(), pushed: Cell::new((0, 0)) }
    }
}

impl<In> Queue<In> {
    /// Adds a tuple. Returns true if it is the only one.
    #[inline]
    fn push(&self, tuple: In, anchor: Anchor, call: u64) -> bool {
        let mut tuples = self.tuples.borrow_mut();
        if self.pushed.get().0 != call {
            self.pushed.set((call, tuples.len()));
        }
        tuples.push_back((tuple, anchor));
        tuples.len() == 1
    }

    /// Removes the first tuple.
    #[inline]
    pub(crate) fn pop(&self) -> Option<(In, Anchor)> {
        self.tuples.borrow_mut().pop_front()
    }
}

impl<In: 'static> AnyQueue for Queue<In> {
    fn take_back(&self, call: u64, ledger: &RefCell<Ledger>) {
        let (last, before) = self.pushed.get();
        if last == call {
            // A value can contain a held tuple, whose drop uses the ledger.
            let taken = self.tuples.borrow_mut().split_off(before);
            for (_, anchor) in taken {
                ledger.borrow_mut().release(anchor);
            }
        }
    }
}

/// One edge, wired for one lane.
pub(crate) struct Wired<T> {
    pub(crate) sink: Box<dyn Sink<T>>,
    pub(crate) copy: fn(&T) -> T,
}

impl<T: 'static> Wired<T> {
    pub(crate) fn port(wired: Vec<Box<dyn Any>>) -> Port<T> {
        let wired: Vec<Wired<T>> = wired
            .into_iter()
            .map(|one| *one.downcast().expect("the builder checked the type of each stream"))
            .collect();
        Port { copy: wired.first().map(|one| one.copy), sinks: wired.into_iter().map(|one| one.sink).collect() }
    }
}

/// Serialization of tuples.
pub(crate) struct Codec<T> {
    pub(crate) encode: fn(&T) -> Result<Vec<u8>, serde_json::Error>,
    pub(crate) decode: fn(&[u8]) -> Result<T, serde_json::Error>,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

/// Converts a tuple into the reader's input; `None` drops the tuple.
pub(crate) type Convert<T, In> = Arc<dyn Fn(T) -> Option<In> + Send + Sync>;

/// A typed edge of the plan.
pub(crate) struct Edge<T, In> {
    pub(crate) grouping: Grouping<T>,
    pub(crate) convert: Convert<T, In>,
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) copy: fn(&T) -> T,
}

/// The reading end of an edge, as the lane of the emitting end sees it.
pub(crate) enum FarEnd<'a> {
    /// In this lane.
    Here { node: u16, queue: &'a Rc<dyn AnyQueue> },
    /// In another stage.
    There { inbox: Arc<str>, lanes: u32, edge: Arc<str>, lane: &'a LaneContext },
}

/// An edge without its types.
pub(crate) trait AnyEdge: Send + Sync {
    /// Returns a `Wired<T>` for one lane.
    fn wire(&self, far: FarEnd<'_>) -> Box<dyn Any>;
    /// Returns the decoder of the edge's records.
    fn decoder(&self, node: u16, queue: &Rc<dyn AnyQueue>) -> Box<dyn Decode>;
    /// True if tuples stay in their lane.
    fn is_local(&self) -> bool;
    /// Returns the grouping's name.
    fn grouping(&self) -> &'static str;
}

impl<T: 'static, In: 'static> AnyEdge for Edge<T, In> {
    fn wire(&self, far: FarEnd<'_>) -> Box<dyn Any> {
        let sink: Box<dyn Sink<T>> = match far {
            FarEnd::Here { node, queue } => {
                Box::new(LocalSink { node, queue: typed(queue), convert: Arc::clone(&self.convert) })
            }
            FarEnd::There { inbox, lanes, edge, lane } => {
                let counted = if matches!(self.grouping, Grouping::PartialKey(_)) { lanes } else { 0 };
                let used = (0..counted).map(|to| lane.count_of(&format!("{edge}#{to}").into())).collect();
                Box::new(TopicSink {
                    chooser: Chooser { grouping: self.grouping.clone(), lanes, used },
                    codec: self.codec.expect("tuples that change lanes have a codec"),
                    inbox,
                    sent: lane.count_of(&edge),
                    edge,
                })
            }
        };
        Box::new(Wired { sink, copy: self.copy })
    }

    fn decoder(&self, node: u16, queue: &Rc<dyn AnyQueue>) -> Box<dyn Decode> {
        let sink = LocalSink { node, queue: typed(queue), convert: Arc::clone(&self.convert) };
        Box::new(Decoder { sink, codec: self.codec.expect("tuples that change lanes have a codec") })
    }

    fn is_local(&self) -> bool {
        matches!(self.grouping, Grouping::Local)
    }

    fn grouping(&self) -> &'static str {
        self.grouping.name()
    }
}

/// Returns a queue with its type.
pub(crate) fn typed<In: 'static>(queue: &Rc<dyn AnyQueue>) -> Rc<Queue<In>> {
    let queue: Rc<dyn Any> = Rc::clone(queue) as Rc<dyn AnyQueue>;
    queue.downcast().expect("the builder made the queue with the type of its component")
}

struct LocalSink<T, In> {
    node: u16,
    queue: Rc<Queue<In>>,
    convert: Convert<T, In>,
}

impl<T, In: 'static> Sink<T> for LocalSink<T, In> {
    fn push(&self, tuple: T, lane: &LaneContext) {
        let Some(input) = (self.convert)(tuple) else { return };
        let anchor = lane.anchor.get();
        if !anchor.is_none() {
            lane.ledger.borrow_mut().retain(anchor);
        }
        if self.queue.push(input, anchor, lane.call()) {
            lane.ready.borrow_mut().push_back(self.node);
        }
    }
}

struct TopicSink<T> {
    chooser: Chooser<T>,
    codec: Codec<T>,
    inbox: Arc<str>,
    /// `from/stream>to`.
    edge: Arc<str>,
    /// Numbers the tuples of this edge and lane. It is saved state, so a replay produces the same
    /// ids.
    sent: Rc<Cell<u64>>,
}

impl<T> Sink<T> for TopicSink<T> {
    fn push(&self, tuple: T, lane: &LaneContext) {
        let body = match (self.codec.encode)(&tuple) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                lane.count(crate::names::TUPLES_UNWRITABLE, Vec::new(), 1);
                let reason = format!("a tuple cannot be written as JSON: {error}");
                return lane.fail(Place::Edge(Arc::clone(&self.edge)), reason, 1);
            }
        };
        let sent = self.sent.get();
        let target = match self.chooser.choose(&tuple, sent, lane.info.lane) {
            Ok(target) => target,
            Err(reason) => return lane.fail(Place::Edge(Arc::clone(&self.edge)), reason, 1),
        };
        let count = |count: &Rc<Cell<u64>>| {
            count.set(count.get() + 1);
            lane.emitted(Emitted::Sent(Rc::clone(count)));
        };
        count(&self.sent);
        let source = lane.info.source();
        let mut envelope = Envelope::new(Kind::Tuple, format!("{source}/{}/{sent}", self.edge), source);
        envelope.subject = Some(self.edge.to_string());
        let send = |to: u32, key: Option<Vec<u8>>| {
            lane.effects.borrow_mut().messages.push(Message {
                topic: Arc::clone(&self.inbox),
                route: Route::To(to),
                key: key.map(Bytes::from),
                envelope: envelope.clone(),
                expires_after_ms: None,
                body: body.clone(),
            });
        };
        match target {
            Target::Lane(to, key) => {
                self.chooser.used.get(to as usize).into_iter().for_each(count);
                send(to, key);
            }
            Target::Lanes(lanes) => lanes.into_iter().for_each(|to| send(to, None)),
        }
    }
}

/// Decodes the records of one edge.
pub(crate) trait Decode {
    fn decode(&self, body: &[u8], lane: &LaneContext) -> Result<(), Unreadable>;
}

struct Decoder<T, In> {
    sink: LocalSink<T, In>,
    codec: Codec<T>,
}

impl<T, In: 'static> Decode for Decoder<T, In> {
    fn decode(&self, body: &[u8], lane: &LaneContext) -> Result<(), Unreadable> {
        let tuple = (self.codec.decode)(body).map_err(|error| Unreadable(error.to_string()))?;
        self.sink.push(tuple, lane);
        Ok(())
    }
}
