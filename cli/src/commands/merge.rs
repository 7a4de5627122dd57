//! `encaje merge`: the parts of a finished run as one file, or as files of equal size.

use clap::Args;
use dataset::MergeOptions;
use spec::OutputDtype;

use crate::args::Place;
use crate::exit::{Advice, Exit};
use crate::merging;
use crate::outfile;
use crate::summary::note_missing;
use crate::ui::{self, Ui};

/// Merges the part files of an output directory into one Parquet file.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The output directory of a finished run.
    #[arg(value_name = "DIR|URL")]
    pub(crate) dir: Place,
    /// The Parquet file to write; with --partition-rows, the directory.
    #[arg(long, value_name = "FILE.parquet|DIR|URL", env = "ENCAJE_MERGE_OUT")]
    pub(crate) out: Place,
    /// Writes files of so many rows each (the last may have fewer) and a manifest, instead of one file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) partition_rows: Option<u64>,
    /// Stores vectors in this number format; the default is that of the parts. `int8` and `binary` parts stay so.
    #[arg(long, value_enum)]
    pub(crate) output_dtype: Option<OutputDtype>,
    /// Replaces an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Merges.
pub(crate) fn run(ui: &Ui, args: &MergeArgs) -> anyhow::Result<Exit> {
    if args.partition_rows.is_some() && args.out.is_file() {
        let what = format!("`{}` is a file, but --partition-rows writes a directory of files", args.out.display());
        return Err(Advice::usage(what).hint("give a directory as --out").into());
    }
    outfile::check_place(&args.out)?;
    if args.partition_rows.is_none() {
        outfile::check(&args.out, "--out", args.force)?;
    }
    let options =
        MergeOptions { output_dtype: args.output_dtype, partition_rows: args.partition_rows, overwrite: args.force };
    let summary = merging::merge(ui, &args.dir, &args.out, &options)?;
    note_missing(ui, summary.missing);
    if args.json {
        ui.json(&summary)?;
    } else {
        let bytes: u64 = summary.files.iter().map(|file| file.bytes).sum();
        let rows = ui::counted(summary.totals.rows, "row");
        let files = match args.partition_rows {
            Some(_) => format!("{}, ", ui::counted(summary.files.len() as u64, "file")),
            None => String::new(),
        };
        ui.data(format!("{}: {rows}, {files}{}", summary.out.display(), ui::size(bytes)))?;
    }
    Ok(Exit::Done)
}
