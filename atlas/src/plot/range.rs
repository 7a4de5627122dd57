//! The value range of a colour bar, and its ticks.

/// The coloured range; numbers outside have the colour of the nearest end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ColourRange {
    /// The number with the first colour.
    pub(crate) low: f64,
    /// The number with the last one.
    pub(crate) high: f64,
    /// Whether there are lower and higher numbers.
    beyond: [bool; 2],
}

impl ColourRange {
    /// Returns the minimum and maximum; 0 and 1 without numbers. An end farther from the central 96 % than their width
    /// is clipped to them, so that outliers do not reduce all other numbers to one colour.
    pub(crate) fn of(values: &[f64]) -> ColourRange {
        let mut there: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        there.sort_unstable_by(f64::total_cmp);
        let (Some(&least), Some(&largest)) = (there.first(), there.last()) else {
            return ColourRange { low: 0.0, high: 1.0, beyond: [false; 2] };
        };
        let cut = there.len() / 50;
        let (low, high) = (there[cut], there[there.len() - 1 - cut]);
        let width = high - low;
        let beyond = [low - least, largest - high].map(|rest| width > 0.0 && rest > width);
        ColourRange { low: if beyond[0] { low } else { least }, high: if beyond[1] { high } else { largest }, beyond }
    }

    /// Returns the position of a number from 0 (low) to 1 (high).
    pub(crate) fn share(self, value: f64) -> f64 {
        let width = self.high - self.low;
        if width > 0.0 { ((value - self.low) / width).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Returns the ticks: position on the bar, and text. A clipped end is marked.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        /// Minimum distance to the tick of a clipped end.
        const APART: f64 = 0.07;
        let mut ticks = ticks(self.low, self.high);
        let text = |number| format_number(number, (self.high - self.low) / 100.0);
        if self.beyond[0] {
            ticks.retain(|tick| tick.0 > APART);
            ticks.insert(0, (0.0, format!("< {}", text(self.low))));
        }
        if self.beyond[1] {
            ticks.retain(|tick| tick.0 < 1.0 - APART);
            ticks.push((1.0, format!("> {}", text(self.high))));
        }
        ticks
    }
}

/// Returns evenly spaced round numbers in a range: position, and text.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const PARTS: f64 = 5.0;
    let rough = (high - low) / PARTS;
    if rough <= 0.0 || !rough.is_finite() {
        let text = format_number(low, low.abs() / 1e3);
        let is_short = text.contains('.') && !text.contains('e');
        let text = if is_short { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
        return vec![(0.0, text)];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    // Slack for rounding: 0.3 / 0.1 is slightly less than 3.
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first) as usize;
    let tick = |index: usize| {
        let number = (first + index as f64) * step;
        (((number - low) / (high - low)).clamp(0.0, 1.0), format_number(number, step))
    };
    (0..=count).map(tick).collect()
}

/// Formats a number with the digits needed for this spacing.
fn format_number(number: f64, apart: f64) -> String {
    let digits = -apart.log10().floor();
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e9 || digits > 6.0 => format!("{number:.2e}"),
        _ => format!("{number:.0$}", digits.clamp(0.0, 6.0) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_stretch_the_colour_range() {
        let mut values: Vec<f64> = (0..1_000).map(f64::from).collect();
        assert_eq!(ColourRange::of(&values), ColourRange { low: 0.0, high: 999.0, beyond: [false; 2] });
        values[3] = 50_000.0;
        values[4] = f64::NAN;
        let range = ColourRange::of(&values);
        assert_eq!((range.low, range.beyond), (0.0, [false, true]));
        assert!(range.high > 900.0 && range.high < 1_000.0);
        assert_eq!([range.share(50_000.0), range.share(-1.0)], [1.0, 0.0]);
        let ticks = range.ticks();
        assert_eq!(ticks.last().unwrap(), &(1.0, "> 981".to_owned()));
        assert!(ticks[ticks.len() - 2].0 < 0.93);
        let down: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(ColourRange::of(&down).ticks()[0], (0.0, "< -981".to_owned()));
    }

    #[test]
    fn few_or_no_numbers_have_a_range() {
        assert_eq!(ColourRange::of(&[f64::NAN]), ColourRange { low: 0.0, high: 1.0, beyond: [false; 2] });
        assert_eq!(ColourRange::of(&[7.0; 90]).share(7.0), 0.0);
        assert_eq!(ColourRange::of(&[1.0, 2.0, 1e9]), ColourRange { low: 1.0, high: 1e9, beyond: [false; 2] });
        let mut mostly_zero = vec![0.0; 1_000];
        mostly_zero[0] = 9.0;
        assert_eq!(ColourRange::of(&mostly_zero).high, 9.0);
    }

    #[test]
    fn ticks_are_round_numbers() {
        let format_number = |low, high| ticks(low, high).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(format_number(-39.33, 39.83), ["-20", "0", "20"]);
        assert_eq!(format_number(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(format_number(0.1, 0.3), ["0.10", "0.15", "0.20", "0.25", "0.30"]);
        assert_eq!(format_number(1_987.0, 2_024.0), ["1990", "2000", "2010", "2020"]);
        assert_eq!(format_number(2e9, 4e9), ["2.00e9", "2.50e9", "3.00e9", "3.50e9", "4.00e9"]);
        assert_eq!(format_number(7.0, 7.0), ["7"]);
        assert_eq!(format_number(12.25, 12.25), ["12.25"]);
        assert_eq!(format_number(0.0, 0.0), ["0"]);
        assert_eq!(ticks(0.0, 40.0)[1], (0.25, "10".to_owned()));
        assert!(ticks(-f64::MAX, f64::MAX).len() < 20);
    }
}
