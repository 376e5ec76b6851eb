//! Spokes: the worker bolt exchanges messages with the spokes of one service.
//!
//! A worker sends a call in several attempts, with backoff and jitter between them. It stops when
//! the spoke replies or refuses, the attempts are used up, or the time limit of the call is
//! reached. All attempts share the call id, but each has its own message id. So a reply to any
//! attempt counts, and a refusal counts only for the current attempt. The worker does not know the
//! content of calls.
//!
//! Read in this order:
//! - [`settings`]: attempts, timeouts and limits
//! - [`table`]: pure; `table/saved.rs` describes the saved state
//! - [`components`]: the spout and the bolt

pub mod components;
pub mod names;
pub mod settings;
pub mod table;

pub use components::{SpokeReply, WorkerBolt, WorkerIn, WorkerSpout};
pub use settings::WorkerSettings;
pub use table::{WorkerEffect, WorkerTable};
