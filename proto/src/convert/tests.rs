//! What goes over the wire comes back as it was; what does not say what it must is refused by the name of the field.

use std::collections::BTreeMap;

use dataset::{
    Compression, Fingerprint, Format, Keep, PlannedSource, Quote, ReadOptions, RejectReason, Slice, SliceRange, Source,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

use super::*;
use crate::generated as wire;
use crate::ids::{Epoch, JobId, SessionId, ShardId};
use crate::job::*;
use crate::work::*;
use testkit::full_job_spec as spec;

fn bytes_and_back<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn uuid() -> impl Strategy<Value = uuid::Uuid> {
    any::<u128>().prop_map(uuid::Uuid::from_u128)
}

fn shard() -> impl Strategy<Value = ShardId> {
    (uuid(), any::<u64>()).prop_map(|(job, index)| ShardId { job: JobId(job), index })
}

fn source() -> impl Strategy<Value = Source> {
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    (".{1,20}", select(Format::ALL), select(compressions.to_vec())).prop_map(|(uri, format, compression)| Source {
        uri,
        format,
        compression,
    })
}

fn read_options() -> impl Strategy<Value = ReadOptions> {
    let keep =
        prop_oneof![Just(Keep::All), Just(Keep::None), prop::collection::vec(".{0,8}", 0..4).prop_map(Keep::Columns)];
    let quote = prop_oneof![Just(Quote::None), any::<char>().prop_map(Quote::Char)];
    let dialect = (option::of(any::<char>()), option::of(quote), option::of("[a-z0-9-]{1,12}"));
    (".{0,8}", option::of(".{0,8}"), keep, dialect).prop_map(
        |(text_column, id_column, keep, (delimiter, quote, encoding))| ReadOptions {
            text_column,
            id_column,
            keep,
            delimiter,
            quote,
            encoding,
        },
    )
}

fn model() -> impl Strategy<Value = ModelSpec> {
    (".{0,20}", option::of("[0-9a-f]{40}"), "[0-9a-f]{64}").prop_map(|(name, revision, digest)| ModelSpec {
        name,
        revision,
        digest,
    })
}

fn embed() -> impl Strategy<Value = EmbedSpec> {
    let number = || option::of(any::<u32>());
    (
        option::of(select(Pooling::ALL)),
        any::<bool>(),
        number(),
        ".{0,8}",
        select(ComputeDtype::ALL),
        select(OutputDtype::ALL),
        number(),
        number(),
        (option::of(".{0,8}"), option::of(".{0,8}")),
    )
        .prop_map(
            |(pooling, normalize, max_length, prefix, dtype, output_dtype, dimensions, batch_tokens, names)| {
                let (prompt, similarity) = names;
                EmbedSpec {
                    pooling,
                    normalize,
                    max_length,
                    prefix,
                    dtype,
                    output_dtype,
                    dimensions,
                    batch_tokens,
                    prompt,
                    similarity,
                }
            },
        )
}

fn job_spec() -> impl Strategy<Value = JobSpec> {
    let limits = (1..u64::MAX, 1..u64::MAX).prop_map(|(rows_max, bytes_max)| ShardLimits { rows_max, bytes_max });
    let max_rejects = prop_oneof![
        Just(MaxRejects::Unlimited),
        any::<u64>().prop_map(MaxRejects::Rows),
        (0.0..=100.0).prop_map(MaxRejects::Percent)
    ];
    let on_bad_row = select(&[OnBadRow::Reject, OnBadRow::Fail][..]);
    let sources = prop::collection::vec(source(), 0..4);
    (sources, read_options(), model(), embed(), limits, on_bad_row, max_rejects, (any::<bool>(), reuse())).prop_map(
        |(sources, read, model, embed, limits, on_bad_row, max_rejects, (allow_partial, reuse))| JobSpec {
            sources,
            read,
            model,
            embed,
            limits,
            on_bad_row,
            max_rejects,
            allow_partial,
            reuse,
        },
    )
}

fn reuse() -> impl Strategy<Value = Vec<ReuseSource>> {
    let source = (".{1,8}", ".{1,8}", ".{1,8}", any::<bool>());
    let source =
        source.prop_map(|(uri, blake3, text_column, retired)| ReuseSource { uri, blake3, text_column, retired });
    prop::collection::vec(source, 0..3)
}

fn counts() -> impl Strategy<Value = RowCounts> {
    let rejects = prop::collection::btree_map(select(RejectReason::ALL), any::<u64>(), 0..4);
    (any::<u64>(), rejects, any::<u64>(), any::<u64>(), any::<u64>())
        .prop_map(|(rows, rejects, truncated, tokens, reused)| RowCounts { rows, rejects, truncated, tokens, reused })
}

fn job_status() -> impl Strategy<Value = JobStatus> {
    let states = [
        JobState::Planning,
        JobState::Running,
        JobState::Finalizing,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelling,
        JobState::Cancelled,
    ];
    let shards = any::<[u64; 6]>().prop_map(|[pending, running, committed, dead, cancelled, split]| ShardCounts {
        pending,
        running,
        committed,
        dead,
        cancelled,
        split,
    });
    let texts = (option::of(".{0,20}"), option::of(".{0,20}"), option::of(".{0,20}"));
    (uuid(), job_spec(), select(states.to_vec()), any::<bool>(), texts, shards, counts(), any::<[u64; 9]>()).prop_map(
        |(id, spec, state, paused, (reason, manifest_key, pause_reason), shards, counts, numbers)| {
            let brief = JobBrief {
                id: JobId(id),
                model: spec.model.name.clone(),
                sources: spec.sources.len() as u64,
                state,
                paused,
                reason,
                shards,
                rows_planned: numbers[0],
                counts,
                rows_in_flight: numbers[1],
                tokens_in_flight: numbers[2],
                workers: numbers[3],
                manifest_key,
                age_ms: numbers[4],
                pause_reason,
                starved_ms: numbers[5],
                copies: numbers[6],
                workers_quarantined: numbers[7],
                workers_outdated: numbers[1] ^ numbers[7],
                generation: numbers[8],
                owner: (numbers[8] % 2 == 1).then(|| "ana".to_owned()),
            };
            JobStatus { spec, brief }
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    let planned = (source(), any::<u64>(), option::of(".{0,8}"), prop::collection::vec(".{0,8}", 0..4), ".{0,8}")
        .prop_map(|(source, size, etag, header, kept_schema)| PlannedSource {
            source,
            fingerprint: Fingerprint { size, etag },
            header,
            kept_schema,
        });
    let slice = (any::<u32>(), option::of(".{0,8}"), any::<bool>(), any::<[u64; 4]>(), option::of("[0-9a-f]{64}"))
        .prop_map(|(source_index, recut_key, bytes, [one, other, first_row, rows], blake3)| {
            let (start, end) = (one.min(other), one.max(other));
            let range = if bytes { SliceRange::Bytes { start, end } } else { SliceRange::Rows { start, end } };
            Slice { source_index, recut_key, range, first_row, rows, blake3 }
        });
    let on_bad_row = select(&[OnBadRow::Reject, OnBadRow::Fail][..]);
    let window =
        option::of(any::<[u64; 2]>()).prop_map(|window| window.map(|[first_row, rows]| RowWindow { first_row, rows }));
    let rest = (on_bad_row, ".{0,20}", "[0-9a-f]{64}", window, any::<bool>(), reuse());
    (shard(), any::<u32>(), read_options(), planned, slice, model(), embed(), rest).prop_map(
        |(
            shard,
            epoch,
            read,
            source,
            slice,
            model,
            embed,
            (on_bad_row, output_key, spec_digest, window, is_poison, reuse),
        )| Grant {
            shard,
            epoch: Epoch(epoch),
            spec_digest,
            read,
            source,
            slice,
            model,
            embed,
            on_bad_row,
            output_key,
            window,
            is_poison,
            reuse,
        },
    )
}

proptest! {
    #[test]
    fn a_job_status_comes_back_as_it_was(status in job_status()) {
        let back = JobStatus::try_from(bytes_and_back(wire::JobStatus::from(&status))).unwrap();
        prop_assert_eq!(back, status);
    }

    #[test]
    fn what_a_list_shows_is_what_the_status_says(status in job_status()) {
        let brief = status.brief.clone();
        prop_assert_eq!(&JobBrief::try_from(bytes_and_back(wire::JobStatus::from(&brief))).unwrap(), &brief);
        // An older coordinator lists jobs with their specs.
        prop_assert_eq!(JobBrief::try_from(bytes_and_back(wire::JobStatus::from(&status))).unwrap(), brief);
    }

    #[test]
    fn grants_come_back_as_they_were(grants in prop::collection::vec(grant(), 0..3), retry_after_ms in any::<u64>()) {
        let light = |grant: &Grant| {
            let Grant { shard, epoch, spec_digest, slice, output_key, window, is_poison, .. } = grant.clone();
            Granted::Light(LightGrant { shard, epoch, spec_digest, slice, output_key, window, is_poison })
        };
        let light: Vec<Granted> = grants.iter().map(light).collect();
        let leased = Leased { grants: grants.into_iter().map(Granted::from).chain(light).collect(), retry_after_ms };
        let back = Leased::from(bytes_and_back(wire::LeaseResponse::from(&leased)));
        prop_assert_eq!(back, leased);
    }

    #[test]
    fn a_light_grant_and_its_source_task_are_the_whole_grant(grant in grant()) {
        let Grant { shard, epoch, spec_digest, slice, output_key, window, is_poison, .. } = grant.clone();
        let light = LightGrant { shard, epoch, spec_digest, slice, output_key, window, is_poison };
        let Grant { read, source, model, embed, on_bad_row, reuse, .. } = grant.clone();
        let task = SourceTask { read, source, model, embed, on_bad_row, reuse };
        let back = SourceTask::try_from(bytes_and_back(wire::SourceTask::from(&task))).unwrap();
        prop_assert_eq!(light.with(&back), grant);
    }

    #[test]
    fn a_grant_that_cannot_be_read_spoils_no_other(grants in prop::collection::vec(grant(), 2..4), at in 0..2_usize) {
        let leased = Leased { grants: grants.into_iter().map(Granted::from).collect(), retry_after_ms: 0 };
        let mut answer = wire::LeaseResponse::from(&leased);
        answer.grants[at].on_bad_row = 77;
        let back = Leased::from(bytes_and_back(answer.clone()));
        let (shard, epoch) = leased.grants[at].lease();
        prop_assert!(matches!(&back.grants[at], Granted::Unreadable { shard: s, epoch: e, problem }
            if (*s, *e) == (shard, epoch) && problem.contains("77")), "{:?}", back.grants[at]);
        for other in (0..leased.grants.len()).filter(|other| *other != at) {
            prop_assert_eq!(&back.grants[other], &leased.grants[other]);
        }
        answer.grants[at].lease = None;
        prop_assert_eq!(Leased::from(bytes_and_back(answer)).grants.len(), leased.grants.len() - 1);
    }

    #[test]
    fn an_output_comes_back_as_it_was(
        key in ".{0,20}",
        bytes in any::<u64>(),
        digests in ("[0-9a-f]{64}", "[0-9a-f]{64}"),
        counts in counts(),
    ) {
        let output = Output { key, bytes, blake3: digests.0, input_blake3: digests.1, counts };
        let back = Output::try_from(bytes_and_back(wire::Output::from(&output))).unwrap();
        prop_assert_eq!(back, output);
    }

    #[test]
    fn sessions_and_heartbeats_come_back_as_they_were(
        id in uuid(), numbers in (any::<u64>(), 1..u64::MAX), texts in prop::collection::vec(".{0,8}", 3),
        shard in shard(), epoch in any::<u32>(), done in any::<(u64, u64)>(),
        directives in prop::collection::vec(select(&[Directive::Continue, Directive::Stop][..]), 0..3),
        session_lost in any::<bool>(),
    ) {
        let [name, device, version] = texts.try_into().unwrap();
        let worker = WorkerInfo { name, devices: vec![device], version, revision: epoch };
        prop_assert_eq!(WorkerInfo::from(bytes_and_back(wire::OpenSessionRequest::from(&worker))), worker);

        let (ttl_ms, heartbeat_ms) = numbers;
        let session = Session { id: SessionId(id), ttl_ms, heartbeat_ms, storage_url: "/storage".into() };
        let back = Session::try_from(bytes_and_back(wire::OpenSessionResponse::from(&session))).unwrap();
        prop_assert_eq!(back, session);

        let progress = Progress { shard, epoch: Epoch(epoch), rows_done: done.0, tokens_done: done.1 };
        let back = Progress::try_from(bytes_and_back(wire::Progress::from(&progress))).unwrap();
        prop_assert_eq!(back, progress);

        let beat = HeartbeatReply { directives, session_lost };
        prop_assert_eq!(HeartbeatReply::from(bytes_and_back(wire::HeartbeatResponse::from(&beat))), beat);
    }
}

#[test]
fn outcomes_and_classes_come_back_and_unknown_ones_have_a_meaning() {
    use CommitOutcome::{Cancelled, Committed, LostRace, Stale};
    use FailureClass::{
        Auth, BadRow, Config, Drained, InputChanged, ModelMismatch, Resource, Throttled, Transient, WorkerLost,
    };
    for outcome in [Committed, Stale, LostRace, Cancelled] {
        assert_eq!(commit_outcome(wire::CommitOutcome::from(outcome).into()), Ok(outcome));
    }
    let job = [InputChanged, Config, ModelMismatch, BadRow, Auth];
    for class in [Transient, Throttled, Resource, WorkerLost, Drained].into_iter().chain(job) {
        assert_eq!(failure_class(wire::FailureClass::from(class).into()), class);
    }
    assert!(commit_outcome(0).is_err() && commit_outcome(99).is_err());
    assert_eq!((failure_class(0), failure_class(99)), (Transient, Transient));
    assert_eq!((directive(0), directive(99)), (Directive::Stop, Directive::Stop));
}

/// A field of a spec, and how to spoil it.
type Spoiled = (&'static str, fn(&mut wire::JobSpec));

#[test]
fn a_spec_that_does_not_say_what_it_must_is_refused_by_the_name_of_the_field() {
    let spoiled: [Spoiled; 9] = [
        ("spec.read", |spec| spec.read = None),
        ("spec.model", |spec| spec.model = None),
        ("spec.embed", |spec| spec.embed = None),
        ("limits.rows_max", |spec| spec.limits = Some(wire::ShardLimits { rows_max: 0, bytes_max: 1 })),
        ("on_bad_row", |spec| spec.on_bad_row = 0),
        ("max_rejects.limit", |spec| spec.max_rejects = Some(wire::MaxRejects { limit: None })),
        ("max_rejects.percent", |spec| {
            spec.max_rejects = Some(wire::MaxRejects { limit: Some(wire::max_rejects::Limit::Percent(f64::NAN)) });
        }),
        ("source.format", |spec| spec.sources[0].format = 77),
        ("source.uri", |spec| spec.sources[0].uri.clear()),
    ];
    for (field, spoil) in spoiled {
        let mut message = wire::JobSpec::from(&spec());
        spoil(&mut message);
        assert_eq!(JobSpec::try_from(message).unwrap_err().field, field);
    }
}

#[test]
fn an_unknown_reject_reason_a_bad_digest_and_a_bad_id_are_refused() {
    let counts = wire::RowCounts { rejects: BTreeMap::from([("bored".into(), 1)]), ..Default::default() };
    assert!(RowCounts::try_from(counts).unwrap_err().to_string().contains("bored"));
    for digest in ["", "ABCDEF", &"A".repeat(64), &"g".repeat(64)] {
        let output = wire::Output { blake3: digest.into(), ..Default::default() };
        assert_eq!(Output::try_from(output).unwrap_err().field, "output.blake3");
    }
    let long = "x".repeat(1_000_000);
    let error = id::<JobId>("job_id", &long).unwrap_err();
    assert!(error.field == "job_id" && error.to_string().len() < 200, "{error}");
}
