//! Interprets a column of values for colouring: categories with a colour each, or numbers on a colour bar.

use std::collections::HashMap;

use super::{Labels, Quantity, time};

/// Maximum values with an entry of their own, as many as a legend has room for; rarer ones share one.
const NAMES_MAX: usize = 64;
/// Columns with more distinct numbers or dates than this are continuous.
const DISTINCT_NUMBERS_MAX: usize = 20;
/// Name for a row without a value.
pub(crate) const NO_VALUE: &str = "(none)";

impl Labels {
    /// Reads a column: many distinct numbers, dates or times (as ISO 8601 writes them) become a colour bar, everything else
    /// categories by descending frequency. `None` and empty values are `(none)`.
    pub fn of_column(column: &str, values: &[Option<String>]) -> Labels {
        let read = Numbers::read(values, Quantity::Number).or_else(|_| Numbers::read(values, Quantity::Time));
        match read.ok().filter(Numbers::are_many) {
            Some(numbers) => numbers.into_labels(column),
            None => categories(column, values),
        }
    }

    /// Reads a column as categories, even if numeric.
    pub fn categories_of(column: &str, values: &[Option<String>]) -> Labels {
        categories(column, values)
    }

    /// Reads a column as numbers, or as dates, however few.
    ///
    /// # Errors
    /// The first row with something else.
    pub fn numbers_of(column: &str, values: &[Option<String>]) -> Result<Labels, usize> {
        let numbers = Numbers::read(values, Quantity::Number);
        let read = numbers.or_else(|row| Numbers::read(values, Quantity::Time).map_err(|other| row.max(other)));
        Ok(read?.into_labels(column))
    }

    /// Returns the name of the column, if there is one.
    pub fn column(&self) -> Option<&str> {
        match self {
            Labels::None => None,
            Labels::Categories { column, .. } | Labels::Continuous { column, .. } => Some(column),
        }
    }
}

/// A column of numbers while it is read.
#[derive(Debug)]
struct Numbers {
    quantity: Quantity,
    /// NaN for rows without a finite number.
    values: Vec<f64>,
    /// Counts of rows without a finite number, by kind.
    others: [usize; OTHERS.len()],
}

/// The kinds of values without a position on a colour bar.
const OTHERS: [&str; 4] = [NO_VALUE, "NaN", "∞", "−∞"];

impl Numbers {
    /// Reads a column of nothing but numbers or nothing but dates.
    ///
    /// # Errors
    /// The first row with something else.
    fn read(values: &[Option<String>], quantity: Quantity) -> Result<Numbers, usize> {
        let mut numbers = Numbers { quantity, values: Vec::with_capacity(values.len()), others: [0; OTHERS.len()] };
        for (row, value) in values.iter().enumerate() {
            numbers.push(value.as_deref()).ok_or(row)?;
        }
        Ok(numbers)
    }

    /// Whether there are many different numbers.
    fn are_many(&self) -> bool {
        let mut distinct: Vec<f64> = Vec::new();
        let mut numbers = self.values.iter().filter(|number| !number.is_nan());
        numbers.any(|number| {
            if !distinct.contains(number) {
                distinct.push(*number);
            }
            distinct.len() > DISTINCT_NUMBERS_MAX
        })
    }

    /// Adds a row and returns its number, NaN if not finite; `None` for anything but a number.
    fn push(&mut self, value: Option<&str>) -> Option<f64> {
        let text = value.unwrap_or_default().trim();
        let number: f64 = match self.quantity {
            _ if text.is_empty() => f64::NAN,
            Quantity::Number => text.parse().ok()?,
            Quantity::Time => time::parse(text)?,
        };
        let other = match number {
            _ if text.is_empty() => Some(0),
            number if number.is_nan() => Some(1),
            f64::INFINITY => Some(2),
            f64::NEG_INFINITY => Some(3),
            _ => None,
        };
        if let Some(other) = other {
            self.others[other] += 1;
        }
        let placed = if other.is_some() { f64::NAN } else { number };
        self.values.push(placed);
        Some(placed)
    }

    fn into_labels(self, column: &str) -> Labels {
        let others = OTHERS.iter().zip(self.others).filter(|(_, count)| *count > 0);
        let others = others.map(|(name, count)| ((*name).to_owned(), count)).collect();
        Labels::Continuous { column: column.to_owned(), quantity: self.quantity, values: self.values, others }
    }
}

/// Counts and orders the categories: values by frequency, then the rarest together, then rows without a value.
fn categories(column: &str, values: &[Option<String>]) -> Labels {
    let value_of = |value: &'_ Option<String>| value.as_deref().filter(|value| !value.is_empty()).map(str::to_owned);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for value in values.iter().filter_map(value_of) {
        *counts.entry(value).or_default() += 1;
    }
    let mut names: Vec<(String, usize)> = counts.into_iter().collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let named = if names.len() > NAMES_MAX { NAMES_MAX - 1 } else { names.len() };
    let others = names.len() - named;
    let code_of: HashMap<String, u32> =
        names.iter().enumerate().map(|(code, (name, _))| (name.clone(), code.min(named) as u32)).collect();
    let mut names: Vec<String> = names.into_iter().take(named).map(|(name, _)| name).collect();
    if others > 0 {
        names.push(format!("({others} other values)"));
    }
    let no_value = names.len() as u32;
    let codes: Vec<u32> = values.iter().map(|value| value_of(value).map_or(no_value, |name| code_of[&name])).collect();
    if codes.contains(&no_value) {
        names.push(NO_VALUE.to_owned());
    }
    Labels::Categories { column: column.to_owned(), names, codes, named }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    #[test]
    fn categories_are_ordered_by_frequency() {
        let mut values = column(&["b", "a", "b", "c", ""]);
        values.push(None);
        let Labels::Categories { names, codes, named, .. } = Labels::of_column("label", &values) else {
            panic!("names")
        };
        assert_eq!(names, ["b", "a", "c", NO_VALUE]);
        assert_eq!((codes, named), (vec![0, 1, 0, 2, 3, 3], 3));
    }

    #[test]
    fn many_distinct_numbers_are_continuous_and_few_categories() {
        let many: Vec<String> = (0..50).map(|x| format!("{}", f64::from(x) / 7.0)).collect();
        let mut many: Vec<Option<String>> = many.into_iter().map(Some).collect();
        many.push(None);
        let Labels::Continuous { values, .. } = Labels::of_column("score", &many) else { panic!("a bar") };
        assert!(values[50].is_nan());
        let few = column(&["1", "2", "1", "2"]);
        assert!(matches!(Labels::of_column("stars", &few), Labels::Categories { .. }));
    }

    #[test]
    fn dates_are_a_time_scale() {
        let mut days: Vec<Option<String>> =
            (0..90).map(|day| Some(format!("2024-{:02}-{:02}T10:00:00Z", day / 28 + 1, day % 28 + 1))).collect();
        days.push(None);
        let Labels::Continuous { values, quantity, others, .. } = Labels::of_column("day", &days) else {
            panic!("a bar")
        };
        assert_eq!((quantity, values[1] - values[0]), (Quantity::Time, 86_400.0));
        assert_eq!(others, [(NO_VALUE.to_owned(), 1)]);
        let few = column(&["2024-01-01", "2024-01-02"]);
        assert!(matches!(Labels::of_column("day", &few), Labels::Categories { .. }));
        assert!(matches!(Labels::numbers_of("day", &few), Ok(Labels::Continuous { quantity: Quantity::Time, .. })));
        days.push(Some("yesterday".to_owned()));
        assert!(matches!(Labels::of_column("day", &days), Labels::Categories { .. }));
        assert_eq!(Labels::numbers_of("day", &days), Err(91));
    }

    #[test]
    fn non_finite_numbers_are_counted_apart_from_the_bar() {
        let mut values: Vec<Option<String>> = (0..30).map(|x| Some(format!("{x}.5"))).collect();
        values.extend(["NaN", "inf", "-inf", "nan", ""].map(|text| Some(text.to_owned())));
        values.push(None);
        let read = [Labels::of_column("score", &values), Labels::numbers_of("score", &values).unwrap()];
        for labels in read {
            let Labels::Continuous { values, others, .. } = labels else { panic!("a bar") };
            assert_eq!(values.iter().filter(|value| value.is_nan()).count(), 6);
            let found: Vec<(&str, usize)> = others.iter().map(|(name, count)| (name.as_str(), *count)).collect();
            assert_eq!(found, [(NO_VALUE, 2), ("NaN", 2), ("∞", 1), ("−∞", 1)]);
        }
        values.push(Some("x".to_owned()));
        assert_eq!(Labels::numbers_of("score", &values), Err(36));
    }

    #[test]
    fn the_rarest_categories_share_one_entry() {
        let mut values: Vec<Option<String>> = (0..100).map(|x| Some(format!("name {x:03}"))).collect();
        values.push(None);
        let Labels::Categories { names, codes, named, .. } = Labels::of_column("label", &values) else {
            panic!("names")
        };
        assert_eq!(named, NAMES_MAX - 1);
        assert_eq!(names[named..], [format!("({} other values)", 100 - named), NO_VALUE.to_owned()]);
        assert_eq!([codes[99] as usize, codes[100] as usize], [named, named + 1]);
    }
}
