//! The durable log between stages and between processes.
//!
//! A [`Bus`] has topics with partitions. It is polled, has no threads of its own, and is atomic at
//! [`Member::commit`]. It knows partitions, keys, headers, offsets, groups, atomic commit and fencing of a lost owner; it
//! knows nothing of hubs.
//!
//! Read in this order: [`record`] (what travels), [`topic`] (where), [`member`] (the trait and its contract), [`clock`]
//! and [`part`] (how time and turns are given).

pub mod clock;
pub mod error;
pub mod member;
pub mod part;
pub mod record;
pub mod topic;

pub use clock::{Clock, ManualClock, MonoTime};
pub use error::{BusError, CommitError};
pub use member::{Arrival, Batch, Bus, Committed, Member, MemberSpec, Position, Reader, Takeover, Writer};
pub use part::{Part, Turn};
pub use record::{Headers, Outgoing, Record, Route};
pub use topic::{Bounds, Cleanup, TopicInfo, TopicSpec};
