//! `cargo run -p trip -- up`, then the requests of `trip.http`.

use std::process::ExitCode;

use nave::program::Program;
use trip::spokes::Desk;
use trip::trips;

/// As the binary `nave` has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let program = Program::of([trips as _]);
    nave::run(program.map(|trips| trips.spoke("hotel", || Desk::new(600, 3)).spoke("car", || Desk::new(300, 3))))
}
