//! Merging part files, with a display of how far it is.

use std::path::Path;

use dataset::{Manifest, MergeOptions, MergeSummary};

use crate::ui::{Amount, Ui};

/// Merges the parts of the output directory `dir` into `out`.
pub(crate) fn merge(ui: &Ui, dir: &Path, out: &Path, options: &MergeOptions) -> anyhow::Result<MergeSummary> {
    let total = Manifest::load_checked(dir)?.totals.rows;
    let mut progress = ui.progress("merging", Amount::default());
    let summary = dataset::merge(dir, out, options, &mut |rows| {
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
    Ok(summary)
}
