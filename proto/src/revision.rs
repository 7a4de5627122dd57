//! What a program must know to work on a job: the gate between programs of neighbouring releases.
//!
//! A message is read without the fields that its reader does not know, without an error: a worker that has never heard of
//! `ReadOptions::delimiter` would read the wrong texts. So a job has a revision, a worker says which it knows, and no job
//! goes to one that knows less. `submit` sends the digest of the spec beside it, which a coordinator that lost a field on
//! the way does not find again.
//!
//! Whatever is added to a spec gets its line in [`needs`], with the revision of the next release where it decides about rows or
//! footers.

use dataset::{Compression, Format, ReadOptions, Source};

use crate::job::{
    ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, OnBadRow, OutputDtype, Pooling, ShardLimits,
};

/// What this program knows. A program that does not say what it knows is of revision 0.
///
/// The first addition to a spec after a release raises it by one; further additions before the next release share that number.
pub const REVISION: u32 = 2;

/// Something in a job that programs of earlier revisions pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What it is, for people.
    pub what: &'static str,
    /// The first revision that knows it.
    pub since: u32,
}

/// Returns the revision that works on a job must be of, at least.
pub fn needed(spec: &JobSpec) -> u32 {
    needs(spec).iter().map(|need| need.since).max().unwrap_or(0)
}

/// Returns what in a job programs of revision 0 do not know. Names every field, so that a new one cannot be forgotten.
pub fn needs(spec: &JobSpec) -> Vec<Need> {
    let JobSpec { sources, read, model, embed, limits, on_bad_row, max_rejects, allow_partial: _, reuse } = spec;
    let ModelSpec { name: _, revision: _, digest: _ } = model;
    let ShardLimits { rows_max: _, bytes_max: _ } = limits;
    match on_bad_row {
        OnBadRow::Reject | OnBadRow::Fail => {}
    }
    match max_rejects {
        MaxRejects::Unlimited | MaxRejects::Rows(_) | MaxRejects::Percent(_) => {}
    }
    let mut needs = of_read(read);
    needs.extend(of_embed(embed));
    if !reuse.is_empty() {
        // A worker that ignored it would compute the same rows, but a coordinator would write another manifest.
        needs.push(Need { what: "--reuse", since: 2 });
    }
    for need in sources.iter().filter_map(of_source) {
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}

fn of_source(source: &Source) -> Option<Need> {
    let Source { uri: _, format, compression } = source;
    match compression {
        Compression::None | Compression::Gzip | Compression::Zstd => {}
    }
    match format {
        // A source may have a column `extra`, of what its sample did not show.
        Format::Jsonl => Some(Need { what: "jsonl with keys beyond its sample", since: 1 }),
        Format::Json => Some(Need { what: "json arrays", since: 1 }),
        Format::Csv | Format::Tsv | Format::Parquet | Format::Arrow | Format::Txt => None,
    }
}

fn of_read(read: &ReadOptions) -> Vec<Need> {
    let ReadOptions { text_column: _, id_column: _, keep: _, delimiter, quote, encoding } = read;
    let given =
        [(delimiter.is_some(), "--delimiter"), (quote.is_some(), "--quote"), (encoding.is_some(), "--encoding")];
    given.into_iter().filter(|(given, _)| *given).map(|(_, what)| Need { what, since: 1 }).collect()
}

fn of_embed(embed: &EmbedSpec) -> Vec<Need> {
    let EmbedSpec {
        pooling,
        normalize: _,
        max_length: _,
        prefix: _,
        dtype,
        output_dtype,
        dimensions: _,
        batch_tokens: _,
        prompt,
        similarity,
    } = embed;
    match pooling {
        None | Some(Pooling::Cls | Pooling::Mean | Pooling::Max | Pooling::Last) => {}
    }
    match dtype {
        ComputeDtype::F32 | ComputeDtype::F16 | ComputeDtype::Bf16 | ComputeDtype::Int8 => {}
    }
    let given = [(prompt.is_some(), "the name of a prompt"), (similarity.is_some(), "the model's similarity")];
    let given = given.into_iter().filter(|(given, _)| *given).map(|(_, what)| Need { what, since: 1 });
    let stored = match output_dtype {
        OutputDtype::F32 | OutputDtype::F16 => None,
        OutputDtype::Int8 => Some(Need { what: "--output-dtype int8", since: 2 }),
        OutputDtype::Binary => Some(Need { what: "--output-dtype binary", since: 2 }),
    };
    given.chain(stored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ReuseSource;
    use dataset::Quote;
    use testkit::full_job_spec as all;

    fn csv() -> JobSpec {
        let mut spec = all();
        spec.sources.truncate(1);
        spec
    }

    fn named(spec: &JobSpec) -> Vec<&'static str> {
        needs(spec).iter().map(|need| need.what).collect()
    }

    #[test]
    fn a_plain_job_is_for_every_program() {
        assert_eq!((needed(&csv()), needs(&csv())), (0, vec![]));
    }

    #[test]
    fn what_came_later_is_named_with_its_revision() {
        let mut spec = csv();
        spec.read = ReadOptions { delimiter: Some(';'), quote: Some(Quote::None), ..spec.read };
        spec.embed.similarity = Some("dot".into());
        assert_eq!(named(&spec), ["--delimiter", "--quote", "the model's similarity"]);
        assert_eq!(needed(&spec), 1);
        for (output_dtype, name) in
            [(OutputDtype::Int8, "--output-dtype int8"), (OutputDtype::Binary, "--output-dtype binary")]
        {
            let spec = JobSpec { embed: EmbedSpec { output_dtype, ..csv().embed }, ..csv() };
            assert_eq!((named(&spec), needed(&spec)), (vec![name], 2));
        }
        let reuse =
            vec![ReuseSource { uri: "/a".into(), blake3: "b".into(), text_column: "text".into(), retired: true }];
        let spec = JobSpec { reuse, ..csv() };
        assert_eq!((named(&spec), needed(&spec)), (vec!["--reuse"], 2));
        assert_eq!(spec.digest(), csv().digest(), "it is the same job");
        assert_eq!(named(&super::tests::all()), ["jsonl with keys beyond its sample"]);
    }

    #[test]
    fn this_program_knows_all_that_it_can_ask_for() {
        let mut spec = all();
        spec.read = ReadOptions { delimiter: Some(';'), encoding: Some("latin1".into()), ..spec.read };
        spec.embed.prompt = Some("query".into());
        spec.embed.similarity = Some("dot".into());
        let mut specs = vec![spec];
        let source = |format, compression| Source { uri: "/a".into(), format, compression };
        let with_source = |source| JobSpec { sources: vec![source], ..csv() };
        let with_embed = |embed| JobSpec { embed, ..csv() };
        specs.extend(Format::ALL.iter().map(|format| with_source(source(*format, Compression::None))));
        specs.extend(Compression::ALL.iter().map(|compression| with_source(source(Format::Csv, *compression))));
        specs.extend(OnBadRow::ALL.iter().map(|on_bad_row| JobSpec { on_bad_row: *on_bad_row, ..csv() }));
        let embed = || csv().embed;
        specs.extend(Pooling::ALL.iter().map(|pooling| with_embed(EmbedSpec { pooling: Some(*pooling), ..embed() })));
        specs.extend(ComputeDtype::ALL.iter().map(|dtype| with_embed(EmbedSpec { dtype: *dtype, ..embed() })));
        let stored = OutputDtype::ALL.iter();
        specs.extend(stored.map(|output_dtype| with_embed(EmbedSpec { output_dtype: *output_dtype, ..embed() })));
        let most = specs.iter().map(needed).max();
        assert_eq!(most, Some(REVISION), "REVISION is the highest `since` of all that a job can ask for");
    }
}
