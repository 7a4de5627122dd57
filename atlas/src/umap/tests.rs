//! Properties of projections of arbitrary vectors.

use super::fuzzy;
use super::{
    Metric, Nearest, Neighbors, Options, UmapError, descent, exact, fit, fit_with_nearest, neighbors, points::Points,
    quality,
};
use crate::rng::Rng;
use crate::votes::LabelVotes;

/// Options for tests: few epochs, two threads.
fn options() -> Options {
    Options { neighbors: 10, epochs: Some(60), threads: 2, metric: Metric::Euclidean, ..Options::default() }
}

/// Separated clusters of points, and the cluster of each point.
fn blobs(count: usize, each: usize, dim: usize) -> (Vec<f32>, Vec<u32>) {
    let mut rng = Rng::new(7, 7);
    let centres: Vec<f32> = (0..count * dim).map(|_| 4.0 * rng.normal()).collect();
    let labels: Vec<u32> = (0..count * each).map(|point| (point % count) as u32).collect();
    let value = |rng: &mut Rng, label: u32, axis: usize| centres[label as usize * dim + axis] + rng.normal();
    let vectors = labels.iter().flat_map(|&label| (0..dim).map(move |axis| (label, axis))).collect::<Vec<_>>();
    let vectors = vectors.into_iter().map(|(label, axis)| value(&mut rng, label, axis)).collect();
    (vectors, labels)
}

fn project(vectors: &[f32], dim: usize, options: &Options) -> Vec<[f32; 2]> {
    fit(vectors, dim, options, &mut |_, _| {}).unwrap()
}

fn find(vectors: &[f32], dim: usize, k: usize, options: &Options) -> Neighbors {
    neighbors(vectors, dim, k, options, &mut |_| {}).unwrap()
}

/// The share of points whose label is that of most of their `k` nearest.
fn label_accuracy(neighbors: &Neighbors, labels: &[u32], k: usize) -> f64 {
    let hits = LabelVotes::count(neighbors, labels, k).hits;
    hits.iter().map(|hit| f64::from(*hit)).sum::<f64>() / hits.len() as f64
}

fn assert_finite(places: &[[f32; 2]], count: usize) {
    assert_eq!(places.len(), count);
    assert!(places.iter().flatten().all(|value| value.is_finite()), "{places:?}");
}

#[test]
fn separate_clusters_stay_separate() {
    let (vectors, labels) = blobs(5, 60, 16);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let options = Options { metric, ..options() };
        let places = project(&vectors, 16, &options);
        let plane = quality::in_plane(&places, 11, &options).unwrap();
        let accuracy = label_accuracy(&plane, &labels, 10);
        assert!(accuracy > 0.98, "{metric:?}: {accuracy}");
        let trust = quality::trustworthiness(&vectors, 16, &places, 10, &options).unwrap();
        assert!(trust > 0.85, "{metric:?}: {trust}");
    }
}

#[test]
fn the_layout_is_identical_for_any_number_of_threads() {
    let (vectors, _) = blobs(3, 400, 8);
    let short = Options { epochs: Some(8), ..options() };
    let one = project(&vectors, 8, &Options { threads: 1, ..short.clone() });
    for threads in [2, 3, 7] {
        assert_eq!(one, project(&vectors, 8, &Options { threads, ..short.clone() }), "{threads} threads");
    }
    assert_ne!(one, project(&vectors, 8, &Options { seed: 1, ..short }), "another seed, another picture");
}

#[test]
fn exact_neighbors_match_brute_force() {
    let (vectors, _) = blobs(4, 150, 5);
    let found = find(&vectors, 5, 8, &options());
    for point in [0, 17, 599] {
        let distance = |other: usize| {
            let squares = (0..5).map(|axis| f64::from(vectors[point * 5 + axis] - vectors[other * 5 + axis]).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let mut all: Vec<usize> = (0..600).collect();
        all.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let row = &found.ids[point * 8..(point + 1) * 8];
        assert_eq!(row.iter().map(|&id| id as usize).collect::<Vec<_>>(), all[..8]);
        assert!((f64::from(found.distances[point * 8 + 7]) - distance(all[7])).abs() < 1e-4);
    }
}

#[test]
fn nn_descent_finds_nearly_all_neighbors_for_any_threads() {
    let (vectors, _) = blobs(10, 150, 12);
    let points = Points::new(&vectors, 12, Metric::Euclidean, 2).unwrap();
    let truth = exact::search(&points, 9, 2, &mut |_| {});
    let found = descent::search(&points, 9, &options(), &mut |_| {});
    let hits: usize = (0..points.len())
        .map(|point| truth.row(point).iter().filter(|t| found.row(point).iter().any(|f| f.id == t.id)).count())
        .sum();
    let recall = hits as f64 / (points.len() * 9) as f64;
    assert!(recall > 0.97, "{recall}");
    let again = descent::search(&points, 9, &Options { threads: 3, ..options() }, &mut |_| {});
    let ids = |lists: &super::lists::Lists| lists.entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(ids(&found), ids(&again));
}

#[test]
fn rotation_keeps_the_neighbors() {
    let (vectors, _) = blobs(3, 80, 4);
    let (sine, cosine) = 0.7f32.sin_cos();
    let rotated: Vec<f32> = vectors
        .chunks_exact(4)
        .flat_map(|row| [cosine * row[0] - sine * row[2], row[3], sine * row[0] + cosine * row[2], -row[1]])
        .collect();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let options = Options { metric, ..options() };
        let (a, b) = (find(&vectors, 4, 6, &options), find(&rotated, 4, 6, &options));
        let same = a.ids.iter().zip(&b.ids).filter(|(a, b)| a == b).count();
        // Only near ties may change their order.
        assert!(same as f64 > 0.99 * a.ids.len() as f64, "{metric:?}: {same} of {}", a.ids.len());
    }
}

#[test]
fn the_fuzzy_set_is_symmetric_with_weights_up_to_one() {
    let (vectors, _) = blobs(3, 50, 6);
    let found = find(&vectors, 6, 10, &options());
    let graph = fuzzy::simplicial_set(&found, 2);
    let weight = |a: usize, b: usize| graph.row(a).find(|edge| edge.0 == b).map(|edge| edge.1);
    for point in 0..graph.len() {
        for (other, value) in graph.row(point) {
            assert!(value > 0.0 && value <= 1.0 && other != point, "{point} {other} {value}");
            assert_eq!(weight(other, point), Some(value), "{point} {other}");
        }
        assert!(graph.row(point).any(|edge| edge.1 > 0.999), "the nearest neighbour of {point} belongs fully");
    }
}

#[test]
fn few_points_are_all_neighbors() {
    assert_eq!(project(&[1.0, 2.0], 2, &options()), [[0.0, 0.0]]);
    for n in [2, 3, 5, 11] {
        let (vectors, _) = blobs(1, n, 3);
        for metric in [Metric::Euclidean, Metric::Cosine] {
            assert_finite(&project(&vectors, 3, &Options { metric, ..options() }), n);
        }
    }
}

#[test]
fn equal_vectors_are_at_one_place() {
    let mut rng = Rng::new(9, 9);
    let distinct: Vec<f32> = (0..200 * 5).map(|_| rng.normal()).collect();
    let rows: Vec<usize> = (0..200).chain((0..400).map(|repeat| repeat % 7)).collect();
    let repeated: Vec<f32> = rows.iter().flat_map(|row| distinct[row * 5..(row + 1) * 5].to_vec()).collect();
    let places = fit(&repeated, 5, &options(), &mut |_, _| {}).unwrap();
    assert!(rows.iter().zip(&places).all(|(row, place)| places[*row] == *place));
    let different: std::collections::BTreeSet<_> = places.iter().map(|place| place.map(f32::to_bits)).collect();
    assert_eq!(different.len(), 200);
    assert_eq!(Points::new(&distinct, 5, Metric::Cosine, 2).unwrap().first_equals(2), None);
}

#[test]
fn equal_and_zero_vectors_are_supported() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let options = Options { metric, ..options() };
        for value in [0.0, 0.5] {
            assert_finite(&project(&[value; 40 * 3], 3, &options), 40);
        }
        let (mut vectors, _) = blobs(2, 30, 3);
        // Each point three times, and some zero vectors.
        vectors = vectors.chunks_exact(3).flat_map(|row| [row, row, row].concat()).collect();
        vectors.extend([0.0; 3 * 4]);
        assert_finite(&project(&vectors, 3, &options), 184);
        let found = find(&vectors, 3, 4, &options);
        assert_eq!(found.distances[..3], [0.0; 3], "copies are at distance 0");
        let zero = found.ids.len() - 4;
        assert_eq!(found.distances[zero..], [0.0; 4], "zero vectors are near each other");
    }
}

#[test]
fn distant_components_are_laid_out_apart() {
    let (mut vectors, mut labels) = blobs(2, 60, 4);
    vectors.iter_mut().enumerate().for_each(|(index, value)| *value += if index / 4 % 2 == 0 { 1e4 } else { 0.0 });
    vectors.extend((0..6 * 4).map(|index| -5e4 + index as f32));
    labels.extend([2; 6]);
    let places = project(&vectors, 4, &options());
    assert_finite(&places, 126);
    let plane = quality::in_plane(&places, 6, &options()).unwrap();
    assert!(label_accuracy(&plane, &labels, 5) > 0.95);
}

#[test]
fn many_components_are_initialised_by_principal_components() {
    // Isolated pairs.
    let pairs: Vec<f32> = (0..80).map(|point| (point / 2 * 100 + point % 2) as f32).collect();
    let places = project(&pairs, 1, &Options { neighbors: 2, ..options() });
    assert_finite(&places, 80);
    let near = quality::in_plane(&places, 2, &options()).unwrap();
    let together = (0..80).filter(|&point| near.ids[2 * point + 1] == (point ^ 1) as u32).count();
    assert!(together > 70, "{together}");
}

#[test]
fn huge_and_tiny_numbers_are_scaled() {
    let (vectors, _) = blobs(2, 30, 3);
    let plain = find(&vectors, 3, 5, &options());
    for factor in [1e30f32, 1e-30] {
        let scaled: Vec<f32> = vectors.iter().map(|value| value * factor).collect();
        let found = find(&scaled, 3, 5, &options());
        assert_eq!(found.ids, plain.ids);
        assert!((found.distances[4] / factor / plain.distances[4] - 1.0).abs() < 1e-3, "{}", found.distances[4]);
    }
}

#[test]
fn invalid_input_is_refused() {
    let refused = |vectors: &[f32], dim, options: &Options| fit(vectors, dim, options, &mut |_, _| {}).unwrap_err();
    assert_eq!(refused(&[], 3, &options()), UmapError::Empty);
    assert_eq!(refused(&[1.0, 2.0, 3.0], 2, &options()), UmapError::Ragged { values: 3, dim: 2 });
    assert_eq!(refused(&[1.0, 2.0, 3.0, f32::NAN], 2, &options()), UmapError::NotFinite(1));
    let few = Options { neighbors: 1, ..options() };
    assert_eq!(refused(&[1.0, 2.0], 1, &few), UmapError::TooFewNeighbors(1));
    let bad = Options { min_dist: f32::NAN, ..options() };
    assert!(matches!(refused(&[1.0, 2.0], 1, &bad), UmapError::BadMinDist(_)));
}

#[test]
fn trustworthiness_is_one_for_identity_and_low_for_random() {
    let mut rng = Rng::new(3, 3);
    let plane: Vec<[f32; 2]> = (0..200).map(|_| [rng.normal(), rng.normal()]).collect();
    let other: Vec<[f32; 2]> = (0..200).map(|_| [rng.normal(), rng.normal()]).collect();
    let trust = |plane: &[[f32; 2]]| quality::trustworthiness(other.as_flattened(), 2, plane, 15, &options()).unwrap();
    assert_eq!(trust(&other), 1.0);
    assert!((0.35..0.65).contains(&trust(&plane)), "{}", trust(&plane));
}

#[test]
fn progress_increases_to_one() {
    let (vectors, _) = blobs(2, 60, 4);
    let mut seen: Vec<(super::Stage, f64)> = Vec::new();
    fit(&vectors, 4, &options(), &mut |stage, done| seen.push((stage, done))).unwrap();
    for stage in [super::Stage::Neighbors, super::Stage::Graph, super::Stage::Layout] {
        let of_stage: Vec<f64> = seen.iter().filter(|entry| entry.0 == stage).map(|entry| entry.1).collect();
        assert!(of_stage.is_sorted(), "{stage:?}: {of_stage:?}");
        assert_eq!(of_stage.last(), Some(&1.0), "{stage:?}");
    }
}

#[test]
fn the_nearest_of_a_projection_are_other_vectors() {
    let line: Vec<f32> = (0..40).flat_map(|at| [f32::from(at as u8), 1.0]).collect();
    let nearest = |vectors: &[f32]| fit_with_nearest(vectors, 2, 2, &options(), &mut |_, _| {}).unwrap();
    let (places, found) = nearest(&line);
    assert_eq!((places.len(), found.k), (40, 2));
    assert_eq!(found.ids[..6], [1, 2, 0, 2, 1, 3]);
    let repeated: Vec<f32> = line.iter().chain(&line[..20]).copied().collect();
    let (places, found) = nearest(&repeated);
    assert_eq!((places.len(), places[0], found.ids.len()), (50, places[40], 100));
    assert_eq!(
        (&found.ids[..4], &found.ids[80..84]),
        (&[1, 2, 0, 2][..], &[1, 2, 0, 2][..]),
        "none is a repeat of its own"
    );
    assert_eq!(fit_with_nearest(&[1.0, 2.0], 2, 2, &options(), &mut |_, _| {}).unwrap().1, Nearest::default());
}
