//! REST in, inbox out; answers back.
//!
//! A request becomes a record in the inbox of a hub, and a [`Ticket`] that waits for the answer. Answers come over the egress
//! topic and are pushed to who waits for them; nothing polls. What is known of operations comes over the view topic, and
//! which topologies there are over the control topic. There may be any number of northbounds: each reads everything.
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
//! let request = json!({"flowid": "test-01", "length": 10});
//! let ticket = gateway.submit(Submission {
//!     idempotency_key: Some("monday"),
//!     ..Submission::new("create-flow", "test-01", request, uuid::Uuid::from_u128(1))
//! })?;
//! assert_eq!(&*ticket.record.topic, "nave.flows.hub.in");
//! assert_eq!(gateway.unanswered(), 1);
//! drop(ticket);
//! assert_eq!(gateway.unanswered(), 0);
//! # Ok::<(), wire::Problem>(())
//! ```
//!
//! To start one: a [`Directory`], an [`Outlet`] that follows it and an [`Inlet`], each with its turns; then [`serve`] the
//! [`router`] of a [`Northbound`], once [`check_listen`] agrees with the address.
//!
//! Read in this order: [`gateway`] (requests, tickets, answers), [`known`] (what is known of operations), [`shown`] (what
//! workflows show), [`watch`] (who watches), [`silence`] (lanes that say nothing), [`lag`] (how far they are behind), [`waiting`] (what requests wait for), [`directory`] (which topologies there are),
//! [`spokes`] (which spokes live), [`inlet`] and [`outlet`] (the two ends on the bus), [`access`] and [`limits`] (who may ask,
//! and how much), [`http`] (the paths), [`server`] (connections), `unparsed` (what the parser refuses), [`health`] (the
//! paths of processes without a northbound).

pub mod access;
pub mod directory;
pub mod gateway;
pub mod health;
pub mod http;
pub mod inlet;
pub mod known;
pub mod lag;
pub mod limits;
pub mod outlet;
pub mod server;
pub mod shown;
pub mod silence;
pub mod spokes;
pub mod ticket;
pub mod waiting;
pub mod watch;

mod metrics;
mod unparsed;

pub use access::{Access, AccessError, check_listen};
pub use directory::{Directory, control_record};
pub use gateway::{Gateway, GatewayLimits, GatewayOptions, Order, StageOptions, Submission};
pub use http::{Northbound, router};
pub use inlet::{Inlet, InletHandle, Written};
pub use lag::Lag;
pub use limits::Limits;
pub use outlet::Outlet;
pub use server::serve;
pub use ticket::{CommandTicket, Ticket, Told, ToldCommand};
pub use waiting::Waiting;
