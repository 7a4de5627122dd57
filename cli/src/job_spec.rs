//! The job spec of `run` and `submit`: from the arguments to a `JobSpec`, and how two specs differ.

use std::path::Path;

use dataset::vectors::Resolved;
use dataset::{FileInfo, Keep, PlannedSource, Quote, ReadOptions, Source};
use engine::{Digests, ModelSummary};
use proto::job::{ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, Pooling, ShardLimits};
use proto::limits;

use crate::args::{Auto, CutArgs, JobArgs};
use crate::exit::Advice;
use crate::model::LocalModel;
use crate::prompt::{self, Applied};

/// How long a shard should take, in seconds: what a killed run loses, against the cost of a shard.
pub(crate) const SHARD_SECONDS: u64 = 12;
/// The assumed speed of a core, in floating point operations per second: about half of what one of Zen 4 does in f32, so that
/// slower ones have shards of their size too.
const FLOPS_PER_CORE: u64 = 60_000_000_000;
/// The assumed speed of a GPU: about a third of what an H100 does, so that smaller ones have shards of their size too. Never
/// measured here.
const FLOPS_PER_GPU: u64 = 150_000_000_000_000;
/// Most bytes of input in a shard for GPUs: some seconds of work.
pub(crate) const GPU_INPUT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of input per token: European languages have 3.5 to 4.5, and few tokens are shorter than this.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of a short text. Where shards are cut by rows alone, longer texts make longer shards.
const TOKENS_PER_ROW: u64 = 16;
/// Most bytes of vectors in a shard.
const OUTPUT_BYTES_MAX: u64 = 256 << 20;
/// Least and most bytes of input in a shard; with the most, a run fills its buffers within some 10 MB.
pub(crate) const INPUT_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(4 << 20);
/// Fewest rows in a shard, however slow the model.
const ROWS_MIN: u64 = 16;

/// Returns how the corpus is to be read.
pub(crate) fn read_options(args: &JobArgs) -> ReadOptions {
    args.corpus.dialect.over(ReadOptions {
        text_column: args.corpus.text_column.clone(),
        id_column: args.corpus.id_column.clone(),
        keep: args.corpus.keep.clone(),
        ..ReadOptions::default()
    })
}

/// The hardware that a job is cut for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// So many cores.
    Cores(u64),
    /// So many GPUs.
    Gpus(u64),
    /// Workers that are not known yet, each taken to have so many cores.
    Workers(u64),
}

/// Refuses what this model or machine cannot do, before anything is begun.
pub(crate) fn check(args: &JobArgs, model: &LocalModel, capacity: Capacity) -> Result<(), Advice> {
    let own = model.dimensions(args.embed.pooling.0)?;
    let model = &model.summary;
    if let Some(dimensions) = args.embed.dimensions.filter(|asked| *asked > own) {
        return Err(Advice::usage(format!("--dimensions {dimensions} is more than the {own} that the model has")));
    }
    if let Some(length) = args.embed.max_length.filter(|asked| *asked as usize <= model.special_tokens) {
        let added = model.special_tokens;
        let what = format!("--max-length {length} leaves no token for the text: the model puts {added} around each");
        return Err(Advice::usage(what).hint(format!("give at least {}, or leave --max-length out", added + 1)));
    }
    match args.embed.dtype {
        Auto(None | Some(ComputeDtype::F32)) => Ok(()),
        Auto(Some(ComputeDtype::F16)) if matches!(capacity, Capacity::Cores(_)) => {
            let what = "--dtype f16: a CPU computes in f32, bf16 or int8";
            Err(Advice::usage(what).hint("leave --dtype out, or see --output-dtype for smaller files"))
        }
        Auto(Some(ComputeDtype::Int8)) if matches!(capacity, Capacity::Gpus(_)) => {
            let what = "--dtype int8: a GPU computes in f16, bf16 or f32";
            Err(Advice::usage(what).hint("leave --dtype out, or compute on --device cpu"))
        }
        Auto(Some(ComputeDtype::F16 | ComputeDtype::Bf16 | ComputeDtype::Int8)) if !model.native => {
            let what = format!("--dtype: `{}` is computed in f32 only", model.architecture);
            Err(Advice::usage(what).hint("leave --dtype out"))
        }
        Auto(Some(ComputeDtype::F16 | ComputeDtype::Bf16 | ComputeDtype::Int8)) => Ok(()),
    }
}

/// Refuses what makes the description of a job too large, before the model is looked for.
pub(crate) fn check_parts(args: &JobArgs, sources: &[PlannedSource]) -> Result<(), Advice> {
    let prefix = args.embed.prompt.prefix.as_deref().unwrap_or_default();
    let checked = limits::check_prefix(prefix).and_then(|()| limits::check_planned(sources));
    checked.map_err(|error| Advice::usage(error.to_string()))
}

/// Refuses a job whose description is too large, before anything is begun.
pub(crate) fn check_size(spec: &JobSpec) -> Result<(), Advice> {
    limits::check_spec(spec).map_err(|error| Advice::usage(error.to_string()))
}

/// Returns the job that the arguments ask for: what the model's own settings decide is written down too, so that the job
/// says it. Refuses a prompt that the model does not have.
pub(crate) fn spec(
    args: &JobArgs,
    sources: Vec<Source>,
    model: &LocalModel,
    digest: String,
    capacity: Capacity,
) -> Result<JobSpec, Advice> {
    let asked = &args.embed;
    let prompt = prompt::resolve(&model.summary.prompts, &asked.prompt)?;
    let all = model.dimensions(asked.pooling.0)?;
    let embed = embed_spec(args, (&model.summary, all), prompt, capacity);
    Ok(JobSpec {
        sources,
        read: read_options(args),
        model: ModelSpec { name: model.name.clone(), revision: model.found.revision.clone(), digest },
        limits: shard_limits(&model.summary, embed.dimensions.unwrap_or(all), &args.cut, capacity),
        embed,
        on_bad_row: args.rows.on_bad_row,
        max_rejects: args.rows.max_rejects.unwrap_or(MaxRejects::Unlimited),
        allow_partial: false,
        reuse: Vec::new(),
    })
}

/// Returns how the vectors of a job are made, as its footers say it. Job and spec are filled in by the caller.
pub(crate) fn file_info(spec: &JobSpec, model: &LocalModel) -> Result<FileInfo, Advice> {
    let embed = &spec.embed;
    let length = model.dir.used_max_length(embed.max_length.map(|length| length as usize));
    let resolved = Resolved {
        pooling: embed.pooling.map_or_else(|| model.summary.pooling.to_string(), |pooling| pooling.to_string()),
        max_length: u32::try_from(length).unwrap_or(u32::MAX),
        dimensions: embed.dimensions.map_or_else(|| model.dimensions(embed.pooling), Ok)?,
    };
    Ok(FileInfo::of(&spec.model, embed, &spec.read, Some(resolved)))
}

/// Makes a job that release 0.1 began, with the same files of the model, the same as it was: that release read fewer of
/// them, and what the others decide is part of the job.
pub(crate) fn compatible_with_0_1(mut spec: JobSpec, begun_with: Option<&str>, digests: &Digests) -> JobSpec {
    if let Some(digest) = digests.of_0_1.as_deref().filter(|digest| begun_with == Some(*digest)) {
        digest.clone_into(&mut spec.model.digest);
        spec.embed.similarity = None;
    }
    spec
}

/// Makes a job that was begun with the same directory under another name the same as it was: earlier releases followed the
/// links of a model's path.
pub(crate) fn with_its_earlier_name(mut spec: JobSpec, begun_with: Option<&ModelSpec>) -> JobSpec {
    let Some(was) = begun_with.filter(|was| was.revision.is_none() && spec.model.revision.is_none()) else {
        return spec;
    };
    let folders = [&was.name, &spec.model.name].map(|name| Path::new(name).canonicalize().ok());
    if folders[0].is_some() && folders[0] == folders[1] {
        spec.model.name.clone_from(&was.name);
    }
    spec
}

/// `all` is the number of components that a vector has before any are left out.
fn embed_spec(args: &JobArgs, (model, all): (&ModelSummary, u32), prompt: Applied, capacity: Capacity) -> EmbedSpec {
    let (embed, rows, cut) = (&args.embed, &args.rows, &args.cut);
    let own_dimensions = model.truncate_dim.and_then(|kept| u32::try_from(kept).ok()).filter(|kept| *kept < all);
    EmbedSpec {
        pooling: embed.pooling.0,
        normalize: !embed.no_normalize,
        max_length: embed.max_length,
        prefix: prompt.text,
        // f32 is exact and fast on a CPU, and what workers of every kind compute; a GPU is made for f16.
        dtype: embed.dtype.0.unwrap_or(match capacity {
            Capacity::Gpus(_) => ComputeDtype::F16,
            Capacity::Cores(_) | Capacity::Workers(_) => ComputeDtype::F32,
        }),
        output_dtype: rows.output_dtype,
        dimensions: embed.dimensions.or(own_dimensions),
        batch_tokens: cut.batch_tokens,
        prompt: prompt.name,
        similarity: model.similarity.clone(),
    }
}

/// Cuts shards to about [`SHARD_SECONDS`] of work for this model, as far as the bounds on their size allow.
fn shard_limits(model: &ModelSummary, dimensions: u32, cut: &CutArgs, capacity: Capacity) -> ShardLimits {
    let (flops, bytes_max) = match capacity {
        Capacity::Cores(cores) | Capacity::Workers(cores) => (FLOPS_PER_CORE * cores.max(1), *INPUT_BYTES.end()),
        Capacity::Gpus(_) => (FLOPS_PER_GPU, GPU_INPUT_BYTES_MAX),
    };
    let tokens = SHARD_SECONDS * flops / model.flops_per_token.max(1);
    let bytes = (tokens * BYTES_PER_TOKEN).clamp(*INPUT_BYTES.start(), bytes_max);
    let rows_by_size = OUTPUT_BYTES_MAX / (u64::from(dimensions.max(1)) * size_of::<f32>() as u64);
    let rows = (tokens / TOKENS_PER_ROW).clamp(ROWS_MIN, rows_by_size.max(ROWS_MIN));
    ShardLimits { rows_max: cut.shard_rows.unwrap_or(rows), bytes_max: bytes }
}

/// Lists the parameters in which the job of an output directory differs from the requested one.
pub(crate) fn differences(was: &JobSpec, now: &JobSpec) -> Vec<String> {
    // Taken apart in whole, so that whatever is added is compared.
    let JobSpec { sources, read, model, embed, limits, on_bad_row, max_rejects, allow_partial, reuse: _ } = was;
    let mut found = Differences(Vec::new());
    let names = |sources: &[Source]| sources.iter().map(|source| source.uri.clone()).collect::<Vec<_>>().join(" ");
    found.compare("the corpus", names(sources), names(&now.sources));
    if names(sources) == names(&now.sources) {
        found.compare_debug("--format", sources, &now.sources);
    }
    found.compare_reading(read, &now.read);
    let ModelSpec { name, revision, digest } = model;
    found.compare("--model", name, &now.model.name);
    found.compare_option("--revision", revision.as_ref(), now.model.revision.as_ref());
    if *name == now.model.name && *revision == now.model.revision {
        found.compare("the files of the model (BLAKE3)", digest, &now.model.digest);
    }
    found.compare_embedding(embed, &now.embed);
    let ShardLimits { rows_max, bytes_max } = *limits;
    found.compare_option("--shard-rows", Some(rows_max), Some(now.limits.rows_max));
    if rows_max == now.limits.rows_max {
        found.compare("the size of shards in bytes", bytes_max, now.limits.bytes_max);
    }
    found.compare("--on-bad-row", *on_bad_row, now.on_bad_row);
    found.compare("--max-rejects", max_rejects_name(*max_rejects), max_rejects_name(now.max_rejects));
    found.compare("--allow-partial", *allow_partial, now.allow_partial);
    found.0
}

struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Display>(&mut self, what: &str, was: T, now: T) {
        if was != now {
            self.0.push(format!("{what}: was `{was}`, is `{now}`"));
        }
    }

    fn compare_option<T: PartialEq + std::fmt::Display>(&mut self, what: &str, was: Option<T>, now: Option<T>) {
        let name = |value: Option<T>| value.map_or_else(|| "not given".to_owned(), |value| format!("`{value}`"));
        if was != now {
            self.0.push(format!("{what}: was {}, is {}", name(was), name(now)));
        }
    }

    fn compare_debug<T: PartialEq>(&mut self, what: &str, was: &T, now: &T) {
        if was != now {
            self.0.push(format!("{what} was another"));
        }
    }

    fn compare_reading(&mut self, was: &ReadOptions, now: &ReadOptions) {
        let ReadOptions { text_column, id_column, keep, delimiter, quote, encoding } = was;
        self.compare("--text-column", text_column, &now.text_column);
        self.compare_option("--id-column", id_column.as_ref(), now.id_column.as_ref());
        self.compare("--keep", keep_name(keep), keep_name(&now.keep));
        self.compare_option("--delimiter", *delimiter, now.delimiter);
        self.compare_option("--quote", quote.map(quote_name), now.quote.map(quote_name));
        self.compare_option("--encoding", encoding.as_ref(), now.encoding.as_ref());
    }

    fn compare_embedding(&mut self, was: &EmbedSpec, now: &EmbedSpec) {
        let EmbedSpec {
            pooling,
            normalize,
            max_length,
            prefix: _,
            dtype,
            output_dtype,
            dimensions,
            batch_tokens,
            prompt: _,
            similarity,
        } = was;
        let name = |pooling: Option<Pooling>| pooling.map_or_else(|| "auto".to_owned(), |pooling| pooling.to_string());
        self.compare("--pooling", name(*pooling), name(now.pooling));
        self.compare("--no-normalize", !normalize, !now.normalize);
        self.compare_option("--max-length", *max_length, now.max_length);
        // As it would be typed: no prompt is the prompt "".
        let prompt = |spec: &EmbedSpec| spec.prompt.clone().unwrap_or_default();
        let prefix = |spec: &EmbedSpec| if spec.prompt.is_some() { String::new() } else { spec.prefix.clone() };
        self.compare("--prompt", prompt(was), prompt(now));
        self.compare("--prefix", prefix(was), prefix(now));
        self.compare_option("--dimensions", *dimensions, now.dimensions);
        self.compare("--dtype", *dtype, now.dtype);
        self.compare_option("the model's similarity", similarity.as_ref(), now.similarity.as_ref());
        self.compare("--output-dtype", *output_dtype, now.output_dtype);
        self.compare_option("--batch-tokens", *batch_tokens, now.batch_tokens);
    }
}

/// Returns the sources that are not what they were. Both lists name the same sources.
pub(crate) fn changed_sources<'a>(was: &'a [PlannedSource], now: &'a [PlannedSource]) -> impl Iterator<Item = &'a str> {
    let pairs = was.iter().zip(now).filter(|(was, now)| was.fingerprint != now.fingerprint);
    pairs.map(|(was, _)| was.source.uri.as_str())
}

fn keep_name(keep: &Keep) -> String {
    match keep {
        Keep::All => "all".to_owned(),
        Keep::None => "none".to_owned(),
        Keep::Columns(names) => names.join(","),
    }
}

fn quote_name(quote: Quote) -> String {
    match quote {
        Quote::None => "none".to_owned(),
        Quote::Char(character) => character.to_string(),
    }
}

fn max_rejects_name(limit: MaxRejects) -> String {
    match limit {
        MaxRejects::Unlimited => "any number".to_owned(),
        MaxRejects::Rows(rows) => rows.to_string(),
        MaxRejects::Percent(share) => format!("{share}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::Format;
    use engine::{PoolingSource, TokenizerKind};
    use proto::job::{OnBadRow, OutputDtype};

    fn summary(flops_per_token: u64, hidden_size: usize) -> ModelSummary {
        ModelSummary {
            architecture: "bert".to_owned(),
            native: true,
            gpus: true,
            hidden_size,
            dimensions: hidden_size,
            layers: 6,
            heads: 12,
            intermediate: 4 * hidden_size,
            vocab_size: 30_000,
            max_length: 512,
            special_tokens: 2,
            pooling: engine::Pooling::Cls.into(),
            pooling_source: PoolingSource::Default,
            modules: Vec::new(),
            prompts: engine::Prompts::default(),
            truncate_dim: None,
            similarity: None,
            weights: "model.safetensors".to_owned(),
            tokenizer: TokenizerKind::TokenizerJson,
            flops_per_token,
        }
    }

    fn limits(flops_per_token: u64, hidden_size: usize, shard_rows: Option<u64>) -> ShardLimits {
        let cut = CutArgs { batch_tokens: None, shard_rows };
        shard_limits(&summary(flops_per_token, hidden_size), hidden_size as u32, &cut, Capacity::Cores(2))
    }

    #[test]
    fn shards_suit_the_model() {
        let small = limits(21_000_000, 384, None);
        assert!((3_000..6_000).contains(&small.rows_max), "{small:?}");
        let large = limits(600_000_000, 1_024, None);
        assert!((100..300).contains(&large.rows_max), "{large:?}");
        let tiny = limits(1_000, 32, None);
        assert!(tiny.rows_max * 32 * 4 <= OUTPUT_BYTES_MAX && tiny.bytes_max == 4 << 20, "{tiny:?}");
        assert_eq!(limits(21_000_000, 384, Some(7)).rows_max, 7);
    }

    fn job() -> JobSpec {
        let model = ModelSpec { name: "owner/name".to_owned(), revision: None, digest: "d".to_owned() };
        JobSpec { model, ..testkit::job_spec() }
    }

    type Change = fn(&mut JobSpec);

    #[test]
    fn a_job_of_release_0_1_over_the_same_files_is_the_same_job() {
        let digests = Digests { now: "n".to_owned(), of_0_1: Some("d".to_owned()) };
        let mut now = job();
        now.model.digest = "n".to_owned();
        now.embed.similarity = Some("cosine".to_owned());
        assert!(differences(&job(), &compatible_with_0_1(now.clone(), Some("d"), &digests)).is_empty());
        assert_eq!(compatible_with_0_1(now.clone(), Some("x"), &digests), now);
        assert_eq!(compatible_with_0_1(now.clone(), None, &digests), now);
        now.embed.prompt = Some("doc".to_owned());
        let found = differences(&job(), &compatible_with_0_1(now, Some("d"), &digests));
        assert!(found.len() == 1 && found[0].starts_with("--prompt"), "{found:?}");
    }

    #[test]
    fn every_parameter_that_differs_is_named_alone() {
        let changes: [(&str, Change); 24] = [
            ("the corpus", |spec| spec.sources[0].uri.push('x')),
            ("--format", |spec| spec.sources[0].format = Format::Tsv),
            ("--text-column", |spec| spec.read.text_column.push('x')),
            ("--id-column", |spec| spec.read.id_column = Some("id".to_owned())),
            ("--keep", |spec| spec.read.keep = Keep::None),
            ("--delimiter", |spec| spec.read.delimiter = Some(';')),
            ("--quote", |spec| spec.read.quote = Some(Quote::None)),
            ("--encoding", |spec| spec.read.encoding = Some("windows-1252".to_owned())),
            ("--model", |spec| spec.model.name.push('x')),
            ("--revision", |spec| spec.model.revision = Some("r".to_owned())),
            ("the files of the model", |spec| spec.model.digest.push('x')),
            ("--pooling", |spec| spec.embed.pooling = Some(Pooling::Mean)),
            ("--no-normalize", |spec| spec.embed.normalize = false),
            ("--max-length", |spec| spec.embed.max_length = Some(8)),
            ("--prefix", |spec| spec.embed.prefix.push('x')),
            ("--prompt", |spec| {
                spec.embed.prompt = Some("query".to_owned());
                spec.embed.prefix.push('x');
            }),
            ("the model's similarity", |spec| spec.embed.similarity = Some("dot".to_owned())),
            ("--dimensions", |spec| spec.embed.dimensions = Some(8)),
            ("--dtype", |spec| spec.embed.dtype = ComputeDtype::Bf16),
            ("--output-dtype", |spec| spec.embed.output_dtype = OutputDtype::F16),
            ("--batch-tokens", |spec| spec.embed.batch_tokens = Some(8)),
            ("--shard-rows", |spec| spec.limits.rows_max = 8),
            ("--on-bad-row", |spec| spec.on_bad_row = OnBadRow::Fail),
            ("--max-rejects", |spec| spec.max_rejects = MaxRejects::Percent(1.0)),
        ];
        assert!(differences(&job(), &job()).is_empty());
        for (name, change) in changes {
            let mut other = job();
            change(&mut other);
            let found = differences(&job(), &other);
            assert!(found.len() == 1 && found[0].starts_with(name), "{name}: {found:?}");
        }
    }
}
