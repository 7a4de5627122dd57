//! `encaje export`: the vectors as a plain matrix.

use clap::Args;
use spec::ExportFormat;

use crate::args::Place;
use crate::exit::Exit;
use crate::outfile;
use crate::summary::note_missing;
use crate::ui::{self, Ui};

/// Writes the vectors as a plain matrix for NumPy, safetensors or PyTorch.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The output directory of a finished run, or a merged file.
    #[arg(value_name = "DIR|FILE.parquet|URL")]
    pub(crate) target: Place,
    /// The format to write.
    #[arg(long, value_enum, value_name = "FORMAT", env = "ENCAJE_EXPORT_FORMAT")]
    pub(crate) format: ExportFormat,
    /// The file to write.
    #[arg(long, value_name = "FILE|URL", env = "ENCAJE_EXPORT_OUT")]
    pub(crate) out: Place,
    /// Replaces an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Exports.
pub(crate) fn run(ui: &Ui, args: &ExportArgs) -> anyhow::Result<Exit> {
    let out = args.out.display();
    outfile::check(&args.out, "--out", args.force)?;
    let summary = dataset::export(&args.target, args.format, &args.out, args.force)?;
    let absent = if summary.dtype.is_float() { "NaN" } else { "0" };
    if summary.rejected > 0 {
        ui.note(format!("{} without a vector: all elements are {absent} there", ui::counted(summary.rejected, "row")));
    }
    if summary.missing > 0 {
        note_missing(ui, summary.missing);
        ui.note(format!("  all elements are {absent} there, so that row i of the array is row i of the corpus"));
    }
    if args.json {
        ui.json(&summary)?;
    } else {
        let (rows, dimensions) = (ui::thousands(summary.rows), summary.dimensions);
        ui.data(format!("{out}: {rows} x {dimensions} {}, {}", summary.dtype, ui::size(summary.bytes)))?;
    }
    Ok(Exit::Done)
}
