//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nave::main_with_flows([])
}
