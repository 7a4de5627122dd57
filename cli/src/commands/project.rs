//! `encaje project`: the vectors of an output as a picture, by UMAP.

use std::path::Path;
use std::time::Instant;

use atlas::plot::{self, Figure, Labels, Panel};
use atlas::umap::Options;
use clap::Args;
use dataset::VectorSet;
use serde::Serialize;

use crate::args::{LabelTypeArg, Place, UmapArgs};
use crate::exit::{Advice, Exit};
use crate::outfile::PictureFile;
use crate::points::{self, Points};
use crate::ui::{self, Ui};
use crate::{coords, model, outfile, umap};

/// Draws the vectors: a UMAP projection to the plane, coloured by a column.
///
/// Rows without a vector are left out and counted. The same vectors, options and seed give the same picture.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje project vectors/ --label label --out plot.html")]
pub(crate) struct ProjectArgs {
    /// The output directory of a finished run, or a merged file. Rows without a vector are left out and counted.
    #[arg(value_name = "DIR|FILE.parquet|URL")]
    pub(crate) target: Place,
    /// Colours points by this kept column.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_PROJECT_LABEL")]
    pub(crate) label: Option<String>,
    /// Takes the label column for this. `auto` takes numbers with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto, requires = "label")]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write; the extension tells the format. May be given several times.
    #[arg(long, value_name = "PLOT.html|.png|.svg", env = "ENCAJE_PROJECT_OUT", required_unless_present = "coords")]
    pub(crate) out: Vec<Place>,
    /// Writes x and y with `row` and the kept columns to this Parquet file.
    #[arg(long, value_name = "FILE.parquet", env = "ENCAJE_PROJECT_COORDS")]
    pub(crate) coords: Option<Place>,
    /// Replaces existing files.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    /// The first of the pictures.
    out: Option<&'a Place>,
    pictures: &'a [Place],
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
    let files = check(args)?;
    let points = points::load(ui, &args.target)?;
    let loaded = started.elapsed();
    let labels = labels(args, &points)?;
    let options = umap::options(&args.umap);
    let places = umap::project(ui, &args.target, &points, &options)?;
    let projected = started.elapsed() - loaded;
    if !files.is_empty() {
        let figure = figure(args, &points, places.clone(), labels.clone())?;
        outfile::write_pictures(ui, &files, |format| plot::render(&figure, format))?;
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
        out: args.out.first(),
        pictures: &args.out,
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
        metric: umap::metric_name(options.metric),
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
    for path in args.out.iter().chain(&args.coords) {
        ui.data(format!("{path}: {points}{left_out}, {:.1} s", summary.seconds))?;
    }
    Ok(())
}

/// Refuses what cannot work, before anything is read in full. Returns the format of the picture.
fn check(args: &ProjectArgs) -> anyhow::Result<Vec<PictureFile<'_>>> {
    let hint = "the extension of --out tells what to draw; --coords writes the places as Parquet";
    let files = outfile::check_pictures(&args.out, args.force, hint)?;
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
    Ok(files)
}

fn labels(args: &ProjectArgs, points: &Points) -> anyhow::Result<Labels> {
    let Some(name) = &args.label else { return Ok(Labels::None) };
    let values = points.column(name)?;
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
    let asked = &args.umap;
    let left_out = match points.rejected + points.missing {
        0 => String::new(),
        rows => format!(" ({} without a vector left out)", ui::counted(rows, "row")),
    };
    let subtitle = format!(
        "{}{left_out} · {} dimensions · UMAP: {} neighbors, min. distance {}, {}, seed {}",
        ui::counted(points.len() as u64, "text"),
        points.dim,
        asked.neighbors,
        asked.min_dist,
        umap::metric_name(umap::options(asked).metric),
        asked.seed
    );
    let panel = Panel { title: String::new(), note: String::new(), points: places };
    let title = model::short_name(&points.info.model);
    Ok(Figure { title, subtitle, panels: vec![panel], labels, hover: points.hover()?, ..Figure::default() })
}

/// How the places were made, for the footer of their file.
fn facts(options: &Options, points: &Points) -> Vec<(String, String)> {
    [
        ("encaje.model", points.info.model.clone()),
        ("encaje.job_id", points.info.job_id.clone()),
        ("encaje.umap.neighbors", options.neighbors.to_string()),
        ("encaje.umap.min_dist", options.min_dist.to_string()),
        ("encaje.umap.metric", umap::metric_name(options.metric).to_owned()),
        ("encaje.umap.seed", options.seed.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
