//! The whole state as lines of text: what the model and both databases are compared by, and what must never be listed.

use crate::store::error::StoreError;
use crate::store::rows::Fields;

/// How a column is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Id,
    Int,
    Text,
    Flag,
    /// A storage key, without the random name of the attempt at its end.
    Key,
}

/// A statement that runs on both databases, and how its rows become lines.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
}

impl Listing {
    pub(crate) fn line(&self, row: &impl Fields) -> Result<String, StoreError> {
        let mut line = self.name.to_owned();
        for (column, kind) in self.columns {
            let value = match kind {
                Kind::Id => row.opt_id(column)?.map(|id| id.to_string()),
                Kind::Int => row.opt_int(column)?.map(|int| int.to_string()),
                Kind::Text => row.opt_text(column)?,
                Kind::Flag => Some(row.flag(column)?.to_string()),
                Kind::Key => row.opt_text(column)?.map(|key| without_attempt(&key)),
            };
            line.push_str(&format!(" {column}={}", value.unwrap_or_else(|| "-".to_owned())));
        }
        Ok(line)
    }
}

/// Returns a key without the part that is random.
pub(in crate::store) fn without_attempt(key: &str) -> String {
    key.strip_suffix(".parquet").and_then(|stem| stem.get(..stem.len() - 36)).unwrap_or(key).to_owned()
}

use Kind::{Flag, Id, Int, Key, Text};

/// Everything that is stored, in a fixed order.
pub(crate) const STATE: [Listing; 6] = [
    Listing {
        name: "job",
        sql: "SELECT * FROM job ORDER BY job_id",
        columns: &[
            ("job_id", Id),
            ("state", Text),
            ("paused", Flag),
            ("planned", Flag),
            ("reason", Text),
            ("submitted_ms", Int),
            ("source_count", Int),
            ("shard_count", Int),
            ("rows_planned", Int),
            ("cursor_source", Int),
            ("cursor_position", Int),
            ("cursor_row", Int),
            ("manifest_key", Text),
            ("manifest_digest", Text),
            ("generation", Int),
            ("pause_reason", Text),
            ("copies", Int),
            ("judged_from", Int),
            ("allow_partial", Flag),
            ("owner", Text),
            ("revision", Int),
            ("spec_digest", Text),
            ("model_name", Text),
            ("source_total", Int),
        ],
    },
    Listing {
        name: "count",
        sql: "SELECT job_id, CAST(sum(pending) AS BIGINT) AS pending, CAST(sum(running) AS BIGINT) AS running,
            CAST(sum(committed) AS BIGINT) AS committed, CAST(sum(dead) AS BIGINT) AS dead,
            CAST(sum(cancelled) AS BIGINT) AS cancelled, CAST(sum(row_count) AS BIGINT) AS row_count,
            CAST(sum(truncated) AS BIGINT) AS truncated, CAST(sum(tokens) AS BIGINT) AS tokens,
            CAST(sum(reused) AS BIGINT) AS reused, CAST(sum(busy_ms) AS BIGINT) AS busy_ms, CAST(sum(split) AS BIGINT) AS split,
            CAST(sum(ended) AS BIGINT) AS ended
            FROM job_count GROUP BY job_id
            HAVING sum(pending) <> 0 OR sum(running) <> 0 OR sum(committed) <> 0 OR sum(dead) <> 0 OR sum(cancelled) <> 0
            ORDER BY job_id",
        columns: &[
            ("job_id", Id),
            ("pending", Int),
            ("running", Int),
            ("committed", Int),
            ("dead", Int),
            ("cancelled", Int),
            ("row_count", Int),
            ("truncated", Int),
            ("tokens", Int),
            ("reused", Int),
            ("busy_ms", Int),
            ("split", Int),
            ("ended", Int),
        ],
    },
    Listing {
        name: "reject",
        sql: "SELECT job_id, reason, CAST(sum(row_count) AS BIGINT) AS row_count FROM job_reject
            GROUP BY job_id, reason HAVING sum(row_count) <> 0 ORDER BY job_id, reason",
        columns: &[("job_id", Id), ("reason", Text), ("row_count", Int)],
    },
    Listing {
        name: "shard",
        sql: "SELECT job_id, shard_index, source_index, first_row, row_count, state, epoch, failures, workers_lost,
            CASE WHEN state = 'pending' THEN not_before_ms END AS not_before_ms, last_error, winner_epoch, out_key,
            out_blake3, in_blake3, live, slice_first_row, slice_row_count, part_of, convicted
            FROM shard ORDER BY job_id, shard_index",
        columns: &[
            ("job_id", Id),
            ("shard_index", Int),
            ("source_index", Int),
            ("first_row", Int),
            ("row_count", Int),
            ("state", Text),
            ("epoch", Int),
            ("failures", Int),
            ("workers_lost", Int),
            ("not_before_ms", Int),
            ("last_error", Text),
            ("winner_epoch", Int),
            ("out_key", Key),
            ("out_blake3", Text),
            ("in_blake3", Text),
            ("live", Int),
            ("slice_first_row", Int),
            ("slice_row_count", Int),
            ("part_of", Int),
            ("convicted", Flag),
        ],
    },
    Listing {
        name: "attempt",
        sql: "SELECT * FROM attempt ORDER BY job_id, shard_index, epoch",
        columns: &[
            ("job_id", Id),
            ("shard_index", Int),
            ("epoch", Int),
            ("session_id", Id),
            ("request_id", Id),
            ("state", Text),
            ("granted_ms", Int),
            ("ended_ms", Int),
            ("end_reason", Text),
            ("rows_done", Int),
            ("tokens_done", Int),
            ("deleted_ms", Int),
            ("is_copy", Flag),
            ("class", Text),
            ("ended_before", Int),
        ],
    },
    Listing {
        name: "session",
        sql: "SELECT * FROM session ORDER BY session_id",
        columns: &[
            ("session_id", Id),
            ("name", Text),
            ("leases_max", Int),
            ("state", Text),
            ("expires_ms", Int),
            ("progress_ms", Int),
            ("last_request", Id),
            ("ended_ms", Int),
            ("end_reason", Text),
            ("quarantined", Flag),
            ("revision", Int),
        ],
    },
];

/// Columns that [`STATE`] leaves out, by table, and why. An empty list of columns is the whole table.
const UNLISTED: [(&str, &[&str], &str); 9] = [
    ("job", &["spec", "task"], "is what `spec_digest` is of"),
    ("source", &[], "is stored once and read by grants, which the cases compare"),
    ("shard", &["recut_key", "range_unit", "range_start", "range_end"], "is the slice, which grants carry"),
    (
        "shard",
        &["out_bytes", "out_rejects", "out_truncated", "out_tokens", "out_reused"],
        "is listed in the sums of the job",
    ),
    ("attempt", &["attempt_id"], "is random"),
    ("session", &["devices", "version", "opened_ms"], "is for people"),
    ("leader", &[], "is of processes, not of jobs"),
    ("schema_compat", &[], "is of the schema"),
    ("storage", &[], "is noted once, which has its case"),
];

/// The columns of the schema.
const COLUMNS: Listing = Listing {
    name: "column",
    sql: "SELECT t.name || '.' || c.name AS column_name FROM sqlite_master t JOIN pragma_table_info(t.name) c
        WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '%migrations%' AND c.name <> 'slot'",
    columns: &[("column_name", Text)],
};

#[tokio::test]
async fn every_column_is_compared_or_left_out_for_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let bed = super::Bed::on_sqlite(folder.path()).await;
    let lines = bed.store.backend.lines(&COLUMNS).await.unwrap();
    let columns: Vec<(&str, &str)> =
        lines.iter().map(|line| line.rsplit_once('=').unwrap().1.split_once('.').unwrap()).collect();
    let is_listed = |table: &str, column: &str| {
        let name = table.trim_start_matches("job_");
        STATE.iter().any(|listing| listing.name == name && listing.columns.iter().any(|(listed, _)| *listed == column))
    };
    let is_left_out = |table: &str, column: &str| {
        UNLISTED.iter().any(|(of, columns, _)| *of == table && (columns.is_empty() || columns.contains(&column)))
    };
    for (table, column) in &columns {
        let (is_listed, is_left_out) = (is_listed(table, column), is_left_out(table, column));
        assert!(is_listed != is_left_out, "`{table}.{column}`: list it in STATE, or in UNLISTED with the reason");
    }
    for (table, left_out, _) in UNLISTED {
        assert!(columns.iter().any(|(of, _)| *of == table), "`{table}` is no table");
        assert!(left_out.iter().all(|column| columns.contains(&(table, *column))), "{table}: {left_out:?}");
    }
}

/// What must never be found, whatever happened: invariants that the tables themselves can tell.
pub(crate) const VIOLATIONS: [Listing; 5] = [
    Listing {
        name: "I2: a shard is committed exactly when one attempt is, under the epoch of the winner",
        sql: "SELECT s.job_id, s.shard_index FROM shard s
            LEFT JOIN attempt a ON a.job_id = s.job_id AND a.shard_index = s.shard_index AND a.state = 'committed'
            GROUP BY s.job_id, s.shard_index, s.state, s.winner_epoch
            HAVING count(a.epoch) <> CASE WHEN s.state = 'committed' THEN 1 ELSE 0 END
                OR coalesce(min(a.epoch), 0) <> coalesce(s.winner_epoch, 0)",
        columns: &[("job_id", Id), ("shard_index", Int)],
    },
    Listing {
        name: "I3: epochs are given out one by one, and the shard knows the latest",
        sql: "SELECT s.job_id, s.shard_index FROM shard s
            LEFT JOIN attempt a ON a.job_id = s.job_id AND a.shard_index = s.shard_index
            GROUP BY s.job_id, s.shard_index, s.epoch
            HAVING count(a.epoch) <> s.epoch OR coalesce(max(a.epoch), 0) <> s.epoch",
        columns: &[("job_id", Id), ("shard_index", Int)],
    },
    Listing {
        name: "I10: a shard runs exactly when one attempt is live, or two, of which one is a copy",
        sql: "SELECT s.job_id, s.shard_index FROM shard s
            LEFT JOIN attempt a ON a.job_id = s.job_id AND a.shard_index = s.shard_index AND a.state = 'live'
            GROUP BY s.job_id, s.shard_index, s.state, s.live
            HAVING count(a.epoch) <> s.live OR (s.state = 'running') <> (s.live > 0) OR s.live > 2
                OR count(a.epoch) - sum(CASE WHEN a.is_copy THEN 1 ELSE 0 END) > 1",
        columns: &[("job_id", Id), ("shard_index", Int)],
    },
    Listing {
        name: "I11: the counters of a job are the sums over its shards",
        sql: "SELECT j.job_id FROM job j
            LEFT JOIN (SELECT job_id, sum(pending) AS pending, sum(running) AS running, sum(committed) AS committed,
                    sum(dead) AS dead, sum(cancelled) AS cancelled, sum(row_count) AS row_count, sum(tokens) AS tokens,
                    sum(split) AS split, sum(reused) AS reused
                FROM job_count GROUP BY job_id) c ON c.job_id = j.job_id
            LEFT JOIN (SELECT job_id, sum(CASE WHEN state = 'pending' THEN 1 ELSE 0 END) AS pending,
                    sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END) AS running,
                    sum(CASE WHEN state = 'committed' THEN 1 ELSE 0 END) AS committed,
                    sum(CASE WHEN state = 'dead' THEN 1 ELSE 0 END) AS dead,
                    sum(CASE WHEN state = 'cancelled' THEN 1 ELSE 0 END) AS cancelled,
                    sum(CASE WHEN state = 'committed' THEN row_count ELSE 0 END) AS row_count,
                    sum(CASE WHEN state = 'split' THEN 1 ELSE 0 END) AS split,
                    sum(coalesce(out_tokens, 0)) AS tokens, sum(coalesce(out_reused, 0)) AS reused
                FROM shard GROUP BY job_id) s ON s.job_id = j.job_id
            WHERE coalesce(c.pending, 0) <> coalesce(s.pending, 0) OR coalesce(c.running, 0) <> coalesce(s.running, 0)
                OR coalesce(c.committed, 0) <> coalesce(s.committed, 0) OR coalesce(c.dead, 0) <> coalesce(s.dead, 0)
                OR coalesce(c.cancelled, 0) <> coalesce(s.cancelled, 0)
                OR coalesce(c.row_count, 0) <> coalesce(s.row_count, 0) OR coalesce(c.tokens, 0) <> coalesce(s.tokens, 0)
                OR coalesce(c.split, 0) <> coalesce(s.split, 0) OR coalesce(c.reused, 0) <> coalesce(s.reused, 0)",
        columns: &[("job_id", Id)],
    },
    Listing {
        name: "I11: shards are as many as planned, and cover the rows that were planned",
        sql: "SELECT j.job_id FROM job j
            LEFT JOIN (SELECT job_id, count(*) AS shards,
                    sum(CASE WHEN state = 'split' THEN 0 ELSE row_count END) AS row_count FROM shard GROUP BY job_id) s
                ON s.job_id = j.job_id
            WHERE j.shard_count <> coalesce(s.shards, 0) OR j.rows_planned <> coalesce(s.row_count, 0)",
        columns: &[("job_id", Id)],
    },
];
