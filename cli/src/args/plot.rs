//! How vectors are projected and coloured.

use clap::{Args, ValueEnum};

const NEIGHBORS: u32 = 15;
const MIN_DIST: f32 = 0.1;
const METRIC: MetricArg = MetricArg::Cosine;
const SEED: u64 = 42;

/// How vectors become points of a plane.
#[derive(Debug, Args)]
#[command(next_help_heading = "UMAP")]
pub(crate) struct UmapArgs {
    /// Looks at so many nearest neighbours of each point, itself included. More show the large, fewer the small
    /// structure.
    #[arg(long, value_name = "N", default_value_t = NEIGHBORS, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) neighbors: u32,
    /// Lets points come this close to each other, from 0 (tight clumps) to 3 (spread out).
    #[arg(long, value_name = "DISTANCE", default_value_t = MIN_DIST, value_parser = parse_min_dist)]
    pub(crate) min_dist: f32,
    /// Measures the distance of vectors this way.
    #[arg(long, value_enum, default_value_t = METRIC)]
    pub(crate) metric: MetricArg,
    /// Moves points for so many rounds. The default is 1,000 up to 10,000 points, 500 up to 100,000 and 200 above.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) epochs: Option<u32>,
    /// Starts randomness here: the same seed gives the same picture, whatever the number of cores.
    #[arg(long, value_name = "N", default_value_t = SEED)]
    pub(crate) seed: u64,
}

impl UmapArgs {
    /// Whether every option has its default.
    pub(crate) fn is_default(&self) -> bool {
        let Self { neighbors, min_dist, metric, epochs, seed } = self;
        (*neighbors, *min_dist, *metric, *epochs, *seed) == (NEIGHBORS, MIN_DIST, METRIC, None, SEED)
    }
}

/// The type of a label column, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelTypeArg {
    /// Numbers and dates with many different values are a number, all else is a category.
    Auto,
    /// A colour per value.
    Category,
    /// A colour bar of numbers, or of dates as ISO 8601 writes them.
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
