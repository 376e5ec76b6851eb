//! What a component declares of itself beside its types: side streams, and helpers that must live in its stage.

use std::any::{Any, type_name};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use crate::builder::{Builder, Declared};
use crate::emitter::{Port, Side};
use crate::wiring::Wired;

/// Collects what a component declares. `In` is what the component receives.
pub struct Declarer<In> {
    pub(crate) sides: Vec<SideDeclaration>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) offers: Vec<Offer>,
    receives: PhantomData<fn(In)>,
}

impl<In> Default for Declarer<In> {
    fn default() -> Self {
        Self { sides: Vec::new(), attachments: Vec::new(), offers: Vec::new(), receives: PhantomData }
    }
}

/// Something that clients can ask of a component.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) name: &'static str,
    /// The version of the code that decides what becomes of it.
    pub(crate) version: u32,
    pub(crate) request: Value,
}

type MakePort = fn(Vec<Box<dyn Any>>) -> Box<dyn Any>;

#[derive(Clone)]
pub(crate) struct SideDeclaration {
    pub(crate) name: &'static str,
    pub(crate) tuples: &'static str,
    /// Makes a `Port<T>` of what the edges of this stream gave.
    pub(crate) port: MakePort,
}

type Install = Arc<dyn Fn(&Builder, &str) -> Rc<dyn Any> + Send + Sync>;
type Connect = Arc<dyn Fn(&Builder, &dyn Any, usize, u16) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Attachment {
    pub(crate) name: &'static str,
    pub(crate) install: Install,
    pub(crate) connect: Connect,
}

impl<In: 'static> Declarer<In> {
    /// The component emits on this side stream.
    pub fn side<T: 'static>(&mut self, side: Side<T>) {
        self.sides.push(SideDeclaration {
            name: side.name(),
            tuples: type_name::<T>(),
            port: |wired| Box::new(Wired::<T>::port(wired)) as Box<dyn Any>,
        });
    }

    /// Clients can ask the component for `name`, with a request that `request`, a JSON Schema, describes: it goes to the inbox
    /// of the component's stage. `version` is that of the code that decides: records that one version has decided are not decided
    /// again by another.
    pub fn offers(&mut self, name: &'static str, version: u32, request: Value) {
        self.offers.push(Offer { name, version, request });
    }

    /// The component needs a helper in its stage: components that are declared once for each stage that has one who asks.
    ///
    /// `install` declares them, under names of their own for the stage, and returns its handles. `connect` joins them to the
    /// component that asked, of which it gets the handle and its number in the topology: the number with which the lane
    /// asks [`crate::Bolt::timer_for`]. All of it through the public interface of the builder: this is how deadlines wire themselves in, and
    /// why nobody can forget to.
    pub fn attach<H: 'static>(
        &mut self,
        name: &'static str,
        install: impl Fn(&Builder, &str) -> H + Send + Sync + 'static,
        connect: impl Fn(&Builder, &H, Declared<In, ()>, u16) + Send + Sync + 'static,
    ) {
        self.attachments.push(Attachment {
            name,
            install: Arc::new(move |builder, stage| Rc::new(install(builder, stage)) as Rc<dyn Any>),
            connect: Arc::new(move |builder, handles, component, number| {
                let handles = handles.downcast_ref::<H>().expect("one name, one kind of helper");
                connect(builder, handles, builder.declared(component), number);
            }),
        });
    }
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
