//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    nave::commands::run()
}
