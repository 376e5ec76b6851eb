//! Nave: topologies of spouts and bolts, and workflows that call external services.
//!
//! [`main`] gives the topologies of a program the whole command line:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use nave::prelude::stream::*;
//!
//! fn squares() -> Result<Topology, BuildErrors> {
//!     let t = Topology::named("squares");
//!     t.items("numbers", || 0_u64..100)
//!         .map("square", |n| n * n)
//!         .for_each("print", |square| println!("{square}"));
//!     t.build()
//! }
//!
//! fn main() -> ExitCode {
//!     nave::main(nave::about!(), [squares])
//! }
//! ```
//!
//! For users:
//! - [`prelude::stream`] and [`prelude::workflow`]: the names that a topology or a workflow needs;
//!   [`hub_and_spokes()`]: the topology of a workflow; [`spoke`]: spokes in Rust.
//! - [`program`]: the topologies, spokes and scenarios of a binary.
//! - [`rest`]: REST routes of a topology, see [`program::Program::rest_routes`].
//! - [`testing`]: a topology with northbound and spokes in virtual time, for tests.
//! - [`sim`]: the same with random faults, for `nave sim`.
//! - [`config`]: the configuration of a process.
//! - [`embed()`]: a topology inside a program of one's own. It and [`testing`] need no feature of
//!   this crate.
//! - [`node`]: submitting topologies, and running them in a process without the command line.
//!
//! Inside, read in this order: `commands` (the command line), `flow_program` (the program of the
//! binary), `process` and `shutdown` (how a process starts and stops), `clock` (real time),
//! `client` and `explain` (the client of the REST interface, and the pages of the codes),
//! `drawing` (graphs of topologies).

#[cfg(feature = "cli")]
mod client;
mod clock;
#[cfg(feature = "cli")]
mod commands;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "cli")]
mod drawing;
mod embed;
#[cfg(feature = "cli")]
mod explain;
#[cfg(feature = "flows")]
mod flow_program;
#[cfg(feature = "workflows")]
mod hub_and_spokes;
#[cfg(feature = "cli")]
mod names;
#[cfg(feature = "cli")]
pub mod node;
#[cfg(feature = "cli")]
mod process;
#[cfg(feature = "cli")]
pub mod program;
#[cfg(feature = "cli")]
mod shutdown;
#[cfg(feature = "cli")]
mod suggest;

pub use clock::SystemClock;
#[cfg(feature = "cli")]
pub use commands::{main, run};
pub use embed::{EmbeddedTopology, embed, embed_on};
#[cfg(feature = "workflows")]
pub use hub_and_spokes::hub_and_spokes;
pub use serde_json;
#[cfg(feature = "workflows")]
pub use simulation::{self as sim, testing};
#[cfg(feature = "workflows")]
pub use spoke;
#[cfg(not(feature = "workflows"))]
pub use topology::testing;
pub use wire::rest;

/// The names that the file of a topology needs.
pub mod prelude {
    /// For topologies of spouts and bolts.
    pub mod stream {
        pub use bus::{Bus, Start};
        pub use topology::{
            Anchored, Bolt, BuildErrors, ChannelReceiver, ChannelSender, Declarer, DeliveryMode, Emitter, Failed,
            KafkaSink, KafkaSource, LaneInfo, Retries, SavedState, SendError, Side, SourceContext, Spout, StateMap,
            StateValue, Topology, Tuple, Unreadable, channel,
        };
    }

    /// For workflows.
    #[cfg(feature = "workflows")]
    pub mod workflow {
        pub use hub::schemars::{self, JsonSchema};
        pub use hub::{
            Barrier, CallFailure, CallOrder, CalledService, CheckedReply, Event, Fx, Illegal, ServiceCall, ServiceExt,
            StepBudget, StepSpec, Workflow, WorkflowState, states,
        };
        pub use topology::{BuildErrors, Topology};
        pub use wire::answer::Answer;
        pub use wire::call::CallOutcome;
        pub use wire::{Code, OperationId, Problem, Service};
    }
}

/// Runs the examples of README.md as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct FirstPage;

/// Runs the examples of the guide as tests.
#[cfg(doctest)]
pub mod guide {
    #[doc = include_str!("../../docs/guide/first-topology.md")]
    pub struct FirstTopology;

    #[doc = include_str!("../../docs/guide/streams.md")]
    pub struct Streams;

    #[doc = include_str!("../../docs/guide/state.md")]
    pub struct State;

    #[doc = include_str!("../../docs/guide/guarantees.md")]
    pub struct Guarantees;

    #[doc = include_str!("../../docs/guide/timers.md")]
    pub struct Timers;

    #[doc = include_str!("../../docs/guide/sources.md")]
    pub struct Sources;

    #[doc = include_str!("../../docs/guide/testing.md")]
    pub struct Testing;

    #[doc = include_str!("../../docs/guide/kafka.md")]
    pub struct Kafka;

    #[doc = include_str!("../../docs/guide/watching.md")]
    pub struct Watching;

    #[doc = include_str!("../../docs/guide/tuning.md")]
    pub struct Tuning;
}
