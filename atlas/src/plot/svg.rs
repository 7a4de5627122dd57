//! Lays out a figure as an SVG document of fixed width: title, panels, legend, table.

use super::draw::{Anchor, Canvas, Rect, TextStyle, fit, outline, width, wrap};
use super::label_placement;
use super::palette::{self, PALETTE, Shape};
use super::range::ColourRange;
use super::view::{self, View};
use super::{Figure, Labels, Panel, Table};
use crate::thousands;

const WIDTH: f32 = 1200.0;
const MARGIN: f32 = 32.0;
/// Space between panels, and between panels and legend.
const GAP: f32 = 24.0;
/// Total height of the panels.
const PANELS_HEIGHT: f32 = 780.0;
/// Height of a legend entry.
const ENTRY: f32 = 22.0;
/// Maximum width of a legend column.
const LEGEND_COLUMN_MAX: f32 = 270.0;
/// Space between legend columns.
const LEGEND_GAP: f32 = 16.0;
/// Layers of points. Each has points of all labels, so that no label hides the others.
const LAYERS: usize = 12;
const FRAME: &str = "#d0d0d0";

/// Draws a validated figure.
pub(crate) fn draw(figure: &Figure) -> String {
    let mut canvas = Canvas::default();
    let mut y = heading(&mut canvas, &figure.title, &figure.subtitle, WIDTH);
    let legend = Legend::plan(figure);
    let room = WIDTH - 2.0 * MARGIN - if legend.width > 0.0 { legend.width + GAP } else { 0.0 };
    let grid = Grid::of(figure.panels.len());
    let cell_width = (room - GAP * (grid.columns - 1) as f32) / grid.columns as f32;
    let cell_height = (PANELS_HEIGHT - GAP * (grid.rows - 1) as f32) / grid.rows as f32;
    let labels = PointStyles::of(&figure.labels);
    for (index, panel) in figure.panels.iter().enumerate() {
        let (column, row) = (index % grid.columns, index / grid.columns);
        let left = MARGIN + column as f32 * (cell_width + GAP);
        let top = y + row as f32 * (cell_height + GAP);
        draw_panel(&mut canvas, figure, panel, &labels, Rect { left, top, width: cell_width, height: cell_height });
    }
    legend.draw(&mut canvas, figure, WIDTH - MARGIN - legend.width, y);
    y += PANELS_HEIGHT + MARGIN;
    if let Some(table) = &figure.table {
        y = draw_table(&mut canvas, table, y);
    }
    canvas.finish(WIDTH, y)
}

/// Writes title and subtitle; returns the next free y.
pub(crate) fn heading(canvas: &mut Canvas, title: &str, subtitle: &str, page: f32) -> f32 {
    let room = page - 2.0 * MARGIN;
    let mut y = MARGIN + 20.0;
    let style = TextStyle::bold(24.0);
    canvas.line((MARGIN, y), &fit(title, style, room), style);
    let style = TextStyle::faint(13.0);
    for line in wrap(subtitle, style, room) {
        y += 20.0;
        canvas.line((MARGIN, y), &line, style);
    }
    y + 20.0
}

/// The grid of panels.
struct Grid {
    columns: usize,
    rows: usize,
}

impl Grid {
    fn of(panels: usize) -> Grid {
        let columns = (1..).find(|side| side * side >= panels.max(1)).expect("some square is large enough");
        Grid { columns, rows: panels.max(1).div_ceil(columns) }
    }
}

/// The style of each row, an index into `styles`.
struct PointStyles {
    styles: Vec<(String, Shape)>,
    rows: Option<Vec<u16>>,
}

impl PointStyles {
    fn of(labels: &Labels) -> PointStyles {
        match labels {
            Labels::None => PointStyles { styles: vec![(PALETTE[0].0.to_owned(), Shape::Circle)], rows: None },
            Labels::Categories { names, codes, .. } => {
                let style = |code| {
                    let (colour, shape) = palette::style_of(code);
                    (PALETTE[colour].0.to_owned(), shape)
                };
                let rows = codes.iter().map(|code| *code as u16).collect();
                PointStyles { styles: (0..names.len()).map(style).collect(), rows: Some(rows) }
            }
            Labels::Continuous { values, .. } => {
                const STEPS: usize = 64;
                let range = ColourRange::of(values);
                let colour = |step| palette::visible_ramp(step as f64 / (STEPS - 1) as f64, palette::VISIBLE_RAMP.0);
                let mut styles: Vec<(String, Shape)> =
                    (0..STEPS).map(|step| (palette::hex(colour(step)), Shape::Circle)).collect();
                styles.push((palette::MISSING.0.to_owned(), Shape::Circle));
                let step = |value: &f64| match value.is_nan() {
                    true => STEPS as u16,
                    false => (range.share(*value) * (STEPS - 1) as f64).round() as u16,
                };
                PointStyles { styles, rows: Some(values.iter().map(step).collect()) }
            }
        }
    }
}

fn draw_panel(canvas: &mut Canvas, figure: &Figure, panel: &Panel, labels: &PointStyles, cell: Rect) {
    let mut top = cell.top;
    if !panel.title.is_empty() {
        let style = TextStyle { anchor: Anchor::Start, ..TextStyle::bold(15.0) };
        canvas.line((cell.left, top + 13.0), &fit(&panel.title, style, cell.width), style);
        top += 20.0;
        if !panel.note.is_empty() {
            let style = TextStyle::faint(11.5);
            canvas.line((cell.left, top + 11.0), &fit(&panel.note, style, cell.width), style);
            top += 17.0;
        }
        top += 4.0;
    }
    let frame = Rect { top, height: cell.top + cell.height - top, ..cell };
    let Rect { left, width, height, .. } = frame;
    canvas.element(&format!(
        r##"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="#fcfcfc" stroke="{FRAME}"/>"##
    ));
    let view = view::view(&panel.points);
    let places = places(&panel.points, &view, frame);
    let radius = radius(width * height, places.len(), view.occupied_cells);
    let opacity = if places.len() > 20_000 { 0.6 } else { 0.8 };
    draw_points(canvas, &places, labels, radius, opacity);
    if view.outside > 0 {
        let told = match view.outside {
            1 => "1 point lies further out: drawn at the edge".to_owned(),
            outside => format!("{outside} points lie further out: drawn at the edge"),
        };
        canvas.line((left + 8.0, top + height - 8.0), &told, TextStyle::faint(10.5));
    }
    if let Labels::Categories { names, codes, .. } = &figure.labels {
        for name in label_placement::place(names, codes, &places, frame) {
            canvas.line(name.at, &name.text, name.style());
        }
    }
}

/// Returns the radius of points: smaller the more there are, except where they are concentrated in few cells, so that
/// the points between clusters stay visible.
fn radius(area: f32, points: usize, occupied_cells: usize) -> f32 {
    let covering = |share: f32, count: usize| (area * share / (std::f32::consts::PI * count.max(1) as f32)).sqrt();
    covering(0.05, points).max(covering(0.03, occupied_cells).min(3.0)).clamp(1.0, 5.0)
}

/// Maps points to a frame with equal scales on both axes. Points outside of the view are moved to the edge.
fn places(points: &[[f32; 2]], view: &View, frame: Rect) -> Vec<(f32, f32)> {
    const PADDING: f32 = 14.0;
    let bounds = view.bounds;
    let spans = bounds.map(|[low, high]| (high - low).max(f32::MIN_POSITIVE));
    let room = (frame.width - 2.0 * PADDING, frame.height - 2.0 * PADDING);
    let scale = (room.0 / spans[0]).min(room.1 / spans[1]);
    let scale = if scale.is_finite() { scale } else { 0.0 };
    let middle = bounds.map(|[low, high]| low + (high - low) / 2.0);
    let centre = (frame.left + frame.width / 2.0, frame.top + frame.height / 2.0);
    let reach = (frame.width / 2.0 - PADDING / 2.0, frame.height / 2.0 - PADDING / 2.0);
    let place = |[x, y]: &[f32; 2]| {
        let (right, up) = ((x - middle[0]) * scale, (y - middle[1]) * scale);
        (centre.0 + right.clamp(-reach.0, reach.0), centre.1 - up.clamp(-reach.1, reach.1))
    };
    points.iter().map(place).collect()
}

/// Draws points in layers, with one path per layer and style.
fn draw_points(canvas: &mut Canvas, places: &[(f32, f32)], labels: &PointStyles, radius: f32, opacity: f32) {
    let layers = LAYERS.min(places.len().div_ceil(200).max(1));
    let mut paths = vec![String::new(); layers * labels.styles.len()];
    for (row, place) in places.iter().enumerate() {
        let style = labels.rows.as_ref().map_or(0, |rows| usize::from(rows[row]));
        let layer = pseudo_random(row) % layers;
        outline(&mut paths[layer * labels.styles.len() + style], labels.styles[style].1, *place, radius);
    }
    for (index, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let colour = &labels.styles[index % labels.styles.len()].0;
        canvas.element(&format!(r#"<path fill="{colour}" fill-opacity="{opacity}" d="{path}"/>"#));
    }
}

/// Returns a deterministic pseudo-random number of a row, so that adjacent rows are in different layers.
fn pseudo_random(row: usize) -> usize {
    ((row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
}

/// The legend to the right of the panels.
struct Legend {
    width: f32,
    column_width: f32,
    per_column: usize,
    counts: Vec<usize>,
}

impl Legend {
    fn plan(figure: &Figure) -> Legend {
        match &figure.labels {
            Labels::None => Legend { width: 0.0, column_width: 0.0, per_column: 0, counts: Vec::new() },
            Labels::Continuous { .. } => {
                Legend { width: 110.0, column_width: 110.0, per_column: 0, counts: Vec::new() }
            }
            Labels::Categories { column, names, codes } => {
                let mut counts = vec![0; names.len()];
                codes.iter().for_each(|code| counts[*code as usize] += 1);
                let style = TextStyle::plain(13.0);
                let widest =
                    names.iter().map(|name| width(name, style)).fold(width(column, TextStyle::bold(13.0)), f32::max);
                let column_width = (widest + 80.0).clamp(110.0, LEGEND_COLUMN_MAX);
                let per_column = ((PANELS_HEIGHT - 26.0) / ENTRY) as usize;
                let columns = names.len().div_ceil(per_column).max(1);
                Legend { width: columns as f32 * column_width, column_width, per_column, counts }
            }
        }
    }

    fn draw(&self, canvas: &mut Canvas, figure: &Figure, left: f32, top: f32) {
        let head = TextStyle::bold(13.0);
        match &figure.labels {
            Labels::None => {}
            Labels::Categories { column, names, .. } => {
                canvas.line((left, top + 12.0), &fit(column, head, self.width), head);
                for (code, name) in names.iter().enumerate() {
                    let x = left + (code / self.per_column) as f32 * self.column_width;
                    let y = top + 26.0 + (code % self.per_column) as f32 * ENTRY + ENTRY / 2.0;
                    let (colour, shape) = palette::style_of(code);
                    let mut path = String::new();
                    outline(&mut path, shape, (x + 7.0, y), 5.5);
                    canvas.element(&format!(r#"<path fill="{}" d="{path}"/>"#, PALETTE[colour].0));
                    // In a column of its own, so that a misestimated name width cannot make it overlap.
                    let count = thousands(self.counts[code] as u64);
                    let style = TextStyle { anchor: Anchor::End, ..TextStyle::faint(11.0) };
                    let right = self.column_width - LEGEND_GAP;
                    canvas.line((x + right, y + 4.5), &count, style);
                    let text = TextStyle::plain(13.0);
                    let name = fit(name, text, right - 20.0 - 10.0 - width(&count, style));
                    canvas.line((x + 20.0, y + 4.5), &name, text);
                }
            }
            Labels::Continuous { column, values, others } => {
                canvas.line((left, top + 12.0), &fit(column, head, self.width), head);
                colour_bar(canvas, values, others, Rect { left, top: top + 28.0, width: 20.0, height: 260.0 });
            }
        }
    }
}

/// Draws the colour bar, lowest value at the bottom, and the counts of other values below.
fn colour_bar(canvas: &mut Canvas, values: &[f64], others: &[(String, usize)], bar: Rect) {
    canvas.define_ramp(palette::VISIBLE_RAMP.0);
    let Rect { left, top, width, height } = bar;
    canvas.element(&format!(
        r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="url(#ramp)" stroke="{FRAME}"/>"#
    ));
    for (share, tick) in ColourRange::of(values).ticks() {
        let y = top + height * (1.0 - share as f32);
        canvas.element(&format!(r#"<path d="M{:.1} {y:.1}h4" stroke="{FRAME}"/>"#, left + width));
        canvas.line((left + width + 8.0, y + 4.0), &tick, TextStyle::plain(12.0));
    }
    for (place, (name, count)) in others.iter().enumerate() {
        let (y, colour) = (top + height + 22.0 + place as f32 * ENTRY, palette::MISSING.0);
        canvas.element(&format!(r#"<circle cx="{}" cy="{y}" r="6" fill="{colour}"/>"#, left + 10.0));
        let text = format!("{name} {}", thousands(*count as u64));
        canvas.line((left + width + 8.0, y + 4.0), &text, TextStyle::plain(12.0));
    }
}

/// Writes a table; returns the next free y.
fn draw_table(canvas: &mut Canvas, table: &Table, top: f32) -> f32 {
    let (head, text) = (TextStyle::bold(12.0), TextStyle::plain(12.0));
    let cell_width = |row: &[String], column: usize, style| row.get(column).map_or(0.0, |cell| width(cell, style));
    let widths: Vec<f32> = (0..table.columns.len())
        .map(|column| {
            let rows = table.rows.iter().map(|row| cell_width(row, column, text));
            rows.fold(cell_width(&table.columns, column, head), f32::max).min(340.0)
        })
        .collect();
    let room = WIDTH - 2.0 * MARGIN;
    let between = ((room - widths.iter().sum::<f32>()) / widths.len().max(1) as f32).clamp(8.0, 36.0);
    let mut y = top;
    let write = |canvas: &mut Canvas, cells: &[String], y: f32, style: TextStyle<'static>| {
        let mut x = MARGIN;
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // The first column has names; numbers are right-aligned.
            let (x_at, anchor) = if column == 0 { (x, Anchor::Start) } else { (x + width, Anchor::End) };
            canvas.line((x_at, y), &fit(cell, style, *width + 0.5), TextStyle { anchor, ..style });
            x += width + between;
        }
    };
    write(canvas, &table.columns, y, head);
    y += 8.0;
    canvas.element(&format!(r#"<path d="M{MARGIN} {y}H{:.1}" stroke="{FRAME}"/>"#, WIDTH - MARGIN));
    for row in &table.rows {
        y += 18.0;
        write(canvas, row, y, text);
    }
    y + MARGIN
}

#[cfg(test)]
mod tests {
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
    fn panels_are_arranged_in_a_square_grid() {
        let grid = |panels| (Grid::of(panels).columns, Grid::of(panels).rows);
        assert_eq!([grid(1), grid(2), grid(3), grid(4), grid(5)], [(1, 1), (2, 1), (2, 2), (2, 2), (3, 2)]);
    }

    #[test]
    fn both_axes_have_the_same_scale() {
        let frame = Rect { left: 0.0, top: 0.0, width: 228.0, height: 128.0 };
        let points = [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        let places = places(&points, &view::view(&points), frame);
        assert_eq!(places, [(64.0, 114.0), (164.0, 14.0), (64.0, 14.0)]);
    }

    #[test]
    fn identical_points_are_centred() {
        let frame = Rect { left: 10.0, top: 0.0, width: 100.0, height: 80.0 };
        let points = [[3.0, 4.0], [3.0, 4.0]];
        assert_eq!(places(&points, &view::view(&points), frame), [(60.0, 40.0), (60.0, 40.0)]);
    }
}
