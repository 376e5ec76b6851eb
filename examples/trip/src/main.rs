//! `cargo run -p trip -- up`, then the requests of `trip.http`; or `cargo run -p trip -- sim`.

use std::process::ExitCode;

/// As the binary `nave` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nave::run(trip::scenario::program())
}
