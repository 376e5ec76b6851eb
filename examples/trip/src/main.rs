//! `cargo run -p trip -- up`, then the requests of `trip.http`.

use std::process::ExitCode;

fn main() -> ExitCode {
    nave::main([trip::trips])
}
