//! What is read of the model, as the databases answer it.

use dataset::{Cursor, PlannedSource};
use proto::JobId;
use proto::job::{JobBrief, RowCounts};
use proto::work::{Granted, LightGrant, RowWindow, SourceTask};
use serde::de::DeserializeOwned;

use super::job::{ModelJob, at};
use super::model::{Model, ModelGrant, ModelSession};
use super::planted::{self, Bug};
use crate::shard::{AttemptState, ShardState, output_key};
use crate::store::error::StoreError;
use crate::store::reads::WinnerList;
use crate::store::sql::work::SOURCE_TASK_BYTES_MAX;
use crate::store::types::{Page, Planning, Tally, Task, Winner};

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Reads back what was stored as JSON.
pub(super) fn read<T: DeserializeOwned>(column: &'static str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt { column, problem: error.to_string() })
}

pub(super) fn sources(job: &ModelJob) -> Result<Vec<PlannedSource>, StoreError> {
    job.sources.iter().flatten().map(|(_, planned)| read("planned", planned)).collect()
}

pub(super) fn planning(id: JobId, job: &ModelJob) -> Result<Planning, StoreError> {
    let known = job.sources.is_some();
    let forgotten = planted::is(Bug::PlannerForgetsCursor);
    let cursor = if forgotten { Cursor::default() } else { job.cursor.clone() };
    let spec = read("spec", &job.submission.spec)?;
    Ok(Planning { job: id, spec, sources: known.then(|| sources(job)).transpose()?, cursor })
}

pub(super) fn source_task(job: &ModelJob, planned: &str) -> Result<SourceTask, StoreError> {
    let Task { read: options, model, embed, on_bad_row, reuse } = read("task", &job.submission.task)?;
    Ok(SourceTask { read: options, source: read("planned", planned)?, model, embed, on_bad_row, reuse })
}

pub(super) fn grant(model: &Model, (shard, epoch): ModelGrant) -> Result<Granted, StoreError> {
    let job = &model.jobs[&shard.job];
    let mut slice = job.slice(shard.index).clone();
    slice.blake3 = job.shards[at(shard.index)].1.input.clone();
    let window = job.halves.get(&shard.index).map(|(read, _)| {
        let wanted = RowWindow { first_row: slice.first_row, rows: slice.rows };
        (slice.first_row, slice.rows) = (read.first_row, read.rows);
        wanted
    });
    let planned = job.sources.iter().flatten().nth(slice.source_index as usize);
    let (_, planned) = planned.expect("a slice is of a planned source");
    let light = LightGrant {
        shard,
        epoch,
        spec_digest: job.submission.digest.clone(),
        slice,
        output_key: output_key(shard, epoch, job.attempts[&(shard.index, epoch)].id),
        window,
        is_poison: job.shards[at(shard.index)].1.is_poison,
    };
    let travels = job.submission.task.len() + planned.len() <= SOURCE_TASK_BYTES_MAX;
    if travels { Ok(light.with(&source_task(job, planned)?).into()) } else { Ok(Granted::Light(light)) }
}

/// The jobs of a page, newest first.
pub(super) fn page_of(model: &Model, page: &Page) -> Vec<JobId> {
    let mut ids = model.in_order();
    ids.reverse();
    match page {
        Page::One(job) => ids.retain(|id| id == job),
        Page::Active { limit } => {
            ids.retain(|id| !model.jobs[id].job.state.is_terminal());
            ids.truncate(*limit as usize);
        }
        Page::Newest { before, owner, limit } => {
            if let Some(before) = before {
                let at = ids.iter().position(|id| id == before);
                ids.drain(..at.map_or(ids.len(), |at| at + 1));
            }
            ids.retain(|id| owner.is_none() || model.jobs[id].submission.owner == *owner);
            ids.truncate(*limit as usize);
        }
    }
    ids
}

pub(super) fn tally(model: &Model) -> Tally {
    let mut tally = Tally::default();
    for job in model.jobs.values() {
        match tally.jobs.iter_mut().find(|(state, _)| *state == job.job.state) {
            Some((_, jobs)) => *jobs += 1,
            None => tally.jobs.push((job.job.state, 1)),
        }
        tally.rows += job.outputs().map(|output| output.counts.rows).sum::<u64>();
        tally.rejected += job.outputs().map(|output| output.counts.rejected()).sum::<u64>();
        tally.tokens += job.outputs().map(|output| output.counts.tokens).sum::<u64>();
    }
    let live = || model.sessions.values().filter(|session| session.live);
    tally.workers = live().count() as u64;
    tally.workers_quarantined = live().filter(|session| session.quarantined).count() as u64;
    tally
}

/// The committed shards of a list after a position.
pub(super) fn winners(job: &ModelJob, list: WinnerList, after: i64, limit: u32) -> Vec<Winner> {
    let first = unsigned(after.saturating_add(1));
    let mut found = Vec::new();
    for (index, (slice, shard)) in (0..).zip(&job.shards) {
        let ShardState::Committed { output, .. } = &shard.state else { continue };
        let is_half = job.halves.contains_key(&index);
        let (listed, position) = match list {
            WinnerList::All => (true, index),
            WinnerList::Whole => (!is_half, index),
            WinnerList::Halves => (is_half, slice.first_row),
        };
        if listed && position >= first {
            found.push((position, Winner { index, slice: slice.clone(), output: (**output).clone() }));
        }
    }
    found.sort_by_key(|(position, _)| *position);
    let mut found: Vec<Winner> = found.into_iter().map(|(_, winner)| winner).take(limit as usize).collect();
    if planted::is(Bug::WinnersSkipFirst) && list == WinnerList::Whole && first == 0 && found.len() > 1 {
        found.remove(0);
    }
    found
}

pub(super) fn brief(model: &Model, id: JobId) -> Result<JobBrief, StoreError> {
    let job = &model.jobs[&id];
    let sum = |of: fn(&RowCounts) -> u64| job.outputs().map(|output| of(&output.counts)).sum::<u64>();
    let workers = model.sessions.values().filter(|session| session.live).count() as u64;
    let workers_quarantined = model.sessions.values().filter(|one| one.live && one.quarantined).count() as u64;
    let is_outdated = |one: &&ModelSession| one.live && !one.quarantined && one.revision < job.submission.revision;
    let workers_outdated = model.sessions.values().filter(is_outdated).count() as u64;
    let counts = job.counts();
    let waits = counts.pending + counts.running > 0 && !job.job.paused && job.job.is_active();
    let starves = waits && workers <= workers_quarantined + workers_outdated;
    let last_session = model.sessions.values().filter_map(|one| one.ended).map(|(at, _)| at).max().unwrap_or(0);
    let live = || job.attempts.values().filter(|attempt| attempt.state == AttemptState::Live);
    Ok(JobBrief {
        id,
        model: job.submission.model_name.clone(),
        sources: job.submission.source_total,
        state: job.job.state,
        paused: job.job.paused,
        reason: job.job.reason.clone(),
        shards: job.counts(),
        rows_planned: job.rows(),
        counts: RowCounts {
            rows: sum(|counts| counts.rows),
            rejects: job.rejects(),
            truncated: sum(|counts| counts.truncated),
            tokens: sum(|counts| counts.tokens),
            reused: sum(|counts| counts.reused),
        },
        rows_in_flight: live().map(|attempt| attempt.rows_done).sum(),
        tokens_in_flight: live().map(|attempt| attempt.tokens_done).sum(),
        workers,
        manifest_key: job.job.manifest.as_ref().map(|(key, _)| key.clone()),
        age_ms: unsigned(model.now - job.submitted),
        pause_reason: job.job.pause_reason.clone(),
        owner: job.submission.owner.clone(),
        starved_ms: if starves { unsigned(model.now - job.submitted.max(last_session)) } else { 0 },
        copies: job.copies,
        workers_quarantined,
        workers_outdated,
        generation: job.job.generation,
    })
}
