//! Data on stdout, messages on stderr. The only file in the workspace that prints.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Stdout and stderr, with the user's verbosity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    pub(super) quiet: bool,
    pub(super) draws: bool,
}

impl Ui {
    /// Detects a terminal. Logs would tear a bar apart, so `-v` prints lines.
    pub(crate) fn new(quiet: bool, verbose: u8) -> Self {
        Self { quiet, draws: verbose == 0 && io::stderr().is_terminal() }
    }

    /// Prints a message on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            write_line(text.as_ref());
        }
    }

    /// Prints a warning on stderr, even with `--quiet`.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        write_line(&format!("warning: {}", text.as_ref()));
    }

    /// Writes one line of data to stdout.
    pub(crate) fn data(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Writes a value to stdout as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.data(serde_json::to_string(value)?)
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }
}

/// Writes a line to stderr; a closed stderr is ignored.
pub(super) fn write_line(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Prints an error with its causes, and what to do about it.
pub(crate) fn report(error: &anyhow::Error, hints: &[String]) {
    write_line(&format!("error: {error:#}"));
    for hint in hints {
        write_line(&format!("hint: {hint}"));
    }
}
