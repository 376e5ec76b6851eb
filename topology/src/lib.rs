//! The engine: components joined by streams, run in lanes, committed to the bus.
//!
//! ```
//! use topology::{Bolt, Emitter, Spout, Topology};
//!
//! struct Lines(Vec<&'static str>);
//! impl Spout for Lines {
//!     type Out = String;
//!     type Position = ();
//!     fn next(&mut self, (): &mut (), out: &mut Emitter<String>) -> bool {
//!         let Some(line) = self.0.pop() else { return false };
//!         out.emit(line.to_owned());
//!         true
//!     }
//! }
//!
//! struct Split;
//! impl Bolt for Split {
//!     type In = String;
//!     type Out = String;
//!     fn execute(&mut self, line: String, out: &mut Emitter<String>) {
//!         for word in line.split_whitespace() {
//!             out.emit(word.to_owned());
//!         }
//!     }
//! }
//!
//! struct Print;
//! impl Bolt for Print {
//!     type In = String;
//!     type Out = ();
//!     fn execute(&mut self, word: String, _: &mut Emitter<()>) {
//!         println!("{word}");
//!     }
//! }
//!
//! let t = Topology::named("words");
//! let lines = t.spout("lines", || Lines(vec!["a rose is a rose"]));
//! let words = t.bolt("split", || Split).reads(lines.local());
//! t.bolt("print", || Print).lanes(2).reads(words.fields(|word| word.as_str()));
//! assert_eq!(t.build()?.describe(), "\
//! topology words
//! stage lines (1 lane): each committed tuple once; a takeover may lose or repeat tuples of `lines`
//!   spout lines   no position: starts anew with each owner
//!   bolt split
//! stage print (2 lanes): each committed tuple once; a takeover may lose or repeat tuples of `lines`
//!   bolt print
//! lines --default--> split   local, in the lane
//! split --default--> print   fields, by topic
//! creates 9 topics
//! ");
//! # Ok::<(), topology::BuildErrors>(())
//! ```
//!
//! Read in this order: [`component`] (the traits that users implement), [`emitter`] (how a
//! component emits tuples and effects), [`builder`], [`stream`] and [`grouping`] (how components
//! are joined), `closures` and `source` (bolts from closures, ready-made spouts and the Kafka sink),
//! `declarations`, `build` and [`plan`] (what was declared, and the checked topology), `describe`
//! (what it guarantees, for people), `record` (what a submission writes), `node` and `nodes` (a
//! component without its types), [`lane`] (one step), [`outbox`] (effects as data), [`wheel`],
//! `blocks` and `timers` (deadlines), `state` and [`snapshot`] (how components save state),
//! [`shard`] (takes lanes over, reads their inbox and commits), [`driver`] (polls tasks, on threads
//! or in virtual time), [`testing`] (lanes in virtual time, for tests).

mod arrangement;
mod blocks;
mod budget;
mod build;
mod build_error;
pub mod builder;
mod closures;
pub mod component;
mod context;
mod counts;
mod declarations;
mod declare;
mod describe;
pub mod driver;
pub mod emitter;
pub mod grouping;
mod input;
pub mod lane;
mod ledger;
pub mod names;
mod node;
mod nodes;
pub mod outbox;
mod place;
pub mod plan;
mod record;
mod settings;
pub mod shard;
pub mod snapshot;
mod source;
mod state;
mod status;
pub mod stream;
pub mod testing;
mod timers;
mod tracked;
mod views;
mod waits;
pub mod wheel;
mod wiring;

pub use arrangement::Arrangement;
pub use budget::Budget;
pub use build_error::{BuildError, BuildErrors};
pub use builder::Declared;
pub use bus::{Cleanup, Route, TopicSpec};
pub use component::{Bolt, InboxSpout, Spout, SystemBolt};
pub use counts::{Counts, Label};
pub use declarations::Builder;
pub use declare::Declarer;
pub use emitter::{Emitter, Side};
pub use grouping::Key;
pub use input::{Delivery, Rejected, Unreadable};
pub use lane::Lane;
pub use node::panic_text;
pub use outbox::{Effects, Level, Message, Timeout};
pub use place::{ForeignTopic, LaneInfo, SourceContext};
pub use plan::{Stage, Topology, component_number};
pub use settings::Settings;
pub use shard::{InboxLimit, Inspection, RecoveryOptions, Shard, ShardOptions, incompatible};
pub use snapshot::{Changes, Saver, StateSchema, Stored};
pub use source::{ChannelReceiver, ChannelSender, KafkaSink, KafkaSource, Retries, SendError, channel};
pub use state::{SavedState, StateMap, StateValue};
pub use status::{Handover, ShardStatus};
pub use tracked::{Anchored, Failed, Tuple};
pub use views::{DueTimes, View};
pub use waits::{TimerKey, Wait, Waits};
pub use wire::control::DeliveryMode;
