//! Deadlines: a spout and a bolt that own every deadline of a lane.
//!
//! A component that uses deadlines calls [`deadlines`] in its `declare`, registers and cancels on the side stream
//! [`DEADLINES`], and receives [`TimedOut`]. Nothing else is to be wired, so nothing can be forgotten: the coordinator of the
//! stage is declared when the first component asks, and joined to each that does.
//!
//! ```
//! use coordinator::{DEADLINES, Deadline, TimedOut, deadlines};
//! use topology::{Bolt, Declarer, Emitter};
//!
//! /// Says "hurry up" when nothing came for a second.
//! struct Patience { seen: u32 }
//!
//! enum In { Word(String), TimedOut(TimedOut) }
//! impl From<String> for In { fn from(word: String) -> Self { In::Word(word) } }
//! impl From<TimedOut> for In { fn from(timed_out: TimedOut) -> Self { In::TimedOut(timed_out) } }
//!
//! impl Bolt for Patience {
//!     type In = In;
//!     type Out = String;
//!     fn declare(d: &mut Declarer<In>) { deadlines(d); }
//!     fn execute(&mut self, input: In, out: &mut Emitter<String>) {
//!         match input {
//!             In::Word(_) => {
//!                 self.seen += 1; // a new generation: the old deadline can do nothing any more
//!                 out.side(DEADLINES, Deadline::Register { key: 0, generation: self.seen, after_ms: 1_000 });
//!             }
//!             In::TimedOut(_) => out.emit("hurry up".to_owned()),
//!         }
//!     }
//! }
//! ```
//!
//! The way of a deadline: registered by a component, armed on the lane's wheel when the step is committed; when it passes, the
//! shell appends a timeout to the lane's own inbox; [`CoordinatorSpout`] reads it back, and [`CoordinatorBolt`] hands it on,
//! if its generation is still the one that is registered. So a reply and a timeout can never be seen in two orders.
//!
//! Read in this order: [`deadline`] (the words), [`table`] (pure), `saved` (how it is saved), [`components`] (spout, bolt, and how
//! they are wired).

pub mod components;
pub mod deadline;
pub mod names;
mod saved;
pub mod table;

pub use components::{CoordinatorBolt, CoordinatorSpout, deadlines};
pub use deadline::{DEADLINES, Deadline, TimedOut};
