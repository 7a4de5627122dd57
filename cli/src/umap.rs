//! UMAP as commands run it: options, progress, error messages.

use std::path::Path;

use atlas::umap::{self, Metric, Nearest, Neighbors, Options, Stage, UmapError};

use crate::args::{MetricArg, UmapArgs};
use crate::exit::Advice;
use crate::points::Points;
use crate::ui::{Amount, Progress, Ui};

/// Reads the options of UMAP.
pub(crate) fn options(args: &UmapArgs) -> Options {
    Options {
        neighbors: args.neighbors as usize,
        min_dist: args.min_dist,
        metric: match args.metric {
            MetricArg::Cosine => Metric::Cosine,
            MetricArg::Euclidean => Metric::Euclidean,
        },
        epochs: args.epochs.map(|epochs| epochs as usize),
        seed: args.seed,
        ..Options::default()
    }
}

/// Projects the vectors, with a display of how far it is. Returns their places, and `most` nearest others of each.
pub(crate) fn project(
    ui: &Ui,
    target: &Path,
    points: &Points,
    most: usize,
    options: &Options,
) -> anyhow::Result<(Vec<[f32; 2]>, Nearest)> {
    let total = points.len() as u64;
    let mut shown: Option<(Stage, Progress)> = None;
    let placed = umap::fit_with_nearest(&points.vectors, points.dim, most, options, &mut |stage, done| {
        if shown.as_ref().is_none_or(|shown| shown.0 != stage) {
            shown = Some((stage, ui.progress(name(stage), Amount::default())));
        }
        if let Some((_, progress)) = &mut shown {
            let rows = (done * total as f64) as u64;
            progress.update(Amount { rows, tokens: 0 }, total, Some(total));
        }
    });
    placed.map_err(|error| match error {
        UmapError::NotFinite(index) => {
            let row = points.rows.get(index).copied().unwrap_or_default();
            Advice::failed(format!("the vector of row {row} of `{}` has a number that is not finite", target.display()))
                .hint("`encaje verify` finds all such rows")
                .into()
        }
        other => anyhow::Error::from(other).context(format!("cannot project `{}`", target.display())),
    })
}

/// Finds the nearest neighbours of every vector, itself included and first.
pub(crate) fn neighbors(ui: &Ui, points: &Points, options: &Options) -> anyhow::Result<Neighbors> {
    let total = points.len() as u64;
    let mut progress = ui.progress(name(Stage::Neighbors), Amount::default());
    let found = umap::neighbors(&points.vectors, points.dim, options.neighbors, options, &mut |done| {
        progress.update(Amount { rows: (done * total as f64) as u64, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
    Ok(found)
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Neighbors => "finding neighbors",
        Stage::Graph => "building the graph",
        Stage::Layout => "moving points",
    }
}

/// Names a metric as `--metric` does.
pub(crate) fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    }
}
