//! The `nave` binary: the flow topology with the whole command line.

use std::process::ExitCode;

/// mimalloc, because one thread allocates records and another one frees them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nave::run(nave::program::Program::flows())
}
