//! An output directory: where things lie in it, who may work in it, and how finished parts get their names.
//!
//! `OUT/.encaje/` holds what a run needs to resume: `job.json` (the job), `state.db` (its progress), the
//! shards that are done, `status.json` (for showing only), `run.json` (how fast the run was that finished it), and `lock`.
//! `OUT/part-NNNNN.parquet`, the card `OUT/README.md` and `OUT/manifest.json` appear when the job is done, the manifest last.
//! Every step can be interrupted and done again.
//!
//! Of an output at a URL, the same lies in a folder of the current directory, but for `job.json`: that is `URL/.encaje/job.json`,
//! so that another machine goes on with the same job. Parts are uploaded as soon as they are done, under the number of their
//! shard, and a run on another machine takes them from there.

mod card;
mod directory;
mod lock;
mod publish;
mod records;
mod status;
mod upload;

pub(crate) use directory::{OutDir, STATE_DIR, Target, absolute_text, is_work_dir};
pub(crate) use publish::EmptyPart;
pub(crate) use records::{JobRecord, Snapshot};
pub(crate) use status::{OutState, OutStatus, outputs_below};
pub(crate) use upload::Uploader;

#[cfg(test)]
mod tests;
