//! Heat maps of square matrices with values from -1 to 1: a cell per pair, names on both sides.

use super::draw::{Anchor, Canvas, Rect, TextStyle, fit, width};
use super::svg::heading;
use super::{PlotError, palette};

/// A matrix with names.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// The headline.
    pub title: String,
    /// A line below it.
    pub subtitle: String,
    /// One per row and column.
    pub names: Vec<String>,
    /// Row-major, `names.len()` squared.
    pub values: Vec<f32>,
}

/// Maximum names: more are unreadable at any printable size.
pub(crate) const NAMES_MAX: usize = 400;
const MARGIN: f32 = 32.0;
const NAME_WIDTH_MAX: f32 = 320.0;

/// Draws the matrix as an SVG document.
///
/// # Errors
/// When there are more than [`NAMES_MAX`] names, or the matrix is not square.
pub(crate) fn draw(map: &Heatmap) -> Result<String, PlotError> {
    let n = map.names.len();
    if n > NAMES_MAX {
        return Err(PlotError::Shape(format!("a heat map of {n} texts cannot be read; {NAMES_MAX} are the most")));
    }
    if map.values.len() != n * n {
        return Err(PlotError::Shape(format!("{} numbers for {n} names", map.values.len())));
    }
    let cell = (760.0 / n.max(1) as f32).clamp(14.0, 96.0);
    let style = TextStyle::plain((cell * 0.45).clamp(9.0, 13.0));
    let names: Vec<String> = map.names.iter().map(|name| fit(name, style, NAME_WIDTH_MAX)).collect();
    let widest = names.iter().map(|name| width(name, style)).fold(0.0, f32::max);
    let (side, bar) = (cell * n as f32, 90.0);
    // Column names are rotated, above the matrix.
    let page = (MARGIN + widest + 10.0 + side + bar + MARGIN).max(520.0);
    let mut canvas = Canvas::default();
    let top = heading(&mut canvas, &map.title, &map.subtitle, page) + widest * 0.71 + 12.0;
    let left = MARGIN + widest + 10.0;
    for (index, name) in names.iter().enumerate() {
        let middle = cell * (index as f32 + 0.5);
        let end = TextStyle { anchor: Anchor::End, ..style };
        canvas.line((left - 8.0, top + middle + style.size * 0.36), name, end);
        let mut rotated = Canvas::default();
        rotated.line((0.0, 0.0), name, style);
        let (x, y) = (left + middle, top - 8.0);
        canvas.element(&format!(r#"<g transform="translate({x:.1} {y:.1}) rotate(-45)">{}</g>"#, rotated.body));
    }
    let low = lowest(map);
    for (index, value) in map.values.iter().enumerate() {
        let (row, column) = (index / n, index % n);
        let (x, y) = (left + cell * column as f32, top + cell * row as f32);
        let share = f64::from((value - low) / (1.0 - low));
        let colour = if value.is_finite() { palette::ramp(share) } else { palette::MISSING.0.to_owned() };
        canvas
            .element(&format!(r#"<rect x="{x:.1}" y="{y:.1}" width="{cell:.2}" height="{cell:.2}" fill="{colour}"/>"#));
        if cell >= 30.0 {
            let ink = ink_on(share);
            let size = (cell * 0.3).clamp(9.0, 15.0);
            let style = TextStyle { anchor: Anchor::Middle, colour: ink, ..TextStyle::plain(size) };
            canvas.line((x + cell / 2.0, y + cell / 2.0 + size * 0.36), &format!("{value:.2}"), style);
        }
    }
    bar_beside(&mut canvas, left + side + 24.0, top, side.clamp(60.0, 300.0), low);
    Ok(canvas.finish(page + widest * 0.5 * f32::from(u8::from(n > 0)), top + side.max(90.0) + MARGIN, 1.0))
}

/// Returns the number with the first colour.
pub(crate) fn lowest(map: &Heatmap) -> f32 {
    let lowest = map.values.iter().copied().filter(|x| x.is_finite()).fold(1.0f32, f32::min);
    if lowest < 0.0 { -1.0 } else { 0.0 }
}

/// Returns a colour that can be read on one of the ramp: white only on its darker 45 %.
pub(crate) fn ink_on(share: f64) -> &'static str {
    if share < 0.45 { "#ffffff" } else { "#1a1a1a" }
}

fn bar_beside(canvas: &mut Canvas, left: f32, top: f32, height: f32, low: f32) {
    canvas.ramp(Rect { left, top, width: 14.0, height }, [0.0, 1.0]);
    for step in 0..=4 {
        let share = step as f32 / 4.0;
        let y = top + height * (1.0 - share) + 4.0;
        canvas.line((left + 20.0, y), &format!("{:.2}", low + (1.0 - low) * share), TextStyle::plain(11.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heatmap_has_a_cell_for_every_pair() {
        let names = vec!["uno".to_owned(), "<b>dos</b>".to_owned(), "🍲".to_owned()];
        let map = Heatmap { title: "t".into(), subtitle: String::new(), names, values: vec![0.5; 9] };
        let svg = draw(&map).unwrap();
        assert_eq!(svg.matches(">0.50</text>").count(), 9 + 1);
        assert!(svg.contains("&lt;b&gt;dos") && !svg.contains("<b>"));
        assert!(draw(&Heatmap { values: vec![0.5; 8], ..map }).is_err());
    }
}
