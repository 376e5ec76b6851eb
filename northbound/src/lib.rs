//! REST in, inbox out; answers back.
//!
//! A request becomes a record in the inbox of a hub, and a [`Ticket`] that waits for the answer. Answers come over the egress
//! topic and are pushed to who waits for them; nothing polls. What is known of operations comes over the view topic.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bus::ManualClock;
//! use northbound::{Gateway, GatewayOptions, Submission};
//! use serde_json::json;
//!
//! let options = GatewayOptions::new("nave.flows.hub.in", "nave.flows.hub.out", "nave.flows.hub.view", 4);
//! let gateway = Arc::new(Gateway::new(options, Arc::new(ManualClock::default())));
//! let ticket = gateway.submit(Submission {
//!     workflow: "create-flow",
//!     key: "test-01",
//!     request: json!({"flowid": "test-01", "length": 10}),
//!     idempotency_key: Some("monday"),
//!     trace: None,
//!     http_id: uuid::Uuid::from_u128(1),
//! })?;
//! assert_eq!(&*ticket.record.topic, "nave.flows.hub.in");
//! assert_eq!(gateway.unanswered(), 1);
//! drop(ticket);
//! assert_eq!(gateway.unanswered(), 0);
//! # Ok::<(), wire::Problem>(())
//! ```
//!
//! Read in this order: [`gateway`] (requests, tickets, answers), [`known`] (what is known of operations), [`silence`] (lanes that say nothing), [`inlet`] and
//! [`outlet`] (the two ends on the bus), [`http`] (the paths), [`health`] (those of processes without a northbound).

pub mod gateway;
pub mod health;
pub mod http;
pub mod inlet;
pub mod known;
pub mod outlet;
pub mod silence;
pub mod ticket;

mod metrics;

pub use gateway::{Gateway, GatewayOptions, Submission};
pub use http::{Northbound, router, serve};
pub use inlet::{Inlet, InletHandle};
pub use outlet::Outlet;
pub use ticket::{Ticket, Told};
