//! Where logs go.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Sends logs to stderr, as `ENCAJE_LOG` or `-v` asks.
pub(crate) fn start_logging(verbose: u8) {
    let by_flag = match verbose {
        0 => "error",
        1 => "warn,encaje=info,coordinator=info,worker=info,engine=info,dataset=info",
        _ => "info,encaje=debug,coordinator=debug,worker=debug,engine=debug,dataset=debug",
    };
    let filter = EnvFilter::try_from_env("ENCAJE_LOG").unwrap_or_else(|_| EnvFilter::new(by_flag));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}
