//! The streams of a topology, and how components read them.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::grouping::Grouping;
use crate::wiring::{Codec, Convert};

/// The component that emits a stream: by its index, or by its name.
#[derive(Clone)]
pub(crate) enum Origin {
    Declared(usize),
    Named(String),
}

/// A stream of tuples `T`.
pub struct Stream<T> {
    pub(crate) from: Origin,
    pub(crate) name: String,
    pub(crate) tuples: PhantomData<fn() -> T>,
}

impl<T: 'static> Stream<T> {
    /// Reads the stream in the same lane: reader and source are in the same stage.
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

    /// Distributes tuples round-robin.
    pub fn shuffle(self) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Shuffle)
    }

    /// Distributes tuples by a key: equal keys go to the same lane.
    pub fn fields<K: AsRef<[u8]>>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Fields(Arc::new(move |tuple| key(tuple).as_ref().to_vec())))
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

    /// Sends each tuple to the lane that `lane` returns for it.
    pub fn direct(self, lane: impl Fn(&T) -> u32 + Send + Sync + 'static) -> Read<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spread(Grouping::Direct(Arc::new(lane)))
    }
}

/// A stream and its grouping.
pub struct Read<T> {
    pub(crate) stream: Stream<T>,
    pub(crate) grouping: Grouping<T>,
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) may_stay: bool,
}

impl<T: 'static> Read<T> {
    /// Reads in the same lane, which puts reader and source into one stage. If the topology is
    /// arranged with [`crate::Arrangement::apart`], the stream is read over a topic with its
    /// grouping instead.
    #[must_use]
    pub fn or_local(self) -> Self {
        Self { may_stay: true, ..self }
    }

    /// Converts each tuple into the reader's input; `None` drops the tuple.
    pub fn with<In>(self, convert: impl Fn(T) -> Option<In> + Send + Sync + 'static) -> Subscription<T, In> {
        let Self { stream, grouping, codec, may_stay } = self;
        Subscription { stream, grouping, codec, may_stay, convert: Arc::new(convert) }
    }
}

/// A stream, its grouping and the conversion of its tuples.
pub struct Subscription<T, In> {
    pub(crate) stream: Stream<T>,
    pub(crate) grouping: Grouping<T>,
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) may_stay: bool,
    pub(crate) convert: Convert<T, In>,
}

impl<T: Into<In> + 'static, In> From<Read<T>> for Subscription<T, In> {
    fn from(read: Read<T>) -> Self {
        read.with(|tuple| Some(tuple.into()))
    }
}
