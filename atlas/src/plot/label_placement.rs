//! Places label names on a panel: at the densest spot of their points, without overlaps.

use super::draw::{Anchor, Rect, TextStyle, fit, width};
use super::font::Weight;

/// Maximum names on a panel; the legend has all.
const NAMES_MAX: usize = 40;
/// Minimum share of a label's points around its densest spot. Labels that are mixed everywhere get no name, which
/// would mislead.
const LEAD: f32 = 0.3;
/// Grid cells per side for finding the densest spot.
const CELLS: usize = 24;
/// Maximum width of a name.
const WIDTH_MAX: f32 = 150.0;

/// A placed name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name {
    /// Middle of the baseline.
    pub(crate) at: (f32, f32),
    /// The name, possibly truncated.
    pub(crate) text: String,
    size: f32,
}

impl Name {
    pub(crate) fn style(&self) -> TextStyle<'static> {
        text_style(self.size)
    }
}

fn text_style(size: f32) -> TextStyle<'static> {
    TextStyle { size, weight: Weight::Bold, colour: "#1a1a1a", anchor: Anchor::Middle, halo: Some("#ffffff") }
}

/// Places names in order of priority; a name without space near its points is omitted.
pub(crate) fn place(names: &[String], codes: &[u32], places: &[(f32, f32)], frame: Rect) -> Vec<Name> {
    if names.len() > NAMES_MAX || names.len() < 2 {
        return Vec::new();
    }
    let mut taken: Vec<Rect> = Vec::new();
    let mut placed = Vec::new();
    for (name, spot) in names.iter().zip(leading_spots(names.len(), codes, places, frame)) {
        let Some(spot) = spot else { continue };
        // A single emoji may be larger than a word.
        let size = if name.chars().count() <= 2 { 19.0 } else { 13.0 };
        let text = fit(name, text_style(size), WIDTH_MAX);
        let wide = width(&text, text_style(size)) + 6.0;
        let tall = size * 1.3;
        let boxes = offsets().map(|(dx, dy)| Rect {
            left: spot.0 - wide / 2.0 + dx * wide * 0.6,
            top: spot.1 - tall / 2.0 + dy * tall,
            width: wide,
            height: tall,
        });
        let free =
            boxes.into_iter().find(|place| inside(place, &frame) && !taken.iter().any(|other| overlap(place, other)));
        if let Some(place) = free {
            placed.push(Name { at: (place.left + wide / 2.0, place.top + tall * 0.5 + size * 0.36), text, size });
            taken.push(place);
        }
    }
    placed
}

/// Returns the centre of each label's densest spot, in data coordinates.
pub(crate) fn densest_spots(labels: usize, codes: &[u32], points: &[[f32; 2]]) -> Vec<Option<[f32; 2]>> {
    let mut bounds = [[f32::INFINITY, f32::NEG_INFINITY]; 2];
    for point in points {
        for (bound, x) in bounds.iter_mut().zip(point) {
            *bound = [bound[0].min(*x), bound[1].max(*x)];
        }
    }
    let span = |[low, high]: [f32; 2]| (high - low).max(f32::MIN_POSITIVE);
    let frame = Rect { left: bounds[0][0], top: bounds[1][0], width: span(bounds[0]), height: span(bounds[1]) };
    let places: Vec<(f32, f32)> = points.iter().map(|[x, y]| (*x, *y)).collect();
    leading_spots(labels, codes, &places, frame).into_iter().map(|spot| spot.map(|(x, y)| [x, y])).collect()
}

/// Finds the densest spot of each label, if the label dominates there.
fn leading_spots(labels: usize, codes: &[u32], places: &[(f32, f32)], frame: Rect) -> Vec<Option<(f32, f32)>> {
    let mut of_label: Vec<Vec<(f32, f32)>> = vec![Vec::new(); labels];
    let mut all = vec![0u32; CELLS * CELLS];
    for (code, place) in codes.iter().zip(places) {
        of_label[*code as usize].push(*place);
        all[cell_of(place, frame)] += 1;
    }
    of_label.iter().map(|points| densest(points, frame, &all)).collect()
}

fn cell_of(point: &(f32, f32), frame: Rect) -> usize {
    let cell = |at: f32, start: f32, length: f32| (((at - start) / length * CELLS as f32) as usize).min(CELLS - 1);
    cell(point.1, frame.top, frame.height) * CELLS + cell(point.0, frame.left, frame.width)
}

/// Sums a cell and its neighbours.
fn neighbourhood_sum(counts: &[u32], index: usize) -> u32 {
    let (row, column) = (index / CELLS, index % CELLS);
    let columns = column.saturating_sub(1)..=(column + 1).min(CELLS - 1);
    let rows = row.saturating_sub(1)..=(row + 1).min(CELLS - 1);
    rows.map(|row| columns.clone().map(|column| counts[row * CELLS + column]).sum::<u32>()).sum()
}

/// Returns the mean of the points in and around the fullest cell. `all` counts the points of every label.
fn densest(points: &[(f32, f32)], frame: Rect, all: &[u32]) -> Option<(f32, f32)> {
    let mut counts = vec![0u32; CELLS * CELLS];
    points.iter().for_each(|point| counts[cell_of(point, frame)] += 1);
    // Includes neighbours, so that a cluster across four cells beats a clump in one.
    let weight = |index: usize| neighbourhood_sum(&counts, index) + counts[index];
    let best = (0..CELLS * CELLS).max_by_key(|index| (weight(*index), std::cmp::Reverse(*index)))?;
    let near: Vec<&(f32, f32)> = points
        .iter()
        .filter(|point| {
            let index = cell_of(point, frame);
            (index / CELLS).abs_diff(best / CELLS) <= 1 && (index % CELLS).abs_diff(best % CELLS) <= 1
        })
        .collect();
    let count = near.len() as f32;
    let leads = count >= LEAD * neighbourhood_sum(all, best) as f32;
    (!near.is_empty() && leads).then(|| {
        let (x, y) = near.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    })
}

/// The offsets to try: none, then increasing distances.
fn offsets() -> [(f32, f32); 25] {
    let mut all = [(0.0, 0.0); 25];
    for ring in 0..3 {
        for step in 0..8 {
            let angle = step as f32 * std::f32::consts::FRAC_PI_4;
            let reach = 1.0 + ring as f32 * 0.8;
            all[1 + ring * 8 + step] = (angle.sin() * reach, -angle.cos() * reach);
        }
    }
    all
}

fn inside(inner: &Rect, outer: &Rect) -> bool {
    inner.left >= outer.left
        && inner.top >= outer.top
        && inner.left + inner.width <= outer.left + outer.width
        && inner.top + inner.height <= outer.top + outer.height
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Rect = Rect { left: 0.0, top: 0.0, width: 400.0, height: 400.0 };

    #[test]
    fn a_name_is_placed_on_its_points() {
        let mut places: Vec<(f32, f32)> = (0..50).map(|i| (100.0 + (i % 7) as f32, 100.0 + (i / 7) as f32)).collect();
        places.extend((0..50).map(|i| (300.0 + (i % 7) as f32, 300.0 + (i / 7) as f32)));
        places.push((390.0, 10.0));
        let codes: Vec<u32> = (0..101).map(|row| u32::from(row >= 50)).collect();
        let names = place(&["perro".to_owned(), "🍲".to_owned()], &codes, &places, FRAME);
        assert_eq!(names.len(), 2);
        for (name, middle) in names.iter().zip([103.0, 303.0]) {
            assert!((name.at.0 - middle).abs() < 8.0 && (name.at.1 - middle).abs() < 12.0, "{name:?}");
        }
    }

    #[test]
    fn labels_mixed_everywhere_get_no_name() {
        let places: Vec<(f32, f32)> =
            (0..4_000).map(|row| ((row * 37 % 401) as f32, (row * 101 % 397) as f32)).collect();
        let codes: Vec<u32> = (0..4_000).map(|row| row / 2 % 20).collect();
        let names: Vec<String> = (0..20).map(|name| format!("label {name}")).collect();
        assert_eq!(place(&names, &codes, &places, FRAME), []);
    }

    #[test]
    fn names_do_not_overlap() {
        let places: Vec<(f32, f32)> = (0..30).map(|row| (100.0 + (row % 6) as f32 * 40.0, 200.0)).collect();
        let codes: Vec<u32> = (0..30).map(|row| row % 6).collect();
        let names: Vec<String> = (0..6).map(|name| format!("label {name}")).collect();
        let placed = place(&names, &codes, &places, FRAME);
        assert!(placed.len() > 3);
        for (index, a) in placed.iter().enumerate() {
            for b in &placed[index + 1..] {
                let apart = (a.at.0 - b.at.0).abs() > 40.0 || (a.at.1 - b.at.1).abs() >= 13.0 * 1.3 - 0.01;
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }
}
