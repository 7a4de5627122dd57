//! Soft areas behind points: where a label has many of the points, in two steps of its colour.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::draw::{Canvas, Rect};
use super::points::Dot;

/// Fewer points have no areas: they would be guesses.
const POINTS_MIN: usize = 300;
/// Side of the cells in which points are counted.
const CELL: f32 = 4.0;
/// Cells on each side over which counts are averaged, three times.
const BLUR: usize = 2;
/// Outlines are at these shares of the density that a label has at its own points on average.
const LEVELS: [f32; 2] = [0.3, 0.9];
/// Opacity of the area within an outline.
const OPACITY: f32 = 0.08;

/// Counts on a grid over a frame.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    columns: usize,
    rows: usize,
    values: Vec<f32>,
}

impl Field {
    fn new(frame: Rect) -> Field {
        // An empty rim closes every outline.
        let (columns, rows) = ((frame.width / CELL) as usize + 3, (frame.height / CELL) as usize + 3);
        Field { columns, rows, values: vec![0.0; columns * rows] }
    }

    fn cell(&self, (x, y): (f32, f32), frame: Rect) -> usize {
        let column = ((x - frame.left) / CELL) as usize + 1;
        let row = ((y - frame.top) / CELL) as usize + 1;
        row.min(self.rows - 2) * self.columns + column.min(self.columns - 2)
    }

    /// Averages over neighbours, three times along each axis, which is nearly a Gaussian.
    fn blurred(mut self) -> Field {
        let (columns, rows) = (self.columns, self.rows);
        for _ in 0..3 {
            let along = |values: &[f32], count: usize, length: usize, step: usize, next: usize| {
                let mut averaged = vec![0.0; values.len()];
                for line in 0..count {
                    let at = |index: usize| line * next + index * step;
                    for index in 0..length {
                        let near = index.saturating_sub(BLUR)..(index + BLUR + 1).min(length);
                        averaged[at(index)] = near.map(|other| values[at(other)]).sum::<f32>() / (2 * BLUR + 1) as f32;
                    }
                }
                averaged
            };
            self.values = along(&self.values, rows, columns, 1, columns);
            self.values = along(&self.values, columns, rows, columns, 1);
        }
        for index in 0..columns * rows {
            let (row, column) = (index / columns, index % columns);
            if row == 0 || column == 0 || row == rows - 1 || column == columns - 1 {
                self.values[index] = 0.0;
            }
        }
        self
    }

    /// Returns the outlines of the areas above a level, in cells, as closed lines.
    fn outlines(&self, level: f32) -> Vec<Vec<(f32, f32)>> {
        // The outline crosses an edge between a cell inside and one outside, named by the cell inside and the direction.
        let inside = |column: usize, row: usize| self.values[row * self.columns + column] > level;
        let mut next: BTreeMap<Edge, Edge> = BTreeMap::new();
        for row in 0..self.rows - 1 {
            for column in 0..self.columns - 1 {
                let corners = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)];
                let above = corners.map(|(column, row)| inside(column, row));
                // Around the square, the line enters where inside becomes outside and leaves at the previous change.
                for side in 0..4 {
                    if above[side] && !above[(side + 1) % 4] {
                        let back = (1..4).find(|back| !above[(side + 4 - back) % 4]).unwrap_or(3);
                        let first = (side + 4 - back + 1) % 4;
                        let enters = Edge { inside: corners[side], outside: corners[(side + 1) % 4] };
                        let leaves = Edge { inside: corners[first], outside: corners[(first + 3) % 4] };
                        next.insert(enters, leaves);
                    }
                }
            }
        }
        let mut outlines = Vec::new();
        while let Some((first, mut edge)) = next.pop_first() {
            let mut outline = vec![self.crossing(first, level)];
            while edge != first {
                outline.push(self.crossing(edge, level));
                let Some(after) = next.remove(&edge) else { break };
                edge = after;
            }
            outlines.push(outline);
        }
        outlines
    }

    /// Returns where the field has the level between two cells.
    fn crossing(&self, Edge { inside, outside }: Edge, level: f32) -> (f32, f32) {
        let value = |(column, row): (usize, usize)| self.values[row * self.columns + column];
        let share = (value(inside) - level) / (value(inside) - value(outside)).max(f32::MIN_POSITIVE);
        let between = |from: usize, to: usize| from as f32 + (to as f32 - from as f32) * share.clamp(0.0, 1.0);
        (between(inside.0, outside.0), between(inside.1, outside.1))
    }
}

/// Two neighbouring cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    inside: (usize, usize),
    outside: (usize, usize),
}

/// Draws the areas of the first `colours.len()` styles, or of all points together if there is one colour for all.
pub(crate) fn draw(canvas: &mut Canvas, dots: &[Dot], colours: &[&str], frame: Rect) {
    if dots.len() < POINTS_MIN || colours.is_empty() {
        return;
    }
    let mut fields = vec![Field::new(frame); colours.len()];
    let mut all = Field::new(frame);
    let style_of = |dot: &Dot| if colours.len() == 1 { 0 } else { dot.style };
    for dot in dots {
        let cell = all.cell(dot.at, frame);
        all.values[cell] += 1.0;
        if let Some(field) = fields.get_mut(style_of(dot)) {
            field.values[cell] += 1.0;
        }
    }
    let all = all.blurred();
    for (style, (field, colour)) in fields.into_iter().zip(colours).enumerate() {
        let mut field = field.blurred();
        // Where others are as many, the area is not the label's.
        for (own, all) in field.values.iter_mut().zip(&all.values) {
            *own *= *own / all.max(f32::MIN_POSITIVE);
        }
        let own = dots.iter().filter(|dot| style_of(dot) == style);
        let (sum, count) = own.fold((0.0f64, 0u32), |(sum, count), dot| {
            (sum + f64::from(field.values[field.cell(dot.at, frame)]), count + 1)
        });
        let usual = (sum / f64::from(count.max(1))) as f32;
        for level in LEVELS {
            let path = path(&field.outlines(usual * level), frame);
            if !path.is_empty() {
                canvas.element(&format!(
                    r#"<path d="{path}" fill="{colour}" fill-opacity="{OPACITY}" fill-rule="evenodd"/>"#
                ));
            }
        }
    }
}

fn path(outlines: &[Vec<(f32, f32)>], frame: Rect) -> String {
    let mut path = String::new();
    for outline in outlines {
        for (index, (column, row)) in outline.iter().enumerate() {
            let place = |cell: f32, start: f32, length: f32| (start + (cell - 0.5) * CELL).clamp(start, start + length);
            let (x, y) = (place(*column, frame.left, frame.width), place(*row, frame.top, frame.height));
            write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' }).ok();
        }
        path.push('Z');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(rows: &[&str]) -> Field {
        let values = rows.iter().flat_map(|row| row.chars().map(|c| if c == '#' { 1.0 } else { 0.0 })).collect();
        Field { columns: rows[0].len(), rows: rows.len(), values }
    }

    #[test]
    fn an_area_has_one_closed_outline_between_its_cells_and_the_others() {
        let outlines = field(&["....", ".##.", "...."]).outlines(0.5);
        assert_eq!(outlines.len(), 1);
        let mut corners = outlines[0].clone();
        corners.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(corners, [(0.5, 1.0), (1.0, 0.5), (1.0, 1.5), (2.0, 0.5), (2.0, 1.5), (2.5, 1.0)]);
    }

    #[test]
    fn holes_and_corners_that_touch_have_outlines_of_their_own() {
        assert_eq!(field(&[".....", ".###.", ".#.#.", ".###.", "....."]).outlines(0.5).len(), 2);
        assert_eq!(field(&["....", ".#..", "..#.", "...."]).outlines(0.5).len(), 2);
        assert!(field(&["...", "...", "..."]).outlines(0.5).is_empty());
    }
}
