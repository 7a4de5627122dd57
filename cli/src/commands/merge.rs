//! `encaje merge`: the parts of a finished run as one file, or as files of equal size.

use dataset::{Manifest, MergeOptions};

use crate::args::MergeArgs;
use crate::exit::{Advice, Exit};
use crate::summary::note_missing;
use crate::ui::{self, Amount, Ui};

/// Merges.
pub(crate) fn run(ui: &Ui, args: &MergeArgs) -> anyhow::Result<Exit> {
    if args.partition_rows.is_some() && args.out.is_file() {
        let what = format!("`{}` is a file, but --partition-rows writes a directory of files", args.out.display());
        return Err(Advice::usage(what).hint("give a directory as --out").into());
    }
    let total = Manifest::load_checked(&args.dir)?.totals.rows;
    let options =
        MergeOptions { output_dtype: args.output_dtype, partition_rows: args.partition_rows, overwrite: args.force };
    let mut progress = ui.progress("merging", Amount::default());
    let summary = dataset::merge(&args.dir, &args.out, &options, &mut |rows| {
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
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
