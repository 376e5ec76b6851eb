//! Every test of the whole system once more, with hub and workers in two stages and a topic between them: a matter of
//! configuration, so the tests are the same. `support::options` asks for it by the name of this file.
//!
//! (With their paths given, the files find their own `support` where it is.)
#![expect(clippy::duplicate_mod, reason = "each of the files is a test of its own too, and brings its support along")]

#[path = "crash.rs"]
mod crash;
#[path = "faults.rs"]
mod faults;
#[path = "first_light.rs"]
mod first_light;
#[path = "hub_dies.rs"]
mod hub_dies;
#[path = "intake.rs"]
mod intake;
#[path = "large.rs"]
mod large;
#[path = "liveness.rs"]
mod liveness;
#[path = "misbehaviour.rs"]
mod misbehaviour;
#[path = "rebalance.rs"]
mod rebalance;
#[path = "replies.rs"]
mod replies;
#[path = "requests.rs"]
mod requests;
#[path = "time.rs"]
mod time;
