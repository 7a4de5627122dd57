//! What may happen to a store, by chance: single events, the runs that lead to where these seldom get, and what a set of
//! sequences must have come to.

use proptest::prelude::{Strategy, any, prop, prop_oneof};
use proptest::strategy::Just;
use proto::work::FailureClass;

/// Jobs that events are about.
const JOBS: u8 = 3;
/// The one of them that may succeed without some of its shards.
pub(super) const PARTIAL_JOB: u8 = 1;

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Submit { job: u8, reuse: bool },
    SetSources(u8),
    InsertShards { job: u8, count: u8, stale: bool, done: bool },
    OpenSession { leases_max: u8 },
    Lease { session: u8, max: u8, repeated: bool },
    Commit { grant: u8, foreign: bool, what: Written },
    Fail { grant: u8, class: FailureClass },
    Release { grant: u8, foreign: bool },
    HeartbeatReply { session: u8, grants: [u8; 2], rows: u8 },
    Close { session: Option<u8> },
    Advance(u32),
    Sweep,
    Cancel(u8),
    Pause(u8, bool),
    Retry(u8),
    Repair { job: u8, shards: [u8; 2] },
    FailJob(u8),
    FailExhausted,
    TripBreakers,
    Quarantine,
    Lead(u8),
    Resign(u8),
    BeginFinalize(u8),
    Finish(u8, bool),
    FailFinalize { job: u8, stale: bool },
    Settle,
    MarkGarbage,
    GarbageDeleted,
}

/// What an attempt claims to have written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written {
    Right,
    OtherDigest,
    OtherInput,
    MissingRow,
    OtherKey,
}

fn event() -> impl Strategy<Value = Event> {
    let job = || 0..JOBS;
    let class = prop::sample::select(vec![
        FailureClass::Transient,
        FailureClass::Transient,
        FailureClass::Resource,
        FailureClass::Throttled,
        FailureClass::InputChanged,
        FailureClass::WorkerLost,
        FailureClass::WorkerLost,
        FailureClass::Drained,
        FailureClass::Auth,
    ]);
    let written = prop_oneof![
        6 => Just(Written::Right),
        1 => Just(Written::OtherDigest),
        1 => Just(Written::OtherInput),
        1 => Just(Written::MissingRow),
        1 => Just(Written::OtherKey)
    ];
    let advance = prop::sample::select(vec![1, 250, 1_000, 14_000, 29_000, 29_000, 31_000, 61_000, 620_000]);
    prop_oneof![
        2 => (job(), any::<bool>()).prop_map(|(job, reuse)| Event::Submit { job, reuse }),
        2 => job().prop_map(Event::SetSources),
        5 => (job(), 0..4_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.4))
            .prop_map(|(job, count, stale, done)| Event::InsertShards { job, count, stale, done }),
        3 => (1..4_u8).prop_map(|leases_max| Event::OpenSession { leases_max }),
        12 => (any::<u8>(), 0..4_u8, prop::bool::weighted(0.2))
            .prop_map(|(session, max, repeated)| Event::Lease { session, max, repeated }),
        10 => (any::<u8>(), prop::bool::weighted(0.1), written)
            .prop_map(|(grant, foreign, what)| Event::Commit { grant, foreign, what }),
        4 => (any::<u8>(), class).prop_map(|(grant, class)| Event::Fail { grant, class }),
        5 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(grant, foreign)| Event::Release { grant, foreign }),
        5 => (any::<u8>(), any::<[u8; 2]>(), 0..9_u8)
            .prop_map(|(session, grants, rows)| Event::HeartbeatReply { session, grants, rows }),
        1 => prop::option::weighted(0.8, any::<u8>()).prop_map(|session| Event::Close { session }),
        6 => advance.prop_map(Event::Advance),
        6 => Just(Event::Sweep),
        1 => (1..JOBS).prop_map(Event::Cancel),
        2 => (job(), any::<bool>()).prop_map(|(job, paused)| Event::Pause(job, paused)),
        2 => job().prop_map(Event::Retry),
        2 => (job(), any::<[u8; 2]>()).prop_map(|(job, shards)| Event::Repair { job, shards: shards.map(|one| one % 5) }),
        1 => job().prop_map(Event::FailJob),
        1 => Just(Event::FailExhausted),
        1 => Just(Event::TripBreakers),
        2 => Just(Event::Quarantine),
        1 => (0..2_u8).prop_map(Event::Lead),
        1 => (0..2_u8).prop_map(Event::Resign),
        2 => job().prop_map(Event::BeginFinalize),
        2 => (job(), any::<bool>()).prop_map(|(job, other)| Event::Finish(job, other)),
        1 => (job(), any::<bool>()).prop_map(|(job, stale)| Event::FailFinalize { job, stale }),
        2 => Just(Event::Settle),
        1 => Just(Event::MarkGarbage),
        1 => Just(Event::GarbageDeleted),
    ]
}

/// Events as they come: mostly one by one, sometimes in the runs that lead to where single events seldom get.
pub(super) fn burst() -> impl Strategy<Value = Vec<Event>> {
    let lease = |session| Event::Lease { session, max: 3, repeated: false };
    let commit = |grant| Event::Commit { grant, foreign: false, what: Written::Right };
    prop_oneof![
        40 => event().prop_map(|event| vec![event]),
        // Heartbeats are missed while sweeps go on.
        4 => (1..4_usize).prop_map(|times| [Event::Advance(30_000), Event::Sweep].repeat(times)),
        // A new worker takes shards and is never heard of again.
        4 => (1..3_usize).prop_map(move |times| {
            let silence = [Event::Advance(30_000), Event::Sweep].repeat(3);
            [&[Event::OpenSession { leases_max: 2 }, lease(0)][..], &silence[..]].concat().repeat(times)
        }),
        2 => (1..JOBS).prop_map(|job| vec![Event::Cancel(job), Event::Settle]),
        4 => any::<u8>().prop_map(move |session| vec![lease(session), commit(0), commit(1), commit(2)]),
        3 => any::<u8>().prop_map(move |session| {
            let fail = Event::Fail { grant: 0, class: FailureClass::Transient };
            vec![lease(session), fail, Event::Advance(1_000)]
        }),
        2 => any::<u8>().prop_map(move |session| {
            let fail = Event::Fail { grant: 0, class: FailureClass::Resource };
            let round = [lease(session), fail, Event::Advance(1_000)];
            [&round[..], &round[..], &[Event::Retry(0), Event::Retry(1), lease(session)]].concat()
        }),
        3 => (0..JOBS).prop_map(|job| vec![Event::BeginFinalize(job), Event::Finish(job, false)]),
        // A shard is slow, everything else is done, and a new worker has nothing to do.
        4 => any::<u8>().prop_map(move |session| {
            let idle = [Event::OpenSession { leases_max: 2 }, lease(0)];
            [&[lease(session), commit(1), commit(2), Event::Advance(14_000)][..], &idle[..], &[commit(0)][..]].concat()
        }),
        // A worker fails at what another one can do.
        2 => Just(()).prop_map(move |()| {
            let fail = Event::Fail { grant: 0, class: FailureClass::Transient };
            let new = Event::OpenSession { leases_max: 3 };
            let round = [new, lease(0), commit(0), commit(1), commit(2)];
            [&[new, lease(0), fail, Event::Advance(1_000)][..], &round[..], &[Event::Quarantine, lease(1)][..]].concat()
        }),
        // The same again and again goes wrong.
        2 => any::<u8>().prop_map(move |session| {
            let fail = Event::Fail { grant: 0, class: FailureClass::WorkerLost };
            [lease(session), fail, lease(session), fail, Event::Quarantine, Event::TripBreakers].to_vec()
        }),
        // What is not committed dies, and the job ends all the same.
        3 => any::<u8>().prop_map(move |session| {
            let fail = Event::Fail { grant: 0, class: FailureClass::Transient };
            let one = Event::Lease { session, max: 1, repeated: false };
            let rounds = [one, fail, Event::Advance(1_000)].repeat(4);
            let end = [Event::BeginFinalize(PARTIAL_JOB), Event::Finish(PARTIAL_JOB, false)];
            [&[one, commit(0)][..], &rounds[..], &end[..], &[Event::Retry(PARTIAL_JOB)]].concat()
        }),
        2 => (0..JOBS, 0..3_u8).prop_map(|(job, shard)| {
            vec![Event::BeginFinalize(job), Event::Finish(job, false), Event::Repair { job, shards: [shard, 0] }]
        }),
    ]
}

/// Without two planned jobs and two workers, most random events would be about nothing.
pub(super) fn prologue() -> Vec<Event> {
    let page = |job, count, done| Event::InsertShards { job, count, stale: false, done };
    vec![
        Event::Submit { job: 0, reuse: false },
        Event::SetSources(0),
        page(0, 3, false),
        Event::OpenSession { leases_max: 2 },
        Event::Advance(1),
        Event::Submit { job: 1, reuse: false },
        Event::SetSources(1),
        page(1, 2, true),
        Event::OpenSession { leases_max: 3 },
    ]
}

/// What the sequences must have come to, so that their agreement means something: words of answers and of states.
pub(super) const MUST_BE_SEEN: [&str; 33] = [
    "Committed",
    "Stale",
    "LostRace",
    "Cancelled",
    "refused",
    "None",
    "state=pending",
    "state=running",
    "state=committed",
    "state=dead",
    "state=cancelled",
    "state=live",
    "state=failed",
    "state=released",
    "state=expired",
    "state=revoked",
    "state=garbage",
    "state=finalizing",
    "state=succeeded",
    "state=cancelling",
    "paused=true",
    "workers_lost=2",
    "failures=2",
    "epoch=3",
    "generation=2",
    "state=lost_race",
    "state=split",
    "live=2",
    "convicted=true",
    "is_copy=true",
    "quarantined=true",
    "class=worker_lost",
    "succeeded without dead shards",
];
