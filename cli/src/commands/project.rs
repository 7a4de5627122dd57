//! `encaje project`: the vectors of an output as a picture, by UMAP.

use std::path::{Path, PathBuf};
use std::time::Instant;

use atlas::plot::{self, Figure, HoverColumn, Labels, Panel, PlotFormat};
use atlas::umap::{self, Metric, Options, Stage, UmapError};
use clap::Args;
use dataset::VectorSet;
use serde::Serialize;

use crate::args::{LabelTypeArg, MetricArg, UmapArgs};
use crate::exit::{Advice, Exit};
use crate::points::{self, Points};
use crate::spelled::spelled;
use crate::summary::note_missing;
use crate::ui::{self, Amount, Progress, Ui};
use crate::{coords, outfile};

/// Draws the vectors: a UMAP projection to the plane, coloured by a column.
///
/// Rows without a vector are left out and counted. The same vectors, options and seed give the same picture.
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

/// The column that is taken for the text where there is one of this name.
const TEXT: &str = "text";

/// What was done.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    out: Option<&'a Path>,
    coords: Option<&'a Path>,
    points: usize,
    rejected: u64,
    /// Rows of the corpus that the output does not have.
    missing: u64,
    truncated: u64,
    tokens: u64,
    dimensions: usize,
    label: Option<&'a str>,
    label_type: &'static str,
    labels: Option<usize>,
    neighbors: usize,
    min_dist: f32,
    metric: &'static str,
    epochs: Option<usize>,
    seed: u64,
    load_seconds: f64,
    umap_seconds: f64,
    seconds: f64,
}

/// Projects.
pub(crate) fn run(ui: &Ui, args: &ProjectArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let format = check(args)?;
    let points = load(ui, &args.target)?;
    let loaded = started.elapsed();
    let labels = labels(args, &points)?;
    let options = options(&args.umap);
    let places = project(ui, &args.target, &points, &options)?;
    let projected = started.elapsed() - loaded;
    if let (Some(out), Some(format)) = (&args.out, format) {
        let figure = figure(args, &points, places.clone(), labels.clone())?;
        outfile::write_picture(ui, out, &plot::render(&figure, format)?)?;
    }
    if let Some(path) = &args.coords {
        coords::write(path, &points, &places, facts(&options, &points))?;
    }
    let (label_type, count) = match &labels {
        Labels::None => ("none", None),
        Labels::Categories { names, .. } => ("category", Some(names.len())),
        Labels::Continuous { .. } => ("number", None),
    };
    let summary = Summary {
        out: args.out.as_deref(),
        coords: args.coords.as_deref(),
        points: points.len(),
        rejected: points.rejected,
        missing: points.missing,
        truncated: points.truncated,
        tokens: points.tokens,
        dimensions: points.dim,
        label: args.label.as_deref(),
        label_type,
        labels: count,
        neighbors: options.neighbors,
        min_dist: options.min_dist,
        metric: metric_name(options.metric),
        epochs: options.epochs,
        seed: options.seed,
        load_seconds: loaded.as_secs_f64(),
        umap_seconds: projected.as_secs_f64(),
        seconds: started.elapsed().as_secs_f64(),
    };
    report(ui, args, &summary)?;
    Ok(Exit::Done)
}

fn report(ui: &Ui, args: &ProjectArgs, summary: &Summary<'_>) -> anyhow::Result<()> {
    if args.json {
        return ui.json(summary);
    }
    let points = ui::counted(summary.points as u64, "point");
    let left_out = match summary.rejected {
        0 => String::new(),
        rejected => format!(", {} without a vector left out", ui::counted(rejected, "row")),
    };
    for path in [&args.out, &args.coords].into_iter().flatten() {
        ui.data(format!("{}: {points}{left_out}, {:.1} s", path.display(), summary.seconds))?;
    }
    Ok(())
}

/// Refuses what cannot work, before anything is read in full. Returns the format of the picture.
fn check(args: &ProjectArgs) -> anyhow::Result<Option<PlotFormat>> {
    let hint = "the extension of --out tells what to draw; --coords writes the places as Parquet";
    let format = outfile::check_picture(args.out.as_deref(), args.force, hint)?;
    if let Some(path) = &args.coords {
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
            return Err(Advice::usage(format!("--coords `{}` does not end in .parquet", path.display())).into());
        }
        outfile::check(path, "--coords", args.force)?;
    }
    let set = VectorSet::open(&args.target)?;
    if let Some(out) = args.out.iter().chain(&args.coords).find(|out| set.has_file(out)) {
        let what = format!("`{}` is one of the files that are drawn; choose another name", out.display());
        return Err(Advice::usage(what).into());
    }
    if args.coords.is_some() {
        coords::check_columns(set.kept_schema())?;
    }
    if let Some(label) = &args.label
        && set.kept_schema().index_of(label).is_err()
    {
        let names: Vec<_> = set.kept_schema().fields().iter().map(|field| field.name().as_str()).collect();
        let what = format!("--label: `{}` has no kept column `{label}`", args.target.display());
        let hint = match names.len() {
            0 => "it has none at all: they are chosen by `encaje run --keep`".to_owned(),
            _ => format!("its kept columns are: {}", names.join(", ")),
        };
        return Err(Advice::usage(what).hint(hint).into());
    }
    Ok(format)
}

/// Loads the vectors.
pub(crate) fn load(ui: &Ui, target: &Path) -> anyhow::Result<Points> {
    let mut progress = ui.progress("reading", Amount::default());
    let points = points::load(target, &mut |rows, total| {
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
    if points.len() == 0 {
        let (shown, rejected) = (target.display(), ui::counted(points.rejected, "row"));
        let advice = match points.rejected {
            0 => Advice::failed(format!("`{shown}` has no rows, so there is nothing to draw")),
            _ => Advice::failed(format!("`{shown}` has no vectors to draw ({rejected}, all rejected)"))
                .hint("`encaje verify` says what the reasons are"),
        };
        return Err(advice.into());
    }
    note_missing(ui, points.missing);
    if points.rejected > 0 {
        ui.note(format!("left out: {} without a vector", ui::counted(points.rejected, "row")));
    }
    Ok(points)
}

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

/// Projects the vectors, with a display of how far it is.
pub(crate) fn project(ui: &Ui, target: &Path, points: &Points, options: &Options) -> anyhow::Result<Vec<[f32; 2]>> {
    let total = points.len() as u64;
    let mut shown: Option<(Stage, Progress)> = None;
    let placed = umap::fit(&points.vectors, points.dim, options, &mut |stage, done| {
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

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Neighbors => "finding neighbors",
        Stage::Graph => "building the graph",
        Stage::Layout => "moving points",
    }
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    }
}

/// Returns the values of a kept column, spelled; `None` where there is none.
pub(crate) fn column(points: &Points, name: &str) -> anyhow::Result<Vec<Option<String>>> {
    let Some(column) = points.kept.column_by_name(name) else {
        return Err(Advice::usage(format!("there is no kept column `{name}`")).into());
    };
    Ok(spelled(column))
}

fn labels(args: &ProjectArgs, points: &Points) -> anyhow::Result<Labels> {
    let Some(name) = &args.label else { return Ok(Labels::None) };
    let values = column(points, name)?;
    match args.label_type {
        LabelTypeArg::Auto => Ok(Labels::of_column(name, &values)),
        LabelTypeArg::Category => Ok(Labels::categories_of(name, &values)),
        LabelTypeArg::Number => Labels::numbers_of(name, &values).map_err(|row| {
            let value = values[row].clone().unwrap_or_default();
            let row = points.rows[row];
            Advice::usage(format!("--label-type number: column `{name}` holds `{value}` in row {row}, no number"))
                .hint("use --label-type category")
                .into()
        }),
    }
}

fn figure(args: &ProjectArgs, points: &Points, places: Vec<[f32; 2]>, labels: Labels) -> anyhow::Result<Figure> {
    let umap = &args.umap;
    let left_out = match points.rejected + points.missing {
        0 => String::new(),
        rows => format!(" ({} without a vector left out)", ui::counted(rows, "row")),
    };
    let subtitle = format!(
        "{}{left_out} · {} dimensions · UMAP: {} neighbors, min. distance {}, {}, seed {}",
        ui::counted(points.len() as u64, "text"),
        points.dim,
        umap.neighbors,
        umap.min_dist,
        metric_name(options(umap).metric),
        umap.seed
    );
    let panel = Panel { title: String::new(), note: String::new(), points: places };
    let title = model_name(&points.info.model);
    Ok(Figure { title, subtitle, panels: vec![panel], labels, hover: hover(points)?, table: None })
}

/// Returns the short name of a model: the last part of its Hub id or directory that says anything.
pub(crate) fn model_name(model: &str) -> String {
    let mut parts = model.trim_end_matches('/').rsplit('/');
    parts.find(|part| !part.is_empty() && *part != "model").unwrap_or(model).to_owned()
}

/// What a point says about itself: the text first, then the other kept columns and the row number.
pub(crate) fn hover(points: &Points) -> anyhow::Result<Vec<HoverColumn>> {
    let schema = points.kept.schema();
    let mut columns = Vec::new();
    for field in schema.fields() {
        let values = column(points, field.name())?.into_iter().map(Option::unwrap_or_default).collect();
        columns.push(HoverColumn { name: field.name().clone(), values });
    }
    // The text is the column of that name, or else the one with most to read.
    let length = |column: &HoverColumn| column.values.iter().map(String::len).sum::<usize>();
    let text = columns.iter().position(|column| column.name == TEXT);
    let text = text.or_else(|| (0..columns.len()).max_by_key(|&index| length(&columns[index])));
    if let Some(index) = text {
        columns[..=index].rotate_right(1);
    }
    let rows = points.rows.iter().map(i64::to_string).collect();
    columns.push(HoverColumn { name: dataset::vectors::schema::ROW.to_owned(), values: rows });
    Ok(columns)
}

/// How the places were made, for the footer of their file.
fn facts(options: &Options, points: &Points) -> Vec<(String, String)> {
    [
        ("encaje.model", points.info.model.clone()),
        ("encaje.job_id", points.info.job_id.clone()),
        ("encaje.umap.neighbors", options.neighbors.to_string()),
        ("encaje.umap.min_dist", options.min_dist.to_string()),
        ("encaje.umap.metric", metric_name(options.metric).to_owned()),
        ("encaje.umap.seed", options.seed.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
