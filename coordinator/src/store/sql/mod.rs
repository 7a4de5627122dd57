//! Every statement, with its name in the first line. Portable where it can be; the dialect pairs stand side by side.
//!
//! `$n` are parameters in both dialects. A transition names the state and the epoch that it expects, and its caller
//! counts the rows. On PostgreSQL every transition is ONE statement (a dropped connection or handler then leaves no
//! transaction open), locks rows in the order session or job → attempt → shard → counters, several attempts in the
//! order of their keys, and takes the time from `encaje_now_ms`, which only a test overrides. SQLite carries the same
//! transitions out step by step inside one `BEGIN IMMEDIATE` transaction of its only writer.

pub(super) mod jobs;
pub(super) mod sweep;
pub(super) mod work;
