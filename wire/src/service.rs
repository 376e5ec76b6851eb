//! A service, declared once: its name and the types of its requests and replies.
//!
//! The workflow that calls the service and the spoke that serves it use the same declaration. So
//! neither compiles if its types differ from those of the other.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wire::service::Service;
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Order { nights: u32 }
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Price { euros: u32 }
//!
//! pub const HOTEL: Service<Order, Price> = Service::named("hotel");
//! assert_eq!(HOTEL.name(), "hotel");
//! ```

use std::fmt;
use std::marker::PhantomData;

/// The declaration of a service. Bodies are JSON.
pub struct Service<Request, Reply> {
    name: &'static str,
    types: PhantomData<fn(Request) -> Reply>,
}

impl<Request, Reply> Service<Request, Reply> {
    /// Declares the service `name`. Its topics have this name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<Request, Reply> Clone for Service<Request, Reply> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Request, Reply> Copy for Service<Request, Reply> {}

impl<Request, Reply> fmt::Debug for Service<Request, Reply> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service `{}`", self.name)
    }
}

/// A service that takes `Request` and answers `Reply`: its declaration, or its name alone where no
/// Rust declares it, as for a workflow in another program. A name fits any types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the declaration of a service with requests `{Request}` and replies `{Reply}`",
    note = "the types of the spoke must be those of the service"
)]
pub trait ServiceName<Request, Reply>: Copy {
    /// Returns the name.
    fn service_name(&self) -> &str;
}

impl<Request, Reply> ServiceName<Request, Reply> for Service<Request, Reply> {
    fn service_name(&self) -> &str {
        self.name
    }
}

impl<Request, Reply> ServiceName<Request, Reply> for &str {
    fn service_name(&self) -> &str {
        self
    }
}
