//! The model's whole state in the form of the databases' listing, line by line.

use dataset::Cursor;
use proto::job::ShardCounts;
use proto::work::Output;
use proto::{Epoch, JobId, SessionId};

use super::job::{Attempt, ModelJob};
use super::model::{Model, ModelSession};
use crate::shard::{Job, Shard, ShardState};
use crate::store::backend::NewJob;
use crate::store::conformance::dump::without_attempt;

impl Model {
    /// The whole state in the form of the databases' listing.
    pub(in crate::store) fn state(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.jobs.iter().map(|(id, job)| job_line(*id, job)));
        lines.extend(self.jobs.iter().filter_map(|(id, job)| count_line(*id, job)));
        for (id, job) in &self.jobs {
            let mut rejects: Vec<_> = job.rejects().into_iter().map(|(reason, rows)| (reason.code(), rows)).collect();
            rejects.sort_unstable();
            lines.extend(
                rejects.iter().map(|(code, rows)| format!("reject job_id={id} reason={code} row_count={rows}")),
            );
        }
        for (id, job) in &self.jobs {
            lines.extend((0..job.shards.len()).map(|index| shard_line(*id, job, index)));
        }
        for (id, job) in &self.jobs {
            lines.extend(job.attempts.iter().map(|(key, attempt)| attempt_line(*id, *key, attempt)));
        }
        lines.extend(self.sessions.iter().map(|(id, session)| session_line(*id, session)));
        lines
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn job_line(id: JobId, job: &ModelJob) -> String {
    let Job { state, paused, pause_reason, planned, reason, manifest, generation, allow_partial } = &job.job;
    let (rows, copies, judged_from) = (job.rows(), job.copies, job.judged_from);
    let pause_reason = or_dash(pause_reason.as_ref());
    let (submitted, sources) = (job.submitted, or_dash(job.sources.as_ref().map(Vec::len)));
    let (reason, shards) = (or_dash(reason.as_ref()), job.shards.len());
    let Cursor { source_index, position, next_row } = &job.cursor;
    let (key, digest) = manifest.clone().unzip();
    let (key, digest) = (or_dash(key), or_dash(digest));
    let NewJob { digest: spec_digest, owner, model_name, source_total, revision, .. } = &job.submission;
    let owner = or_dash(owner.as_ref());
    format!(
        "job job_id={id} state={state} paused={paused} planned={planned} reason={reason} submitted_ms={submitted} \
         source_count={sources} shard_count={shards} rows_planned={rows} cursor_source={source_index} \
         cursor_position={position} cursor_row={next_row} manifest_key={key} manifest_digest={digest} generation={generation} \
         pause_reason={pause_reason} copies={copies} judged_from={judged_from} \
         allow_partial={allow_partial} owner={owner} revision={revision} \
         spec_digest={spec_digest} model_name={model_name} source_total={source_total}"
    )
}

fn count_line(id: JobId, job: &ModelJob) -> Option<String> {
    let ShardCounts { pending, running, committed, dead, cancelled, split } = job.counts();
    let ended = job.ended;
    let sum = |value: fn(&Output) -> u64| job.outputs().map(value).sum::<u64>();
    let (rows, truncated) = (sum(|output| output.counts.rows), sum(|output| output.counts.truncated));
    let (tokens, busy_ms) = (sum(|output| output.counts.tokens), job.busy_ms);
    let reused = sum(|output| output.counts.reused);
    (!job.shards.is_empty()).then(|| {
        format!(
            "count job_id={id} pending={pending} running={running} committed={committed} dead={dead} \
             cancelled={cancelled} row_count={rows} truncated={truncated} tokens={tokens} reused={reused} busy_ms={busy_ms} split={split} ended={ended}"
        )
    })
}

fn shard_line(id: JobId, job: &ModelJob, index: usize) -> String {
    let (slice, shard) = &job.shards[index];
    let read = job.halves.get(&(index as u64));
    let (read_first, read_rows, part_of) = (
        or_dash(read.map(|(read, _)| read.first_row)),
        or_dash(read.map(|(read, _)| read.rows)),
        or_dash(read.map(|(_, whole)| whole)),
    );
    let (state, not_before, won) = match &shard.state {
        ShardState::Pending { not_before } => ("pending", Some(*not_before), None),
        ShardState::Running { .. } => ("running", None, None),
        ShardState::Committed { winner, output } => ("committed", None, Some((*winner, output))),
        ShardState::Dead => ("dead", None, None),
        ShardState::Cancelled => ("cancelled", None, None),
        ShardState::Split => ("split", None, None),
    };
    let (source, first_row, rows) = (slice.source_index, slice.first_row, slice.rows);
    let Shard { epoch, failures, workers_lost, last_error, is_poison, .. } = shard;
    let live = if let ShardState::Running { live } = &shard.state { live.len() } else { 0 };
    let (not_before, error) = (or_dash(not_before), or_dash(last_error.as_ref()));
    let winner = or_dash(won.map(|(winner, _)| winner));
    let key = or_dash(won.map(|(_, output)| without_attempt(&output.key)));
    let (blake3, input) = (or_dash(won.map(|(_, output)| &output.blake3)), or_dash(shard.input.as_ref()));
    format!(
        "shard job_id={id} shard_index={index} source_index={source} first_row={first_row} row_count={rows} state={state} \
         epoch={epoch} failures={failures} workers_lost={workers_lost} not_before_ms={not_before} last_error={error} \
         winner_epoch={winner} out_key={key} out_blake3={blake3} in_blake3={input} live={live} \
         slice_first_row={read_first} slice_row_count={read_rows} part_of={part_of} convicted={is_poison}"
    )
}

fn attempt_line(id: JobId, (index, epoch): (u64, Epoch), attempt: &Attempt) -> String {
    let Attempt { session, request, granted, rows_done, tokens_done, .. } = attempt;
    let (state, ended) = (attempt.state.name(), or_dash(attempt.ended));
    let (reason, deleted, is_copy) = (or_dash(attempt.reason.as_ref()), or_dash(attempt.deleted), attempt.is_copy);
    let (class, before) = attempt.wrong.unzip();
    let (class, before) = (or_dash(class), or_dash(before));
    format!(
        "attempt job_id={id} shard_index={index} epoch={epoch} session_id={session} request_id={request} state={state} \
         granted_ms={granted} ended_ms={ended} end_reason={reason} rows_done={rows_done} tokens_done={tokens_done} \
         deleted_ms={deleted} is_copy={is_copy} class={class} ended_before={before}"
    )
}

fn session_line(id: SessionId, session: &ModelSession) -> String {
    let ModelSession { name, leases_max, revision, live, expires, progress, last_request, quarantined, ended } =
        session;
    let state = if *live { "live" } else { "dead" };
    let (request, reason) = (or_dash(last_request.as_ref()), or_dash(ended.map(|(_, reason)| reason)));
    let ended = or_dash(ended.map(|(at, _)| at));
    format!(
        "session session_id={id} name={name} leases_max={leases_max} state={state} expires_ms={expires} \
         progress_ms={progress} last_request={request} ended_ms={ended} end_reason={reason} \
         quarantined={quarantined} revision={revision}"
    )
}
