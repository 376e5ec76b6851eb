//! The nouns on the wire.
//!
//! Everything that crosses the bus is a record with a key, headers and a JSON body. This crate gives those parts their
//! names and types, and knows nothing of how they travel.
//!
//! ```
//! use wire::{CallId, Kind, MessageId, OperationId};
//!
//! let call = CallId::new(OperationId::new("7f3a")?, 2, 7);
//! let message = MessageId::new(call, "speaker", 1);
//! assert_eq!(message.to_string(), "7f3a/2/7/speaker/1");
//! assert_eq!("nave.call".parse(), Ok(Kind::Call));
//! # Ok::<(), wire::WireError>(())
//! ```
//!
//! Read in this order: [`ids`] (who is who), [`envelope`] (the headers of a record), [`routing`] (which lane a key
//! belongs to), [`topics`] (what topics are called), [`request`], [`command`] and [`answer`] (how an operation begins, is taken in
//! hand, and ends), [`call`] (the words between hub and workers), [`alive`] (which spokes live), [`owner`] (how a lane is
//! taken over), [`control`] (which topologies there are), [`code`] (what a fault is called), [`hash`] (the hash that tells texts apart), [`json`] (JSON from outside), then the words of the first user: [`flow`] and [`speaker`].

pub mod alive;
pub mod answer;
pub mod call;
pub mod code;
pub mod command;
pub mod control;
pub mod envelope;
pub mod flow;
pub mod graph;
pub mod hash;
pub mod ids;
pub mod json;
pub mod owner;
pub mod request;
pub mod routing;
pub mod speaker;
pub mod time;
pub mod topics;

pub use answer::{Answer, Problem};
pub use code::Code;
pub use envelope::{Envelope, Head, Kind, Texts};
pub use ids::{CallId, MessageId, OperationId, RequestName, WireError};
pub use time::WallTime;
