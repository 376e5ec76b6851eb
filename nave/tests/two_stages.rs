//! The tests of the whole system with hub and workers in two stages and a topic between them. That
//! is only a matter of configuration, so the tests are the same. `support::options` recognizes this
//! file by its crate name, and `./test quick` leaves it out by the name of the module.
#![expect(clippy::duplicate_mod, reason = "each file is also a test itself and includes its support module")]

/// With explicit paths, the files find their own `support` module.
#[path = "."]
mod two_stages {
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
}
