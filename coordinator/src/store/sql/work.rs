//! Statements of the hot path: sessions, leases, heartbeats, commits, failures.

/// What all shards of a source have in common comes along only while it is small: see `SOURCE_TASK_BYTES_MAX`, whose
/// number is here. Both databases know the size of a text without reading it.
macro_rules! grant_columns {
    () => {
        "j.spec_digest,
    CASE WHEN octet_length(j.task) + octet_length(o.planned) <= 16384 THEN j.task END AS task,
    CASE WHEN octet_length(j.task) + octet_length(o.planned) <= 16384 THEN o.planned END AS planned,
    s.source_index, s.recut_key, s.range_unit, s.range_start, s.range_end, s.first_row, s.row_count,
    s.slice_first_row, s.slice_row_count, s.in_blake3, s.convicted"
    };
}

/// Most bytes of what all shards of a source have in common, as JSON, that travel with every grant. A worker with the
/// most devices holds 128 leases, and all of them fit one message with this.
#[cfg(any(test, feature = "sim"))]
pub(in crate::store) const SOURCE_TASK_BYTES_MAX: usize = 16 * 1024;

/// $1 session, $2 name, $3 devices, $4 version, $5 most leases, $6 now, $7 TTL, $8 revision.
pub(in crate::store) const OPEN_SESSION: &str = "-- open_session
INSERT INTO session (session_id, name, devices, version, leases_max, revision, state, opened_ms, expires_ms, progress_ms)
VALUES ($1, $2, $3, $4, $5, $8, 'live', $6, $6 + $7, $6)";
/// As above, arrays and $6 imposed time. Repeating it changes nothing.
pub(in crate::store) const PG_OPEN_SESSIONS: &str = "-- open_sessions
INSERT INTO session (session_id, name, devices, version, leases_max, revision, state, opened_ms, expires_ms, progress_ms)
SELECT u.*, 'live', t.now_ms, t.now_ms + $7, t.now_ms
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $8::bigint[]) AS u, encaje_now_ms($6) AS t (now_ms)
ON CONFLICT (session_id) DO NOTHING";

/// $1 session.
pub(in crate::store) const SESSION_STANDING: &str = "-- session_standing
SELECT state, leases_max, expires_ms, last_request, quarantined FROM session WHERE session_id = $1";

/// $1 session: its live leases.
pub(in crate::store) const COUNT_LIVE_LEASES: &str = "-- count_live_leases
SELECT count(*) FROM attempt WHERE session_id = $1 AND state = 'live'";

/// $1 session, $2 request, $3 revision: the live leases that the request was granted.
pub(in crate::store) const GRANTED: &str = concat!(
    "-- granted
SELECT s.job_id, s.shard_index, a.epoch, a.attempt_id, ",
    grant_columns!(),
    "
FROM attempt a
JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index
JOIN job j ON j.job_id = a.job_id
JOIN source o ON o.job_id = s.job_id AND o.source_index = s.source_index
WHERE a.session_id = $1 AND a.request_id = $2 AND a.state = 'live' AND j.revision <= $3
ORDER BY j.submitted_ms, j.job_id, s.shard_index"
);

/// $1 now, $2 limit, $3 revision: what may be leased, jobs in the order of submission, shards in input order. Without the hints,
/// SQLite walks over all finished shards, or sorts all pending ones.
pub(in crate::store) const PICK_SHARDS: &str = "-- pick_shards
SELECT s.job_id, s.shard_index, s.epoch
FROM job j INDEXED BY job_active CROSS JOIN shard s INDEXED BY shard_pending
WHERE j.state IN ('planning', 'running') AND NOT j.paused AND j.revision <= $3
    AND s.job_id = j.job_id AND s.state = 'pending' AND s.not_before_ms <= $1
ORDER BY j.submitted_ms, j.job_id, s.shard_index LIMIT $2";
/// $1 now, $2 revision: the first shard that may be leased and that workers may have died of.
pub(in crate::store) const PICK_SUSPECT: &str = "-- pick_suspect
SELECT s.job_id, s.shard_index, s.epoch
FROM job j INDEXED BY job_active CROSS JOIN shard s INDEXED BY shard_suspect
WHERE j.state IN ('planning', 'running') AND NOT j.paused AND j.revision <= $2
    AND s.job_id = j.job_id AND s.state = 'pending'
    AND (workers_lost > 0 OR part_of IS NOT NULL OR convicted) AND s.not_before_ms <= $1
ORDER BY j.submitted_ms, j.job_id, s.shard_index LIMIT 1";
/// $1 session: how many shards it holds that workers may have died of.
pub(in crate::store) const COUNT_SUSPECTS: &str = "-- count_suspects
SELECT count(*) FROM attempt a JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index
WHERE a.session_id = $1 AND a.state = 'live' AND (s.workers_lost > 0 OR s.part_of IS NOT NULL OR s.convicted)";
/// $1 job, $2 index, $3 epoch before.
pub(in crate::store) const LEASE_SHARD: &str = "-- lease_shard
UPDATE shard SET state = 'running', live = 1, epoch = epoch + 1
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'pending'";
/// $1 job, $2 index, $3 epoch, $4 attempt, $5 session, $6 request, $7 now, $8 whether it is a copy.
pub(in crate::store) const INSERT_ATTEMPT: &str = "-- insert_attempt
INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, is_copy)
VALUES ($1, $2, $3, $4, $5, $6, 'live', $7, $8)";
/// $1 session, $2 request, $3 now, $4 revision.
pub(in crate::store) const NOTE_REQUEST: &str = "-- note_request
UPDATE session SET last_request = $2, progress_ms = $3, revision = max(revision, $4) WHERE session_id = $1";
/// $1 imposed time, $2 sessions, $3 requests, $4 most shards for each, $5 revision of all. At most one request of a session.
///
/// The rows of the sessions are locked first: a session that is dying gets nothing, one that is being granted something is
/// not expired meanwhile, and a repeated request waits for the first and then sees that it has been answered. A suspect
/// (a shard that workers may have died of) goes alone to a session that holds nothing; while any waits, sessions that
/// hold something get nothing more, so that they will be idle soon.
pub(in crate::store) const PG_LEASE_SHARDS: &str = concat!(
    "-- lease_shards
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
locked AS MATERIALIZED (
    SELECT x.session_id, x.leases_max, x.last_request, array_position($2::uuid[], x.session_id) AS ordinal
    FROM session x, clock
    WHERE x.session_id = ANY($2::uuid[]) AND x.state = 'live' AND x.expires_ms > clock.now_ms
        AND NOT x.quarantined
    ORDER BY x.session_id FOR NO KEY UPDATE OF x),
me AS MATERIALIZED (
    SELECT l.session_id, l.ordinal, h.held = 0 AS idle,
        greatest(0, least(($4::bigint[])[l.ordinal], l.leases_max - h.held)) AS room
    FROM locked l CROSS JOIN LATERAL (
        SELECT count(*) AS held,
            coalesce(bool_or(s.workers_lost > 0 OR s.part_of IS NOT NULL OR s.convicted), FALSE) AS suspect
        FROM attempt a JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index
        WHERE a.session_id = l.session_id AND a.state = 'live') h
    WHERE l.last_request IS DISTINCT FROM ($3::uuid[])[l.ordinal] AND NOT h.suspect),
active AS MATERIALIZED (
    SELECT j.job_id, j.submitted_ms FROM job j
    WHERE j.state IN ('planning', 'running') AND NOT j.paused AND j.revision <= $5),
waiting AS MATERIALIZED (
    SELECT EXISTS (
        SELECT 1 FROM active j JOIN shard s ON s.job_id = j.job_id
        WHERE s.state = 'pending' AND (s.workers_lost > 0 OR s.part_of IS NOT NULL OR s.convicted)
            AND s.not_before_ms <= (SELECT now_ms FROM clock)) AS suspects),
free AS MATERIALIZED (
    SELECT m.session_id, row_number() OVER (ORDER BY m.ordinal) AS seat
    FROM me m, waiting w WHERE w.suspects AND m.idle AND m.room > 0),
suspects AS MATERIALIZED (
    SELECT p.place, p.job_id, p.shard_index, j.submitted_ms
    FROM (SELECT job_id, submitted_ms FROM active ORDER BY submitted_ms, job_id) j
    CROSS JOIN LATERAL (
        SELECT s.ctid AS place, s.job_id, s.shard_index FROM shard s
        WHERE s.job_id = j.job_id AND s.state = 'pending'
            AND (s.workers_lost > 0 OR s.part_of IS NOT NULL OR s.convicted)
            AND s.not_before_ms <= (SELECT now_ms FROM clock)
        ORDER BY s.shard_index LIMIT (SELECT count(*) FROM free) FOR UPDATE OF s SKIP LOCKED) p
    LIMIT (SELECT count(*) FROM free)),
alone AS MATERIALIZED (
    SELECT p.place, (ARRAY(SELECT session_id FROM free ORDER BY seat))[p.seat] AS session_id
    FROM (SELECT place, row_number() OVER (ORDER BY submitted_ms, job_id, shard_index) AS seat FROM suspects) p),
seats AS MATERIALIZED (
    SELECT m.session_id, row_number() OVER (ORDER BY m.ordinal, g.n) AS seat
    FROM me m CROSS JOIN waiting w CROSS JOIN LATERAL generate_series(1, m.room) AS g (n)
    WHERE (m.idle OR NOT w.suspects) AND m.session_id NOT IN (SELECT session_id FROM alone)),
picked AS MATERIALIZED (
    SELECT p.place, p.job_id, p.shard_index, j.submitted_ms
    FROM (SELECT job_id, submitted_ms FROM active ORDER BY submitted_ms, job_id) j
    CROSS JOIN LATERAL (
        SELECT s.ctid AS place, s.job_id, s.shard_index FROM shard s
        WHERE s.job_id = j.job_id AND s.state = 'pending' AND s.not_before_ms <= (SELECT now_ms FROM clock)
            AND NOT (s.workers_lost > 0 OR s.part_of IS NOT NULL OR s.convicted)
        ORDER BY s.shard_index LIMIT (SELECT count(*) FROM seats) FOR UPDATE OF s SKIP LOCKED) p
    LIMIT (SELECT count(*) FROM seats)),
placed AS MATERIALIZED (
    SELECT p.place, (ARRAY(SELECT session_id FROM seats ORDER BY seat))[p.seat] AS session_id
    FROM (SELECT place, row_number() OVER (ORDER BY submitted_ms, job_id, shard_index) AS seat FROM picked) p
    UNION ALL SELECT place, session_id FROM alone),
leased AS (
    UPDATE shard s SET state = 'running', live = 1, epoch = s.epoch + 1
    FROM placed p WHERE s.ctid = p.place
    RETURNING s.*, p.session_id, gen_random_uuid() AS attempt_id),
tried AS (
    INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms)
    SELECT l.job_id, l.shard_index, l.epoch, l.attempt_id, l.session_id,
        ($3::uuid[])[array_position($2::uuid[], l.session_id)], 'live', clock.now_ms
    FROM leased l, clock),
noted AS (
    UPDATE session x SET last_request = ($3::uuid[])[array_position($2::uuid[], x.session_id)],
        progress_ms = clock.now_ms, revision = greatest(x.revision, $5)
    FROM clock WHERE x.session_id = ANY(ARRAY(SELECT session_id FROM placed))),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, pending, running)
    SELECT job_id, encaje_slot(), -count(*), count(*) FROM leased GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE
        SET pending = c.pending + excluded.pending, running = c.running + excluded.running)
SELECT s.session_id, s.job_id, s.shard_index, s.epoch, s.attempt_id, ",
    grant_columns!(),
    "
FROM leased s
JOIN job j ON j.job_id = s.job_id
JOIN source o ON o.job_id = s.job_id AND o.source_index = s.source_index
ORDER BY j.submitted_ms, j.job_id, s.shard_index"
);
/// $1 sessions: those that live.
pub(in crate::store) const PG_SESSION_STANDINGS: &str = "-- session_standings
SELECT session_id, last_request FROM session WHERE session_id = ANY($1::uuid[]) AND state = 'live'";

/// $1 now, $2 session, $3 shortest time that is slow, $4 mean shard durations that are, $5 per cent of the shards that are
/// done by then, $6 copies in per cent of the shards, $7 revision: the shard that has been running longest, of another session.
pub(in crate::store) const SLOW_SHARD: &str = "-- slow_shard
SELECT s.job_id, s.shard_index, s.epoch
FROM job j
JOIN (SELECT job_id, sum(pending) AS pending, sum(committed) AS committed, sum(busy_ms) AS busy_ms,
        sum(running) AS running, sum(pending + running + committed + dead + cancelled) AS shards
    FROM job_count GROUP BY job_id) c ON c.job_id = j.job_id
JOIN attempt a ON a.job_id = j.job_id AND a.state = 'live'
JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index
WHERE j.state = 'running' AND NOT j.paused AND j.revision <= $7 AND j.copies < max(1, j.shard_count * $6 / 100)
    AND c.pending = 0 AND c.committed > 0 AND c.shards - c.running >= c.shards * $5 / 100
    AND a.granted_ms + max($3, $4 * (c.busy_ms / c.committed)) <= $1 AND a.session_id <> $2 AND s.live = 1
ORDER BY a.granted_ms, j.submitted_ms, s.job_id, s.shard_index LIMIT 1";
/// $1 job, $2 index, $3 epoch before.
pub(in crate::store) const COPY_SHARD: &str = "-- copy_shard
UPDATE shard SET live = 2, epoch = epoch + 1
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'running' AND live = 1";
/// $1 job.
pub(in crate::store) const COUNT_COPY: &str = "-- count_copy
UPDATE job SET copies = copies + 1 WHERE job_id = $1";
/// $1 imposed time, $2 session, $3 request, $4 to $8 as $3 to $7 of `slow_shard`. For a session that holds nothing.
pub(in crate::store) const PG_COPY_SHARD: &str = concat!(
    "-- copy_shard
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
me AS MATERIALIZED (
    SELECT x.session_id FROM session x, clock
    WHERE x.session_id = $2 AND x.state = 'live' AND NOT x.quarantined AND x.expires_ms > clock.now_ms
        AND x.last_request IS DISTINCT FROM $3
        AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.session_id = $2 AND a.state = 'live')
    FOR NO KEY UPDATE OF x),
ripe AS MATERIALIZED (
    SELECT j.job_id, j.submitted_ms, greatest($4, $5 * (c.busy_ms / c.committed)) AS slow_ms
    FROM me CROSS JOIN job j CROSS JOIN LATERAL (
        SELECT sum(k.pending)::bigint AS pending, sum(k.committed)::bigint AS committed,
            sum(k.busy_ms)::bigint AS busy_ms, sum(k.running)::bigint AS running,
            sum(k.pending + k.running + k.committed + k.dead + k.cancelled)::bigint AS shards
        FROM job_count k WHERE k.job_id = j.job_id) c
    WHERE j.state = 'running' AND NOT j.paused AND j.revision <= $8
        AND j.copies < greatest(1, j.shard_count * $7 / 100)
        AND c.pending = 0 AND c.committed > 0 AND c.shards - c.running >= c.shards * $6 / 100),
slow AS MATERIALIZED (
    SELECT s.job_id, s.shard_index
    FROM ripe r JOIN attempt a ON a.job_id = r.job_id AND a.state = 'live'
    JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index, clock
    WHERE a.granted_ms + r.slow_ms <= clock.now_ms AND a.session_id <> $2 AND s.state = 'running' AND s.live = 1
    ORDER BY a.granted_ms, r.submitted_ms, s.job_id, s.shard_index LIMIT 1
    FOR UPDATE OF s SKIP LOCKED),
claimed AS (
    UPDATE job j SET copies = j.copies + 1
    FROM slow w WHERE j.job_id = w.job_id AND j.state = 'running' AND j.copies < greatest(1, j.shard_count * $7 / 100)
    RETURNING j.job_id),
leased AS (
    UPDATE shard s SET live = 2, epoch = s.epoch + 1
    FROM slow w JOIN claimed c ON c.job_id = w.job_id
    WHERE s.job_id = w.job_id AND s.shard_index = w.shard_index AND s.state = 'running' AND s.live = 1
    RETURNING s.*),
tried AS (
    INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, is_copy)
    SELECT l.job_id, l.shard_index, l.epoch, gen_random_uuid(), $2, $3, 'live', clock.now_ms, TRUE FROM leased l, clock
    RETURNING job_id, shard_index, attempt_id),
noted AS (
    UPDATE session x SET last_request = $3, progress_ms = clock.now_ms, revision = greatest(x.revision, $8)
    FROM leased, clock WHERE x.session_id = $2)
SELECT s.job_id, s.shard_index, s.epoch, t.attempt_id, ",
    grant_columns!(),
    "
FROM leased s
JOIN tried t ON t.job_id = s.job_id AND t.shard_index = s.shard_index
JOIN job j ON j.job_id = s.job_id
JOIN source o ON o.job_id = s.job_id AND o.source_index = s.source_index"
);

/// $1 session, $2 now, $3 TTL.
pub(in crate::store) const EXTEND_SESSION: &str = "-- extend_session
UPDATE session SET expires_ms = $2 + $3 WHERE session_id = $1 AND state = 'live'";
/// $1 session, $2 job, $3 index, $4 epoch: progress so far, if the lease is live.
pub(in crate::store) const LEASE_PROGRESS: &str = "-- lease_progress
SELECT a.rows_done FROM attempt a JOIN job j ON j.job_id = a.job_id
WHERE a.job_id = $2 AND a.shard_index = $3 AND a.epoch = $4 AND a.session_id = $1 AND a.state = 'live'
    AND j.state IN ('planning', 'running')";
/// $1 job, $2 index, $3 epoch, $4 rows, $5 tokens.
pub(in crate::store) const RECORD_PROGRESS: &str = "-- record_progress
UPDATE attempt SET rows_done = max(rows_done, $4), tokens_done = max(tokens_done, $5)
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'live'";
/// $1 session, $2 latest instant: what the session was granted until then and still holds.
pub(in crate::store) const OLD_LEASES: &str = "-- old_leases
SELECT job_id, shard_index, epoch FROM attempt INDEXED BY attempt_live
WHERE session_id = $1 AND state = 'live' AND granted_ms <= $2
ORDER BY job_id, shard_index, epoch";
/// $1 session, $2 now.
pub(in crate::store) const NOTE_PROGRESS: &str = "-- note_progress
UPDATE session SET progress_ms = $2 WHERE session_id = $1";
/// $1 imposed time, $2 TTL, $3 sessions; per reported lease: $4 session, $5 job, $6 index, $7 epoch, $8 rows, $9 tokens;
/// $10 reason of leases that go back because their session does not report them; $11 for how long the reports have waited.
///
/// A row for every session that lives and every report (its position, from 1) whose lease is live. Progress is a hint:
/// an attempt that somebody is just ending keeps what it has, so that heartbeats wait for no lock.
pub(in crate::store) const PG_BEAT: &str = concat!(
    "-- beat
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
alive AS MATERIALIZED (
    SELECT x.session_id FROM session x WHERE x.session_id = ANY($3::uuid[]) AND x.state = 'live'
    ORDER BY x.session_id FOR NO KEY UPDATE OF x),
reported AS MATERIALIZED (
    SELECT u.* FROM unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
        WITH ORDINALITY AS u (session_id, job_id, shard_index, epoch, rows_done, tokens_done, ordinal)),
standing AS MATERIALIZED (
    SELECT u.ordinal, u.session_id, a.job_id, a.shard_index, a.epoch, u.rows_done, u.tokens_done,
        u.rows_done > a.rows_done AS moved, u.rows_done > a.rows_done OR u.tokens_done > a.tokens_done AS news
    FROM reported u CROSS JOIN LATERAL (
        SELECT a.* FROM attempt a
        WHERE a.job_id = u.job_id AND a.shard_index = u.shard_index AND a.epoch = u.epoch OFFSET 0) a
    WHERE a.session_id = u.session_id AND a.state = 'live' AND u.session_id = ANY(ARRAY(SELECT session_id FROM alive))
        AND u.job_id = ANY(ARRAY(
            SELECT j.job_id FROM job j WHERE j.job_id = ANY($5::uuid[]) AND j.state IN ('planning', 'running')))),
moving AS MATERIALIZED (
    SELECT p.place, n.rows_done, n.tokens_done
    FROM (SELECT job_id, shard_index, epoch, max(rows_done) AS rows_done, max(tokens_done) AS tokens_done
        FROM standing WHERE news GROUP BY job_id, shard_index, epoch) n
    CROSS JOIN LATERAL (
        SELECT a.ctid AS place FROM attempt a
        WHERE a.job_id = n.job_id AND a.shard_index = n.shard_index AND a.epoch = n.epoch AND a.ended_ms IS NULL
        FOR NO KEY UPDATE OF a SKIP LOCKED) p),
recorded AS (
    UPDATE attempt a SET rows_done = greatest(a.rows_done, m.rows_done),
        tokens_done = greatest(a.tokens_done, m.tokens_done)
    FROM moving m WHERE a.ctid = m.place),
extended AS (
    UPDATE session x SET expires_ms = clock.now_ms + $2,
        progress_ms = CASE WHEN x.session_id = ANY(ARRAY(SELECT session_id FROM standing WHERE moved))
            THEN clock.now_ms ELSE x.progress_ms END
    FROM clock WHERE x.session_id = ANY(ARRAY(SELECT session_id FROM alive)) AND x.state = 'live'),
held AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch FROM attempt a, clock
    WHERE a.session_id = ANY(ARRAY(SELECT session_id FROM alive)) AND a.state = 'live'
        AND a.granted_ms + $2 + $11 <= clock.now_ms
        AND (a.session_id, a.job_id, a.shard_index, a.epoch) NOT IN (
            SELECT u.session_id, u.job_id, u.shard_index, u.epoch FROM reported u)
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a SKIP LOCKED),",
    give_back!("$10"),
    "
SELECT session_id, NULL::bigint AS ordinal FROM alive UNION ALL SELECT session_id, ordinal FROM standing"
);

/// $1 session, $2 job, $3 index, $4 epoch, $5 attempt: whether the lease is live, and since when.
pub(in crate::store) const LIVE_LEASE: &str = "-- live_lease
SELECT a.granted_ms FROM attempt a JOIN job j ON j.job_id = a.job_id
WHERE a.job_id = $2 AND a.shard_index = $3 AND a.epoch = $4 AND a.session_id = $1 AND a.attempt_id = $5
    AND a.state = 'live' AND j.state IN ('planning', 'running')";
/// $1 job, $2 index, $3 epoch, $4 key, $5 bytes, $6 digest, $7 input digest, $8 rejects, $9 rows, $10 truncated,
/// $11 tokens, $12 reused.
pub(in crate::store) const COMMIT_SHARD: &str = "-- commit_shard
UPDATE shard SET state = 'committed', live = 0, winner_epoch = $3, out_key = $4, out_bytes = $5, out_blake3 = $6,
    in_blake3 = $7, out_rejects = $8, out_truncated = $10, out_tokens = $11, out_reused = $12
WHERE job_id = $1 AND shard_index = $2 AND row_count = $9 AND state = 'running'
    AND coalesce(in_blake3, $7) = $7";
/// $1 job, $2 index, $3 now, $4 reason: the other attempts at a shard that was committed.
pub(in crate::store) const LOSE_RACE: &str = "-- lose_race
UPDATE attempt SET state = 'lost_race', ended_ms = $3, end_reason = $4
WHERE job_id = $1 AND shard_index = $2 AND state = 'live'";
/// $1 job, $2 reason, $3 rows.
pub(in crate::store) const COUNT_REJECTS: &str = "-- count_rejects
INSERT INTO job_reject AS r (job_id, slot, reason, row_count) VALUES ($1, 0, $2, $3)
ON CONFLICT (job_id, slot, reason) DO UPDATE SET row_count = r.row_count + excluded.row_count";
/// $1 job, $2 rows, $3 truncated, $4 tokens, $5 busy time, $6 reused: of a shard that was committed.
pub(in crate::store) const COUNT_COMMIT: &str = "-- count_commit
UPDATE job_count SET running = running - 1, committed = committed + 1, row_count = row_count + $2,
    truncated = truncated + $3, tokens = tokens + $4, busy_ms = busy_ms + $5, reused = reused + $6, ended = ended + 1
WHERE job_id = $1 AND slot = 0";
/// A copy that was begun after this statement looked is not among the rivals: then the shard does not match, and the commit
/// is tried again. Where it matches, the rivals are all who are still at it.
///
/// $1 imposed time; per commit: $2 session, $3 job, $4 index, $5 epoch, $6 attempt, $7 key, $8 bytes, $9 digest, $10 input
/// digest, $11 rejects, $12 rows, $13 truncated, $14 tokens; $15 reason of those who lose; per commit $16 reused. Returns the positions (from 1) of those that won. Of a commit
/// that comes twice, one wins, and the other is answered as a repeat is.
pub(in crate::store) const PG_COMMIT_SHARDS: &str = "-- commit_shards
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
asked AS MATERIALIZED (
    SELECT u.* FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::uuid[], $7::text[], $8::bigint[],
        $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $16::bigint[]) WITH ORDINALITY
        AS u (session_id, job_id, shard_index, epoch, attempt_id, out_key, out_bytes, out_blake3, in_blake3,
            out_rejects, row_count, out_truncated, out_tokens, out_reused, ordinal)),
held AS MATERIALIZED (
    SELECT u.*, a.held_epoch, a.held_session, a.held_attempt, a.granted_ms,
        count(*) OVER (PARTITION BY u.job_id, u.shard_index, u.ordinal) AS rivals
    FROM (SELECT * FROM asked ORDER BY job_id, shard_index) u
    CROSS JOIN LATERAL (
        SELECT a.epoch AS held_epoch, a.session_id AS held_session, a.attempt_id AS held_attempt, a.granted_ms
        FROM attempt a WHERE a.job_id = u.job_id AND a.shard_index = u.shard_index AND a.ended_ms IS NULL
        ORDER BY a.epoch FOR UPDATE OF a) a),
won AS (
    UPDATE shard s SET state = 'committed', live = 0, winner_epoch = u.epoch, out_key = u.out_key, out_bytes = u.out_bytes,
        out_blake3 = u.out_blake3, in_blake3 = u.in_blake3, out_rejects = u.out_rejects,
        out_truncated = u.out_truncated, out_tokens = u.out_tokens, out_reused = u.out_reused
    FROM held u
    WHERE u.held_attempt = u.attempt_id AND u.held_session = u.session_id AND u.held_epoch = u.epoch
        AND s.job_id = u.job_id AND s.shard_index = u.shard_index AND s.live = u.rivals AND s.row_count = u.row_count
        AND s.state = 'running' AND coalesce(s.in_blake3, u.in_blake3) = u.in_blake3
        AND u.job_id = ANY(ARRAY(
            SELECT j.job_id FROM job j WHERE j.job_id = ANY($3::uuid[]) AND j.state IN ('planning', 'running')))
    RETURNING u.ordinal, u.job_id, u.shard_index, u.epoch, u.row_count, u.out_truncated, u.out_tokens, u.out_reused,
        u.out_rejects, u.granted_ms),
ended AS (
    UPDATE attempt a SET ended_ms = clock.now_ms,
        state = CASE WHEN a.epoch = w.epoch THEN 'committed' ELSE 'lost_race' END,
        end_reason = CASE WHEN a.epoch = w.epoch THEN NULL ELSE $15 END
    FROM won w, clock WHERE a.job_id = w.job_id AND a.shard_index = w.shard_index AND a.ended_ms IS NULL),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, committed, row_count, truncated, tokens, reused, busy_ms, ended)
    SELECT w.job_id, encaje_slot(), -count(*), count(*), sum(w.row_count)::bigint, sum(w.out_truncated)::bigint,
        sum(w.out_tokens)::bigint, sum(w.out_reused)::bigint, sum(clock.now_ms - w.granted_ms)::bigint, count(*)
    FROM won w, clock GROUP BY w.job_id ORDER BY w.job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        committed = c.committed + excluded.committed, row_count = c.row_count + excluded.row_count,
        truncated = c.truncated + excluded.truncated, tokens = c.tokens + excluded.tokens,
        reused = c.reused + excluded.reused, busy_ms = c.busy_ms + excluded.busy_ms, ended = c.ended + excluded.ended),
rejected AS (
    INSERT INTO job_reject AS r (job_id, slot, reason, row_count)
    SELECT w.job_id, encaje_slot(), e.key, sum(e.value::bigint)::bigint
    FROM won w, json_each_text(w.out_rejects::json) e GROUP BY w.job_id, e.key ORDER BY w.job_id, e.key
    ON CONFLICT (job_id, slot, reason) DO UPDATE SET row_count = r.row_count + excluded.row_count)
SELECT ordinal FROM won";

/// $1 session, $2 job, $3 index, $4 epoch: what is known of a commit that did not go through.
pub(in crate::store) const COMMIT_REFUSAL: &str = "-- commit_refusal
SELECT j.state, s.row_count, s.winner_epoch, s.out_key, s.out_blake3, s.in_blake3, a.attempt_id
FROM shard s
JOIN job j ON j.job_id = s.job_id
LEFT JOIN attempt a ON a.job_id = s.job_id AND a.shard_index = s.shard_index AND a.epoch = $4
    AND a.session_id = $1 AND a.state = 'live'
WHERE s.job_id = $2 AND s.shard_index = $3";

/// $1 session, $2 job, $3 index, $4 epoch, $5 imposed time, $6 reason, $7 whether it counts, $8 pauses after 0, 1, …
/// failures, $9 pause where it does not count, $10 most failures, $11 class.
pub(in crate::store) const PG_FAIL_ATTEMPT: &str = "-- fail_attempt
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($5) AS now_ms),
ended AS (
    UPDATE attempt a SET state = 'failed', ended_ms = clock.now_ms, end_reason = $6, class = $11,
        ended_before = (SELECT coalesce(sum(k.ended), 0) FROM job_count k WHERE k.job_id = $2)
    FROM clock
    WHERE a.job_id = $2 AND a.shard_index = $3 AND a.epoch = $4 AND a.session_id = $1 AND a.state = 'live'
    RETURNING a.job_id, a.shard_index, a.epoch),
moved AS (
    UPDATE shard s SET last_error = $6, failures = s.failures + CASE WHEN $7 THEN 1 ELSE 0 END, live = s.live - 1,
        state = CASE WHEN s.live > 1 THEN 'running' WHEN $7 AND s.failures + 1 >= $10 THEN 'dead' ELSE 'pending' END,
        not_before_ms = clock.now_ms
            + CASE WHEN $7 THEN ($8::bigint[])[least(s.failures + 1, array_length($8::bigint[], 1))] ELSE $9 END
    FROM ended e, clock
    WHERE s.job_id = e.job_id AND s.shard_index = e.shard_index AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending, dead, ended)
    SELECT job_id, encaje_slot(), -count(*) FILTER (WHERE state <> 'running'),
        count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead'), count(*)
    FROM moved GROUP BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        pending = c.pending + excluded.pending, dead = c.dead + excluded.dead, ended = c.ended + excluded.ended)
SELECT count(*) FROM ended";

/// $1 session, $2 job, $3 index, $4 epoch, $5 imposed time, $6 reason.
pub(in crate::store) const PG_RELEASE_ATTEMPT: &str = "-- release_attempt
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($5) AS now_ms),
ended AS (
    UPDATE attempt a SET state = 'released', ended_ms = clock.now_ms, end_reason = $6
    FROM clock
    WHERE a.job_id = $2 AND a.shard_index = $3 AND a.epoch = $4 AND a.session_id = $1 AND a.state = 'live'
    RETURNING a.job_id, a.shard_index),
moved AS (
    UPDATE shard s SET state = CASE WHEN s.live > 1 THEN 'running' ELSE 'pending' END, live = s.live - 1,
        not_before_ms = clock.now_ms
    FROM ended e, clock
    WHERE s.job_id = e.job_id AND s.shard_index = e.shard_index AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending)
    SELECT job_id, encaje_slot(), -count(*), count(*) FROM moved WHERE state = 'pending' GROUP BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE
        SET running = c.running + excluded.running, pending = c.pending + excluded.pending)
SELECT count(*) FROM ended";
