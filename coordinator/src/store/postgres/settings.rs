//! Settings of every connection: limits, and how the server plans queries.
//!
//! No plan may depend on statistics. Right after planning a million shards there are none, and the server would sort all
//! pending shards for every lease instead of reading the first from an index.

/// Settings of all connections. No statement outlives everybody's interest in it.
pub(in crate::store) const EVERYWHERE: [(&str, &str); 9] = [
    ("statement_timeout", "50s"),
    // The server, too, must find out about a network that swallows everything.
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// Settings where leases, commits and heartbeats go. Their statements are large and touch few rows: to plan one takes
/// several times as long as to run it, so each connection plans it once. That plan may come from when the tables were
/// empty, and must be good for a million shards: every row is found by its key, from the other side of a loop. Whatever
/// reads a table to its end to join it is out of the question, and the statements leave the server no other choice (see
/// `sql`).
pub(in crate::store) const HOT: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
];

/// Settings where submission, planning, status and upkeep go: seldom, over many rows, with parameters that may be absent. A
/// plan is made for every statement, which costs a millisecond or two.
pub(in crate::store) const BACKGROUND: [(&str, &str); 1] = [("plan_cache_mode", "force_custom_plan")];
