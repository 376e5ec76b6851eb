//! Bolts from closures, for steps without fields of their own.
//!
//! A closure is shared by all lanes, so it is `Fn`. After a crash the new owner of a lane calls it
//! again for the records since the last snapshot: a closure that acts outside, such as one that
//! prints, repeats that.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::Declared;
use crate::component::Bolt;
use crate::emitter::Emitter;
use crate::grouping::KeyOf;
use crate::state::{SavedState, StateMap};
use crate::stream::{Keyed, Read};

/// A bolt that calls a closure for each tuple.
struct Closure<In, Out>(Arc<Execute<In, Out>>);

type Execute<In, Out> = dyn Fn(In, &mut Emitter<Out>) + Send + Sync;

impl<In: 'static, Out: 'static> Bolt for Closure<In, Out> {
    type In = In;
    type Out = Out;

    fn execute(&mut self, input: In, out: &mut Emitter<Out>) {
        (self.0)(input, out);
    }
}

/// A bolt with a saved state for each key.
struct Fold<T, S, F> {
    key: KeyOf<T>,
    start: S,
    change: Arc<F>,
    states: StateMap<String, S>,
}

impl<T, S, F> Bolt for Fold<T, S, F>
where
    T: 'static,
    S: Clone + Serialize + DeserializeOwned + 'static,
    F: Fn(&mut S, T) + 'static,
{
    type In = T;
    type Out = (String, S);

    fn state(&mut self, saved: &mut SavedState<'_>) {
        saved.map("states", &mut self.states);
    }

    fn execute(&mut self, tuple: T, out: &mut Emitter<(String, S)>) {
        let key = (self.key)(&tuple);
        let state = self.states.get_or_insert_with(&key, || self.start.clone());
        (self.change)(state, tuple);
        let state = state.clone();
        out.emit((key, state));
    }
}

impl<T: Clone + 'static, G> Read<T, G> {
    fn closure<Out: 'static>(
        self,
        name: &str,
        execute: impl Fn(T, &mut Emitter<Out>) + Send + Sync + 'static,
    ) -> Declared<T, Out> {
        let builder = self.stream.builder.clone();
        let execute: Arc<Execute<T, Out>> = Arc::new(execute);
        builder.bolt(name, move || Closure(Arc::clone(&execute))).reads(self)
    }

    /// Declares a bolt that emits a tuple for each tuple.
    pub fn map<Out: 'static>(self, name: &str, map: impl Fn(T) -> Out + Send + Sync + 'static) -> Declared<T, Out> {
        self.closure(name, move |tuple, out| out.emit(map(tuple)))
    }

    /// Declares a bolt that emits those tuples for which `keep` returns true.
    pub fn filter(self, name: &str, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Declared<T, T> {
        self.closure(name, move |tuple, out| {
            if keep(&tuple) {
                out.emit(tuple);
            }
        })
    }

    /// Declares a bolt that emits any number of tuples for each tuple.
    pub fn flat_map<Out: 'static>(
        self,
        name: &str,
        map: impl Fn(T) -> Vec<Out> + Send + Sync + 'static,
    ) -> Declared<T, Out> {
        self.closure(name, move |tuple, out| map(tuple).into_iter().for_each(|tuple| out.emit(tuple)))
    }

    /// Declares a bolt that calls `act` for each tuple and emits nothing. After a crash it is called
    /// again for tuples since the last snapshot.
    pub fn for_each(self, name: &str, act: impl Fn(T) + Send + Sync + 'static) -> Declared<T, ()> {
        self.closure(name, move |tuple, _out| act(tuple))
    }
}

impl<T: Clone + 'static> Read<T, Keyed> {
    /// Declares a bolt with a saved state for each key, which begins with `start`. `fold` changes the
    /// state of the tuple's key, and the bolt emits the key with the new state.
    pub fn fold<S: Clone + Serialize + DeserializeOwned + Send + Sync + 'static>(
        self,
        name: &str,
        start: S,
        fold: impl Fn(&mut S, T) + Send + Sync + 'static,
    ) -> Declared<T, (String, S)> {
        let (builder, key, change) = (self.stream.builder.clone(), self.key(), Arc::new(fold));
        let make = move || {
            let (key, change) = (Arc::clone(&key), Arc::clone(&change));
            Fold { key, start: start.clone(), change, states: StateMap::default() }
        };
        builder.bolt(name, make).reads(self)
    }
}

/// The same for the main stream, read in the same lane.
impl<In: 'static, Out: Clone + 'static> Declared<In, Out> {
    /// Declares a bolt that emits a tuple for each tuple; see [`Read::map`].
    pub fn map<Next: 'static>(
        &self,
        name: &str,
        map: impl Fn(Out) -> Next + Send + Sync + 'static,
    ) -> Declared<Out, Next> {
        self.local().map(name, map)
    }

    /// Declares a bolt that emits those tuples for which `keep` returns true; see [`Read::filter`].
    pub fn filter(&self, name: &str, keep: impl Fn(&Out) -> bool + Send + Sync + 'static) -> Declared<Out, Out> {
        self.local().filter(name, keep)
    }

    /// Declares a bolt that emits any number of tuples for each tuple; see [`Read::flat_map`].
    pub fn flat_map<Next: 'static>(
        &self,
        name: &str,
        map: impl Fn(Out) -> Vec<Next> + Send + Sync + 'static,
    ) -> Declared<Out, Next> {
        self.local().flat_map(name, map)
    }

    /// Declares a bolt that calls `act` for each tuple; see [`Read::for_each`].
    pub fn for_each(&self, name: &str, act: impl Fn(Out) + Send + Sync + 'static) -> Declared<Out, ()> {
        self.local().for_each(name, act)
    }
}
