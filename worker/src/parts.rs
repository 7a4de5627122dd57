//! Parts of a job that an earlier run put into its output, maybe on another machine: taken as they are, not made again.

use std::path::Path;

use dataset::vectors::{FileTotals, Written, hash_file, layout, place};
use dataset::{DatasetError, FileSummary, RowCounts, VectorReader, VectorSet};
use proto::work::Grant;

/// Copies the part of a shard from the output folder `parts` to `copy`, if it is there: whole, of this job, with the rows that
/// are wanted. `None` where there is none, or another.
///
/// # Errors
/// The folder cannot be read, or `copy` cannot be written.
pub(crate) fn take(parts: &Path, grant: &Grant, copy: &Path) -> Result<Option<FileSummary>, DatasetError> {
    let part = parts.join(layout::part_name(grant.shard.index));
    if grant.is_poison || !place::copy(&part, copy)? {
        return Ok(None);
    }
    match VectorSet::open(copy).and_then(|set| set.open_checked(0)) {
        Ok(reader) if is_wanted(&reader, grant) => Ok(Some(summary(&reader, copy)?)),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::warn!(error = common::error_chain(&error), part = %part.display(), "made again");
            Ok(None)
        }
    }
}

fn summary(reader: &VectorReader, file: &Path) -> Result<FileSummary, DatasetError> {
    let Written { bytes, blake3 } = hash_file(file)?;
    let FileTotals { first_row, totals } = reader.totals().clone();
    let RowCounts { rows, rejects, truncated, tokens, reused } = totals;
    Ok(FileSummary { first_row, rows, rejects, truncated, tokens, reused, bytes, blake3 })
}

fn is_wanted(reader: &VectorReader, grant: &Grant) -> bool {
    let (info, totals, wanted) = (reader.info(), reader.totals(), grant.wanted());
    info.job_id == grant.shard.job.to_string()
        && info.spec_digest == grant.spec_digest
        && (totals.first_row, totals.totals.rows) == (wanted.first_row, wanted.rows)
}
