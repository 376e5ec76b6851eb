//! A switch controller that misbehaves on request.
//!
//! It plays the *speaker*, the spoke that talks to switches. It keeps rule tables and meters, remembers what it was asked,
//! refuses what was undone, and writes down what it did. Faults can be put into it, over HTTP or from a test, to see what
//! everybody else makes of them.
//!
//! ```
//! use bus::MonoTime;
//! use floodlight_sim::{Body, Request, Speaker};
//! use wire::speaker::{Action, Command, Reply, Rule, SwitchId};
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
//! Read in this order: [`switch`] (rule tables and meters), [`memory`] (what is remembered), [`tables`]
//! (both as one, and what changes in them), [`store`] (the same on disk), [`fault`] (what can be broken,
//! and on which side), [`chance`] and [`faults`] (which fault strikes a command), [`flaw`] (how an answer is spoilt), [`plan`]
//! (the same from a file), [`late`] (what waits), [`audit`] (what was done), [`speaker`] (the pure core that joins them), [`request`] and [`answer`]
//! (what comes in and what goes out), [`handle`] (how it is shared), [`part`] (how it is spoken to over the bus), [`mod@admin`]
//! (its HTTP side).

pub mod admin;
pub mod answer;
pub mod audit;
pub mod chance;
pub mod fault;
pub mod faults;
pub mod flaw;
pub mod handle;
pub mod late;
pub mod memory;
pub mod part;
pub mod plan;
pub mod request;
pub mod speaker;
pub mod store;
pub mod switch;
pub mod tables;

mod metrics;
mod newest;

pub use admin::admin;
pub use answer::{Answer, Body};
pub use audit::{Deed, Entry};
pub use chance::Percent;
pub use fault::{Astray, Fault, FaultKind, Garbage, Match, Word};
pub use handle::SpeakerHandle;
pub use part::{Heartbeats, SpeakerOptions, SpeakerPart};
pub use plan::{FaultPlan, PlanError};
pub use request::{Request, Unreadable};
pub use speaker::{Crash, Speaker};
pub use store::{Store, StoreError};
