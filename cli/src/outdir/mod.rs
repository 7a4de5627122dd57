//! An output directory: where things lie in it, who may work in it, and how finished parts get their names.
//!
//! `OUT/.encaje/` holds what a run needs to resume: `job.json` (the job), `state.db` (its progress), the
//! shards that are done, `status.json` (for showing only), `run.json` (how fast the run was that finished it), and `lock`.
//! `OUT/part-NNNNN.parquet`, the card `OUT/README.md` and `OUT/manifest.json` appear when the job is done, the manifest last.
//! Every step can be interrupted and done again.

mod card;
mod directory;
mod lock;
mod publish;
mod records;
mod status;

pub(crate) use directory::{OutDir, STATE_DIR, Target, absolute_text};
pub(crate) use publish::EmptyPart;
pub(crate) use records::{JobRecord, Snapshot};
pub(crate) use status::{OutState, OutStatus, outputs_below};

#[cfg(test)]
mod tests;
