//! Colours and shapes: eight colours that the colour-blind tell apart, times eight shapes; and a ramp for numbers.
//!
//! Six colours are Okabe and Ito's; brown and grey stand for their yellow and black, which a white page and black letters
//! swallow. A dark page gets colours of the same names that stand out there. The ramp is viridis, less its end that the
//! page swallows.

/// How many colours there are.
pub(crate) const COLOURS: usize = 8;
/// How many shapes there are.
pub(crate) const SHAPES: usize = 8;

/// For each colour: on a light page, on a dark one.
pub(crate) const PALETTE: [(&str, &str); COLOURS] = [
    ("#0072B2", "#177BDE"),
    ("#E69F00", "#FFDA3C"),
    ("#009E73", "#08BF7E"),
    ("#CC79A7", "#DC91B3"),
    ("#D55E00", "#F96600"),
    ("#56B4E9", "#B4EFFF"),
    ("#7B3F00", "#8E6141"),
    ("#5A5A5A", "#757575"),
];

/// What a point without a number is painted with, on a light page and on a dark one.
pub(crate) const MISSING: (&str, &str) = ("#B0B0B0", "#6A6A6A");

/// What points that a search did not find fade to, on a light page and on a dark one: no label's grey.
pub(crate) const FAINT: (&str, &str) = ("#D4D4D4", "#3A3F47");

/// Which part of viridis numbers are painted with: on a light page, on a dark one.
pub(crate) const SEEN: ([f64; 2], [f64; 2]) = ([0.0, 0.88], [0.2, 1.0]);

/// Viridis at nine places from 0 to 1.
const RAMP: [[u8; 3]; 9] = [
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
    spelled(viridis(value))
}

/// Spells a colour as `#rrggbb`.
pub(crate) fn spelled([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Returns the colour of a number between 0 and 1 in the part of viridis that a page shows.
pub(crate) fn seen(value: f64, [low, high]: [f64; 2]) -> [u8; 3] {
    viridis(low + (high - low) * value.clamp(0.0, 1.0))
}

fn viridis(value: f64) -> [u8; 3] {
    let place = value.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
    let low = (place as usize).min(RAMP.len() - 2);
    let share = place - low as f64;
    [0, 1, 2].map(|channel| {
        let (from, to) = (f64::from(RAMP[low][channel]), f64::from(RAMP[low + 1][channel]));
        (from + (to - from) * share).round() as u8
    })
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

    /// What two colours must differ by to be told apart where both are small.
    const APART_MIN: f64 = 0.06;

    /// What is left of a colour, in linear light, for those who lack a kind of cone (Machado and others, 2009), and for
    /// those who have all three.
    const SIGHTS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
    ];

    fn linear([r, g, b]: [u8; 3]) -> [f64; 3] {
        [r, g, b].map(|channel| {
            let share = f64::from(channel) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn read(colour: &str) -> [u8; 3] {
        [1, 3, 5].map(|at| u8::from_str_radix(&colour[at..at + 2], 16).unwrap())
    }

    fn through(matrix: &[[f64; 3]; 3], from: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(from).map(|(weight, x)| weight * x).sum())
    }

    /// In Oklab, where equal steps look about equally large.
    fn seen_as(colour: &str, sight: &[[f64; 3]; 3]) -> [f64; 3] {
        const CONES: [[f64; 3]; 3] =
            [[0.412_221, 0.536_333, 0.051_446], [0.211_903, 0.680_700, 0.107_397], [0.088_302, 0.281_719, 0.629_979]];
        const OPPONENTS: [[f64; 3]; 3] = [
            [0.210_454, 0.793_618, -0.004_072],
            [1.977_998, -2.428_592, 0.450_594],
            [0.025_904, 0.782_772, -0.808_676],
        ];
        let light = through(sight, linear(read(colour))).map(|x| x.clamp(0.0, 1.0));
        through(&OPPONENTS, through(&CONES, light).map(f64::cbrt))
    }

    #[test]
    fn the_colour_blind_tell_all_colours_apart() {
        for (page, colours) in [("light", PALETTE.map(|pair| pair.0)), ("dark", PALETTE.map(|pair| pair.1))] {
            for sight in &SIGHTS {
                for (index, one) in colours.iter().enumerate() {
                    for other in &colours[..index] {
                        let (a, b) = (seen_as(one, sight), seen_as(other, sight));
                        let apart = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                        assert!(apart > APART_MIN, "{page}: {one} and {other} are {apart:.3} apart");
                    }
                }
            }
        }
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let bright = |colour| {
            let [r, g, b] = linear(colour);
            0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
        };
        (bright(a) / bright(b)).max(bright(b) / bright(a))
    }

    #[test]
    fn no_page_swallows_a_colour() {
        let (light, dark) = (read("#fcfcfc"), read("#191c21"));
        for (on_light, on_dark) in PALETTE {
            assert!(contrast(read(on_light), light) > 2.0 && contrast(read(on_dark), dark) > 3.0);
        }
        for step in 0..=10 {
            let number = f64::from(step) / 10.0;
            assert!(contrast(seen(number, SEEN.0), light) > 1.5, "{number}");
            assert!(contrast(seen(number, SEEN.1), dark) > 1.5, "{number}");
        }
    }

    #[test]
    fn the_ramp_runs_from_end_to_end() {
        assert_eq!((ramp(0.0).as_str(), ramp(1.0).as_str()), ("#440154", "#fde725"));
        assert_eq!(ramp(-3.0), ramp(0.0));
        assert_eq!(ramp(0.5), "#21908d");
    }
}
