//! Calls of a workflow to services: how it lists a service, calls it and reads its reply.
//!
//! ```
//! use hub::{CalledService, Event, Fx, Illegal, ServiceExt, StepSpec, Workflow};
//! use serde::{Deserialize, Serialize};
//! use wire::answer::Answer;
//! use wire::{OperationId, Problem, Service};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { item: String }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Price { euros: u32 }
//!
//! const SHOP: Service<Order, Price> = Service::named("shop");
//!
//! #[derive(Serialize, Deserialize)]
//! struct Purchase { item: String, euros: u32 }
//! # hub::states! { enum S { New = "-", Buying = "buying", Ended = "ended" } }
//!
//! impl Workflow for Purchase {
//!     const NAME: &'static str = "purchase";
//!     const SERVICES: &'static [CalledService] = &[CalledService::of(SHOP)];
//! #   type State = S;
//! #   type Request = String;
//! #   type Lane = ();
//! #   fn begin(_: &OperationId, _: &str, item: String) -> Result<Self, Problem> { Ok(Self { item, euros: 0 }) }
//!     fn on(&mut self, state: S, event: &Event, fx: &mut Fx<'_, Self>) -> Result<S, Illegal> {
//!         Ok(match (state, event) {
//!             (S::New, Event::Requested) => {
//!                 let order = Order { item: self.item.clone() };
//!                 fx.step(StepSpec::new("buy", 2_000).call(SHOP.call(1, "shop", &order, "buy it", 1_000)));
//!                 S::Buying
//!             }
//!             (S::Buying, Event::Replied { reply, .. }) => {
//!                 self.euros = reply.of(SHOP).euros;
//!                 S::Buying
//!             }
//! #           _ => return Err(Illegal),
//!             // ...
//!         })
//!     }
//! }
//! ```
//!
//! A request of another type does not compile:
//!
//! ```compile_fail,E0308
//! # use hub::ServiceExt;
//! # use wire::Service;
//! const SHOP: Service<u32, bool> = Service::named("shop");
//! SHOP.call(1, "shop", &"seven", "buy it", 1_000);
//! ```
//!
//! Nor does an undo of another type:
//!
//! ```compile_fail,E0308
//! # use hub::ServiceExt;
//! # use wire::Service;
//! const SHOP: Service<u32, bool> = Service::named("shop");
//! SHOP.call(1, "shop", &7, "buy it", 1_000).undo(&"seven", "give it back", 1_000);
//! ```

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire::Service;

use crate::interned::Interned;

/// A service that a workflow calls, in [`Workflow::SERVICES`](crate::Workflow::SERVICES).
#[derive(Debug, Clone, Copy)]
pub struct CalledService {
    name: &'static str,
    check: fn(&str) -> Result<(), String>,
}

impl CalledService {
    /// Returns the service, whose replies must be of the declared type.
    pub const fn of<Request, Reply: DeserializeOwned>(service: Service<Request, Reply>) -> Self {
        Self { name: service.name(), check: |body| parse::<Reply>(body).map(drop) }
    }

    /// Returns a service whose replies may be any text, even if it is not JSON. The workflow reads
    /// it with [`CheckedReply::text`].
    pub const fn unchecked(name: &'static str) -> Self {
        Self { name, check: |_| Ok(()) }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A reply that is of the type of its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckedReply(String);

impl CheckedReply {
    /// Checks a reply of the service with this name.
    pub(crate) fn check(services: &[CalledService], name: &str, body: String) -> Result<Self, String> {
        match services.iter().find(|service| service.name == name) {
            Some(service) => (service.check)(&body).map(|()| Self(body)),
            None => Err(format!("the workflow no longer calls service `{name}`")),
        }
    }

    /// Returns the reply of this service.
    ///
    /// # Panics
    /// If the reply is from a service with another type of replies. The hub then parks the
    /// operation.
    pub fn of<Request, Reply: DeserializeOwned>(&self, service: Service<Request, Reply>) -> Reply {
        parse(&self.0).unwrap_or_else(|why| panic!("not a reply of {service:?}: {why}"))
    }

    /// Returns the reply as JSON text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// For tests, which give a reply to a workflow without a hub.
impl From<&str> for CheckedReply {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Deserializes a reply. The error names the fault and the first 80 characters of the reply.
fn parse<Reply: DeserializeOwned>(body: &str) -> Result<Reply, String> {
    serde_json::from_str(body).map_err(|error| {
        let start: String = body.chars().take(80).collect();
        format!("the reply `{start}` is not of the type that the call expects: {error}")
    })
}

/// Makes calls of a declared service.
pub trait ServiceExt<Request, Reply> {
    /// Creates a call. The hub derives its id from its position in the step.
    ///
    /// - `tag` is the number by which events name the call. Calls with an undo need tags that are
    ///   unique across all steps.
    /// - `key` is the key of the spoke, which receives the requests of one key in order.
    /// - `what` is a description, such as "install rule 8 on of:08".
    /// - `within_ms` is the time limit in milliseconds over all attempts.
    fn call(
        self,
        tag: u32,
        key: impl Into<String>,
        request: &Request,
        what: impl Into<String>,
        within_ms: u64,
    ) -> ServiceCall<Request, Reply>;
}

impl<Request: Serialize, Reply> ServiceExt<Request, Reply> for Service<Request, Reply> {
    fn call(
        self,
        tag: u32,
        key: impl Into<String>,
        request: &Request,
        what: impl Into<String>,
        within_ms: u64,
    ) -> ServiceCall<Request, Reply> {
        let (key, what, body) = (key.into(), what.into(), json(request));
        let spec = CallSpec { tag, service: self.name(), key, what, body, within_ms, undo: None };
        ServiceCall { spec, types: PhantomData }
    }
}

/// A call to a service with these types, for [`StepSpec::call`](crate::StepSpec::call).
#[derive(Debug)]
#[must_use = "a call is made by a step"]
pub struct ServiceCall<Request, Reply> {
    spec: CallSpec,
    types: PhantomData<fn(Request) -> Reply>,
}

impl<Request: Serialize, Reply> ServiceCall<Request, Reply> {
    /// Sets the compensation: a call to the same service and key, with its description and its
    /// time limit in milliseconds.
    pub fn undo(mut self, request: &Request, what: impl Into<String>, within_ms: u64) -> Self {
        self.spec.undo = Some(UndoSpec { what: what.into(), body: json(request), within_ms, always: false });
        self
    }

    /// Undoes the call even if it was certainly not carried out: an earlier operation may have left
    /// the same effect.
    pub fn always_undo(mut self) -> Self {
        self.spec.undo.iter_mut().for_each(|undo| undo.always = true);
        self
    }
}

impl<Request, Reply> ServiceCall<Request, Reply> {
    pub(crate) fn into_spec(self) -> CallSpec {
        self.spec
    }
}

fn json<Request: Serialize>(request: &Request) -> String {
    serde_json::to_string(request).expect("a request is plain data, as `Serialize` derives it")
}

/// A call, as an operation keeps it. Saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallSpec {
    pub(crate) tag: u32,
    #[serde(with = "crate::interned")]
    pub(crate) service: Interned,
    pub(crate) key: String,
    pub(crate) what: String,
    /// The body as JSON text; empty once it was sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) body: String,
    pub(crate) within_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) undo: Option<UndoSpec>,
}

/// The compensation of a call. Saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UndoSpec {
    pub(crate) what: String,
    /// The body as JSON text.
    pub(crate) body: String,
    pub(crate) within_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) always: bool,
}
