//! Worlds for tests: a topology and its surroundings on one thread, in virtual time, from one seed.
//!
//! There is no broker and no real waiting: an hour of timeouts passes in a millisecond.
//!
//! - [`Lanes`] are the lanes of any topology, without surroundings.
//! - [`TestWorld`] runs any topology with its spokes.
//! - [`World`] runs the flow topology with a northbound and the simulated switch controller.
//! - [`System`] is the flow topology on any bus, for tests and benchmarks that poll it themselves.

mod flow_world;
mod system;
mod world;

pub use flow_world::{FlowOutcome, FlowRequest, World};
pub use system::{HUB, SPEAKER, System, SystemError, SystemOptions};
pub use topology::testing::Lanes;
pub use world::{TestRequest, TestWorld};
