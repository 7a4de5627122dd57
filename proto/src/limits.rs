//! Size limits of a job's description: checked by the client before any work, and again by the coordinator.
//! Every message that carries a spec then fits [`MESSAGE_BYTES_MAX`], and what is fetched once per source is bounded too.

use dataset::{Keep, PlannedSource};
use prost::Message;

use crate::generated as wire;
use crate::job::JobSpec;
use crate::transport::MESSAGE_BYTES_MAX;

/// Most bytes of a spec on the wire: a status, which carries it, still fits a message.
pub const SPEC_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 128 * 1024;
/// Most bytes of a prefix. It is in every footer and manifest; no model reads a tenth of it.
pub const PREFIX_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of one name: of the model, its revision, a column, a source.
pub const NAME_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of the names of columns to keep.
pub const KEEP_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that describe the columns of one planned source: header and schema.
pub const COLUMNS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes that describe the columns of all planned sources of a job.
pub const ALL_COLUMNS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most columns that pass through. Each has a compressor and buffers in a worker: about 25 KB, 1.2 GB for all of them.
pub const KEPT_COLUMNS_MAX: usize = 50_000;

/// Most earlier outputs that a job takes vectors from: every grant names them.
pub const REUSE_SOURCES_MAX: usize = 64;

/// A job whose description is too large. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The spec as a whole.
    #[error("the job is described by {bytes} bytes, at most {most} fit: name fewer, larger sources")]
    Spec {
        /// What it takes.
        bytes: usize,
        /// What it may take.
        most: usize,
    },
    /// The text before every record.
    #[error("the prefix has {bytes} bytes, at most {most} are possible: shorten --prefix")]
    Prefix {
        /// What it takes.
        bytes: usize,
        /// What it may take.
        most: usize,
    },
    /// A name.
    #[error("the name of {what} has {bytes} bytes, at most {most} are possible: use a shorter name")]
    Name {
        /// Of what.
        what: &'static str,
        /// What it takes.
        bytes: usize,
        /// What it may take.
        most: usize,
    },
    /// Columns that pass through.
    #[error(
        "the corpus has {columns} columns to pass through, at most {most} are possible, for the memory that each takes: name \
         those that you need with --keep COLUMN,... or give --keep none"
    )]
    KeptColumns {
        /// How many there are.
        columns: usize,
        /// How many there may be.
        most: usize,
    },
    /// The list of columns to keep.
    #[error(
        "the columns named with --keep have {bytes} bytes of names, at most {most} are possible: keep fewer columns"
    )]
    Keep {
        /// What they take.
        bytes: usize,
        /// What they may take.
        most: usize,
    },
    /// Earlier outputs to take vectors from.
    #[error("{sources} earlier outputs are named with --reuse, at most {most} are possible: merge some of them")]
    Reuse {
        /// How many there are.
        sources: usize,
        /// How many there may be.
        most: usize,
    },
    /// The columns of a source.
    #[error(
        "the columns of `{uri}` take {bytes} bytes to describe, at most {most} are possible: \
         name those that pass through with --keep COLUMN,... (or --keep none)"
    )]
    Columns {
        /// The source.
        uri: String,
        /// What they take.
        bytes: usize,
        /// What they may take.
        most: usize,
    },
    /// The columns of all sources together.
    #[error(
        "the columns of {sources} sources take {bytes} bytes to describe, at most {most} are possible: \
         name those that pass through with --keep COLUMN,... (or --keep none), or use fewer, larger sources"
    )]
    AllColumns {
        /// How many sources.
        sources: usize,
        /// What they take.
        bytes: usize,
        /// What they may take.
        most: usize,
    },
}

/// Checks what a spec weighs.
///
/// # Errors
/// A part of it, or all of it, is too large.
pub fn check_spec(spec: &JobSpec) -> Result<(), TooLarge> {
    check_prefix(&spec.embed.prefix)?;
    let (read, model) = (&spec.read, &spec.model);
    let mut names = vec![("the text column", read.text_column.len()), ("the model", model.name.len())];
    names.extend(read.id_column.iter().map(|name| ("the id column", name.len())));
    names.extend(model.revision.iter().map(|name| ("the model's revision", name.len())));
    names.push(("the model's digest", model.digest.len()));
    names.extend(spec.sources.iter().map(|source| ("a source", source.uri.len())));
    for source in &spec.reuse {
        names.extend([("an earlier output", source.uri.len()), ("its text column", source.text_column.len())]);
        names.push(("its digest", source.blake3.len()));
    }
    if let Some((what, bytes)) = names.into_iter().find(|(_, bytes)| *bytes > NAME_BYTES_MAX) {
        return Err(TooLarge::Name { what, bytes, most: NAME_BYTES_MAX });
    }
    if spec.reuse.len() > REUSE_SOURCES_MAX {
        return Err(TooLarge::Reuse { sources: spec.reuse.len(), most: REUSE_SOURCES_MAX });
    }
    let bytes = match &read.keep {
        Keep::All | Keep::None => 0,
        Keep::Columns(columns) => columns.iter().map(String::len).sum(),
    };
    if bytes > KEEP_BYTES_MAX {
        return Err(TooLarge::Keep { bytes, most: KEEP_BYTES_MAX });
    }
    let bytes = wire::JobSpec::from(spec).encoded_len();
    if bytes > SPEC_BYTES_MAX { Err(TooLarge::Spec { bytes, most: SPEC_BYTES_MAX }) } else { Ok(()) }
}

/// Checks what the text before every record weighs.
///
/// # Errors
/// It is too large.
pub fn check_prefix(prefix: &str) -> Result<(), TooLarge> {
    let bytes = prefix.len();
    if bytes > PREFIX_BYTES_MAX { Err(TooLarge::Prefix { bytes, most: PREFIX_BYTES_MAX }) } else { Ok(()) }
}

/// Checks what the columns of planned sources weigh.
///
/// # Errors
/// Those of one source, or of all of them, are too large.
pub fn check_planned(sources: &[PlannedSource]) -> Result<(), TooLarge> {
    let mut all = 0_usize;
    for planned in sources {
        let bytes = planned.kept_schema.len() + planned.header.iter().map(|name| name.len() + 2).sum::<usize>();
        if bytes > COLUMNS_BYTES_MAX {
            return Err(TooLarge::Columns { uri: planned.source.uri.clone(), bytes, most: COLUMNS_BYTES_MAX });
        }
        all = all.saturating_add(bytes);
    }
    if all > ALL_COLUMNS_BYTES_MAX {
        return Err(TooLarge::AllColumns { sources: sources.len(), bytes: all, most: ALL_COLUMNS_BYTES_MAX });
    }
    // The schema is that of the whole corpus; one that does not decode is not for here to say.
    let kept = sources.first().and_then(|planned| dataset::kept_schema_of(planned).ok());
    match kept.map_or(0, |schema| schema.fields().len()) {
        columns if columns > KEPT_COLUMNS_MAX => Err(TooLarge::KeptColumns { columns, most: KEPT_COLUMNS_MAX }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::{Compression, Fingerprint, Format, Source};
    use testkit::full_job_spec as spec;

    fn said(spoil: impl FnOnce(&mut JobSpec)) -> String {
        let mut spec = spec();
        spoil(&mut spec);
        check_spec(&spec).unwrap_err().to_string()
    }

    #[test]
    fn a_part_of_a_spec_that_is_too_large_is_named_with_its_remedy() {
        assert_eq!(check_spec(&spec()), Ok(()));
        assert!(said(|spec| spec.embed.prefix = "x".repeat(3_900_000)).contains("shorten --prefix"));
        assert!(said(|spec| spec.read.text_column = "x".repeat(100_000)).contains("the text column"));
        assert!(said(|spec| spec.model.name = "x".repeat(100_000)).contains("the model"));
        assert!(
            said(|spec| spec.read.keep = Keep::Columns(vec!["x".repeat(10_000); 200])).contains("keep fewer columns")
        );
        let many = |spec: &mut JobSpec| {
            let source = spec.sources[0].clone();
            spec.sources = vec![source; 300_000];
        };
        assert!(said(many).contains("fewer, larger sources"));
    }

    #[test]
    fn columns_that_are_too_many_to_describe_are_refused_with_their_source() {
        let planned = |schema: usize| PlannedSource {
            source: Source { uri: "/data/wide.csv".into(), format: Format::Csv, compression: Compression::None },
            fingerprint: Fingerprint { size: 1, etag: None },
            header: vec!["text".into()],
            kept_schema: "A".repeat(schema),
        };
        assert_eq!(check_planned(&[planned(7 << 20), planned(7 << 20)]), Ok(()));
        let one = check_planned(&[planned(9 << 20)]).unwrap_err().to_string();
        assert!(one.contains("/data/wide.csv") && one.contains("--keep COLUMN"), "{one}");
        let all = check_planned(&vec![planned(7 << 20); 10]).unwrap_err().to_string();
        assert!(all.contains("10 sources") && all.contains("--keep COLUMN"), "{all}");
    }
}
