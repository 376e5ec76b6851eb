//! The REST interface: requests to inboxes, answers and views to clients.
//!
//! A request becomes a record in the inbox of a hub, and a [`Ticket`] that waits for the answer.
//! Answers come over the egress topic and are pushed to the waiting requests; nothing polls.
//! Operations come over the view topic, and topologies over the control topic. Any number of
//! northbounds may run: each reads everything.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bus::ManualClock;
//! use northbound::{Gateway, GatewayOptions, Submission};
//! use serde_json::json;
//!
//! let options = GatewayOptions::new("flows", "hub", 4);
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
//! To run one: create a [`Directory`], an [`Outlet`] that fills it and an [`Inlet`], and poll both;
//! then [`serve`] the [`router`] of a [`Northbound`], once [`check_listen`] accepts the address.
//!
//! Reading order: [`gateway`] (requests, tickets, answers), [`operation_cache`] (cache of
//! operations), [`resource_cache`] (cache of resources), [`watch`] (watchers of operations),
//! [`silence`] (silent lanes), [`lag`] (how far lanes are behind), [`waiting`] (reasons why
//! requests wait), [`directory`] (submitted topologies), [`spokes`] (heartbeats), [`inlet`] and
//! [`outlet`] (the two ends on the bus), [`access`] and [`limits`], [`http`] (routes and handlers),
//! [`server`] (connections), `parser_problems` (requests that the HTTP parser refuses), [`health`]
//! (health interface of other processes).

pub mod access;
pub mod directory;
pub mod gateway;
pub mod health;
pub mod http;
pub mod inlet;
pub mod lag;
pub mod limits;
pub mod operation_cache;
pub mod outlet;
pub mod resource_cache;
pub mod server;
pub mod silence;
pub mod spokes;
pub mod ticket;
pub mod waiting;
pub mod watch;

mod metrics;
mod parser_problems;

pub use axum::Router;

pub use access::{Access, AccessError, check_listen};
pub use directory::{Directory, control_record};
pub use gateway::{Gateway, GatewayLimits, GatewayOptions, OperationCommand, PostedTuple, StageOptions, Submission};
pub use http::{Northbound, check_routes, router};
pub use inlet::{Inlet, InletHandle, Written};
pub use lag::Lag;
pub use limits::Limits;
pub use outlet::Outlet;
pub use server::serve;
pub use ticket::{CommandResult, CommandTicket, RequestResult, Ticket};
pub use waiting::Waiting;
