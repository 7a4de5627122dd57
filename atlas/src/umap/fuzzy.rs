//! The fuzzy simplicial set: neighbour distances become memberships, and both directions one graph.

use super::{Neighbors, parallel};

/// An undirected weighted graph in CSR form; both directions of every edge are stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    /// Row `i` is `offsets[i]..offsets[i + 1]`.
    pub(super) offsets: Vec<usize>,
    /// The other end of each edge, ascending within a row.
    pub(super) columns: Vec<u32>,
    /// Weights, above 0 and at most 1.
    pub(super) weights: Vec<f32>,
}

impl Graph {
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the edges of a point: other end and weight.
    #[inline(always)]
    pub(super) fn row(&self, point: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.offsets[point]..self.offsets[point + 1];
        self.columns[range.clone()].iter().map(|&column| column as usize).zip(self.weights[range].iter().copied())
    }

    pub(super) fn strongest(&self) -> f32 {
        self.weights.iter().copied().fold(0.0, f32::max)
    }

    /// Drops edges that would be visited less than once in `epochs`, as `umap-learn` does.
    pub(super) fn pruned(self, epochs: usize) -> Self {
        let least = self.strongest() / epochs.max(EPOCHS_MIN) as f32;
        let mut graph = Self { offsets: vec![0], columns: Vec::new(), weights: Vec::new() };
        for point in 0..self.len() {
            for (other, weight) in self.row(point).filter(|edge| edge.1 >= least) {
                graph.columns.push(other as u32);
                graph.weights.push(weight);
            }
            graph.offsets.push(graph.columns.len());
        }
        graph
    }
}

/// Minimum epochs assumed for pruning the graph of the initial layout.
const EPOCHS_MIN: usize = 200;
const BISECTION_STEPS: usize = 64;
const TOLERANCE: f64 = 1e-5;
const SCALE_MIN: f64 = 1e-3;

/// Builds the fuzzy union (probabilistic t-conorm) of the local fuzzy sets; `umap_.fuzzy_simplicial_set`.
pub(super) fn simplicial_set(neighbors: &Neighbors, threads: usize) -> Graph {
    let k = neighbors.k;
    let n = neighbors.ids.len() / k;
    let mean_all = mean(&neighbors.distances);
    let weights: Vec<f32> = parallel::shares(n, threads, |share| {
        let row = |point: usize| &neighbors.distances[point * k..(point + 1) * k];
        share.flat_map(|point| memberships(row(point), mean_all)).collect::<Vec<_>>()
    })
    .concat();
    union(neighbors, &weights, n)
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

/// Returns the membership of each neighbour in the point's fuzzy set, except for the point itself (first).
fn memberships(distances: &[f32], mean_all: f64) -> Vec<f32> {
    let (rho, sigma) = smooth(distances, mean_all);
    let weight = |distance: f32| {
        let excess = f64::from(distance) - rho;
        if excess <= 0.0 || sigma == 0.0 { 1.0 } else { (-excess / sigma).exp() as f32 }
    };
    std::iter::once(0.0).chain(distances[1..].iter().map(|&distance| weight(distance))).collect()
}

/// Finds rho (the distance to the nearest different point) and sigma such that memberships sum to `log2(k)`;
/// `umap_.smooth_knn_dist` with local connectivity and bandwidth 1.
fn smooth(distances: &[f32], mean_all: f64) -> (f64, f64) {
    let target = (distances.len() as f64).log2();
    let rho = distances.iter().find(|&&distance| distance > 0.0).map_or(0.0, |&distance| f64::from(distance));
    let (mut low, mut high, mut sigma) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..BISECTION_STEPS {
        let excesses = distances[1..].iter().map(|&distance| f64::from(distance) - rho);
        let sum: f64 = excesses.map(|excess| if excess > 0.0 { (-excess / sigma).exp() } else { 1.0 }).sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = sigma;
            sigma = (low + high) / 2.0;
        } else {
            low = sigma;
            sigma = if high.is_infinite() { sigma * 2.0 } else { (low + high) / 2.0 };
        }
    }
    let floor = SCALE_MIN * if rho > 0.0 { mean(distances) } else { mean_all };
    (rho, sigma.max(floor))
}

/// `a + b - a·b` of each edge and its reverse, rows sorted by column.
fn union(neighbors: &Neighbors, weights: &[f32], n: usize) -> Graph {
    let k = neighbors.k;
    let mut places = vec![0usize; n + 1];
    for (place, &other) in neighbors.ids.iter().enumerate().filter(|(place, _)| weights[*place] > 0.0) {
        places[place / k + 1] += 1;
        places[other as usize + 1] += 1;
    }
    for point in 0..n {
        places[point + 1] += places[point];
    }
    let mut ends = places.clone();
    let mut both = vec![(0u32, 0.0f32); places[n]];
    for (place, &other) in neighbors.ids.iter().enumerate().filter(|(place, _)| weights[*place] > 0.0) {
        for (from, to) in [(place / k, other), (other as usize, (place / k) as u32)] {
            both[ends[from]] = (to, weights[place]);
            ends[from] += 1;
        }
    }
    let mut graph = Graph { offsets: vec![0], columns: Vec::new(), weights: Vec::new() };
    for point in 0..n {
        let row = &mut both[places[point]..places[point + 1]];
        row.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for pair in row.chunk_by(|a, b| a.0 == b.0) {
            graph.columns.push(pair[0].0);
            graph.weights.push(pair.iter().fold(0.0, |sum, &(_, weight)| sum + weight - sum * weight).min(1.0));
        }
        graph.offsets.push(graph.columns.len());
    }
    graph
}
