//! Draws points: smaller and fainter the more there are around, larger where one stands for several rows.

use std::collections::HashMap;
use std::f32::consts::PI;
use std::fmt::Write;

use super::Labels;
use super::draw::{Canvas, Rect, outline};
use super::palette::{self, PALETTE, Shape};
use super::range::ColourRange;
use super::view::View;

/// Layers of points. Each has points of all labels, so that no label hides the others.
const LAYERS: usize = 12;
/// Side of the cells in which neighbours are counted.
const CELL: f32 = 6.0;
/// The radius of a point covers this share of the room that it and its neighbours have.
const COVERED: f32 = 0.5;
/// Smallest and largest radius of a point that stands for one row.
const RADII: [f32; 2] = [0.8, 5.0];
/// Ratio of one radius to the next smaller one. Points of equal radius and style share a path.
const RADIUS_STEP: f32 = 1.13;
/// Number of radii: the largest is that of points that stand for many rows.
const RADIUS_STEPS: usize = 24;
/// Opacity of points among many, and of ones with room around.
const OPACITIES: [f32; 2] = [0.65, 0.9];
/// Greatest factor on the radius of a point that stands for many rows.
const LARGER_MAX: f32 = 3.0;

/// The style of each row, an index into `styles`.
pub(crate) struct PointStyles {
    pub(crate) styles: Vec<(String, Shape)>,
    rows: Option<Vec<u16>>,
    /// Whether each style is that of a label.
    are_labels: bool,
}

impl PointStyles {
    pub(crate) fn of(labels: &Labels) -> PointStyles {
        match labels {
            Labels::None => {
                PointStyles { styles: vec![(PALETTE[0].0.to_owned(), Shape::Circle)], rows: None, are_labels: false }
            }
            Labels::Categories { names, codes, named, .. } => {
                let styles = palette::styles(names.len(), *named, codes.len()).into_iter();
                let styles = styles.map(|(colour, shape)| (PALETTE[colour].0.to_owned(), shape)).collect();
                PointStyles { styles, rows: Some(codes.iter().map(|code| *code as u16).collect()), are_labels: true }
            }
            Labels::Continuous { values, quantity, .. } => {
                const STEPS: usize = 64;
                let range = ColourRange::of(values, *quantity);
                let colour = |step| palette::visible_ramp(step as f64 / (STEPS - 1) as f64, palette::VISIBLE_RAMP.0);
                let mut styles: Vec<(String, Shape)> =
                    (0..STEPS).map(|step| (palette::hex(colour(step)), Shape::Circle)).collect();
                styles.push((palette::MISSING.0.to_owned(), Shape::Circle));
                let step = |value: &f64| match value.is_nan() {
                    true => STEPS as u16,
                    false => (range.share(*value) * (STEPS - 1) as f64).round() as u16,
                };
                PointStyles { styles, rows: Some(values.iter().map(step).collect()), are_labels: false }
            }
        }
    }

    /// Returns the colours of the areas behind points: of each label that has one of its own, or grey for all.
    pub(crate) fn area_colours(&self) -> Vec<&str> {
        if !self.are_labels {
            return vec![palette::MISSING.1];
        }
        self.styles
            .iter()
            .take(palette::COLOURS)
            .take_while(|(colour, _)| colour != palette::MISSING.0)
            .map(|(colour, _)| colour.as_str())
            .collect()
    }

    pub(crate) fn of_row(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(0, |rows| usize::from(rows[row]))
    }
}

/// Points at the same place, drawn as one per style.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dot {
    /// In data coordinates until it is placed on the page.
    pub(crate) at: (f32, f32),
    pub(crate) style: usize,
    /// The first of its rows.
    row: usize,
    /// Rows at this place whose dots are not below this one.
    rows: usize,
}

/// What points at the same place stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Repeats {
    /// Places with several rows.
    pub(crate) places: usize,
    /// Their rows.
    pub(crate) rows: usize,
    /// Most rows of a place.
    pub(crate) most: usize,
}

/// Joins the points of a view that are at the same place. Of several styles there, the rarest is last and smallest.
pub(crate) fn dots(points: &[[f32; 2]], view: &View, styles: &PointStyles) -> (Vec<Dot>, Repeats) {
    let mut at_place: HashMap<[u32; 2], u32> = HashMap::with_capacity(points.len());
    let key = |point: &[f32; 2]| point.map(f32::to_bits);
    points.iter().for_each(|point| *at_place.entry(key(point)).or_default() += 1);
    let mut dots = Vec::with_capacity(at_place.len());
    let mut shared: HashMap<[u32; 2], Vec<(usize, usize, usize)>> = HashMap::new();
    for (row, point) in points.iter().enumerate().filter(|(_, point)| view.has(point)) {
        let style = styles.of_row(row);
        if at_place[&key(point)] == 1 {
            dots.push(Dot { at: (point[0], point[1]), style, row, rows: 1 });
            continue;
        }
        let found = shared.entry(key(point)).or_default();
        match found.iter_mut().find(|(other, _, _)| *other == style) {
            Some((_, _, count)) => *count += 1,
            None => found.push((style, row, 1)),
        }
    }
    let mut repeats = Repeats::default();
    let mut shared: Vec<_> = shared.into_iter().collect();
    shared.sort_by_key(|(_, found)| found[0].1);
    for (key, mut found) in shared {
        found.sort_by_key(|(style, _, count)| (std::cmp::Reverse(*count), *style));
        let mut rows: usize = found.iter().map(|(_, _, count)| count).sum();
        repeats = Repeats { places: repeats.places + 1, rows: repeats.rows + rows, most: repeats.most.max(rows) };
        let [x, y] = key.map(f32::from_bits);
        for (style, row, count) in found {
            dots.push(Dot { at: (x, y), style, row, rows });
            rows -= count;
        }
    }
    (dots, repeats)
}

/// Returns the radius of points: smaller the more there are, except where they are concentrated in few cells, so that
/// the points between clusters stay visible.
fn radius(area: f32, points: usize, occupied_cells: usize) -> f32 {
    let covering = |share: f32, count: usize| (area * share / (PI * count.max(1) as f32)).sqrt();
    covering(0.05, points).max(covering(0.03, occupied_cells).min(3.0)).clamp(1.0, RADII[1])
}

/// Counts dots in cells of a frame and around them.
struct Crowd {
    columns: usize,
    rows: usize,
    frame: Rect,
    around: Vec<u32>,
}

impl Crowd {
    fn of(dots: &[Dot], frame: Rect) -> Crowd {
        let (columns, rows) = ((frame.width / CELL) as usize + 1, (frame.height / CELL) as usize + 1);
        let mut crowd = Crowd { columns, rows, frame, around: Vec::new() };
        let mut counts = vec![0u32; columns * rows];
        dots.iter().for_each(|dot| counts[crowd.cell(dot.at)] += 1);
        let sum = |cell: usize| {
            let (row, column) = (cell / columns, cell % columns);
            let near = column.saturating_sub(1)..=(column + 1).min(columns - 1);
            (row.saturating_sub(1)..=(row + 1).min(rows - 1))
                .map(|row| near.clone().map(|column| counts[row * columns + column]).sum::<u32>())
                .sum()
        };
        crowd.around = (0..columns * rows).map(sum).collect();
        crowd
    }

    fn cell(&self, (x, y): (f32, f32)) -> usize {
        let column = ((x - self.frame.left) / CELL) as usize;
        let row = ((y - self.frame.top) / CELL) as usize;
        row.min(self.rows - 1) * self.columns + column.min(self.columns - 1)
    }

    /// Returns the dots per unit of area around a place.
    fn density(&self, at: (f32, f32)) -> f32 {
        self.around[self.cell(at)] as f32 / (9.0 * CELL * CELL)
    }
}

/// Draws dots in layers, with one path per layer, radius and style, the largest lowest.
pub(crate) fn draw(canvas: &mut Canvas, dots: &[Dot], styles: &PointStyles, frame: Rect, occupied_cells: usize) {
    let usual = radius(frame.width * frame.height, dots.len(), occupied_cells);
    let range = [(usual * 0.8).max(RADII[0]), (usual * 1.25).clamp(RADII[0], RADII[1])];
    let crowd = Crowd::of(dots, frame);
    let layers = LAYERS.min(dots.len().div_ceil(200).max(1));
    let path_of = |layer: usize, step: usize, style: usize| {
        (layer * RADIUS_STEPS + RADIUS_STEPS - 1 - step) * styles.styles.len() + style
    };
    let mut paths = vec![String::new(); layers * RADIUS_STEPS * styles.styles.len()];
    for dot in dots {
        let single = (COVERED / (PI * crowd.density(dot.at))).sqrt().clamp(range[0], range[1]);
        let larger = (1.0 + 0.3 * (dot.rows as f32).log2()).min(LARGER_MAX);
        let step = ((single * larger / RADII[0]).ln() / RADIUS_STEP.ln()).round().max(0.0) as usize;
        let step = step.min(RADIUS_STEPS - 1);
        // Several styles of a place are above each other in this order.
        let layer = if dot.rows > 1 { layers - 1 } else { pseudo_random(dot.row) % layers };
        let path = &mut paths[path_of(layer, step, dot.style)];
        match styles.styles[dot.style].1 {
            // A line of almost no length, drawn by a round pen: four times shorter than a circle.
            Shape::Circle => write!(path, "M{:.2} {:.2}h.01", dot.at.0, dot.at.1).unwrap_or_default(),
            shape => outline(path, shape, dot.at, radius_of(step)),
        }
    }
    for (index, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let (colour, shape) = &styles.styles[index % styles.styles.len()];
        let radius = radius_of(RADIUS_STEPS - 1 - index / styles.styles.len() % RADIUS_STEPS);
        let share = ((radius - range[0]) / (range[1] - range[0]).max(0.1)).clamp(0.0, 1.0);
        let opacity = OPACITIES[0] + (OPACITIES[1] - OPACITIES[0]) * share;
        let style = match shape {
            Shape::Circle => format!(
                r#"fill="none" stroke="{colour}" stroke-opacity="{opacity:.2}" stroke-width="{:.2}" stroke-linecap="round""#,
                2.0 * radius
            ),
            Shape::Triangle
            | Shape::Diamond
            | Shape::Square
            | Shape::TriangleDown
            | Shape::Plus
            | Shape::Cross
            | Shape::Star => format!(r#"fill="{colour}" fill-opacity="{opacity:.2}""#),
        };
        canvas.element(&format!(r#"<path {style} d="{path}"/>"#));
    }
}

fn radius_of(step: usize) -> f32 {
    RADII[0] * RADIUS_STEP.powi(step as i32)
}

/// Returns a deterministic pseudo-random number of a row, so that adjacent rows are in different layers.
fn pseudo_random(row: usize) -> usize {
    ((row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::super::view::view;
    use super::*;

    #[test]
    fn clustered_points_are_drawn_larger() {
        let area = 900.0 * 780.0;
        assert!(radius(area, 10_000, 8_000) < 1.1);
        assert!(radius(area, 10_000, 500) > 2.5);
        assert_eq!(radius(area, 1, 1), 5.0);
        assert_eq!(radius(area, 1_000_000, 16_000), 1.0);
    }

    #[test]
    fn rows_at_one_place_are_one_larger_dot_per_label() {
        let column: Vec<Option<String>> = ["a", "b", "b", "b", "a"].map(|name| Some(name.to_owned())).to_vec();
        let styles = PointStyles::of(&Labels::categories_of("label", &column));
        let points = [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0], [1.0, 1.0]];
        let (dots, repeats) = dots(&points, &view(&points), &styles);
        assert_eq!(repeats, Repeats { places: 1, rows: 3, most: 3 });
        let found: Vec<(f32, usize, usize)> = dots.iter().map(|dot| (dot.at.0, dot.style, dot.rows)).collect();
        assert_eq!(found, [(0.0, 1, 1), (2.0, 0, 1), (1.0, 0, 3), (1.0, 1, 1)]);
    }

    #[test]
    fn crowded_points_are_smaller_and_fainter() {
        let frame = Rect { left: 0.0, top: 0.0, width: 600.0, height: 600.0 };
        let dot = |row: usize, at| Dot { at, style: 0, row, rows: 1 };
        let mut dots: Vec<Dot> =
            (0..900).map(|row| dot(row, (100.0 + (row % 30) as f32, 100.0 + (row / 30) as f32))).collect();
        dots.push(dot(900, (500.0, 500.0)));
        let mut canvas = Canvas::default();
        draw(&mut canvas, &dots, &PointStyles::of(&Labels::None), frame, 400);
        let opacity = |line: &str| line.split('"').nth(5).unwrap().parse::<f32>().unwrap();
        let opacities: Vec<f32> = canvas.body.lines().map(opacity).collect();
        let (least, most) =
            (opacities.iter().copied().fold(1.0, f32::min), opacities.iter().copied().fold(0.0, f32::max));
        assert!(least < 0.7 && most > 0.85, "{opacities:?}");
    }
}
