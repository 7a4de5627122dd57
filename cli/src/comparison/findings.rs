//! What the measures of several sets say about each other. Pure.

use std::collections::HashSet;

use atlas::statistics::{Estimate, mean_over_labels, paired_bootstrap, share};
use atlas::votes::shared_neighbors;
use serde::Serialize;

use super::NEIGHBORS;
use super::sets::{MeasuredSet, ReferenceRows};

/// Labels with fewer rows are not named among the best and worst: theirs may be chance.
pub(super) const LABEL_ROWS_MIN: u64 = 20;
/// Confusions that are listed.
const CONFUSIONS_MAX: usize = 15;
/// Rows that are listed of each two models.
const EXAMPLES_MAX: usize = 12;
/// Characters of their texts.
const TEXT_CHARS: usize = 200;

/// What the numbers of all sets say together. Models are named by their index.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// The labels, the most frequent first; empty without categories.
    pub(crate) by_label: Vec<LabelFinding>,
    /// What labels are taken for most often by the best model.
    pub(crate) confusions: Vec<Confusion>,
    /// The two most accurate models.
    pub(crate) lead: Option<Lead>,
    /// What the neighbourhoods of each two models share.
    pub(crate) overlaps: Vec<Overlap>,
}

/// A label.
#[derive(Debug, Serialize)]
pub(crate) struct LabelFinding {
    pub(crate) label: String,
    pub(crate) rows: u64,
    /// The accuracy of each model among the rows of this label, with a Wilson interval.
    pub(crate) accuracy: Vec<Estimate>,
}

/// A label that is taken for another.
#[derive(Debug, Serialize)]
pub(crate) struct Confusion {
    pub(crate) label: String,
    pub(crate) taken_for: String,
    /// How many rows of the label are, by each model; ties count in equal shares.
    pub(crate) rows: Vec<f64>,
    /// The share of the label's rows, by each model.
    pub(crate) share: Vec<f64>,
}

/// The most accurate model beside the next one.
#[derive(Debug, Serialize)]
pub(crate) struct Lead {
    pub(crate) best: usize,
    pub(crate) next: usize,
    /// By how much it is ahead, with the interval of a paired bootstrap.
    pub(crate) difference: Estimate,
    /// What the best separates and the next does not, and the other way round.
    pub(crate) separated: [Separated; 2],
}

/// Rows that one model separates and another does not.
#[derive(Debug, Serialize)]
pub(crate) struct Separated {
    pub(crate) by: usize,
    pub(crate) not_by: usize,
    pub(crate) rows: u64,
    /// Those of which the models differ most.
    pub(crate) examples: Vec<Example>,
}

/// A row that one of two models separates.
#[derive(Debug, Serialize)]
pub(crate) struct Example {
    pub(crate) row: i64,
    pub(crate) text: String,
    pub(crate) label: String,
    /// What the other model's neighbours are.
    pub(crate) taken_for: String,
}

/// What two models have in common.
#[derive(Debug, Serialize)]
pub(crate) struct Overlap {
    pub(crate) models: [usize; 2],
    /// The mean share of the 15 nearest rows that they share.
    pub(crate) shared: f64,
}

/// Compares the sets, and fills in what each has of that: intervals, and differences to the best.
pub(crate) fn find(sets: &mut [MeasuredSet], rows: &ReferenceRows, seed: u64) -> Findings {
    let mut findings = Findings::default();
    for (one, other) in (0..sets.len()).flat_map(|one| (one + 1..sets.len()).map(move |other| (one, other))) {
        let shared = shared_neighbors(&sets[one].near, &sets[other].near, NEIGHBORS);
        findings.overlaps.push(Overlap { models: [one, other], shared });
    }
    let Some(codes) = &rows.codes else { return findings };
    let hits: Vec<&[f32]> = sets.iter().map(|set| set.votes.hits.as_slice()).collect();
    let ranking = ranking(&hits);
    let best = ranking[0];
    let accuracies = paired_bootstrap(&hits, best, seed);
    let widths: Vec<&[f32]> = sets.iter().map(|set| set.silhouettes.as_slice()).collect();
    let silhouettes = paired_bootstrap(&widths, best, seed);
    findings.by_label = by_label(&hits, codes, rows);
    findings.confusions = confusions(sets, best, rows);
    if let Some(&next) = ranking.get(1) {
        let behind = accuracies[next].1;
        // Not negative zero.
        let difference = Estimate { value: 0.0 - behind.value, low: 0.0 - behind.high, high: 0.0 - behind.low };
        let separated = [(best, next), (next, best)].map(|(by, not_by)| separated(sets, by, not_by, rows));
        findings.lead = Some(Lead { best, next, difference, separated });
    }
    for (set, (accuracy, silhouette)) in sets.iter_mut().zip(accuracies.into_iter().zip(silhouettes)) {
        let sum = set.votes.hits.iter().map(|hit| f64::from(*hit)).sum();
        set.model.label_accuracy = share(sum, codes.len() as u64);
        set.model.label_accuracy_macro = Some(mean_over_labels(&set.votes.hits, codes));
        set.model.label_accuracy_difference = Some(accuracy.1);
        set.model.silhouette = Some(silhouette.0);
    }
    findings
}

/// Orders the models by their hits; the earlier one first where they have as many.
fn ranking(hits: &[&[f32]]) -> Vec<usize> {
    let sums: Vec<f64> = hits.iter().map(|hits| hits.iter().map(|hit| f64::from(*hit)).sum()).collect();
    let mut ranking: Vec<usize> = (0..hits.len()).collect();
    ranking.sort_by(|a, b| sums[*b].total_cmp(&sums[*a]));
    ranking
}

fn by_label(hits: &[&[f32]], codes: &[u32], rows: &ReferenceRows) -> Vec<LabelFinding> {
    let mut sums = vec![vec![0.0; hits.len()]; rows.names.len()];
    for (model, hits) in hits.iter().enumerate() {
        hits.iter().zip(codes).for_each(|(hit, code)| sums[*code as usize][model] += f64::from(*hit));
    }
    let labels = rows.names.iter().zip(rows.counts()).zip(sums);
    let mut labels: Vec<LabelFinding> = labels
        .map(|((label, rows), sums)| {
            let accuracy = sums.into_iter().filter_map(|sum| share(sum, rows)).collect();
            LabelFinding { label: label.clone(), rows, accuracy }
        })
        .collect();
    labels.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.label.cmp(&b.label)));
    labels
}

/// The confusions of the best model that most rows take part in.
fn confusions(sets: &[MeasuredSet], best: usize, rows: &ReferenceRows) -> Vec<Confusion> {
    let counts = rows.counts();
    let wrong = sets[best].votes.confusion.iter().filter(|((label, taken_for), _)| label != taken_for);
    let mut wrong: Vec<(&(u32, u32), &f64)> = wrong.collect();
    wrong.sort_by(|a, b| b.1.total_cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let confusion = |pair: &(u32, u32)| {
        let [label, taken_for] = [pair.0, pair.1].map(|code| rows.names[code as usize].clone());
        let of_model = |set: &MeasuredSet| set.votes.confusion.get(pair).copied().unwrap_or_default();
        let found: Vec<f64> = sets.iter().map(of_model).collect();
        let share = found.iter().map(|found| found / counts[pair.0 as usize].max(1) as f64).collect();
        Confusion { label, taken_for, rows: found, share }
    };
    wrong.into_iter().take(CONFUSIONS_MAX).map(|(pair, _)| confusion(pair)).collect()
}

fn separated(sets: &[MeasuredSet], by: usize, not_by: usize, rows: &ReferenceRows) -> Separated {
    let (one, other) = (&sets[by].votes, &sets[not_by].votes);
    let is_separated = |row: &usize| one.hits[*row] == 1.0 && other.hits[*row] == 0.0;
    let mut found: Vec<usize> = (0..one.hits.len()).filter(is_separated).collect();
    let count = found.len() as u64;
    let gap = |row: usize| one.margins[row] - other.margins[row];
    found.sort_by(|a, b| gap(*b).total_cmp(&gap(*a)).then(a.cmp(b)));
    let mut seen = HashSet::new();
    let text_of = |row: usize| rows.columns.first().map_or("", |column| column.values[row].as_str());
    let example = |row: usize| {
        let name = |code: u32| rows.names[code as usize].clone();
        Example {
            row: rows.shared.rows[row],
            text: atlas::excerpt(text_of(row), TEXT_CHARS),
            label: rows.codes.as_ref().map_or_else(String::new, |codes| name(codes[row])),
            taken_for: other.rivals[row].map_or_else(String::new, name),
        }
    };
    let distinct = found.into_iter().filter(|row| seen.insert(text_of(*row)));
    Separated { by, not_by, rows: count, examples: distinct.take(EXAMPLES_MAX).map(example).collect() }
}
