//! Declarations of a component beside its types: side streams, workflows, and helpers in its stage.

use std::any::{Any, type_name};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::builder::Declared;
use crate::declarations::{Attachment, Builder, Extras, Offer, SideDeclaration};
use crate::emitter::Side;
use crate::wiring::Wired;

/// Collects the declarations of a component. `In` is the component's input type.
pub struct Declarer<In> {
    pub(crate) extras: Extras,
    receives: PhantomData<fn(In)>,
}

impl<In> Default for Declarer<In> {
    fn default() -> Self {
        Self { extras: Extras::default(), receives: PhantomData }
    }
}

impl<In: 'static> Declarer<In> {
    /// Declares a side stream.
    pub fn side<T: 'static>(&mut self, side: Side<T>) {
        self.extras.sides.push(SideDeclaration {
            name: side.name(),
            tuples: type_name::<T>(),
            port: |wired| Box::new(Wired::<T>::port(wired)) as Box<dyn Any>,
        });
    }

    /// Declares a workflow that clients can start. Requests match `request`, a JSON Schema, and go
    /// to the inbox of the component's stage. `version` is the version of the deciding code: no
    /// other version replays records that this version handled.
    pub fn offers(&mut self, name: &'static str, version: u32, request: Value) {
        self.extras.offers.push(Offer { name, version, request });
    }

    /// Declares a helper in the component's stage: components that are installed once per stage
    /// that needs them.
    ///
    /// `install` declares them, with names unique to the stage, and returns their handles.
    /// `connect` joins them to this component; it receives the component's handle and its number in
    /// the topology, the number that the lane passes to [`crate::SystemBolt::timer_for`]. Both use only
    /// the public interface of the builder. Deadlines are wired this way, so no topology can forget
    /// to do it.
    pub fn attach<H: 'static>(
        &mut self,
        name: &'static str,
        install: impl Fn(&Builder, &str) -> H + Send + Sync + 'static,
        connect: impl Fn(&Builder, &H, Declared<In, ()>, u16) + Send + Sync + 'static,
    ) {
        self.extras.attachments.push(Attachment {
            name,
            install: Arc::new(move |builder, stage| Rc::new(install(builder, stage)) as Rc<dyn Any>),
            connect: Arc::new(move |builder, handles, component, number| {
                let handles = handles.downcast_ref::<H>().expect("one name, one kind of helper");
                connect(builder, handles, builder.declared(component), number);
            }),
        });
    }
}
