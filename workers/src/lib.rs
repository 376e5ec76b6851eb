//! Spokes: the worker bolt holds the conversation with one kind of them.
//!
//! A call goes out as attempts, with back-off and jitter between them, until a spoke replies or refuses, the attempts are
//! used up, or its time is over. The call's id stays the same; each attempt has a message id of its own, so an old answer
//! and a new one can be told apart: a success of any attempt counts, a refusal only of the current one. The worker knows
//! nothing of what the calls say.
//!
//! Read in this order: [`settings`] (how it tries), [`table`] (pure; `table/saved.rs` says how it is saved), [`components`] (spout and
//! bolt around it).

pub mod components;
pub mod names;
pub mod settings;
pub mod table;

pub use components::{SpokeReply, WorkerBolt, WorkerIn, WorkerSpout};
pub use settings::WorkerSettings;
pub use table::{WorkerEffect, WorkerTable};
