//! `encaje merge`: the parts of a finished run as one file.

use dataset::{Manifest, MergeOptions};

use crate::args::MergeArgs;
use crate::exit::Exit;
use crate::ui::{self, Amount, Ui};

/// Merges.
pub(crate) fn run(ui: &Ui, args: &MergeArgs) -> anyhow::Result<Exit> {
    let total = Manifest::load_checked(&args.dir)?.totals.rows;
    let options = MergeOptions { overwrite: args.force, ..MergeOptions::default() };
    let mut progress = ui.progress("merging", Amount::default());
    let summary = dataset::merge(&args.dir, &args.out, &options, &mut |rows| {
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
    if args.json {
        ui.json(&summary)?;
    } else {
        let bytes: u64 = summary.files.iter().map(|file| file.bytes).sum();
        let rows = ui::counted(summary.totals.rows, "row");
        ui.data(format!("{}: {rows}, {}", summary.out.display(), ui::size(bytes)))?;
    }
    Ok(Exit::Done)
}
