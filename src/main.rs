//! The bowline program: hands over to the command line's room and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    bowline::cli::main()
}
