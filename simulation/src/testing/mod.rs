//! For tests: a topology and its surroundings on one thread, in virtual time, from one seed.
//!
//! There is no broker and no real waiting: an hour of timeouts passes in a millisecond.
//!
//! - [`run`] is a bolt alone; [`Lanes`] are the lanes of a topology, without surroundings.
//! - [`World`] adds a northbound and spokes.
//! - `System` is the flow topology on any bus, for tests and benchmarks that poll it themselves.

#[cfg(feature = "flows")]
mod system;
mod world;

#[cfg(feature = "flows")]
pub use system::{HUB, SPEAKER, System, SystemError, SystemOptions};
pub use topology::testing::{Lanes, run};
pub use world::{SentRequest, World};
