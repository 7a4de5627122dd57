//! Arguments of the commands that draw vectors.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `encaje project`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje project vectors/ --label label --out plot.html")]
pub(crate) struct ProjectArgs {
    /// The output directory of a finished run, or a merged file. Rows without a vector are left out and counted.
    #[arg(value_name = "DIR|FILE.parquet")]
    pub(crate) target: PathBuf,
    /// Colours points by this kept column.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_PROJECT_LABEL")]
    pub(crate) label: Option<String>,
    /// Takes the label column for this. `auto` takes numbers with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto, requires = "label")]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write; the extension tells the format.
    #[arg(long, value_name = "PLOT.html|.png|.svg", env = "ENCAJE_PROJECT_OUT", required_unless_present = "coords")]
    pub(crate) out: Option<PathBuf>,
    /// Writes x and y with `row` and the kept columns to this Parquet file.
    #[arg(long, value_name = "FILE.parquet", env = "ENCAJE_PROJECT_COORDS")]
    pub(crate) coords: Option<PathBuf>,
    /// Replaces files that are there already.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How vectors become points of a plane.
#[derive(Debug, Args)]
#[command(next_help_heading = "UMAP")]
pub(crate) struct UmapArgs {
    /// Looks at so many nearest neighbours of each point, itself included. More show the large, fewer the small
    /// structure.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) neighbors: u32,
    /// Lets points come this close to each other, from 0 (tight clumps) to 3 (spread out).
    #[arg(long, value_name = "DISTANCE", default_value_t = 0.1, value_parser = parse_min_dist)]
    pub(crate) min_dist: f32,
    /// Measures the distance of vectors this way.
    #[arg(long, value_enum, default_value_t = MetricArg::Cosine)]
    pub(crate) metric: MetricArg,
    /// Moves points for so many rounds. The default is 500 up to 10,000 points and 200 above.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) epochs: Option<u32>,
    /// Starts randomness here: the same seed gives the same picture, whatever the number of cores.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
}

/// What a label column is, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelTypeArg {
    /// Numbers with many different values are a number, all else is a category.
    Auto,
    /// A colour and a shape per value.
    Category,
    /// A colour bar.
    Number,
}

/// Metric as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MetricArg {
    /// One minus the cosine of the angle.
    Cosine,
    /// Straight-line distance.
    Euclidean,
}

fn parse_min_dist(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(distance) if (0.0..=3.0).contains(&distance) => Ok(distance),
        Ok(_) | Err(_) => Err(format!("expected a number from 0 to 3, found `{text}`")),
    }
}

/// `encaje compare`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje compare beto/ bertin/ mbert/ --label label --out models.html")]
pub(crate) struct CompareArgs {
    /// The outputs to compare, one per model: directories of finished runs over the same corpus, or merged files.
    #[arg(value_name = "DIR|FILE.parquet", required = true, num_args = 2..)]
    pub(crate) targets: Vec<PathBuf>,
    /// The kept column by whose values the models are judged, and the points coloured.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_COMPARE_LABEL")]
    pub(crate) label: String,
    /// Takes the label column for this. `auto` takes numbers with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto)]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write, a panel per model and the table; the extension tells the format.
    #[arg(long, value_name = "PLOT.html|.png|.svg", env = "ENCAJE_COMPARE_OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Replaces the file if it is there already.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Prints the table on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
