//! A simulated switch controller with fault injection.
//!
//! It implements the *speaker*, the spoke that talks to switches. It keeps rule tables and meters,
//! answers repeated calls from memory, refuses undone calls, and writes an audit log. Tests and
//! HTTP clients inject faults to see how the rest of the system copes.
//!
//! ```
//! use bus::MonoTime;
//! use floodlight_sim::{Body, Request, Speaker};
//! use flow_messages::speaker::{Action, Command, Reply, Rule, SwitchId};
//! use wire::{CallId, Envelope, Kind, OperationId, WallTime};
//!
//! let rule = Rule { switch: SwitchId::numbered(1), flow: "test-01".into(), number: 1, cookie: 17, meter: 3 };
//! let mut envelope = Envelope::new(Kind::Call, "7f3a/1/1/speaker/1", "/nave/flows/hub/0");
//! envelope.call = Some(CallId::new(OperationId::new("7f3a")?, 1, 1));
//! let command = Command { action: Action::Install { rule: rule.clone() }, error: None };
//!
//! let mut speaker = Speaker::default();
//! let answers = speaker.on(MonoTime(0), WallTime(0), Request { key: None, envelope, command });
//! assert_eq!(answers[0].body, Body::Reply(Reply::Installed { existed: false }));
//! assert_eq!(speaker.switches().rules(&rule.switch), [rule]);
//! # Ok::<(), wire::WireError>(())
//! ```
//!
//! Read in this order: [`switch`] (rule tables and meters), [`memory`] (remembered calls),
//! [`tables`] (both, with their changes), [`store`] (both on disk), [`fault`] (the kinds of
//! faults), [`chance`] and [`faults`] (which fault applies to a command), [`flaw`] (corrupt
//! answers), [`plan`] (faults from a file), [`delay`] (delayed commands and answers), [`audit`]
//! (the audit log), [`speaker`] (the pure core that joins them), [`request`] and [`answer`] (its
//! input and output), [`handle`] (shared access), [`task`] (the service on its topic), [`mod@admin`]
//! (the HTTP interface).

pub mod admin;
pub mod answer;
pub mod audit;
pub mod chance;
pub mod delay;
pub mod fault;
pub mod faults;
pub mod flaw;
pub mod handle;
pub mod memory;
pub mod plan;
pub mod request;
pub mod speaker;
pub mod store;
pub mod switch;
pub mod tables;
pub mod task;

mod bounded_map;
mod metrics;

pub use admin::admin;
pub use answer::{Answer, Body};
pub use audit::{AuditEntry, CommandOutcome};
pub use chance::Percent;
pub use fault::{CommandKind, Fault, FaultKind, Garbage, Match, WrongIdentity};
pub use handle::SpeakerHandle;
pub use plan::{FaultPlan, PlanError};
pub use request::{Request, Unreadable};
pub use speaker::{Crash, Speaker};
pub use store::{Store, StoreError};
pub use task::SpeakerService;
