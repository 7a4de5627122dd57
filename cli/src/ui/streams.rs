//! Data on stdout, messages on stderr. The only file in the workspace that prints.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::commands::GlobalArgs;
use crate::exit::{self, ErrorKind};

/// How messages are written to stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageFormat {
    /// For people: lines, and a bar on a terminal.
    #[default]
    Human,
    /// For programs: one JSON object per line.
    Json,
}

/// Stdout and stderr, with the user's verbosity.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ui {
    pub(super) quiet: bool,
    pub(super) draws: bool,
    pub(super) format: MessageFormat,
}

/// A line on stderr, as programs read it.
#[derive(Serialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Message<'a> {
    Note { text: &'a str },
    Warning { text: &'a str },
    Progress { what: &'a str, rows: u64, tokens: u64, planned: u64, total: Option<u64>, reused: u64 },
    Download { file: &'a str, bytes: u64, total: u64 },
    Error { kind: ErrorKind, text: &'a str, hints: &'a [String] },
}

impl Message<'_> {
    pub(super) fn write(&self) {
        write_line(&serde_json::to_string(self).expect("strings and numbers have a JSON form"));
    }
}

impl Ui {
    /// Detects a terminal. Logs would tear a bar apart, so `-v` prints lines.
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        Self { quiet: args.quiet, draws: args.verbose == 0 && io::stderr().is_terminal(), format: args.message_format }
    }

    /// Prints warnings and errors alone.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self { quiet: true, draws: false, format: MessageFormat::Human }
    }

    /// Prints a message on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if self.quiet {
            return;
        }
        match self.format {
            MessageFormat::Human => write_line(text.as_ref()),
            MessageFormat::Json => Message::Note { text: text.as_ref() }.write(),
        }
    }

    /// Prints a warning on stderr, even with `--quiet`.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        match self.format {
            MessageFormat::Human => write_line(&format!("warning: {}", text.as_ref())),
            MessageFormat::Json => Message::Warning { text: text.as_ref() }.write(),
        }
    }

    /// Prints an error with its causes, and what to do about it.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let hints = exit::hints_of(error);
        match self.format {
            MessageFormat::Human => {
                write_line(&format!("error: {error:#}"));
                hints.iter().for_each(|hint| write_line(&format!("hint: {hint}")));
            }
            MessageFormat::Json => {
                Message::Error { kind: exit::kind_of(error), text: &format!("{error:#}"), hints }.write();
            }
        }
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
