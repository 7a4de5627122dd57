//! The manifest of a job, checked against what the coordinator says of it.

use anyhow::Context;
use dataset::vectors::read_manifest;
use dataset::{Manifest, Storage};
use proto::job::JobStatus;

use crate::exit::Advice;

/// Reads the manifest of a job and checks it against the job's status.
pub(crate) async fn manifest_of(status: &JobStatus, storage: &Storage) -> anyhow::Result<Manifest> {
    let key = status.manifest_key.as_deref().context("the job has succeeded, but names no manifest")?;
    let manifest = read_manifest(storage, key).await?;
    let wrong = |what: String| {
        Advice::failed(format!("the manifest `{key}` is not what the coordinator knows: {what}"))
            .hint("see what is wrong: encaje repair JOB")
    };
    if let Some(problem) = manifest.problems().into_iter().next() {
        return Err(wrong(problem).into());
    }
    if manifest.job_id != status.id.to_string() || manifest.spec_digest != status.spec.digest() {
        return Err(wrong(format!("it is of job {}", manifest.job_id)).into());
    }
    let (listed, known) = (&manifest.totals, &status.counts);
    if (listed.rows, listed.tokens, listed.rejected()) != (known.rows, known.tokens, known.rejected()) {
        return Err(wrong(format!("it lists {} rows of {}", listed.rows, known.rows)).into());
    }
    let (missing, known) = (manifest.missing(), status.rows_missing());
    if missing != known {
        return Err(wrong(format!("it lists {missing} missing rows of {known}")).into());
    }
    Ok(manifest)
}
