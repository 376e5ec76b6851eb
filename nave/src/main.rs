//! The one binary.

use std::process::ExitCode;

/// Records are made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nave::run(nave::program::Program::flows())
}
