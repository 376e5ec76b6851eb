//! Types of everything that crosses the bus.
//!
//! Every message is a record with a key, headers and a JSON body. This crate defines these parts;
//! it does not send or receive them.
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
//! Reading order: [`ids`], [`header`] and [`envelope`] (headers of a record), [`routing`] (the lane of a key),
//! [`topics`] (topic names), [`request`], [`command`] and [`answer`] (start, commands and result of
//! an operation), [`service`] (a service and its types), [`call`] (messages between hub and
//! workers), [`alive`] (liveness of spokes), [`owner`] (takeover of a lane), [`control`] (submitted
//! topologies), [`graph`] (comparison of two builds), [`rest`] (REST routes of a topology),
//! [`code`] (error codes), [`hash`], [`json`] (JSON from outside), [`time`].

pub mod alive;
pub mod answer;
pub mod call;
pub mod code;
pub mod command;
pub mod control;
pub mod envelope;
pub mod graph;
pub mod hash;
pub mod header;
pub mod ids;
pub mod json;
pub mod owner;
pub mod request;
pub mod rest;
pub mod routing;
pub mod service;
pub mod time;
pub mod topics;

pub use answer::{Answer, Problem};
pub use code::Code;
pub use envelope::{Envelope, EnvelopeRef, Kind, RawHeaders};
pub use ids::{CallId, MessageId, OperationId, RequestName, WireError};
pub use service::Service;
pub use time::WallTime;
