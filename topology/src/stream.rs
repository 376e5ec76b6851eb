//! The streams of a topology, and how components read them.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::declarations::{Builder, Origin};
use crate::grouping::{Grouping, Key, KeyOf};
use crate::wiring::{Codec, Convert};

/// A stream of tuples `T`.
pub struct Stream<T> {
    pub(crate) builder: Builder,
    pub(crate) from: Origin,
    pub(crate) name: String,
    pub(crate) tuples: PhantomData<fn() -> T>,
}

impl<T: 'static> Stream<T> {
    /// Reads the stream in the same lane: reader and source are in the same stage.
    pub fn local(self) -> Read<T> {
        Read { stream: self, grouping: Grouping::Local, codec: None, may_stay: true, grouped: PhantomData }
    }

    fn spread<G>(self, grouping: Grouping<T>) -> Read<T, G>
    where
        T: Serialize + DeserializeOwned,
    {
        let codec = Codec { encode: |tuple| serde_json::to_vec(tuple), decode: |body| serde_json::from_slice(body) };
        Read { stream: self, grouping, codec: Some(codec), may_stay: false, grouped: PhantomData }
    }

    /// Distributes tuples round-robin.
    pub fn shuffle(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Shuffle)
    }

    /// Distributes tuples by a key that they contain: equal keys go to the same lane.
    ///
    /// ```
    /// # use topology::Topology;
    /// # let t = Topology::named("words");
    /// # let words = t.items("words", || ["a".to_owned()]);
    /// words.fields(|word| word.as_str()).for_each("print", |word| println!("{word}"));
    /// ```
    pub fn fields<K: Key + ?Sized>(self, key: impl Fn(&T) -> &K + Send + Sync + 'static) -> Read<T, Keyed>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Fields(Arc::new(move |tuple| key(tuple).text())))
    }

    /// As [`Stream::fields`], with a key that is computed from the tuple.
    pub fn fields_with<K: Key>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Read<T, Keyed>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Fields(Arc::new(move |tuple| key(tuple).text())))
    }

    /// Sends each tuple to every lane.
    pub fn all(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::All)
    }

    /// Sends all tuples to lane 0.
    pub fn global(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Global)
    }

    /// Distributes tuples by a key, each time to the less used of two lanes: for keys of unequal
    /// frequency, where another stage joins the results of the two lanes.
    pub fn partial_key<K: Key + ?Sized>(self, key: impl Fn(&T) -> &K + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::PartialKey(Arc::new(move |tuple| key(tuple).text())))
    }

    /// Sends each tuple to exactly those lanes that `lanes` returns for it and the number of lanes.
    /// A tuple for which it returns a lane that does not exist goes to the dead-letter topic.
    pub fn custom(self, lanes: impl Fn(&T, u32) -> Vec<u32> + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Custom(Arc::new(lanes)))
    }

    /// Sends each tuple to the lane that `lane` returns for it.
    pub fn direct(self, lane: impl Fn(&T) -> u32 + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Direct(Arc::new(lane)))
    }
}

/// Marks a [`Read`] that is grouped by a key.
pub struct Keyed(());

/// A stream and its grouping. `G` is [`Keyed`] if it is grouped by a key.
pub struct Read<T, G = ()> {
    pub(crate) stream: Stream<T>,
    pub(crate) grouping: Grouping<T>,
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) may_stay: bool,
    grouped: PhantomData<fn() -> G>,
}

impl<T: 'static, G> Read<T, G> {
    /// Reads in the same lane, which puts reader and source into one stage. If the topology is
    /// arranged with [`crate::Arrangement::apart`], the stream is read over a topic with its
    /// grouping instead.
    #[must_use]
    pub fn or_local(self) -> Self {
        Self { may_stay: true, ..self }
    }

    /// Converts each tuple into the reader's input; `None` drops the tuple.
    pub fn with<In>(self, convert: impl Fn(T) -> Option<In> + Send + Sync + 'static) -> Subscription<T, In> {
        let Self { stream: Stream { from, name, .. }, grouping, codec, may_stay, .. } = self;
        Subscription { from, stream: name, grouping, codec, may_stay, convert: Arc::new(convert) }
    }
}

impl<T> Read<T, Keyed> {
    /// Returns its key.
    pub(crate) fn key(&self) -> KeyOf<T> {
        let Grouping::Fields(key) = &self.grouping else { unreachable!("only `fields` makes a keyed read") };
        Arc::clone(key)
    }
}

/// A stream, its grouping and the conversion of its tuples.
pub struct Subscription<T, In> {
    pub(crate) from: Origin,
    pub(crate) stream: String,
    pub(crate) grouping: Grouping<T>,
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) may_stay: bool,
    pub(crate) convert: Convert<T, In>,
}

/// A tuple that a bolt with input `In` can read: `In` itself, or a type that `In` implements `From`
/// for.
#[diagnostic::on_unimplemented(
    message = "a bolt whose input is `{In}` cannot read a stream of `{Self}`",
    label = "this stream carries `{Self}`",
    note = "read a stream of `{In}`, implement `From<{Self}>` for `{In}`, or convert the tuples with `Read::with`"
)]
pub trait TupleFor<In> {
    /// Converts the tuple.
    fn convert(self) -> In;
}

#[diagnostic::do_not_recommend]
impl<T: Into<In>, In> TupleFor<In> for T {
    fn convert(self) -> In {
        self.into()
    }
}

/// A [`Read`] or a [`Subscription`], as [`crate::Declared::reads`] takes it.
pub trait Feeds<In> {
    /// The tuples of the stream.
    type Tuple: Clone + 'static;

    /// Returns the subscription.
    fn subscription(self) -> Subscription<Self::Tuple, In>;
}

impl<T: TupleFor<In> + Clone + 'static, G, In> Feeds<In> for Read<T, G> {
    type Tuple = T;

    fn subscription(self) -> Subscription<T, In> {
        self.with(|tuple| Some(tuple.convert()))
    }
}

impl<T: Clone + 'static, In> Feeds<In> for Subscription<T, In> {
    type Tuple = T;

    fn subscription(self) -> Self {
        self
    }
}
