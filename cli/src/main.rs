//! The `encaje` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let program = std::env::current_exe().map_or_else(|_| "encaje".into(), Into::into);
    ExitCode::from(encaje::main(vec![program], std::env::args_os().skip(1).collect()))
}
