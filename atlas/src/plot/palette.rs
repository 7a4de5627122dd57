//! Colours and shapes: twelve colours that the colour-blind tell apart, two greys, and a ramp for numbers.
//!
//! The first six colours are Okabe and Ito's without yellow and black, which are invisible on a white page or among black
//! letters; the others were searched for the largest distance to all with and without colour blindness. Dark pages have
//! their own shades. The ramp is viridis without the end that is invisible on the page.

/// Number of colours for labels, largest label first.
pub(crate) const COLOURS: usize = 12;
pub(crate) const SHAPES: usize = 8;
/// Index of the grey of labels beyond the colours.
const REST: usize = COLOURS;
/// Index of the grey of rows without a value, and of values that are too rare for a label of their own.
const NO_LABEL: usize = COLOURS + 1;
/// Up to this number of points, all are large enough for shapes to be seen.
const SHAPE_POINTS_MAX: usize = 1_500;

/// Each colour on a light page and on a dark one.
pub(crate) const PALETTE: [(&str, &str); COLOURS + 2] = [
    ("#0072B2", "#177BDE"),
    ("#E69F00", "#FFDA3C"),
    ("#009E73", "#08BF7E"),
    ("#CC79A7", "#DC91B3"),
    ("#D55E00", "#F96600"),
    ("#56B4E9", "#B4EFFF"),
    ("#7B3F00", "#8E6141"),
    ("#BD0F83", "#BD0FBD"),
    ("#5B13EC", "#9292E8"),
    ("#2A6F41", "#4CF0BA"),
    ("#BA4CF0", "#B9B946"),
    ("#08085E", "#9FC7DB"),
    ("#B2B2B2", "#7C828C"),
    MISSING,
];

/// Colour of points without a value, on a light page and on a dark one.
pub(crate) const MISSING: (&str, &str) = ("#CFCFCF", "#50555D");

/// Colour of points that do not match a search, on a light page and on a dark one; distinct from the labels' grey.
pub(crate) const FAINT: (&str, &str) = ("#D4D4D4", "#3A3F47");

/// The part of viridis used on a light page and on a dark one.
pub(crate) const VISIBLE_RAMP: ([f64; 2], [f64; 2]) = ([0.0, 0.88], [0.2, 1.0]);

/// Viridis at nine equidistant values from 0 to 1.
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

/// The marker of a point.
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

/// All shapes in order of assignment.
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

/// The colour (an index of [`PALETTE`]) and the shape of each category. The first `named` have a colour each as far as there
/// are some; then the same again in other shapes where the points are large, and in grey where they are not. The others
/// have no value, and the faintest grey.
pub(crate) fn styles(categories: usize, named: usize, points: usize) -> Vec<(usize, Shape)> {
    let style = |code: usize| match code {
        code if code >= named => (NO_LABEL, Shape::Circle),
        code if code < COLOURS => (code, Shape::Circle),
        code if points <= SHAPE_POINTS_MAX => (code % COLOURS, SHAPE_ORDER[code / COLOURS % SHAPES]),
        _ => (REST, Shape::Circle),
    };
    (0..categories).map(style).collect()
}

/// Returns the colour of a number between 0 and 1, as `#rrggbb`.
pub(crate) fn ramp(value: f64) -> String {
    hex(viridis(value))
}

/// Returns a colour darkened until letters of it can be read on white.
pub(crate) fn ink(colour: &str) -> String {
    /// The contrast that the Web Content Accessibility Guidelines ask of letters.
    const CONTRAST: f64 = 4.5;
    let full = [1, 3, 5].map(|at| u8::from_str_radix(&colour[at..at + 2], 16).unwrap_or(0));
    let darkened = |step: u32| full.map(|channel| (f64::from(channel) * (1.0 - 0.05 * f64::from(step))).round() as u8);
    let found = (0..20).map(darkened).find(|colour| 1.05 / (luminance(*colour) + 0.05) >= CONTRAST);
    hex(found.unwrap_or([0; 3]))
}

/// Returns the relative luminance of a colour, from 0 to 1.
fn luminance(colour: [u8; 3]) -> f64 {
    let [r, g, b] = linear(colour);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn linear(colour: [u8; 3]) -> [f64; 3] {
    colour.map(|channel| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    })
}

/// Formats a colour as `#rrggbb`.
pub(crate) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Returns the colour of a number between 0 and 1 within a part of viridis.
pub(crate) fn visible_ramp(value: f64, [low, high]: [f64; 2]) -> [u8; 3] {
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
    fn few_points_have_shapes_and_many_only_colours_and_greys() {
        let distinct =
            |points| styles(40, 38, points).iter().map(|style| format!("{style:?}")).collect::<HashSet<String>>().len();
        assert_eq!(distinct(500), 38 + 1, "a style per name, and the faintest grey");
        assert_eq!(distinct(500_000), COLOURS + 2);
        assert_eq!(styles(3, 2, 9)[2], (NO_LABEL, Shape::Circle));
    }

    /// Minimum distance of two distinguishable colours of small points.
    const APART_MIN: f64 = 0.06;

    /// Linear light as perceived with each kind of colour blindness (Machado and others, 2009), and without.
    const SIGHTS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
    ];

    fn read(colour: &str) -> [u8; 3] {
        [1, 3, 5].map(|at| u8::from_str_radix(&colour[at..at + 2], 16).unwrap())
    }

    fn through(matrix: &[[f64; 3]; 3], from: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(from).map(|(weight, x)| weight * x).sum())
    }

    /// In Oklab, which is perceptually uniform.
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
    fn colours_are_distinguishable_with_colour_blindness() {
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
        let bright = |colour| luminance(colour) + 0.05;
        (bright(a) / bright(b)).max(bright(b) / bright(a))
    }

    #[test]
    fn letters_of_any_colour_can_be_read() {
        for (colour, _) in PALETTE {
            assert!(contrast(read(&ink(colour)), [255; 3]) >= 4.5, "{colour}");
        }
        assert_eq!(ink("#08085E"), "#08085e");
    }

    #[test]
    fn colours_contrast_with_the_page() {
        let (light, dark) = (read("#fcfcfc"), read("#191c21"));
        for (on_light, on_dark) in &PALETTE[..COLOURS] {
            assert!(contrast(read(on_light), light) > 2.0 && contrast(read(on_dark), dark) > 3.0);
        }
        assert!(contrast(read(MISSING.0), light) > 1.5 && contrast(read(MISSING.1), dark) > 1.5);
        for step in 0..=10 {
            let number = f64::from(step) / 10.0;
            assert!(contrast(visible_ramp(number, VISIBLE_RAMP.0), light) > 1.5, "{number}");
            assert!(contrast(visible_ramp(number, VISIBLE_RAMP.1), dark) > 1.5, "{number}");
        }
    }

    #[test]
    fn the_ramp_covers_viridis() {
        assert_eq!((ramp(0.0).as_str(), ramp(1.0).as_str()), ("#440154", "#fde725"));
        assert_eq!(ramp(-3.0), ramp(0.0));
        assert_eq!(ramp(0.5), "#21908d");
    }
}
