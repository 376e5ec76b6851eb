//! A source whose tuples clients POST: records of the stage's inbox.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use wire::{EnvelopeRef, Kind};

use crate::component::InboxSpout;
use crate::emitter::Emitter;
use crate::input::{Delivery, Unreadable};

/// Emits the bodies of the tuple records that name it.
pub(super) struct PostedTuples<T> {
    name: Arc<str>,
    tuples: PhantomData<fn() -> T>,
}

impl<T> PostedTuples<T> {
    pub(super) fn of(name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), tuples: PhantomData }
    }
}

impl<T: DeserializeOwned + 'static> InboxSpout for PostedTuples<T> {
    type Out = T;

    fn accepts(&self, envelope: &EnvelopeRef<'_>) -> bool {
        envelope.kind == Kind::Tuple && envelope.subject == Some(&*self.name)
    }

    fn receive(&mut self, delivery: &Delivery<'_>, out: &mut Emitter<T>) -> Result<(), Unreadable> {
        out.emit(delivery.json()?);
        Ok(())
    }
}
