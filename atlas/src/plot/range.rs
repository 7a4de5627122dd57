//! The scale of a colour bar, and its ticks.

use super::{Quantity, time};

/// How numbers are spread over a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// Evenly.
    Linear,
    /// By their logarithms.
    Logarithmic,
    /// By their ranks.
    Quantiles,
}

/// Shares of a bar at some numbers, ascending; between them it is linear. Numbers outside have the colour of the nearest end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColourRange {
    stops: Vec<(f64, f64)>,
    quantity: Quantity,
    spread: Spread,
    /// The smallest and the largest number.
    ends: [f64; 2],
}

/// Number of stops of a scale that is not linear.
const STOPS: usize = 65;
/// Where the middle half of the rows is on less than this share of a bar, the bar is not linear.
const MIDDLE_HALF_MIN: f64 = 0.1;
/// Quantiles with fewer different values than this are no scale.
const QUANTILES_MIN: usize = 8;
/// Minimum distance of a tick from those at the ends.
const APART: f64 = 0.07;

impl ColourRange {
    /// Returns a scale from the minimum to the maximum; from 0 to 1 without numbers. An end farther from the central 96 %
    /// than their width is clipped to them, so that outliers do not reduce all other numbers to one colour. Where the middle
    /// half of the numbers would still be one, they are spread by logarithms or by ranks.
    pub(crate) fn of(values: &[f64], quantity: Quantity) -> ColourRange {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&least), Some(&largest)) = (sorted.first(), sorted.last()) else {
            return ColourRange {
                stops: vec![(0.0, 0.0), (1.0, 1.0)],
                quantity,
                spread: Spread::Linear,
                ends: [0.0, 1.0],
            };
        };
        let range = |stops, spread| ColourRange { stops, quantity, spread, ends: [least, largest] };
        let [low, high] = central(&sorted, |value| value);
        let linear = range(vec![(low, 0.0), (high, 1.0)], Spread::Linear);
        if quantity == Quantity::Time || linear.shows(&sorted) {
            return linear;
        }
        if least > 0.0 {
            let [low, high] = central(&sorted, f64::ln);
            let share = |stop: usize| stop as f64 / (STOPS - 1) as f64;
            let stops = (0..STOPS).map(|stop| (low * (high / low).powf(share(stop)), share(stop))).collect();
            let logarithmic = range(stops, Spread::Logarithmic);
            if logarithmic.shows(&sorted) {
                return logarithmic;
            }
        }
        let stops = quantiles(&sorted);
        if stops.len() < QUANTILES_MIN { linear } else { range(stops, Spread::Quantiles) }
    }

    /// Whether the middle half of these sorted numbers has different colours.
    fn shows(&self, sorted: &[f64]) -> bool {
        let quarter = sorted.len() / 4;
        self.share(sorted[sorted.len() - 1 - quarter]) - self.share(sorted[quarter]) >= MIDDLE_HALF_MIN
    }

    /// Returns the position of a number from 0 to 1.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let above = self.stops.partition_point(|stop| stop.0 <= value);
        if above == 0 || above == self.stops.len() {
            // A scale of a single number has all at its low end.
            let is_high = above > 0 && self.stops[0].0 < self.stops[above - 1].0;
            return if is_high { 1.0 } else { 0.0 };
        }
        let ((from, low), (to, high)) = (self.stops[above - 1], self.stops[above]);
        low + (high - low) * ((value - from) / (to - from))
    }

    /// Returns the name of a scale that is not linear.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self.spread {
            Spread::Linear => None,
            Spread::Logarithmic => Some("logarithmic scale"),
            Spread::Quantiles => Some("scale by quantiles"),
        }
    }

    /// Returns the ticks: position on the bar, and text. The minimum and the maximum are among them; at a clipped end they
    /// follow the number there.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = (self.stops[0].0, self.stops[self.stops.len() - 1].0);
        let width = high - low;
        if width <= 0.0 {
            return vec![(0.0, self.text(low, 0.0))];
        }
        let between: Vec<(f64, String)> = match (self.spread, self.quantity) {
            (Spread::Linear, Quantity::Number) => ticks(low, high),
            (_, Quantity::Time) => {
                let ticks = time::ticks(low, high);
                ticks.into_iter().map(|(at, text)| (self.share(at), text)).collect()
            }
            (Spread::Logarithmic, Quantity::Number) => {
                let ticks = powers(low, high);
                ticks.into_iter().map(|at| (self.share(at), significant(at))).collect()
            }
            (Spread::Quantiles, Quantity::Number) => {
                let quarter = |quarter: usize| {
                    let share = quarter as f64 / 4.0;
                    let above = self.stops.partition_point(|stop| stop.1 < share).clamp(1, self.stops.len() - 1);
                    let ((from, low), (to, high)) = (self.stops[above - 1], self.stops[above]);
                    (share, significant(from + (to - from) * (share - low) / (high - low)))
                };
                (1..4).map(quarter).collect()
            }
        };
        let is_between = |tick: &(f64, String)| (APART..=1.0 - APART).contains(&tick.0);
        let mut ticks = vec![(0.0, self.end("<", "min.", low, self.ends[0]))];
        ticks.extend(between.into_iter().filter(is_between));
        ticks.push((1.0, self.end(">", "max.", high, self.ends[1])));
        ticks
    }

    /// Returns the text at an end, which is clipped if there are numbers beyond.
    fn end(&self, beyond: &str, name: &str, shown: f64, found: f64) -> String {
        let width = self.stops[self.stops.len() - 1].0 - self.stops[0].0;
        if shown == found || self.spread != Spread::Linear && (shown - found).abs() < 1e-9 * found.abs() {
            return self.text(found, width);
        }
        format!("{beyond} {} ({name} {})", self.text(shown, width), self.text(found, width))
    }

    fn text(&self, value: f64, width: f64) -> String {
        match (self.quantity, self.spread) {
            (Quantity::Time, _) => time::format(value, width),
            (Quantity::Number, Spread::Linear) if width > 0.0 => without_zeros(format_number(value, width / 1e3)),
            (Quantity::Number, Spread::Linear | Spread::Logarithmic | Spread::Quantiles) => significant(value),
        }
    }
}

/// Returns the first and last of sorted numbers; an end that is far from the central 96 % is that of these.
fn central(sorted: &[f64], spread: impl Fn(f64) -> f64) -> [f64; 2] {
    let (least, largest) = (sorted[0], sorted[sorted.len() - 1]);
    let cut = sorted.len() / 50;
    let (low, high) = (sorted[cut], sorted[sorted.len() - 1 - cut]);
    let width = spread(high) - spread(low);
    let is_far = |rest: f64| width > 0.0 && rest > width;
    [
        if is_far(spread(low) - spread(least)) { low } else { least },
        if is_far(spread(largest) - spread(high)) { high } else { largest },
    ]
}

/// Returns quantiles and their shares; a number that has several has their mean.
fn quantiles(sorted: &[f64]) -> Vec<(f64, f64)> {
    let mut stops: Vec<(f64, f64)> = Vec::new();
    let mut first = 0.0;
    for stop in 0..STOPS {
        let share = stop as f64 / (STOPS - 1) as f64;
        let value = sorted[(share * (sorted.len() - 1) as f64).round() as usize];
        match stops.last_mut() {
            Some(last) if last.0 == value => last.1 = (first + share) / 2.0,
            _ => {
                first = share;
                stops.push((value, share));
            }
        }
    }
    // The ends are those of the bar.
    let last = stops.len() - 1;
    stops[0].1 = 0.0;
    stops[last].1 = 1.0;
    stops
}

/// Returns the powers of ten in a range, with their halves and fifths where they are few.
fn powers(low: f64, high: f64) -> Vec<f64> {
    const MOST: usize = 6;
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = |times: &[f64]| -> Vec<f64> {
        let found = (first..=last).flat_map(|power| times.iter().map(move |times| times * 10f64.powi(power)));
        found.filter(|at| (low..=high).contains(at)).collect()
    };
    let (fine, coarse) = (all(&[1.0, 2.0, 5.0]), all(&[1.0]));
    match fine.len() <= MOST {
        true => fine,
        false => {
            let step = coarse.len().div_ceil(MOST).max(1);
            coarse.into_iter().step_by(step).collect()
        }
    }
}

/// Formats a number with three digits.
fn significant(number: f64) -> String {
    without_zeros(format_number(number, number.abs() / 100.0))
}

/// Drops zeros at the end of the digits after the point.
fn without_zeros(text: String) -> String {
    let is_short = text.contains('.') && !text.contains('e');
    if is_short { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Returns evenly spaced round numbers in a range: position, and text.
fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const PARTS: f64 = 5.0;
    let rough = (high - low) / PARTS;
    if rough <= 0.0 || !rough.is_finite() {
        return Vec::new();
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

    fn range(values: &[f64]) -> ColourRange {
        ColourRange::of(values, Quantity::Number)
    }

    #[test]
    fn the_bar_prints_its_minimum_and_maximum() {
        let values: Vec<f64> = (0..1_000).map(f64::from).collect();
        let found = range(&values);
        assert_eq!((found.stops.as_slice(), found.note()), ([(0.0, 0.0), (999.0, 1.0)].as_slice(), None));
        let texts: Vec<String> = found.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["0", "200", "400", "600", "800", "999"]);
        let texts: Vec<String> = range(&[0.123, 0.5, 2.05]).ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["0.123", "0.5", "1.0", "1.5", "2.05"]);
    }

    #[test]
    fn outliers_do_not_stretch_the_colour_range() {
        let mut values: Vec<f64> = (0..1_000).map(f64::from).collect();
        values[3] = 50_000.0;
        values[4] = f64::NAN;
        let found = range(&values);
        assert_eq!([found.share(50_000.0), found.share(-1.0)], [1.0, 0.0]);
        let ticks = found.ticks();
        assert_eq!(ticks.last().unwrap(), &(1.0, "> 981 (max. 50000)".to_owned()));
        assert!(ticks[ticks.len() - 2].0 < 0.93);
        let down: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(range(&down).ticks()[0], (0.0, "< -981 (min. -50000)".to_owned()));
    }

    #[test]
    fn skewed_numbers_are_spread_by_logarithms_or_ranks() {
        let powers: Vec<f64> = (0..1_000).map(|at| 10f64.powf(f64::from(at) / 100.0)).collect();
        let found = range(&powers);
        assert_eq!(found.note(), Some("logarithmic scale"));
        assert!((found.share(1e5) - 0.5).abs() < 0.01);
        let texts: Vec<String> = found.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["1", "100", "10000", "1000000", "100000000", "9.77e9"]);
        let with_zeros: Vec<f64> = powers.iter().map(|value| value - 1.0).collect();
        let found = range(&with_zeros);
        assert_eq!(found.note(), Some("scale by quantiles"));
        assert!((found.share(with_zeros[250]) - 0.25).abs() < 0.01);
        assert_eq!(found.ticks().len(), 5);
        assert!(found.stops.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    }

    #[test]
    fn few_or_no_numbers_have_a_range() {
        assert_eq!(range(&[f64::NAN]).stops, [(0.0, 0.0), (1.0, 1.0)]);
        assert_eq!((range(&[7.0; 90]).share(7.0), range(&[7.0; 90]).ticks().len()), (0.0, 1));
        assert_eq!(range(&[12.25; 9]).ticks()[0].1, "12.2");
        assert_eq!(range(&[1.0, 2.0, 1e9]).share(1e9), 1.0);
        let mut mostly_zero = vec![0.0; 1_000];
        mostly_zero[0] = 9.0;
        assert_eq!((range(&mostly_zero).share(9.0), range(&mostly_zero).note()), (1.0, None));
        assert!(range(&[-f64::MAX, 0.0, f64::MAX]).ticks().len() < 20);
    }

    #[test]
    fn times_have_ticks_at_round_dates_between_the_first_and_the_last() {
        let days: Vec<f64> = (0..2_000).map(|day| f64::from(day) * 86_400.0).collect();
        let found = ColourRange::of(&days, Quantity::Time);
        let texts: Vec<String> = found.ticks().into_iter().map(|tick| tick.1).collect();
        assert_eq!(texts, ["1970-01-01", "1972", "1974", "1975-06-23"]);
    }

    #[test]
    fn ticks_are_round_numbers() {
        let format_number = |low, high| ticks(low, high).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(format_number(-39.33, 39.83), ["-20", "0", "20"]);
        assert_eq!(format_number(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(format_number(0.1, 0.3), ["0.10", "0.15", "0.20", "0.25", "0.30"]);
        assert_eq!(format_number(1_987.0, 2_024.0), ["1990", "2000", "2010", "2020"]);
        assert_eq!(format_number(2e9, 4e9), ["2.00e9", "2.50e9", "3.00e9", "3.50e9", "4.00e9"]);
        assert_eq!(ticks(0.0, 40.0)[1], (0.25, "10".to_owned()));
        assert!(ticks(-f64::MAX, f64::MAX).len() < 20);
    }
}
