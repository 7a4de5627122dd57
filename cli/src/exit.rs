//! Exit codes, and errors that carry a code and hints.

use std::fmt;
use std::io;

use dataset::DatasetError;
use dataset::vectors::VectorsError;
use engine::LoadError;
use proto::RpcError;
use proto::transport::TransportError;
use serde::Serialize;
use worker::ModelError;

/// Exit codes: a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command is invalid, or conflicts with existing files.
    Usage = 2,
    /// Finished, but rows are missing that the job was allowed to go without, or were rejected and `--strict` was given.
    Incomplete = 3,
    /// This process lost a device and released its leases: a new process may be able to use the device.
    DeviceLost = 4,
    /// Interrupted; the state is kept.
    Interrupted = 130,
}

/// A message with an exit code and hints on what to do. Used as an error, or as context of one.
#[derive(Debug)]
pub(crate) struct Advice {
    what: String,
    exit: Exit,
    about: Option<ErrorKind>,
    hints: Vec<String>,
}

impl Advice {
    /// A failure: exit code 1.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Exit::Failed, about: None, hints: Vec::new() }
    }

    /// A usage error: exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Exit::Usage, about: None, hints: Vec::new() }
    }

    /// Says what it is about, where no cause does.
    pub(crate) fn about(mut self, kind: ErrorKind) -> Self {
        self.about = Some(kind);
        self
    }

    /// Adds a line that says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Advice {}

/// Returns the exit code of an error: that of its advice, 0 for a reader that went away, 1 otherwise.
///
/// A closed pipe is how `encaje ... | head` ends: the reader has what it wants, and Unix tools end silently then.
pub(crate) fn code_of(error: &anyhow::Error) -> Exit {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return Exit::Done;
    }
    let lost = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref::<worker::WorkerError>(), Some(worker::WorkerError::DeviceLost { .. }))
    };
    if error.chain().any(lost) {
        return Exit::DeviceLost;
    }
    error.downcast_ref::<Advice>().map_or(Exit::Failed, |advice| advice.exit)
}

/// What an error is about, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The command is invalid, or conflicts with existing files.
    Usage,
    /// A model cannot be had, or cannot be used.
    Model,
    /// A corpus, or storage, cannot be read or written.
    Corpus,
    /// Vector files are damaged, or are none.
    Vectors,
    /// A coordinator refused a call, or none answered.
    Cluster,
    /// Anything else.
    Other,
}

/// Returns what an error is about: as its advice says, else the first of its causes that says it, else by its exit code.
pub(crate) fn kind_of(error: &anyhow::Error) -> ErrorKind {
    let by_type = |cause: &(dyn std::error::Error + 'static)| {
        let is_model = cause.is::<ModelError>() || cause.is::<LoadError>();
        let is_cluster = cause.is::<RpcError>() || cause.is::<TransportError>();
        match cause.downcast_ref::<DatasetError>() {
            Some(error) => Some(if error.is_of_vectors() { ErrorKind::Vectors } else { ErrorKind::Corpus }),
            None if cause.is::<VectorsError>() => Some(ErrorKind::Vectors),
            None if is_model => Some(ErrorKind::Model),
            None if is_cluster => Some(ErrorKind::Cluster),
            None => None,
        }
    };
    let by_advice = || error.downcast_ref::<Advice>().and_then(|advice| advice.about);
    let by_code = || if code_of(error) == Exit::Usage { ErrorKind::Usage } else { ErrorKind::Other };
    by_advice().or_else(|| error.chain().find_map(by_type)).unwrap_or_else(by_code)
}

/// Returns the advice that an error carries.
pub(crate) fn hints_of(error: &anyhow::Error) -> &[String] {
    error.downcast_ref::<Advice>().map_or(&[], |advice| &advice.hints)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn advice_is_found_below_other_context() {
        let error = Err::<(), _>(io::Error::other("disk on fire"))
            .context(Advice::usage("cannot do").hint("use water"))
            .context("while running")
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "while running: cannot do: disk on fire");
        assert_eq!(code_of(&error), Exit::Usage);
        assert_eq!(hints_of(&error), ["use water"]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write");
        assert_eq!(code_of(&error), Exit::Done);
    }
}
