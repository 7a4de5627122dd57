//! `encaje project`: the vectors of an output as a picture, by UMAP.

use std::path::Path;
use std::time::{Duration, Instant};

use atlas::plot::{self, Figure, Labels, Panel, Quantity};
use atlas::umap::{Nearest, Options};
use clap::Args;
use dataset::VectorSet;
use dataset::vectors::{ParquetTable, place};
use serde::Serialize;

use crate::args::{LabelTypeArg, PictureArgs, Place, UmapArgs};
use crate::exit::{Advice, Exit};
use crate::foreign::{self, LabelFile, Places};
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
    /// The output directory of a finished run, or a merged file: rows without a vector are left out and counted. Or a file of places that
    /// `--coords` wrote: it is drawn as it is.
    #[arg(value_name = "DIR|FILE.parquet|URL", required_unless_present = "vectors")]
    pub(crate) target: Option<Place>,
    #[command(flatten)]
    pub(crate) foreign: ForeignArgs,
    /// Colours points by this kept column, or column of `--labels`.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_PROJECT_LABEL")]
    pub(crate) label: Option<String>,
    /// Takes the label column for this. `auto` takes numbers and dates with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto, requires = "label")]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write; the extension tells the format. May be given several times.
    #[arg(
        long,
        value_name = "PLOT.html|.png|.svg|.pdf",
        env = "ENCAJE_PROJECT_OUT",
        required_unless_present = "coords"
    )]
    pub(crate) out: Vec<Place>,
    /// Writes x and y with `row` and the kept columns to this Parquet file.
    #[arg(long, value_name = "FILE.parquet", env = "ENCAJE_PROJECT_COORDS")]
    pub(crate) coords: Option<Place>,
    /// Writes the nearest neighbors of each point too, as embedding-atlas reads them: a column `neighbors` with their positions in the
    /// file and their distances.
    #[arg(long, requires = "coords", env = "ENCAJE_PROJECT_COORDS_NEIGHBORS")]
    pub(crate) coords_neighbors: bool,
    /// Replaces existing files.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) picture: PictureArgs,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What other programs made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files of other programs")]
pub(crate) struct ForeignArgs {
    /// Draws the vectors of a file of any program: a matrix of `NumPy`, or a Parquet file with a column of lists of floating-point
    /// numbers, whose other columns are kept.
    #[arg(long, value_name = "FILE.npy|FILE.parquet|URL", env = "ENCAJE_PROJECT_VECTORS", conflicts_with = "target")]
    pub(crate) vectors: Option<Place>,
    /// Takes the vectors from this column. The default is `embedding`, or the only one of its kind.
    #[arg(long, value_name = "COLUMN", requires = "vectors", env = "ENCAJE_PROJECT_VECTORS_COLUMN")]
    pub(crate) vectors_column: Option<String>,
    /// Adds the columns of this file, such as clusters that were made in Python, joined by the row number.
    #[arg(long, value_name = "FILE.parquet|.csv", env = "ENCAJE_PROJECT_LABELS")]
    pub(crate) labels: Option<Place>,
    /// Joins `--labels` by this column, which the vectors kept too, instead of by the row number.
    #[arg(long, value_name = "COLUMN", requires = "labels", default_value = foreign::ROW, env = "ENCAJE_PROJECT_LABELS_BY")]
    pub(crate) labels_by: String,
}

/// What is drawn.
enum Input<'a> {
    /// An output of a run.
    Output(&'a Place, Box<VectorSet>),
    /// Vectors of another program.
    Vectors(&'a Place),
    /// Places that were made before.
    Places(&'a Place, Box<ParquetTable>),
}

impl<'a> Input<'a> {
    fn of(args: &'a ProjectArgs) -> anyhow::Result<Self> {
        match (&args.foreign.vectors, &args.target) {
            (Some(vectors), _) => Ok(Input::Vectors(vectors)),
            (None, Some(target)) => match VectorSet::open(target) {
                Ok(set) => Ok(Input::Output(target, Box::new(set))),
                Err(error) => match foreign::open_places(target) {
                    Some(table) => Ok(Input::Places(target, Box::new(table))),
                    None => Err(no_output(target, error.into())),
                },
            },
            (None, None) => Err(Advice::usage("nothing to draw: name an output, or --vectors").into()),
        }
    }

    fn path(&self) -> &'a Path {
        match self {
            Input::Output(place, _) | Input::Vectors(place) | Input::Places(place, _) => place,
        }
    }
}

/// Says how a file that is no output, or no more the one that was written, is drawn all the same.
fn no_output(target: &Path, error: anyhow::Error) -> anyhow::Error {
    if place::is_folder(target) || !matches!(place::size_of(target), Ok(Some(_))) {
        return error;
    }
    let shown = target.display();
    let advice = Advice::failed(format!("`{shown}` is not the output of a run, as it was written"));
    let hint = match ParquetTable::open(target) {
        Ok(_) => format!("if another program made or changed it on purpose: encaje project --vectors {shown}"),
        Err(_) => format!("embed a corpus first: encaje run {shown} --model MODEL --out DIR"),
    };
    error.context(advice.hint(hint))
}

/// Points with their places.
struct Placed {
    points: Points,
    labels: Labels,
    places: Vec<[f32; 2]>,
    /// The rows with the nearest vectors; none where places were read.
    nearest: Option<Nearest>,
    /// How the places were made, for the subtitle.
    method: String,
    /// The same for the footer of `--coords`.
    facts: Vec<(&'static str, String)>,
    load_time: Duration,
    umap_time: Duration,
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
    /// None where places were read.
    #[serde(flatten)]
    umap: Option<UmapSummary>,
    load_seconds: f64,
    umap_seconds: f64,
    seconds: f64,
}

/// How the places were made.
#[derive(Debug, Serialize)]
struct UmapSummary {
    neighbors: usize,
    min_dist: f32,
    metric: &'static str,
    epochs: Option<usize>,
    seed: u64,
}

/// Projects.
pub(crate) fn run(ui: &Ui, args: &ProjectArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let input = Input::of(args)?;
    let added = args.foreign.labels.as_ref().map(|path| LabelFile::read(path, &args.foreign.labels_by)).transpose()?;
    let files = check(args, &input, added.as_ref())?;
    let layout = args.picture.layout()?;
    let is_umap = !matches!(input, Input::Places(..));
    let Placed { points, labels, places, nearest, method, facts, load_time, umap_time } =
        place_points(ui, args, input, added.as_ref())?;
    if !files.is_empty() {
        let mut figure = figure(&points, (places.clone(), nearest), labels.clone(), &method)?;
        figure.layout = layout;
        if let Some(title) = &args.picture.title {
            figure.title.clone_from(title);
            if title.is_empty() {
                figure.subtitle.clear();
            }
        }
        outfile::write_pictures(ui, &files, |format| plot::render(&figure, format))?;
    }
    if let Some(path) = &args.coords {
        let near =
            args.coords_neighbors.then(|| umap::neighbors(ui, &points, &umap::options(&args.umap))).transpose()?;
        coords::write(path, &points, &places, near.as_ref(), facts)?;
    }
    let (label_type, count) = match &labels {
        Labels::None => ("none", None),
        Labels::Categories { names, .. } => ("category", Some(names.len())),
        Labels::Continuous { quantity: Quantity::Number, .. } => ("number", None),
        Labels::Continuous { quantity: Quantity::Time, .. } => ("time", None),
    };
    let options = umap::options(&args.umap);
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
        umap: is_umap.then(|| UmapSummary {
            neighbors: options.neighbors,
            min_dist: options.min_dist,
            metric: umap::metric_name(options.metric),
            epochs: options.epochs,
            seed: options.seed,
        }),
        load_seconds: load_time.as_secs_f64(),
        umap_seconds: umap_time.as_secs_f64(),
        seconds: started.elapsed().as_secs_f64(),
    };
    report(ui, args, &summary)?;
    Ok(Exit::Done)
}

/// Loads the points, adds the columns of `--labels`, and places them.
fn place_points(ui: &Ui, args: &ProjectArgs, input: Input<'_>, added: Option<&LabelFile>) -> anyhow::Result<Placed> {
    let started = Instant::now();
    let path = input.path();
    let (mut points, read) = match input {
        Input::Output(target, _) => (points::load(ui, target).map_err(|error| no_output(target, error))?, None),
        Input::Vectors(file) => (foreign::load_vectors(ui, file, args.foreign.vectors_column.as_deref())?, None),
        Input::Places(file, table) => {
            let Places { points, places, facts } = Places::load(file, *table)?;
            (points, Some((places, facts)))
        }
    };
    if let Some(added) = added {
        added.join(ui, &mut points)?;
    }
    let schema = points.kept.schema();
    if args.coords.is_some() {
        coords::check_columns(&schema, args.coords_neighbors)?;
    }
    let labels = match &args.label {
        None => Labels::None,
        Some(label) => {
            points::check_label(label, path, [schema.as_ref()])?;
            points.labels(label, args.label_type)?
        }
    };
    let load_time = started.elapsed();
    if let Some((places, facts)) = read {
        let method = facts.iter().map(|(name, _, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
        let method = if method.is_empty() { "places of a file".to_owned() } else { format!("UMAP: {method}") };
        let mut facts: Vec<_> = facts.into_iter().map(|(_, key, value)| (key, value)).collect();
        facts.push((coords::MODEL_KEY, points.name.clone()));
        let umap_time = Duration::ZERO;
        return Ok(Placed { points, labels, places, nearest: None, method, facts, load_time, umap_time });
    }
    let options = umap::options(&args.umap);
    let (places, nearest) = umap::project(ui, path, &points, plot::NEAREST, &options)?;
    let UmapArgs { neighbors, min_dist, seed, .. } = &args.umap;
    let metric = umap::metric_name(options.metric);
    let dimensions = points.dim;
    let method = format!(
        "{dimensions} dimensions · UMAP: {neighbors} neighbors, min. distance {min_dist}, {metric}, seed {seed}"
    );
    let facts = facts(&options, &points);
    let umap_time = started.elapsed() - load_time;
    Ok(Placed { points, labels, places, nearest: Some(nearest), method, facts, load_time, umap_time })
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
fn check<'a>(
    args: &'a ProjectArgs,
    input: &Input<'_>,
    added: Option<&LabelFile>,
) -> anyhow::Result<Vec<PictureFile<'a>>> {
    let hint = "the extension of --out tells what to draw; --coords writes the places as Parquet";
    let files = outfile::check_pictures(&args.out, args.force, hint)?;
    if let Some(path) = &args.coords {
        if !place::has_extension(path, "parquet") {
            return Err(Advice::usage(format!("--coords `{}` does not end in .parquet", path.display())).into());
        }
        outfile::check(path, "--coords", args.force)?;
    }
    let is_same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    let is_input = |out: &Path| {
        let is_labels = args.foreign.labels.as_ref().is_some_and(|labels| is_same(out, labels));
        is_labels
            || match input {
                Input::Output(_, set) => set.has_file(out),
                Input::Vectors(file) | Input::Places(file, _) => is_same(out, file),
            }
    };
    if let Some(out) = args.out.iter().chain(&args.coords).find(|out| is_input(out)) {
        let what = format!("`{}` is one of the files that are read; choose another name", out.display());
        return Err(Advice::usage(what).into());
    }
    if let (Input::Places(file, _), true) = (input, args.coords_neighbors) {
        let what = format!("--coords-neighbors: `{}` has places, and no vectors", file.display());
        return Err(Advice::usage(what).hint("name the vectors instead").into());
    }
    if let Input::Places(file, _) = input
        && !args.umap.is_default()
    {
        let what = format!("`{}` has places already, which options of UMAP do not change", file.display());
        return Err(Advice::usage(what).hint("leave them out, or name the vectors instead").into());
    }
    if let Input::Output(target, set) = input {
        if let Some(label) = &args.label {
            let added = added.map(LabelFile::schema);
            points::check_label(label, target, [Some(set.kept_schema()), added.as_deref()].into_iter().flatten())?;
        }
        if args.coords.is_some() {
            coords::check_columns(set.kept_schema(), args.coords_neighbors)?;
        }
    }
    if let (Some(_), Some(added)) = (&args.coords, added) {
        coords::check_columns(&added.schema(), args.coords_neighbors)?;
    }
    Ok(files)
}

fn figure(
    points: &Points,
    (places, nearest): (Vec<[f32; 2]>, Option<Nearest>),
    labels: Labels,
    method: &str,
) -> anyhow::Result<Figure> {
    let left_out = match points.rejected + points.missing {
        0 => String::new(),
        rows => format!(" ({} without a vector left out)", ui::counted(rows, "row")),
    };
    let subtitle = format!("{}{left_out} · {method}", ui::counted(points.len() as u64, "text"));
    let panel = Panel { title: String::new(), note: String::new(), points: places, nearest };
    let title = model::short_name(&points.name);
    Ok(Figure { title, subtitle, panels: vec![panel], labels, hover: points.hover()?, ..Figure::default() })
}

/// How the places were made, for the footer of their file.
fn facts(options: &Options, points: &Points) -> Vec<(&'static str, String)> {
    let values = [
        options.neighbors.to_string(),
        options.min_dist.to_string(),
        umap::metric_name(options.metric).to_owned(),
        options.seed.to_string(),
    ];
    let mut facts = vec![(coords::MODEL_KEY, points.name.clone())];
    facts.extend(points.info.as_ref().map(|info| ("encaje.job_id", info.job_id.clone())));
    facts.extend(coords::UMAP_KEYS.into_iter().zip(values).map(|((_, key), value)| (key, value)));
    facts
}
