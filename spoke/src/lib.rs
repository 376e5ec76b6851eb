//! Spokes in Rust: services that answer calls from a topic.
//!
//! A workflow calls a service; the call is a record of the topic of that service. A spoke is a
//! program that reads the topic and answers. It can be written in any language; this crate is for
//! Rust. [`SpokeTask`] runs a [`Spoke`] or an [`AsyncSpoke`]:
//!
//! - Each call is handled once. A repeated call gets the answer of the first one, and a call that
//!   was undone or is past its deadline is refused.
//! - Calls with the same key are handled in order. An asynchronous spoke handles calls with
//!   different keys concurrently, up to a limit.
//! - Answers and offsets are committed together, so a crash loses neither. With
//!   [`Delivery::Immediate`] answers are sent at once, for spokes whose memory outlives the process.
//! - Heartbeats let workers refuse calls at once while no instance is alive ([`SpokeOptions`]).
//!
//! The memory of answered calls ends with the process, or is kept in a directory
//! ([`SpokeOptions::memory`]). A process that crashes after a handler ran and before its answer was
//! saved runs the handler again with the same [`Call::id`]: a spoke that asks another system passes
//! that id on as its idempotency key.
//!
//! ```
//! use spoke::{Call, Service, Spoke, SpokeError};
//!
//! /// Declared once, beside the workflow that calls it.
//! const HOTEL: Service<String, u32> = Service::named("hotel");
//!
//! /// Gives out ten rooms.
//! #[derive(Default)]
//! struct Hotel(u32);
//!
//! impl Spoke for Hotel {
//!     type Request = String;
//!     type Reply = u32;
//!     fn handle(&mut self, call: &Call, action: String) -> Result<u32, SpokeError> {
//!         match action.as_str() {
//!             "book" if self.0 < 10 => { self.0 += 1; Ok(self.0) }
//!             "book" => Err(SpokeError::refuse("full", format!("no room for {}", call.key))),
//!             _ => Err(SpokeError::refuse("unknown", action)),
//!         }
//!     }
//! }
//!
//! # use std::sync::Arc;
//! # let clock = Arc::new(bus::ManualClock::default());
//! let bus = bus::Embedded::open(clock, bus::EmbeddedOptions::default());
//! # use bus::Bus;
//! let names = wire::topics::Topics::default();
//! # bus.ensure_topic(&bus::TopicSpec::log(&names.spoke("hotel"), 1))?;
//! let service = spoke::SpokeService::new(Hotel::default());
//! let task = spoke::SpokeTask::join(&bus, &names, HOTEL, "hotel-1", service)?;
//! # Ok::<(), bus::BusError>(())
//! ```
//!
//! A spoke whose types are not those of its service does not compile:
//!
//! ```compile_fail,E0277
//! # use spoke::{Service, SpokeService, SpokeTask, Silent};
//! # fn join(bus: &dyn bus::Bus, names: &wire::topics::Topics) -> Result<(), bus::BusError> {
//! const HOTEL: Service<String, u32> = Service::named("hotel");
//! let silent = SpokeService::new(Silent); // its replies are `()`
//! SpokeTask::join(bus, names, HOTEL, "hotel-1", silent)?;
//! # Ok(())
//! # }
//! ```
//!
//! Read in this order: [`spoke`](Spoke) (what users write), `options`, `service` (one call),
//! `memory` and `store` (answered calls), `running` (calls in flight), `contract` (what the loop
//! needs from a service), `runner` (how a spoke provides it), `task` (the loop), `commit` and
//! `immediate` (the two ways of delivery), `heart` (heartbeats).

mod commit;
mod contract;
mod heart;
mod immediate;
mod memory;
mod names;
mod options;
mod runner;
mod running;
mod service;
mod spoke;
mod store;
mod task;

pub use contract::{InjectedCrash, RecordService, ServicePoll};
pub use options::{Delivery, SpokeOptions};
pub use runner::CallRunner;
pub use service::{CallEffect, HandledCall, Handler, HandlerFuture, HandlerResult, Progress, SpokeService};
pub use spoke::{AsyncSpoke, Call, Concurrent, Reason, Silent, Spoke, SpokeError};
pub use task::SpokeTask;
pub use wire::{CallId, Service, WallTime};
