//! `cargo run -p trip -- up` serves `trip.http`; `cargo run -p trip -- sim` simulates.

use std::process::ExitCode;

/// The same allocator as in the binary `nave`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nave::run(trip::scenario::program())
}
