//! The durable log between stages and between processes.
//!
//! A [`Bus`] has topics with partitions. Callers poll it; it has no threads of its own.
//! [`Member::commit`] is atomic. A bus knows partitions, keys, headers, offsets, groups and
//! fencing. It knows nothing about hubs.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use bus::{Arrival, Batch, Bus, Embedded, ManualClock, MemberSpec, Outgoing, Position, TopicSpec};
//!
//! let bus = Embedded::open(Arc::new(ManualClock::default()), bus::EmbeddedOptions::default());
//! bus.ensure_topic(&TopicSpec::log("greetings", 1))?;
//! bus.writer("doc")?.append(&[Outgoing::keyed("greetings", "bob", "hello")])?;
//!
//! let mut member = bus.member(&MemberSpec::new("greeters", "greetings", "greeter-0"))?;
//! let mut arrivals = Vec::new();
//! member.poll(100, Duration::ZERO, &mut arrivals)?;
//! assert!(matches!(&arrivals[..], [Arrival::Assigned(partitions)] if partitions == &[0]));
//!
//! let takeover = member.take_over(0)?;             // what the last owner left: nothing yet
//! member.start(0, takeover.committed.map_or(takeover.low, |committed| committed.next))?;
//! arrivals.clear();
//! member.poll(100, Duration::ZERO, &mut arrivals)?;
//! let [Arrival::Record(record)] = &arrivals[..] else { panic!("one record") };
//! assert_eq!(&record.value[..], b"hello");
//!
//! // Outputs and the consumed offset are one atomic unit.
//! let position = Position { partition: 0, next: record.offset + 1, metadata: "seen by greeter-0".into() };
//! member.commit(&Batch { records: vec![], positions: vec![position] })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Read in this order: [`record`] (records), [`topic`] (topics), [`member`] (the traits and their
//! contract), [`follower`] (reading logs from a position), [`clock`], [`task`] and
//! [`backoff`], [`embedded`] and `kafka` (the implementations; Kafka is a feature),
//! [`faulty`] (fault injection for both).

pub mod backoff;
pub mod clock;
pub mod embedded;
pub mod error;
pub mod faulty;
pub mod follower;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod member;
pub mod record;
pub mod task;
pub mod topic;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, MonoTime};
pub use embedded::disk::{DiskFaults, DiskOptions, Sync};
pub use embedded::{Embedded, EmbeddedOptions};
pub use error::{BusError, CommitError};
pub use faulty::{
    AppendFault, BusEvent, CommitFault, DriftingClock, FaultInjector, FaultScript, FaultyBus, RecordFault, TopicFault,
};
pub use follower::{Follower, Gap, IfGone, Start};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaOptions};
pub use member::{Arrival, Batch, Bus, BusHealth, Committed, Member, MemberSpec, Position, Reader, Takeover, Writer};
pub use record::{Headers, Outgoing, Record, Route};
pub use task::{PollOutcome, Task};
pub use topic::{Bounds, Cleanup, INBOX_LIMIT, TopicInfo, TopicSpec};
