//! `encaje verify`: every promise about an output, checked.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use dataset::vectors::HOLES_MAX;
use dataset::{
    DatasetError, ErrorKind, Expanded, Format, HubPin, Keep, ReadOptions, VectorSet, VerifyCorpus, VerifyReport,
    VerifyReuse,
};
use spec::JobSpec;

use crate::args::{DialectArgs, Place, parse_keep};
use crate::exit::{Advice, Exit};
use crate::outdir::OutDir;
use crate::pins;
use crate::stream::Corpora;
use crate::ui::{self, Amount, Ui};

/// Checks every promise about an output: rows, checksums, norms, and the corpus where it is given.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The output to check: a directory with manifest.json, or a merged file.
    #[arg(value_name = "DIR|FILE.parquet|URL")]
    pub(crate) target: Place,
    /// Checks the output against this corpus too: the same files, globs, URLs or `-` in the same order as for `run`. In
    /// the directory of a `run`, how it was read need not be said again.
    #[arg(long, value_name = "CORPUS", num_args = 1.., env = "ENCAJE_VERIFY_CORPUS")]
    pub(crate) corpus: Vec<String>,
    /// Reads every source of the corpus as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "corpus")]
    pub(crate) format: Option<Format>,
    /// Proves, of a sample of its files, that the rows that are counted as reused have the vectors of the earlier outputs: those that
    /// the output lists, where they were, or in these places.
    #[arg(long, value_name = "DIR|FILE|URL", num_args = 0.., env = "ENCAJE_VERIFY_REUSE")]
    pub(crate) reuse: Option<Vec<String>>,
    /// Names the corpus column that holds the text. The default is the one that `run` was given, else `text`.
    #[arg(long, value_name = "NAME")]
    pub(crate) text_column: Option<String>,
    /// The columns that `run` was to pass through: `all`, `none`, or names separated by commas. The default is those
    /// that the output has.
    #[arg(long, value_name = "COLUMN,...", value_parser = parse_keep)]
    pub(crate) keep: Option<Keep>,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
    /// Prints the report on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Checks an output. Exit code 1 if any promise is broken, 3 if all hold of the rows that are there and some are missing.
pub(crate) fn run(ui: &Ui, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    // Where the output is no `run`'s, or its record is damaged, the corpus is read as the options say.
    let run = OutDir::new(args.target.to_path_buf()).record().ok().flatten();
    let pins = pins::of_output(&args.corpus, &args.target, run.as_ref());
    let run = run.map(|record| record.spec);
    let of_run = run.as_ref().and_then(format_of);
    let of_streams = args.format.or(of_run);
    let corpora = Corpora::save_streams_temporarily(ui, &args.corpus, of_streams)?;
    let read = run.map(|spec| spec.read).unwrap_or_default();
    let reuse = reuse(args, &read)?;
    let corpus = match corpora.patterns.is_empty() {
        true => None,
        false => {
            let expanded = runtime.block_on(expand(ui, &corpora.patterns, (args.format, of_run), &pins))?;
            Some(VerifyCorpus { sources: expanded.sources, options: read_options(args, read) })
        }
    };
    let mut progress = ui.progress("verifying", Amount::default());
    let report = runtime.block_on(dataset::verify(&args.target, corpus.as_ref(), reuse, &mut |rows| {
        progress.update(Amount { rows, tokens: 0 }, rows, None);
    }))?;
    progress.finish();
    if args.json {
        ui.json(&report)?;
    } else {
        print(ui, &report)?;
    }
    Ok(match (report.passed(), report.missing) {
        (false, _) => Exit::Failed,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Incomplete,
    })
}

/// Opens the earlier outputs that vectors were taken from.
fn reuse(args: &VerifyArgs, read: &ReadOptions) -> anyhow::Result<Option<VerifyReuse>> {
    let Some(given) = &args.reuse else { return Ok(None) };
    let text_column = args.text_column.as_ref().unwrap_or(&read.text_column);
    let opened = VectorSet::open(&args.target).and_then(|set| VerifyReuse::open(&set, given, text_column));
    let advice = || {
        Advice::failed("--reuse: the earlier outputs cannot be compared with")
            .hint("if one was moved, give its place: --reuse DIR; without --reuse, all other promises are checked")
    };
    opened.map(Some).with_context(advice)
}

/// Expands the corpus. Its format may be known only from the `run`'s options.
async fn expand(
    ui: &Ui,
    patterns: &[String],
    (given, of_run): (Option<Format>, Option<Format>),
    pins: &[HubPin],
) -> Result<Expanded, DatasetError> {
    match pins::expand(ui, patterns, given, pins).await {
        Err(error) if given.is_none() && of_run.is_some() && error.kind() == ErrorKind::BadInput => {
            pins::expand(ui, patterns, of_run, pins).await
        }
        expanded => expanded,
    }
}

fn read_options(args: &VerifyArgs, read: ReadOptions) -> ReadOptions {
    let keep = args.keep.clone().unwrap_or_else(|| kept_by(&args.target));
    let text_column = args.text_column.clone().unwrap_or_else(|| read.text_column.clone());
    args.dialect.over(ReadOptions { text_column, id_column: None, keep, ..read })
}

/// The format of all sources of a run, where they have one.
fn format_of(run: &JobSpec) -> Option<Format> {
    let mut formats = run.sources.iter().map(|source| source.format);
    let first = formats.next()?;
    formats.all(|format| format == first).then_some(first)
}

/// Formats the name of a check as the JSON report does, with spaces.
fn name_of(check: &impl serde::Serialize) -> anyhow::Result<String> {
    let name = serde_json::to_value(check)?;
    Ok(name.as_str().unwrap_or_default().replace('_', " "))
}

/// The columns that an output holds. Where it cannot be opened, the checks will say why.
fn kept_by(target: &Path) -> Keep {
    let Ok(set) = VectorSet::open(target) else { return Keep::All };
    let names: Vec<String> = set.kept_schema().fields().iter().map(|field| field.name().clone()).collect();
    if names.is_empty() { Keep::None } else { Keep::Columns(names) }
}

fn print(ui: &Ui, report: &VerifyReport) -> anyhow::Result<()> {
    for result in &report.checks {
        let verdict = if result.problems == 0 { "ok".to_owned() } else { ui::counted(result.problems, "problem") };
        ui.data(format!("{:<12}{}", verdict, name_of(&result.check)?))?;
    }
    if let Some(rows) = report.reused_compared {
        ui.data(format!("{:<12}reused in the files that were compared", ui::thousands(rows)))?;
    }
    for hole in &report.holes {
        let (first, last, reason) = (hole.first_row, hole.end().saturating_sub(1), &hole.reason);
        ui.data(format!("missing: rows {first} to {last}: {reason}"))?;
    }
    if report.holes.len() == HOLES_MAX {
        ui.data("missing: the manifest lists all holes")?;
    }
    for problem in &report.problems {
        let file = problem.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
        let row = problem.row.map(|row| format!("row {row}: ")).unwrap_or_default();
        ui.data(format!("problem: {file}{row}{}", problem.detail))?;
    }
    let totals = &report.totals;
    let (verdict, missing) = match (report.passed(), report.missing) {
        (false, _) => ("NOT as promised", String::new()),
        (true, 0) => ("every promise holds", String::new()),
        (true, missing) => {
            ("every promise holds of the rows that are there", format!(", {} MISSING", ui::thousands(missing)))
        }
    };
    ui.data(format!(
        "{}: {}, {} embedded{}, {} rejected{missing}: {verdict}",
        report.target.display(),
        ui::counted(totals.rows, "row"),
        ui::thousands(totals.embedded()),
        ui::reused(totals.reused),
        ui::thousands(totals.rejected()),
    ))
}
