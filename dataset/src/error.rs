//! What can go wrong with files, and what the caller may do about it.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use crate::storage::{Meaning, explain};
use crate::vectors::VectorsError;

/// A failure to read or write data at rest. The message names the object, the row where one is known, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Nothing is there.
    #[error("`{object}` does not exist")]
    NotFound {
        /// Path, URL or key.
        object: String,
    },
    /// A create-only write found something there.
    #[error("`{object}` already exists and is never overwritten")]
    AlreadyExists {
        /// Path, URL or key.
        object: String,
    },
    /// A source is not what it was when the job was planned.
    #[error("corpus source `{uri}` changed since it was planned ({change}): restore it, or start a new job")]
    SourceChanged {
        /// The source.
        uri: String,
        /// What differs.
        change: String,
    },
    /// A source that was planned is not there.
    #[error("corpus source `{uri}` changed since it was planned (it is gone): restore it, or start a new job")]
    SourceGone {
        /// The source.
        uri: String,
    },
    /// The object is readable but not what the options say, or the options can never work.
    #[error("`{object}`: {problem}")]
    BadInput {
        /// Path, URL, key or pattern.
        object: String,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// The header or schema has no column for the text.
    #[error(
        "`{uri}` has no column `{column}`; its columns are: {}; name the right one with --text-column{hint}",
        list(found)
    )]
    TextColumnMissing {
        /// The source.
        uri: String,
        /// The column asked for.
        column: String,
        /// The columns that are there.
        found: Vec<String>,
        /// A guess at the reason, with its punctuation; may be empty.
        hint: String,
    },
    /// A column that was asked for by name is in no source, or the id column is missing from one.
    #[error("`{uri}` has no column `{column}`, which {option} names; its columns are: {}", list(found))]
    ColumnMissing {
        /// The source.
        uri: String,
        /// The column asked for.
        column: String,
        /// The option that asked for it, such as `--keep`.
        option: &'static str,
        /// The columns that are there.
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
    /// A kept column has the name of one of the output's own columns.
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
    /// A kept column has types in two sources that no type holds both of.
    #[error(
        "column `{column}` is {first_type} in `{first_uri}` but {second_type} in `{second_uri}`: \
         convert one of them, or leave the column out with --keep"
    )]
    ColumnTypeConflict {
        /// The column.
        column: String,
        /// The source that fixed the type.
        first_uri: String,
        /// Its type there.
        first_type: String,
        /// The source that differs.
        second_uri: String,
        /// Its type there.
        second_type: String,
    },
    /// The bytes are damaged: truncated, failed checksum, not the format that they claim to be.
    #[error("`{object}` is damaged{}: {problem}", at_row(*row))]
    Corrupt {
        /// Path, URL or key.
        object: String,
        /// The last good row, counted over the whole corpus (or file) from 0, where one is known.
        row: Option<u64>,
        /// What was found.
        problem: String,
    },
    /// A quote is opened and never closed, and everything behind it would be one field.
    #[error(
        "`{uri}`: the record{} opens a quote and never closes it, so that all {bytes} bytes up to the end would be one \
         record: add --quote none if quotes are ordinary characters in this file, else close or double the quote",
        at_row(*row)
    )]
    UnclosedQuote {
        /// The source.
        uri: String,
        /// The row before it, over the whole corpus, where there is one.
        row: Option<u64>,
        /// Bytes from the begin of the record to the end of the text.
        bytes: u64,
    },
    /// The URL scheme is not one that this build reads or writes.
    #[error(
        "`{url}`: the scheme `{scheme}` is not supported; supported are: a local path, file://, s3://, gs://, az://, https://"
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
    /// The store asks for fewer requests, or is out of service for a moment; may pass.
    #[error("the store of `{object}` is busy or out of service: try again later")]
    Throttled {
        /// URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store does not accept our credentials, or they do not suffice.
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
    /// What is found under the URL of a storage is not the storage that work began in; may pass.
    #[error(
        "`{url}` is not the storage that this work began in: {problem}; nothing is written there: mount it, or put it back"
    )]
    StorageSwapped {
        /// Path or URL of the storage.
        url: String,
        /// How it was noticed.
        problem: String,
    },
    /// The store has no such operation.
    #[error("the store of `{object}` cannot do this")]
    Unsupported {
        /// URL or key.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Vector files, manifests, merge, verify, export.
    #[error(transparent)]
    Vectors(#[from] VectorsError),
    /// Any other failure of the disk or the store; may pass.
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
    /// Nothing is there.
    NotFound,
    /// Somebody wrote it before: compare, do not retry.
    AlreadyExists,
    /// The corpus is not what was planned: the job cannot go on.
    SourceChanged,
    /// The input or the options can never work: tell the user.
    BadInput,
    /// Bytes are damaged: trying again finds the same.
    Corrupt,
    /// The disk is full: may pass once somebody frees space.
    NoSpace,
    /// The store is busy: may pass, if asked less.
    Throttled,
    /// Credentials are missing, expired or do not suffice: may pass once somebody renews them.
    Auth,
    /// Another storage is in the place of ours, or none: may pass once somebody puts it back.
    StorageSwapped,
    /// This store can never do it.
    Unsupported,
    /// May pass: try again.
    Io,
}

impl DatasetError {
    /// Returns what the caller may do about it.
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
            DatasetError::Vectors(error) => error.kind(),
            DatasetError::Io { .. } => ErrorKind::Io,
        }
    }

    /// Returns the vector file that could not be read or written, where the system refused that.
    pub fn vector_file(&self) -> Option<&Path> {
        let DatasetError::Vectors(VectorsError::Io { path, .. } | VectorsError::Encode { path, .. }) = self else {
            return None;
        };
        Some(path)
    }

    /// Makes the error for a failed system call on `object`; tells apart what callers treat differently.
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

    /// Makes the error for a failed call to the object store on `object`.
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

    /// Adds the last good row to an error about a record that does not know it yet.
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

    /// Makes a [`DatasetError::BadInput`].
    pub(crate) fn bad_input(object: impl Into<String>, problem: impl Into<String>) -> DatasetError {
        DatasetError::BadInput { object: object.into(), problem: problem.into() }
    }

    /// Makes a [`DatasetError::Corrupt`]; `row` is the last good one, where known.
    pub(crate) fn corrupt(object: impl Into<String>, row: Option<u64>, problem: impl Into<String>) -> DatasetError {
        DatasetError::Corrupt { object: object.into(), row, problem: problem.into() }
    }
}

/// Returns the system's own error behind another: what a disk says needs no explanation by a store's client.
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
    /// A header of thousands of columns would hide the message.
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
    fn a_full_disk_is_recognised_through_the_store_error() {
        let store = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        assert_eq!(DatasetError::from_store("part", store).kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn an_error_of_the_disk_is_told_in_the_words_of_the_system() {
        let store = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        let error = DatasetError::from_store("/data/a.csv", store);
        let told = format!("{error}: {}", error.source().unwrap());
        assert_eq!(told, "cannot read or write `/data/a.csv`: permission denied");
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
