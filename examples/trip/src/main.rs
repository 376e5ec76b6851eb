//! `cargo run -p trip -- up`, then the requests of `trip.http`; or `cargo run -p trip -- sim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nave::run(trip::scenario::program())
}
