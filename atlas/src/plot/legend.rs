//! The legend: categories in balanced columns, or a colour bar.

use super::draw::{Anchor, Canvas, Rect, TextStyle, fit, outline, width};
use super::palette::{self, PALETTE};
use super::panel::FRAME;
use super::range::ColourRange;
use super::{Labels, names};
use crate::thousands;

/// Height of an entry.
const ENTRY: f32 = 22.0;
/// Height of the headline.
const HEAD: f32 = 26.0;
/// Maximum and minimum width of a column.
const COLUMN_WIDTHS: [f32; 2] = [110.0, 270.0];
/// Columns with cut names are at least this wide.
const NARROW_COLUMN_MIN: f32 = 150.0;
/// Space between columns.
const COLUMN_GAP: f32 = 16.0;
/// Size of letters.
const SIZE: f32 = super::layout::FONT_UNITS;
/// Width of a mark with the space behind it, and of the space before a count.
const MARK: f32 = 20.0;
const COUNT_SPACE: f32 = 10.0;
const COUNT_SIZE: f32 = 11.0;
/// The line below the headline.
const NOTE_SIZE: f32 = 11.0;
const NOTE_HEIGHT: f32 = 16.0;
/// Size of the colour bar.
const BAR: (f32, f32) = (20.0, 260.0);

/// A planned legend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Legend {
    pub(crate) width: f32,
    pub(crate) height: f32,
    column_width: f32,
    per_column: usize,
}

impl Legend {
    /// Plans a legend that is at most this high, as narrow as possible.
    pub(crate) fn of_height(labels: &Labels, most: f32) -> Legend {
        match labels {
            Labels::None => Legend { width: 0.0, height: 0.0, column_width: 0.0, per_column: 0 },
            Labels::Continuous { column, quantity, values, others } => {
                let text = TextStyle::plain(12.0);
                let range = ColourRange::of(values, *quantity);
                let note = range.note().map_or(0.0, |note| width(note, TextStyle::faint(NOTE_SIZE)));
                let ticks = range.ticks().into_iter().map(|(_, tick)| width(&tick, text));
                let counts = others.iter().map(|(name, count)| width(&other(name, *count), text));
                let widest = BAR.0 + 12.0 + ticks.chain(counts).fold(0.0, f32::max);
                let wide = widest.max(note).max(width(column, TextStyle::bold(SIZE)).min(COLUMN_WIDTHS[1]));
                let around = around_bar(others.len());
                let height = around + BAR.1.min((most - around).max(60.0));
                Legend { width: wide, height, column_width: wide + COLUMN_GAP, per_column: 0 }
            }
            Labels::Categories { names, .. } => {
                let per_column = (((most - HEAD) / ENTRY) as usize).max(1);
                Legend::of_columns(labels, names.len().div_ceil(per_column))
            }
        }
    }

    /// Plans a legend that is at most this wide, as low as possible.
    pub(crate) fn of_width(labels: &Labels, most: f32) -> Legend {
        match labels {
            Labels::None | Labels::Continuous { .. } => Legend::of_height(labels, f32::INFINITY),
            Labels::Categories { .. } => {
                let columns = (most + COLUMN_GAP) / column_width(labels);
                Legend::of_columns(labels, columns as usize)
            }
        }
    }

    /// Makes a legend as narrow as this, if its names are still to be read then.
    pub(crate) fn narrowed(self, most: f32) -> Option<Legend> {
        let columns = self.columns() as f32;
        let column_width = self.column_width.min((most + COLUMN_GAP) / columns);
        let is_readable = column_width >= self.column_width.min(NARROW_COLUMN_MIN);
        is_readable.then_some(Legend { width: columns * column_width - COLUMN_GAP, column_width, ..self })
    }

    /// Makes a legend as low as this: entries without room are counted in the last one.
    pub(crate) fn cut(self, most: f32) -> Legend {
        if self.per_column == 0 || self.height <= most {
            return self;
        }
        let per_column = (((most - HEAD) / ENTRY) as usize).max(1);
        Legend { height: HEAD + per_column as f32 * ENTRY, per_column, ..self }
    }

    /// As [`cut`](Self::cut), or no legend at all where two entries have no room: names on the map say as much.
    pub(crate) fn cut_or_none(self, most: f32) -> Legend {
        match most < HEAD + 2.0 * ENTRY {
            true => Legend { width: 0.0, height: 0.0, column_width: 0.0, per_column: 0 },
            false => self.cut(most),
        }
    }

    fn columns(&self) -> usize {
        ((self.width + COLUMN_GAP) / self.column_width.max(1.0)).round().max(1.0) as usize
    }

    /// Spreads the entries evenly over at most so many columns.
    fn of_columns(labels: &Labels, columns: usize) -> Legend {
        let Labels::Categories { names, .. } = labels else { return Legend::of_height(labels, 0.0) };
        let per_column = names.len().div_ceil(columns.max(1)).max(1);
        let columns = names.len().div_ceil(per_column).max(1) as f32;
        let column_width = column_width(labels);
        Legend {
            width: columns * column_width - COLUMN_GAP,
            height: HEAD + per_column.min(names.len()) as f32 * ENTRY,
            column_width,
            per_column,
        }
    }

    pub(crate) fn draw(&self, canvas: &mut Canvas, labels: &Labels, (left, top): (f32, f32)) {
        if self.width <= 0.0 {
            return;
        }
        let head = TextStyle::bold(SIZE);
        if let Some(column) = labels.column() {
            canvas.line((left, top + 12.0), &fit(column, head, self.width), head);
        }
        match labels {
            Labels::None => {}
            Labels::Categories { .. } => self.draw_entries(canvas, labels, (left, top + HEAD)),
            Labels::Continuous { values, quantity, others, .. } => {
                let range = ColourRange::of(values, *quantity);
                let note = range.note().unwrap_or_default();
                canvas.line((left, top + 12.0 + NOTE_HEIGHT), note, TextStyle::faint(NOTE_SIZE));
                let top = top + HEAD + if note.is_empty() { 2.0 } else { NOTE_HEIGHT };
                let height = self.height - around_bar(others.len());
                draw_bar(canvas, &range, others, Rect { left, top, width: BAR.0, height });
            }
        }
    }

    fn draw_entries(&self, canvas: &mut Canvas, labels: &Labels, (left, top): (f32, f32)) {
        let Labels::Categories { names, codes, named, .. } = labels else { return };
        let names = &names::visible(names);
        let counts = counts(labels);
        let (text, number) =
            (TextStyle::plain(SIZE), TextStyle { anchor: Anchor::End, ..TextStyle::faint(COUNT_SIZE) });
        // Counts are in a column of their own, so that a misestimated width of a name cannot make it overlap.
        let right = self.column_width - COLUMN_GAP;
        let widest = counts.iter().map(|count| width(&thousands(*count), number)).fold(0.0, f32::max);
        let fitted = names::fit_all(names, text, right - MARK - COUNT_SPACE - widest);
        let styles = palette::styles(names.len(), *named, codes.len());
        let room = self.per_column * self.columns();
        let shown = if names.len() > room { room - 1 } else { names.len() };
        for (code, ((name, count), (colour, shape))) in fitted.iter().zip(counts).zip(styles).enumerate().take(shown) {
            let x = left + (code / self.per_column) as f32 * self.column_width;
            let y = top + (code % self.per_column) as f32 * ENTRY + ENTRY / 2.0;
            let mut path = String::new();
            outline(&mut path, shape, (x + 7.0, y), 5.5);
            canvas.element(&format!(r#"<path fill="{}" d="{path}"/>"#, PALETTE[colour].0));
            canvas.line((x + right, y + 4.5), &thousands(count), number);
            canvas.line((x + MARK, y + 4.5), name, text);
        }
        if shown < names.len() {
            let (x, y) = (left + (self.columns() - 1) as f32 * self.column_width, top + self.per_column as f32 * ENTRY);
            let more = fit(&format!("and {} more", names.len() - shown), text, right - MARK);
            canvas.line((x + MARK, y - ENTRY / 2.0 + 4.5), &more, TextStyle::faint(SIZE));
        }
    }
}

/// Returns the width of a column: a mark, a name, a count and the gap.
fn column_width(labels: &Labels) -> f32 {
    let Labels::Categories { column, names, .. } = labels else { return COLUMN_WIDTHS[0] };
    let widest = names::visible(names).iter().map(|name| width(name, TextStyle::plain(SIZE))).fold(0.0, f32::max);
    let counts = counts(labels).into_iter().map(|count| width(&thousands(count), TextStyle::faint(COUNT_SIZE)));
    let entry = MARK + widest + COUNT_SPACE + counts.fold(0.0, f32::max) + 1.0;
    (entry.max(width(column, TextStyle::bold(SIZE))) + COLUMN_GAP).clamp(COLUMN_WIDTHS[0], COLUMN_WIDTHS[1])
}

/// Returns the number of rows of each category.
fn counts(labels: &Labels) -> Vec<u64> {
    let Labels::Categories { names, codes, .. } = labels else { return Vec::new() };
    let mut counts = vec![0u64; names.len()];
    codes.iter().for_each(|code| counts[*code as usize] += 1);
    counts
}

/// Returns the height of what is above and below a bar, with so many entries for values that are not on it.
fn around_bar(others: usize) -> f32 {
    HEAD + NOTE_HEIGHT + 20.0 + others as f32 * ENTRY
}

fn other(name: &str, count: usize) -> String {
    format!("{name} {}", thousands(count as u64))
}

/// Draws the colour bar, lowest value at the bottom, and the counts of other values below.
fn draw_bar(canvas: &mut Canvas, range: &ColourRange, others: &[(String, usize)], bar: Rect) {
    canvas.ramp(bar, palette::VISIBLE_RAMP.0);
    let Rect { left, top, width, height } = bar;
    canvas.element(&format!(
        r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="{FRAME}"/>"#
    ));
    for (share, tick) in range.ticks() {
        let y = top + height * (1.0 - share as f32);
        canvas.element(&format!(r#"<path d="M{:.1} {y:.1}h4" stroke="{FRAME}"/>"#, left + width));
        canvas.line((left + width + 8.0, y + 4.0), &tick, TextStyle::plain(12.0));
    }
    for (place, (name, count)) in others.iter().enumerate() {
        let (y, colour) = (top + height + 22.0 + place as f32 * ENTRY, palette::MISSING.0);
        canvas.element(&format!(r#"<circle cx="{}" cy="{y}" r="6" fill="{colour}"/>"#, left + 10.0));
        canvas.line((left + width + 8.0, y + 4.0), &other(name, *count), TextStyle::plain(12.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize) -> Labels {
        let values: Vec<Option<String>> = (0..count).map(|name| Some(format!("name {name:03}"))).collect();
        Labels::categories_of("label", &values)
    }

    #[test]
    fn names_that_fit_are_whole() {
        let mut canvas = Canvas::default();
        let values: Vec<Option<String>> = (0..60_000).map(|row| Some(format!("label {}", row % 40))).collect();
        let labels = Labels::categories_of("label", &values);
        Legend::of_height(&labels, 500.0).draw(&mut canvas, &labels, (0.0, 0.0));
        assert!((0..40).all(|name| canvas.body.contains(&format!(">label {name}<"))), "{}", canvas.body);
    }

    #[test]
    fn entries_without_room_are_counted() {
        let labels = labels(37);
        let legend = Legend::of_width(&labels, 300.0).cut(HEAD + 5.5 * ENTRY);
        let mut canvas = Canvas::default();
        legend.draw(&mut canvas, &labels, (0.0, 0.0));
        assert_eq!((legend.height, canvas.body.matches("<path").count()), (HEAD + 5.0 * ENTRY, 9));
        assert!(canvas.body.contains(">and 28 more<"));
    }

    #[test]
    fn columns_are_balanced() {
        let legend = Legend::of_height(&labels(37), HEAD + 20.0 * ENTRY);
        assert_eq!((legend.per_column, legend.height), (19, HEAD + 19.0 * ENTRY));
        let wide = Legend::of_width(&labels(61), 1_000.0);
        assert!(wide.width <= 1_000.0 && wide.height < HEAD + 12.0 * ENTRY, "{wide:?}");
        assert_eq!(Legend::of_width(&labels(3), 2_000.0).height, HEAD + ENTRY);
        assert_eq!(Legend::of_height(&Labels::None, 100.0).width, 0.0);
        let narrow = Legend { column_width: 200.0, width: 384.0, ..legend };
        assert_eq!(narrow.clone().narrowed(330.0).map(|legend| legend.width), Some(330.0));
        assert_eq!(narrow.narrowed(200.0), None);
    }
}
