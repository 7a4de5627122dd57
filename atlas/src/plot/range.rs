//! From where to where numbers are coloured, and what the bar beside them says.

/// Which numbers have colours of their own; those beyond have the colour of the nearest end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    /// The number with the first colour.
    pub(crate) low: f64,
    /// The number with the last one.
    pub(crate) high: f64,
    /// Whether there are lower and higher numbers.
    beyond: [bool; 2],
}

impl Range {
    /// Returns the least and the largest number that is there; 0 and 1 where there is none. An end that is farther from the
    /// middle 96 % of the numbers than these are wide is cut to them, lest a few far ones leave all others one colour.
    pub(crate) fn of(values: &[f64]) -> Range {
        let mut there: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        there.sort_unstable_by(f64::total_cmp);
        let (Some(&least), Some(&largest)) = (there.first(), there.last()) else {
            return Range { low: 0.0, high: 1.0, beyond: [false; 2] };
        };
        let cut = there.len() / 50;
        let (low, high) = (there[cut], there[there.len() - 1 - cut]);
        let width = high - low;
        let beyond = [low - least, largest - high].map(|rest| width > 0.0 && rest > width);
        Range { low: if beyond[0] { low } else { least }, high: if beyond[1] { high } else { largest }, beyond }
    }

    /// Returns where a number lies, from 0, the low end, to 1.
    pub(crate) fn share(self, value: f64) -> f64 {
        let width = self.high - self.low;
        if width > 0.0 { ((value - self.low) / width).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Returns what stands beside the bar: as a share of its height, and spelled. An end beyond which there are numbers is
    /// marked.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        /// Nothing else is written so near to a marked end.
        const APART: f64 = 0.07;
        let mut ticks = ticks(self.low, self.high);
        let text = |number| spelled(number, (self.high - self.low) / 100.0);
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

/// Returns round numbers between two, evenly apart: as a share of the way, and spelled.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const PARTS: f64 = 5.0;
    let rough = (high - low) / PARTS;
    if rough <= 0.0 || !rough.is_finite() {
        let text = spelled(low, low.abs() / 1e3);
        let is_short = text.contains('.') && !text.contains('e');
        let text = if is_short { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
        return vec![(0.0, text)];
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    // A hair of slack: 0.3 / 0.1 is a little less than 3.
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first) as usize;
    let tick = |index: usize| {
        let number = (first + index as f64) * step;
        (((number - low) / (high - low)).clamp(0.0, 1.0), spelled(number, step))
    };
    (0..=count).map(tick).collect()
}

/// Spells a number with as many digits as numbers so far apart need.
fn spelled(number: f64, apart: f64) -> String {
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
    fn a_few_far_numbers_do_not_take_all_colours() {
        let mut values: Vec<f64> = (0..1_000).map(f64::from).collect();
        assert_eq!(Range::of(&values), Range { low: 0.0, high: 999.0, beyond: [false; 2] });
        values[3] = 50_000.0;
        values[4] = f64::NAN;
        let range = Range::of(&values);
        assert_eq!((range.low, range.beyond), (0.0, [false, true]));
        assert!(range.high > 900.0 && range.high < 1_000.0);
        assert_eq!([range.share(50_000.0), range.share(-1.0)], [1.0, 0.0]);
        let ticks = range.ticks();
        assert_eq!(ticks.last().unwrap(), &(1.0, "> 981".to_owned()));
        assert!(ticks[ticks.len() - 2].0 < 0.93);
        let down: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(Range::of(&down).ticks()[0], (0.0, "< -981".to_owned()));
    }

    #[test]
    fn few_numbers_and_none_have_a_range() {
        assert_eq!(Range::of(&[f64::NAN]), Range { low: 0.0, high: 1.0, beyond: [false; 2] });
        assert_eq!(Range::of(&[7.0; 90]).share(7.0), 0.0);
        assert_eq!(Range::of(&[1.0, 2.0, 1e9]), Range { low: 1.0, high: 1e9, beyond: [false; 2] });
        let mut mostly_zero = vec![0.0; 1_000];
        mostly_zero[0] = 9.0;
        assert_eq!(Range::of(&mostly_zero).high, 9.0);
    }

    #[test]
    fn ticks_are_round_numbers() {
        let spelled = |low, high| ticks(low, high).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(spelled(-39.33, 39.83), ["-20", "0", "20"]);
        assert_eq!(spelled(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(spelled(0.1, 0.3), ["0.10", "0.15", "0.20", "0.25", "0.30"]);
        assert_eq!(spelled(1_987.0, 2_024.0), ["1990", "2000", "2010", "2020"]);
        assert_eq!(spelled(2e9, 4e9), ["2.00e9", "2.50e9", "3.00e9", "3.50e9", "4.00e9"]);
        assert_eq!(spelled(7.0, 7.0), ["7"]);
        assert_eq!(spelled(12.25, 12.25), ["12.25"]);
        assert_eq!(spelled(0.0, 0.0), ["0"]);
        assert_eq!(ticks(0.0, 40.0)[1], (0.25, "10".to_owned()));
        assert!(ticks(-f64::MAX, f64::MAX).len() < 20);
    }
}
