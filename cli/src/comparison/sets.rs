//! The sets that are compared: the same rows, embedded by several models, one at a time in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use atlas::plot::{HoverColumn, Labels};
use atlas::statistics::{Estimate, silhouettes};
use atlas::umap::{Metric, Neighbors, Options, first_equals, neighbors, quality};
use atlas::votes::LabelVotes;
use serde::Serialize;

use super::NEIGHBORS;
use crate::args::LabelTypeArg;
use crate::exit::Advice;
use crate::outdir::OutDir;
use crate::points::{self, Points};
use crate::shared_rows::{SAME_CORPUS, SharedRows};
use crate::ui::{self, Ui};
use crate::{model, umap};

/// More labels than this are no labels but names of rows.
const LABELS_MAX: usize = 2_000;
/// What a null is called.
const NO_LABEL: &str = "(none)";

/// One model's numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Model {
    pub(crate) model: String,
    pub(crate) target: PathBuf,
    pub(crate) dimensions: usize,
    pub(crate) pooling: String,
    /// Most tokens fed to the model for one text.
    pub(crate) max_length: u32,
    /// The text before every text.
    pub(crate) prefix: String,
    /// Rows that the model has no vector for.
    pub(crate) rejected: u64,
    /// Rows of the corpus that the set does not have.
    pub(crate) missing: u64,
    /// Rows that have the vector of another row: those of which the text is repeated, or the same up to where it was cut.
    pub(crate) repeated: u64,
    /// Leave-one-out accuracy of the majority of the 15 nearest, in the space of the vectors.
    pub(crate) label_accuracy: Option<Estimate>,
    /// The same as a mean over labels, each of which counts as much as any other.
    pub(crate) label_accuracy_macro: Option<f64>,
    /// By how much that is above the best model's; 0 for that one.
    pub(crate) label_accuracy_difference: Option<Estimate>,
    /// In the space of the vectors, cosine.
    pub(crate) silhouette: Option<Estimate>,
    /// Of the plot.
    pub(crate) trustworthiness: f64,
    /// The share of rows whose text was cut.
    pub(crate) truncated: f64,
    pub(crate) tokens_per_row: f64,
    /// How fast the run that made the vectors was, where it is known.
    pub(crate) rows_per_second: Option<f64>,
    pub(crate) tokens_per_second: Option<f64>,
}

/// What is kept of a set of vectors after it is freed.
pub(crate) struct MeasuredSet {
    pub(crate) model: Model,
    pub(crate) places: Vec<[f32; 2]>,
    pub(crate) near: Neighbors,
    /// Empty without categories.
    pub(crate) votes: LabelVotes,
    pub(crate) silhouettes: Vec<f32>,
}

/// The rows of the first set, which those of all others must equal.
pub(crate) struct ReferenceRows {
    target: PathBuf,
    pub(crate) shared: SharedRows,
    pub(crate) columns: Vec<HoverColumn>,
    pub(crate) labels: Labels,
    /// The label of each row, where the column is one of categories.
    pub(crate) codes: Option<Vec<u32>>,
    /// The labels by their codes.
    pub(crate) names: Vec<String>,
}

impl ReferenceRows {
    /// Returns the number of rows of each label.
    pub(crate) fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.names.len()];
        self.codes.iter().flatten().for_each(|code| counts[*code as usize] += 1);
        counts
    }
}

/// Takes the rows of the first set as those that all must have.
pub(crate) fn rows_of(
    (label, label_type): (&str, LabelTypeArg),
    target: &Path,
    points: &Points,
    shared: SharedRows,
) -> anyhow::Result<ReferenceRows> {
    points::check_label(label, target, [points.kept.schema().as_ref()])?;
    let labels = points.labels(label, label_type)?;
    // The figure names as many labels as it has distinct markers; the metrics use all of them.
    let (codes, names) = match labels {
        Labels::Categories { .. } => {
            let (codes, names) = codes_of(&points.column(label)?);
            (Some(codes), names)
        }
        Labels::None | Labels::Continuous { .. } => (None, Vec::new()),
    };
    if names.len() > LABELS_MAX {
        let what = format!("--label: column `{label}` has {} different values", ui::thousands(names.len() as u64));
        return Err(Advice::usage(what).hint("take a column whose values are shared by many rows").into());
    }
    Ok(ReferenceRows { target: target.to_owned(), shared, columns: points.hover()?, labels, codes, names })
}

/// Counts the rows that have the vector of another row.
fn repeated(points: &Points, threads: usize) -> u64 {
    let Some(firsts) = first_equals(&points.vectors, points.dim, threads) else { return 0 };
    let mut equals = vec![0_u64; firsts.len()];
    firsts.iter().for_each(|first| equals[*first as usize] += 1);
    equals.into_iter().filter(|rows| *rows > 1).sum()
}

/// Returns the code of each value, and the values by their codes.
fn codes_of(values: &[Option<String>]) -> (Vec<u32>, Vec<String>) {
    let (mut seen, mut names) = (HashMap::new(), Vec::new());
    // As in the legend: an empty value is none.
    let codes = values.iter().map(|value| value.as_deref().filter(|value| !value.is_empty())).map(|value| {
        *seen.entry(value).or_insert_with(|| {
            names.push(value.unwrap_or(NO_LABEL).to_owned());
            names.len() as u32 - 1
        })
    });
    (codes.collect(), names)
}

/// Refuses a set that has other values in a column that both kept: it is of another corpus.
pub(crate) fn same_rows(first: &ReferenceRows, target: &Path, points: &Points) -> anyhow::Result<()> {
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
pub(crate) fn describe_set(target: &Path, points: &Points) -> Model {
    let count = points.len().max(1) as f64;
    let speed = OutDir::new(target.to_owned()).speed();
    let info = points.info.as_ref();
    Model {
        model: model::short_name(&points.name),
        target: target.to_owned(),
        dimensions: points.dim,
        pooling: info.map(|info| info.pooling.clone()).unwrap_or_default(),
        max_length: info.map(|info| info.max_length).unwrap_or_default(),
        prefix: info.map(|info| info.prefix.clone()).unwrap_or_default(),
        rejected: points.rejected,
        missing: points.missing,
        repeated: 0,
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
pub(crate) fn measure(
    ui: &Ui,
    set: Model,
    points: &Points,
    rows: &ReferenceRows,
    options: &Options,
) -> anyhow::Result<MeasuredSet> {
    let (places, _) = umap::project(ui, &set.target, points, 0, options)?;
    let cosine = Options { metric: Metric::Cosine, ..options.clone() };
    let near = neighbors(&points.vectors, points.dim, NEIGHBORS + 1, &cosine, &mut |_| {})?;
    let (votes, silhouettes) = match &rows.codes {
        None => (LabelVotes::default(), Vec::new()),
        Some(codes) => {
            let votes = LabelVotes::count(&near, codes, NEIGHBORS);
            (votes, silhouettes(&points.vectors, points.dim, codes, options.threads))
        }
    };
    let trustworthiness = quality::trustworthiness(&points.vectors, points.dim, &places, NEIGHBORS, options)?;
    let model = Model { trustworthiness, repeated: repeated(points, options.threads), ..set };
    Ok(MeasuredSet { model, places, near, votes, silhouettes })
}
