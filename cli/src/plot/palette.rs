//! Colours and shapes: eight colours that the colour-blind tell apart, times eight shapes; and a ramp for numbers.
//!
//! The colours are Okabe and Ito's, with the yellow and the black moved to where a white page shows them; a dark page
//! gets lighter ones of the same hues. The ramp is viridis.

/// How many colours there are.
pub(crate) const COLOURS: usize = 8;
/// How many shapes there are.
pub(crate) const SHAPES: usize = 8;

/// For each colour: on a light page, on a dark one.
pub(crate) const PALETTE: [(&str, &str); COLOURS] = [
    ("#0072B2", "#2F96DC"),
    ("#E69F00", "#F0A818"),
    ("#009E73", "#12B886"),
    ("#CC79A7", "#E493BF"),
    ("#D55E00", "#F2713A"),
    ("#56B4E9", "#8ACFF7"),
    ("#A39200", "#EDE26A"),
    ("#5A5A5A", "#B8B8B8"),
];

/// What a point without a number is painted with, on a light page and on a dark one.
pub(crate) const MISSING: (&str, &str) = ("#B0B0B0", "#6A6A6A");

/// Viridis at nine places from 0 to 1.
pub(crate) const RAMP: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

/// The outline of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A disc.
    Circle,
    /// A triangle on its side.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A square.
    Square,
    /// A triangle on its corner.
    TriangleDown,
    /// An upright cross.
    Plus,
    /// A cross that leans.
    Cross,
    /// A star of five points.
    Star,
}

/// All shapes, in the order in which they are given out.
pub(crate) const SHAPE_ORDER: [Shape; SHAPES] = [
    Shape::Circle,
    Shape::Triangle,
    Shape::Square,
    Shape::Cross,
    Shape::Diamond,
    Shape::Plus,
    Shape::TriangleDown,
    Shape::Star,
];

/// Returns colour and shape of the label with this code: eight colours as discs, then eight as triangles, and so on.
pub(crate) fn style_of(code: usize) -> (usize, Shape) {
    (code % COLOURS, SHAPE_ORDER[code / COLOURS % SHAPES])
}

/// Returns the colour of a number between 0 and 1, as `#rrggbb`.
pub(crate) fn ramp(value: f64) -> String {
    let place = value.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
    let low = (place as usize).min(RAMP.len() - 2);
    let share = place - low as f64;
    let [r, g, b] = [0, 1, 2].map(|channel| {
        let (from, to) = (f64::from(RAMP[low][channel]), f64::from(RAMP[low + 1][channel]));
        (from + (to - from) * share).round() as u8
    });
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_labels_look_the_same() {
        let styles: HashSet<String> = (0..COLOURS * SHAPES).map(|code| format!("{:?}", style_of(code))).collect();
        assert_eq!(styles.len(), COLOURS * SHAPES);
    }

    #[test]
    fn the_ramp_runs_from_end_to_end() {
        assert_eq!((ramp(0.0).as_str(), ramp(1.0).as_str()), ("#440154", "#fde725"));
        assert_eq!(ramp(-3.0), ramp(0.0));
        assert_eq!(ramp(0.5), "#21908d");
    }
}
