//! `encaje compare`: which model separates the labels best, in one figure and one table.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use atlas::plot::{self, Figure, HoverColumn, Labels, Panel, Table};
use atlas::statistics::{Estimate, mean_over_labels, paired_bootstrap, silhouettes};
use atlas::umap::{Metric, Options, neighbors, quality};
use clap::Args;
use serde::Serialize;

use crate::args::{LabelTypeArg, Place, UmapArgs};
use crate::exit::{Advice, Exit};
use crate::outdir::OutDir;
use crate::points::{self, Points};
use crate::shared_rows::{SAME_CORPUS, SharedRows};
use crate::ui::{self, Ui};
use crate::{model, outfile, umap};

/// Compares models: a plot of each side by side, and how well each separates the values of a column.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje compare beto/ bertin/ mbert/ --label label --out models.html")]
pub(crate) struct CompareArgs {
    /// The outputs to compare, one per model: directories of finished runs over the same corpus, or merged files.
    #[arg(value_name = "DIR|FILE.parquet|URL", required = true, num_args = 2..)]
    pub(crate) targets: Vec<Place>,
    /// The kept column by whose values the models are compared, and the points coloured.
    #[arg(long, value_name = "COLUMN", env = "ENCAJE_COMPARE_LABEL")]
    pub(crate) label: String,
    /// Takes the label column for this. `auto` takes numbers with many different values for a number.
    #[arg(long, value_enum, default_value_t = LabelTypeArg::Auto)]
    pub(crate) label_type: LabelTypeArg,
    /// The picture to write, a panel per model and the table; the extension tells the format. May be given
    /// several times.
    #[arg(long, value_name = "PLOT.html|.png|.svg", env = "ENCAJE_COMPARE_OUT")]
    pub(crate) out: Vec<Place>,
    /// Replaces an existing file.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) umap: UmapArgs,
    /// Prints the table on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Neighbours that vote for a row's label, and for which the plot is judged.
const NEIGHBORS: usize = 15;
/// More labels than this are no labels but names of rows.
const LABELS_MAX: usize = 2_000;

/// The report.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    /// The first of the pictures.
    out: Option<&'a Place>,
    pictures: &'a [Place],
    label: &'a str,
    labels: Option<usize>,
    /// The share of rows with the most frequent label: the accuracy of always guessing it.
    majority_share: Option<f64>,
    rows: usize,
    /// Rows that lack a vector in one of the sets.
    left_out: u64,
    neighbors: usize,
    seed: u64,
    models: Vec<Model>,
}

/// One model's numbers.
#[derive(Debug, Serialize)]
struct Model {
    model: String,
    target: PathBuf,
    dimensions: usize,
    pooling: String,
    /// Most tokens fed to the model for one text.
    max_length: u32,
    /// The text before every text.
    prefix: String,
    /// Rows that the model has no vector for.
    rejected: u64,
    /// Rows of the corpus that the set does not have.
    missing: u64,
    /// Leave-one-out accuracy of the majority of the 15 nearest, in the space of the vectors.
    label_accuracy: Option<Estimate>,
    /// The same as a mean over labels, each of which counts as much as any other.
    label_accuracy_macro: Option<f64>,
    /// By how much that is above the best model's; 0 for that one.
    label_accuracy_difference: Option<Estimate>,
    /// In the space of the vectors, cosine.
    silhouette: Option<Estimate>,
    /// Of the plot.
    trustworthiness: f64,
    /// The share of rows whose text was cut.
    truncated: f64,
    tokens_per_row: f64,
    /// How fast the run that made the vectors was, where it is known.
    rows_per_second: Option<f64>,
    tokens_per_second: Option<f64>,
}

/// What is kept of a set of vectors after it is freed.
struct MeasuredSet {
    model: Model,
    places: Vec<[f32; 2]>,
    hits: Vec<f32>,
    silhouettes: Vec<f32>,
}

/// The rows of the first set, which those of all others must equal.
struct ReferenceRows {
    target: PathBuf,
    shared: SharedRows,
    columns: Vec<HoverColumn>,
    labels: Labels,
    codes: Option<Vec<u32>>,
    distinct: usize,
}

impl ReferenceRows {
    /// Returns the share of rows with the most frequent label.
    fn majority_share(&self) -> Option<f64> {
        let codes = self.codes.as_ref()?;
        let mut counts = vec![0_u32; self.distinct];
        codes.iter().for_each(|code| counts[*code as usize] += 1);
        counts.iter().max().map(|most| f64::from(*most) / codes.len() as f64)
    }
}

/// Compares.
pub(crate) fn run(ui: &Ui, args: &CompareArgs) -> anyhow::Result<Exit> {
    let files = outfile::check_pictures(&args.out, args.force, outfile::PICTURE_HINT)?;
    let options = umap::options(&args.umap);
    let shared = SharedRows::of(&args.targets)?;
    if shared.left_out > 0 {
        ui.note(format!("left out: {} that lack a vector in one of the sets", ui::counted(shared.left_out, "row")));
    }
    let mut first: Option<ReferenceRows> = None;
    let mut measured = Vec::new();
    for target in &args.targets {
        ui.note(format!("{}:", target.display()));
        let mut points = points::load(ui, target)?;
        let set = describe_set(target, &points);
        shared.retain_in(&mut points)?;
        let rows = match &first {
            Some(rows) => {
                same_rows(rows, target, &points)?;
                rows
            }
            None => first.insert(rows_of(args, target, &points, shared.clone())?),
        };
        measured.push(measure(ui, set, &points, rows, &options)?);
    }
    let rows = first.expect("the arguments name at least two sets");
    let (models, places) = estimates(measured, &rows, args.umap.seed);
    let table = table(&models);
    if !files.is_empty() {
        let figure = figure(args, &rows, &models, places, table.clone());
        outfile::write_pictures(ui, &files, |format| plot::render(&figure, format))?;
        args.out.iter().for_each(|out| ui.note(format!("{out}: drawn")));
    }
    if args.json {
        let labels = rows.codes.is_some().then_some(rows.distinct);
        ui.json(&Comparison {
            out: args.out.first(),
            pictures: &args.out,
            label: &args.label,
            labels,
            majority_share: rows.majority_share(),
            rows: rows.shared.rows.len(),
            left_out: rows.shared.left_out,
            neighbors: NEIGHBORS,
            seed: args.umap.seed,
            models,
        })?;
    } else {
        aligned_lines(&table).iter().try_for_each(|line| ui.data(line))?;
    }
    Ok(Exit::Done)
}

/// Takes the rows of the first set as those that all must have.
fn rows_of(args: &CompareArgs, target: &Path, points: &Points, shared: SharedRows) -> anyhow::Result<ReferenceRows> {
    if points.kept.column_by_name(&args.label).is_none() {
        let schema = points.kept.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let what = format!("--label: `{}` has no kept column `{}`", target.display(), args.label);
        return Err(Advice::usage(what).hint(format!("its kept columns are: {}", names.join(", "))).into());
    }
    let values = points.column(&args.label)?;
    let labels = match args.label_type {
        LabelTypeArg::Auto => Labels::of_column(&args.label, &values),
        LabelTypeArg::Category => Labels::categories_of(&args.label, &values),
        LabelTypeArg::Number => Labels::numbers_of(&args.label, &values).map_err(|row| {
            let row = points.rows[row];
            Advice::usage(format!("--label-type number: column `{}` holds no number in row {row}", args.label))
                .hint("use --label-type category")
        })?,
    };
    // The figure names as many labels as it has distinct markers; the metrics use all of them.
    let (codes, distinct) = match labels {
        Labels::Categories { .. } => {
            let mut seen: HashMap<&Option<String>, u32> = HashMap::new();
            let codes: Vec<u32> = values
                .iter()
                .map(|value| {
                    let next = seen.len() as u32;
                    *seen.entry(value).or_insert(next)
                })
                .collect();
            (Some(codes), seen.len())
        }
        Labels::None | Labels::Continuous { .. } => (None, 0),
    };
    if distinct > LABELS_MAX {
        let what = format!("--label: column `{}` has {} different values", args.label, ui::thousands(distinct as u64));
        return Err(Advice::usage(what).hint("take a column whose values are shared by many rows").into());
    }
    Ok(ReferenceRows { target: target.to_owned(), shared, columns: points.hover()?, labels, codes, distinct })
}

/// Refuses a set that has other values in a column that both kept: it is of another corpus.
fn same_rows(first: &ReferenceRows, target: &Path, points: &Points) -> anyhow::Result<()> {
    let (one, other) = (first.target.display(), target.display());
    let refuse = |what: String| -> anyhow::Error {
        Advice::usage(format!("`{one}` and `{other}` cannot be compared: {what}")).hint(SAME_CORPUS).into()
    };
    for column in points.hover()? {
        let Some(known) = first.columns.iter().find(|known| known.name == column.name) else { continue };
        if let Some(at) = known.values.iter().zip(&column.values).position(|(mine, theirs)| mine != theirs) {
            return Err(refuse(format!("column `{}` differs in row {}", column.name, points.rows[at])));
        }
    }
    if let Some(label) = first.labels.column()
        && points.kept.column_by_name(label).is_none()
    {
        return Err(refuse(format!("`{other}` has no kept column `{label}`")));
    }
    Ok(())
}

/// Describes a set before it is measured.
fn describe_set(target: &Path, points: &Points) -> Model {
    let count = points.len().max(1) as f64;
    let speed = OutDir::new(target.to_owned()).speed();
    Model {
        model: model::short_name(&points.info.model),
        target: target.to_owned(),
        dimensions: points.dim,
        pooling: points.info.pooling.clone(),
        max_length: points.info.max_length,
        prefix: points.info.prefix.clone(),
        rejected: points.rejected,
        missing: points.missing,
        label_accuracy: None,
        label_accuracy_macro: None,
        label_accuracy_difference: None,
        silhouette: None,
        trustworthiness: 0.0,
        truncated: points.truncated as f64 / count,
        tokens_per_row: points.tokens as f64 / count,
        rows_per_second: speed.map(|speed| speed.rows_per_second),
        tokens_per_second: speed.map(|speed| speed.tokens_per_second),
    }
}

/// Projects one set and measures it.
fn measure(
    ui: &Ui,
    set: Model,
    points: &Points,
    rows: &ReferenceRows,
    options: &Options,
) -> anyhow::Result<MeasuredSet> {
    let places = umap::project(ui, &set.target, points, options)?;
    let cosine = Options { metric: Metric::Cosine, ..options.clone() };
    let (hits, silhouettes) = match &rows.codes {
        None => (Vec::new(), Vec::new()),
        Some(codes) => {
            let near = neighbors(&points.vectors, points.dim, NEIGHBORS + 1, &cosine, &mut |_| {})?;
            let hits = quality::label_hits(&near, codes, NEIGHBORS);
            (hits, silhouettes(&points.vectors, points.dim, codes, options.threads))
        }
    };
    let trustworthiness = quality::trustworthiness(&points.vectors, points.dim, &places, NEIGHBORS, options)?;
    let model = Model { trustworthiness, ..set };
    Ok(MeasuredSet { model, places, hits, silhouettes })
}

/// Computes the interval of every mean. Sets of the same model are distinguished by their paths.
fn estimates(measured: Vec<MeasuredSet>, rows: &ReferenceRows, seed: u64) -> (Vec<Model>, Vec<Vec<[f32; 2]>>) {
    let mut models = Vec::new();
    let (mut places, mut hits, mut widths) = (Vec::new(), Vec::new(), Vec::new());
    for set in measured {
        models.push(set.model);
        places.push(set.places);
        hits.push(set.hits);
        widths.push(set.silhouettes);
    }
    if let Some(codes) = &rows.codes {
        let sum = |hits: &Vec<f32>| hits.iter().map(|hit| f64::from(*hit)).sum::<f64>();
        let best = (0..hits.len()).max_by(|a, b| sum(&hits[*a]).total_cmp(&sum(&hits[*b])).then(b.cmp(a))).unwrap_or(0);
        let accuracies = paired_bootstrap(&hits, best, seed);
        let silhouettes = paired_bootstrap(&widths, best, seed);
        for (model, hits) in models.iter_mut().zip(&hits) {
            model.label_accuracy_macro = Some(mean_over_labels(hits, codes));
        }
        for (model, (accuracy, silhouette)) in models.iter_mut().zip(accuracies.into_iter().zip(silhouettes)) {
            model.label_accuracy = Some(accuracy.0);
            model.label_accuracy_difference = Some(accuracy.1);
            model.silhouette = Some(silhouette.0);
        }
    }
    let names: Vec<String> = models.iter().map(|model| model.model.clone()).collect();
    for model in &mut models {
        if names.iter().filter(|name| **name == model.model).count() > 1 {
            let place = model.target.file_name().unwrap_or(model.target.as_os_str()).to_string_lossy();
            model.model = format!("{} ({place})", model.model);
        }
    }
    (models, places)
}

fn table(models: &[Model]) -> Table {
    let heads = [
        "model",
        "pooling",
        "dim.",
        "kNN accuracy (95 %)",
        "macro",
        "to the best (95 %)",
        "silhouette (95 %)",
        "trustw.",
        "cut",
        "tokens",
        "rows/s",
        "tokens/s",
    ];
    let speed = |rate: Option<f64>| rate.map_or("–".to_owned(), ui::speed);
    let interval = |estimate: &Option<Estimate>| {
        estimate.map_or("–".to_owned(), |e| format!("{:.3} ({:.3} to {:.3})", e.value, e.low, e.high))
    };
    let difference = |estimate: &Option<Estimate>| match estimate {
        None => "–".to_owned(),
        Some(e) if (e.value, e.low, e.high) == (0.0, 0.0, 0.0) => "best".to_owned(),
        Some(e) => format!("{:+.3} ({:+.3} to {:+.3})", e.value, e.low, e.high),
    };
    let row = |model: &Model| {
        vec![
            model.model.clone(),
            model.pooling.clone(),
            model.dimensions.to_string(),
            interval(&model.label_accuracy),
            model.label_accuracy_macro.map_or("–".to_owned(), |share| format!("{share:.3}")),
            difference(&model.label_accuracy_difference),
            interval(&model.silhouette),
            format!("{:.3}", model.trustworthiness),
            format!("{:.1} %", model.truncated * 100.0),
            format!("{:.1}", model.tokens_per_row),
            speed(model.rows_per_second),
            speed(model.tokens_per_second),
        ]
    };
    Table { columns: heads.map(str::to_owned).to_vec(), rows: models.iter().map(row).collect() }
}

/// Formats a table for a terminal: the first column to the left, the others to the right.
fn aligned_lines(table: &Table) -> Vec<String> {
    let rows: Vec<&Vec<String>> = std::iter::once(&table.columns).chain(&table.rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.into_iter().map(line).collect()
}

fn figure(
    args: &CompareArgs,
    rows: &ReferenceRows,
    models: &[Model],
    places: Vec<Vec<[f32; 2]>>,
    table: Table,
) -> Figure {
    let panels = models.iter().zip(places).map(|(model, points)| {
        let accuracy = model.label_accuracy.map_or(String::new(), |e| format!("kNN accuracy {:.3} · ", e.value));
        let note = format!("{accuracy}trustworthiness {:.3} · {} dimensions", model.trustworthiness, model.dimensions);
        Panel { title: model.model.clone(), note, points }
    });
    let left_out = match rows.shared.left_out {
        0 => String::new(),
        left_out => format!(" ({} that lack a vector in one of the sets left out)", ui::counted(left_out, "row")),
    };
    let majority = rows.majority_share().map_or(String::new(), |share| {
        format!(" · the largest label has {:.1} % of the rows; macro: the mean over labels", share * 100.0)
    });
    let subtitle = format!(
        "{}{left_out} · UMAP: {} neighbors, min. distance {}, seed {} · accuracy: majority of the {NEIGHBORS} nearest by \
         cosine, the row itself left out; intervals: bootstrap over rows{majority}",
        ui::counted(rows.shared.rows.len() as u64, "text"),
        args.umap.neighbors,
        args.umap.min_dist,
        args.umap.seed
    );
    Figure {
        title: format!("{} models by {}", models.len(), args.label),
        subtitle,
        panels: panels.collect(),
        labels: rows.labels.clone(),
        hover: rows.columns.clone(),
        table: Some(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table { columns: row(["model", "dim."]), rows: vec![row(["a", "384"]), row(["bertin", "1024"])] };
        assert_eq!(aligned_lines(&table), ["model   dim.", "a        384", "bertin  1024"]);
    }
}
