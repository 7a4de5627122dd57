//! Every statement, with its name in the first line. Portable where it can be; the dialect pairs side by side.
//!
//! `$n` are parameters in both dialects. A transition names the state and the epoch that it expects, and its caller
//! counts the rows. On PostgreSQL every transition is ONE statement (a dropped connection or handler then leaves no
//! transaction open), locks rows in the order session or job → attempt → shard → counters, several attempts in the
//! order of their keys, and takes the time from `encaje_now_ms`, which only a test overrides. SQLite carries the same
//! transitions out step by step inside one `BEGIN IMMEDIATE` transaction of its only writer.
//!
//! PostgreSQL plans the hot statements while its tables may be empty, and keeps the plans. So they leave it no choice: many
//! rows are found by `= ANY(array)`; one row for each of another set in a LATERAL subquery that cannot be taken apart (it
//! locks, limits, or says OFFSET 0); by key without naming the state as a partial index does, which would be walked
//! (`ended_ms IS NULL` is as good as `state = 'live'`); or by place (`ctid`), where the statement has locked the row and it
//! does no harm to miss one that somebody changed just before: its newer version is not visible to the statement. A row
//! that was waited for is therefore always found by its key. `conformance::prepared` looks at what they read.

/// What follows where `held` (job, index, epoch; locked) are live attempts that go back without anything counted, and the
/// reason is the given parameter.
macro_rules! give_back {
    ($reason:literal) => {
        concat!(
            "
ended AS (
    UPDATE attempt a SET state = 'released', ended_ms = clock.now_ms, end_reason = ",
            $reason,
            "
    FROM held h, clock
    WHERE a.job_id = h.job_id AND a.shard_index = h.shard_index AND a.epoch = h.epoch AND a.ended_ms IS NULL
    RETURNING a.job_id, a.shard_index),
hit AS (SELECT job_id, shard_index, count(*) AS gone FROM ended GROUP BY job_id, shard_index),
moved AS (
    UPDATE shard s SET state = CASE WHEN s.live > h.gone THEN 'running' ELSE 'pending' END, live = s.live - h.gone,
        not_before_ms = clock.now_ms
    FROM hit h, clock
    WHERE s.job_id = h.job_id AND s.shard_index = h.shard_index AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending)
    SELECT job_id, encaje_slot(), -count(*), count(*) FROM moved WHERE state = 'pending' GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE
        SET running = c.running + excluded.running, pending = c.pending + excluded.pending)"
        )
    };
}

pub(super) mod jobs;
pub(super) mod sweep;
pub(super) mod work;
