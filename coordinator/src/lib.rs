//! Deadlines: a spout and a bolt that turn deadlines into timers of their lane.
//!
//! A bolt that needs a timer for itself arms one with [`topology::Emitter::after`]. Deadlines are for
//! hub and workers: each is a message on a stream, as in the model of Storm.
//!
//! A component that uses deadlines calls [`deadlines`] in its `declare`. It registers and cancels
//! on the side stream [`DEADLINES`] and receives [`TimedOut`]. No other wiring is needed, so none
//! can be forgotten: the first component that asks declares the coordinator of the stage, and each
//! is connected to it.
//!
//! ```
//! use coordinator::{DEADLINES, Deadline, TimedOut, deadlines};
//! use topology::{Bolt, Declarer, Emitter, SavedState, StateValue};
//!
//! /// Says "hurry up" when no text arrived for a second.
//! struct Patience {
//!     /// Saved, since generations derive from it.
//!     seen: StateValue<u32>,
//! }
//!
//! enum In { Text(String), TimedOut(TimedOut) }
//! impl From<String> for In { fn from(text: String) -> Self { In::Text(text) } }
//! impl From<TimedOut> for In { fn from(timed_out: TimedOut) -> Self { In::TimedOut(timed_out) } }
//!
//! impl Bolt for Patience {
//!     type In = In;
//!     type Out = String;
//!     fn declare(d: &mut Declarer<In>) { deadlines(d); }
//!     fn state(&mut self, saved: &mut SavedState<'_>) { saved.value("seen", &mut self.seen); }
//!     fn execute(&mut self, input: In, out: &mut Emitter<String>) {
//!         match input {
//!             In::Text(_) => {
//!                 *self.seen += 1; // a new generation invalidates the old deadline
//!                 out.side(DEADLINES, Deadline::Register { key: 0, generation: *self.seen, after_ms: 1_000 });
//!             }
//!             In::TimedOut(_) => out.emit("hurry up".to_owned()),
//!         }
//!     }
//! }
//! ```
//!
//! The path of a deadline: a component registers it, and the commit of the step arms a timer on the
//! lane's wheel. When the timer fires, the shard appends a timeout to the lane's own inbox.
//! The lane drops it if the deadline was cancelled or replaced meanwhile. Otherwise
//! [`CoordinatorSpout`] reads it back, and [`CoordinatorBolt`] forwards it to the owner. So a reply
//! and a timeout always have one order.
//!
//! Read in this order: [`deadline`] (the messages), [`components`] (spout, bolt and wiring).

pub mod components;
pub mod deadline;
pub mod names;

pub use components::{CoordinatorBolt, CoordinatorSpout, deadlines};
pub use deadline::{DEADLINES, Deadline, TimedOut};
