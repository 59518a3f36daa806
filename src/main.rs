//! The command line of trex.

use std::process::ExitCode;

fn main() -> ExitCode {
    trex::cli::main()
}
