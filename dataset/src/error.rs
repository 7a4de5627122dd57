//! The errors of reading and writing files, and what callers may do about them.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use crate::storage::HubError;
use crate::store_failure::{Meaning, explain};
use crate::vectors::VectorsError;

/// A failure to read or write data. The message names the object, the row if known, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The object does not exist.
    #[error("`{object}` does not exist")]
    NotFound {
        /// Path, URL or key.
        object: String,
    },
    /// A create-only write found an existing object.
    #[error("`{object}` already exists and is never overwritten")]
    AlreadyExists {
        /// Path, URL or key.
        object: String,
    },
    /// A source differs from the plan.
    #[error("corpus source `{uri}` changed since it was planned ({change}): restore it, or start a new job")]
    SourceChanged {
        /// The source.
        uri: String,
        /// The difference.
        change: String,
    },
    /// A planned source is missing.
    #[error("corpus source `{uri}` changed since it was planned (it is gone): restore it, or start a new job")]
    SourceGone {
        /// The source.
        uri: String,
    },
    /// The object is readable but contradicts the options, or the options are invalid.
    #[error("`{object}`: {problem}")]
    BadInput {
        /// Path, URL, key or pattern.
        object: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// The text column is missing.
    #[error(
        "`{uri}` has no column `{column}`; its columns are: {}; name the right one with --text-column{hint}",
        list(found)
    )]
    TextColumnMissing {
        /// The source.
        uri: String,
        /// The requested column.
        column: String,
        /// The existing columns.
        found: Vec<String>,
        /// A likely reason, with its punctuation; may be empty.
        hint: String,
    },
    /// A column that an option names is in no source, or the id column is missing from one.
    #[error("`{uri}` has no column `{column}`, which {option} names; its columns are: {}", list(found))]
    ColumnMissing {
        /// The source.
        uri: String,
        /// The requested column.
        column: String,
        /// The option, such as `--keep`.
        option: &'static str,
        /// The existing columns.
        found: Vec<String>,
    },
    /// Two columns of one source have the same name.
    #[error("`{uri}` has two columns named `{column}`: rename one of them")]
    DuplicateColumn {
        /// The source.
        uri: String,
        /// The name.
        column: String,
    },
    /// A kept column has the name of an output column.
    #[error(
        "`{uri}` has a column `{column}`, which is also the name of an output column: \
         leave it out with --keep (a list of the columns to pass through, or `none`), or rename it"
    )]
    ColumnCollision {
        /// The source.
        uri: String,
        /// The name.
        column: String,
    },
    /// A kept column has types in two sources without a common type.
    #[error(
        "column `{column}` is {first_type} in `{first_uri}` but {second_type} in `{second_uri}`: \
         convert one of them, or leave the column out with --keep"
    )]
    ColumnTypeConflict {
        /// The column.
        column: String,
        /// The source that determined the type.
        first_uri: String,
        /// Its type there.
        first_type: String,
        /// The source that differs.
        second_uri: String,
        /// Its type there.
        second_type: String,
    },
    /// The bytes are damaged: truncated, failed checksum, or another format.
    #[error("`{object}` is damaged{}: {problem}", at_row(*row))]
    Corrupt {
        /// Path, URL or key.
        object: String,
        /// The last good row over the whole corpus (or file), from 0, if known.
        row: Option<u64>,
        /// The problem.
        problem: String,
    },
    /// A quote is never closed, so that the rest of the text would be one field.
    #[error(
        "`{uri}`: the record{} opens a quote and never closes it, so that all {bytes} bytes up to the end would be one \
         record: add --quote none if quotes are ordinary characters in this file, else close or double the quote",
        at_row(*row)
    )]
    UnclosedQuote {
        /// The source.
        uri: String,
        /// The last row before it over the whole corpus, if any.
        row: Option<u64>,
        /// Bytes from the start of the record to the end of the text.
        bytes: u64,
    },
    /// The URL scheme is not supported.
    #[error(
        "`{url}`: the scheme `{scheme}` is not supported; supported are: a local path, file://, s3://, gs://, az://, https://, hf://"
    )]
    UnsupportedScheme {
        /// The URL as given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// The disk is full.
    #[error("no space left while writing `{object}`: free some space and run again")]
    NoSpace {
        /// Path, URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store is throttling or temporarily out of service.
    #[error("the store of `{object}` is busy or out of service: try again later")]
    Throttled {
        /// URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store refuses our credentials, or they are insufficient.
    #[error(
        "not allowed to read or write `{object}`: look at the credentials in the environment (missing, expired, or \
         without this right)"
    )]
    Auth {
        /// URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The storage at a URL is not the one that work began in; may be temporary.
    #[error(
        "`{url}` is not the storage that this work began in: {problem}; nothing is written there: mount it, or put it back"
    )]
    StorageSwapped {
        /// Path or URL of the storage.
        url: String,
        /// How it was detected.
        problem: String,
    },
    /// The store does not support the operation.
    #[error("the store of `{object}` cannot do this")]
    Unsupported {
        /// URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A data set of the Hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Vector files, manifests, merge, verify, export.
    #[error(transparent)]
    Vectors(#[from] VectorsError),
    /// Any other failure of the disk or the store; may be temporary.
    #[error("cannot read or write `{object}`")]
    Io {
        /// Path, URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// What a caller may do about a [`DatasetError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object does not exist.
    NotFound,
    /// Another writer was first: compare, do not retry.
    AlreadyExists,
    /// The corpus differs from the plan: the job cannot continue.
    SourceChanged,
    /// Input or options are invalid: report it to the user.
    BadInput,
    /// Bytes are damaged: do not retry.
    Corrupt,
    /// The disk is full: retry after space is freed.
    NoSpace,
    /// The store is throttling: retry with fewer requests.
    Throttled,
    /// Credentials are missing, expired or insufficient: retry after they are renewed.
    Auth,
    /// The storage is missing or another one: retry after it is restored.
    StorageSwapped,
    /// The store does not support the operation.
    Unsupported,
    /// May be temporary: retry.
    Io,
}

impl DatasetError {
    /// Returns whether it is about vector files, and not about a corpus or storage.
    pub fn is_of_vectors(&self) -> bool {
        matches!(self, DatasetError::Vectors(_))
    }

    /// Returns whether it is about a data set of the Hub.
    pub(crate) fn is_of_hub(&self) -> bool {
        matches!(self, DatasetError::Hub(_))
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DatasetError::NotFound { .. } => ErrorKind::NotFound,
            DatasetError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            DatasetError::SourceChanged { .. } | DatasetError::SourceGone { .. } => ErrorKind::SourceChanged,
            DatasetError::BadInput { .. }
            | DatasetError::TextColumnMissing { .. }
            | DatasetError::ColumnMissing { .. }
            | DatasetError::DuplicateColumn { .. }
            | DatasetError::ColumnCollision { .. }
            | DatasetError::ColumnTypeConflict { .. }
            | DatasetError::UnclosedQuote { .. }
            | DatasetError::UnsupportedScheme { .. } => ErrorKind::BadInput,
            DatasetError::Corrupt { .. } => ErrorKind::Corrupt,
            DatasetError::NoSpace { .. } => ErrorKind::NoSpace,
            DatasetError::Throttled { .. } => ErrorKind::Throttled,
            DatasetError::Auth { .. } => ErrorKind::Auth,
            DatasetError::StorageSwapped { .. } => ErrorKind::StorageSwapped,
            DatasetError::Unsupported { .. } => ErrorKind::Unsupported,
            DatasetError::Hub(error) => error.kind(),
            DatasetError::Vectors(error) => error.kind(),
            DatasetError::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns the vector file of a failed system call, if any.
    pub fn vector_file(&self) -> Option<&Path> {
        let DatasetError::Vectors(VectorsError::Io { path, .. } | VectorsError::Encode { path, .. }) = self else {
            return None;
        };
        Some(path)
    }

    /// Classifies the error of a system call on `object`.
    pub fn from_io(object: impl Into<String>, source: io::Error) -> DatasetError {
        let object = object.into();
        match source.kind() {
            io::ErrorKind::NotFound => DatasetError::NotFound { object },
            io::ErrorKind::AlreadyExists => DatasetError::AlreadyExists { object },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                DatasetError::NoSpace { object, source: source.into() }
            }
            _ => DatasetError::Io { object, source: source.into() },
        }
    }

    /// Classifies the error of the object store on `object`.
    pub(crate) fn from_store(object: impl Into<String>, source: object_store::Error) -> DatasetError {
        let object = object.into();
        match source {
            object_store::Error::NotFound { .. } => DatasetError::NotFound { object },
            object_store::Error::AlreadyExists { .. } => DatasetError::AlreadyExists { object },
            object_store::Error::Precondition { .. } => {
                DatasetError::SourceChanged { uri: object, change: "another time stamp or content".to_owned() }
            }
            object_store::Error::Generic { store: "LocalFileSystem", source } if io_cause(&*source).is_some() => {
                let cause = io_cause(&*source).map_or_else(|| io::ErrorKind::Other.into(), copy_of);
                Self::from_io(object, cause)
            }
            object_store::Error::Generic { store, source } if source.is::<HubError>() => {
                match source.downcast::<HubError>() {
                    Ok(error) => DatasetError::Hub(*error),
                    Err(source) => Self::from_store(object, object_store::Error::Generic { store, source }),
                }
            }
            other => {
                let (meaning, failure) = explain(&other);
                let source: Box<dyn StdError + Send + Sync> = failure.into();
                if let object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } = other {
                    return DatasetError::Unsupported { object, source };
                }
                match meaning {
                    Meaning::Other => DatasetError::Io { object, source },
                    Meaning::Throttled => DatasetError::Throttled { object, source },
                    Meaning::Auth => DatasetError::Auth { object, source },
                }
            }
        }
    }

    /// Adds the last good row to an error that lacks it.
    pub(crate) fn after_row(self, last: Option<u64>) -> DatasetError {
        match self {
            DatasetError::Corrupt { object, row: None, problem } => {
                DatasetError::Corrupt { object, row: last, problem }
            }
            DatasetError::UnclosedQuote { uri, row: None, bytes } => {
                DatasetError::UnclosedQuote { uri, row: last, bytes }
            }
            other => other,
        }
    }

    pub(crate) fn bad_input(object: impl Into<String>, problem: impl Into<String>) -> DatasetError {
        DatasetError::BadInput { object: object.into(), problem: problem.into() }
    }

    /// Returns a [`DatasetError::Corrupt`]; `row` is the last good one, if known.
    pub(crate) fn corrupt(object: impl Into<String>, row: Option<u64>, problem: impl Into<String>) -> DatasetError {
        DatasetError::Corrupt { object: object.into(), row, problem: problem.into() }
    }
}

/// Returns the system error that caused another: more readable than the message of a store's client.
fn io_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

pub(crate) fn list(names: &[String]) -> String {
    /// Avoids hiding the message behind thousands of columns.
    const NAMES_MAX: usize = 30;
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("`{}`", name.escape_debug())).collect();
    let rest = names.len().saturating_sub(NAMES_MAX);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

fn at_row(row: Option<u64>) -> String {
    row.map_or_else(String::new, |row| format!(" after row {row}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_detected_behind_a_store_error() {
        let store = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        assert_eq!(DatasetError::from_store("part", store).kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn disk_errors_use_the_system_message() {
        let store = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        let error = DatasetError::from_store("/data/a.csv", store);
        let message = format!("{error}: {}", error.source().unwrap());
        assert_eq!(message, "cannot read or write `/data/a.csv`: permission denied");
    }

    #[test]
    fn messages_name_the_object_and_the_remedy() {
        let error = DatasetError::TextColumnMissing {
            uri: "/data/a.csv".to_owned(),
            column: "text".to_owned(),
            found: vec!["id".to_owned(), "texto".to_owned()],
            hint: String::new(),
        };
        assert_eq!(
            error.to_string(),
            "`/data/a.csv` has no column `text`; its columns are: `id`, `texto`; name the right one with --text-column"
        );
        let damaged = DatasetError::corrupt("/data/a.csv.gz", Some(41), "ends in mid-member");
        assert_eq!(damaged.to_string(), "`/data/a.csv.gz` is damaged after row 41: ends in mid-member");
    }
}
