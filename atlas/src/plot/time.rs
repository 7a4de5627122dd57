//! Dates and times as ISO 8601 writes them: read to seconds since 1970, and ticks at round ones. In UTC; a text without a
//! zone is taken to be.

const DAY: i64 = 86_400;

/// Reads `2024-05`, `2024-05-31`, or a date with `T` or a space and `12:30`, seconds, a fraction, and `Z` or an offset.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let (year, month) = (number(0, 4)?, number(5, 7).filter(|_| byte(4) == Some(b'-'))?);
    let day = if text.len() > 7 { number(8, 10).filter(|_| byte(7) == Some(b'-'))? } else { 1 };
    let date = Date { year, month, day };
    let days = date.days();
    if Date::of_days(days) != date {
        return None;
    }
    let seconds = if text.len() > 10 { time_of_day(text.get(10..)?)? } else { 0.0 };
    Some((days * DAY) as f64 + seconds)
}

/// Reads what follows a date, to seconds.
fn time_of_day(text: &str) -> Option<f64> {
    let time = text.strip_prefix(['T', 't', ' '])?.trim_start();
    let zone = time.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(time.len());
    let (clock, zone) = (&time[..zone], time[zone..].trim());
    let mut parts = clock.split(':');
    let whole = |part: Option<&str>, most: i64| {
        let part = part.filter(|part| part.len() == 2)?;
        part.parse::<i64>().ok().filter(|value| (0..=most).contains(value))
    };
    let (hours, minutes) = (whole(parts.next(), 24)?, whole(parts.next(), 59)?);
    let seconds: f64 = match parts.next() {
        Some(seconds) if seconds.len() >= 2 => seconds.parse().ok().filter(|seconds| (0.0..61.0).contains(seconds))?,
        Some(_) => return None,
        None => 0.0,
    };
    if parts.next().is_some() {
        return None;
    }
    Some((hours * 3_600 + minutes * 60) as f64 + seconds - offset(zone)? as f64)
}

/// Reads the offset of a zone from UTC, to seconds.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z" | "UTC") {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let is_clock = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = digits.parse().ok().filter(|_| is_clock)?;
    Some(sign * (number / 100 * 3_600 + number % 100 * 60))
}

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Returns the days since 1970 (H. Hinnant, `days_from_civil`).
    fn days(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn of_days(days: i64) -> Date {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        Date { year: year + era * 400 + i64::from(month <= 2), month, day }
    }
}

/// A distance between ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Months(i64),
    Seconds(i64),
}

const STEPS: [Step; 27] = [
    Step::Seconds(1),
    Step::Seconds(5),
    Step::Seconds(15),
    Step::Seconds(30),
    Step::Seconds(60),
    Step::Seconds(300),
    Step::Seconds(900),
    Step::Seconds(1_800),
    Step::Seconds(3_600),
    Step::Seconds(3 * 3_600),
    Step::Seconds(6 * 3_600),
    Step::Seconds(12 * 3_600),
    Step::Seconds(DAY),
    Step::Seconds(2 * DAY),
    Step::Seconds(7 * DAY),
    Step::Seconds(14 * DAY),
    Step::Months(1),
    Step::Months(3),
    Step::Months(6),
    Step::Months(12),
    Step::Months(24),
    Step::Months(60),
    Step::Months(120),
    Step::Months(240),
    Step::Months(600),
    Step::Months(1_200),
    Step::Months(12_000),
];

/// Returns a few round instants between two, with their texts.
pub(crate) fn ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    const PARTS: f64 = 5.0;
    let seconds = |step: Step| match step {
        Step::Months(count) => count as f64 * 30.44 * DAY as f64,
        Step::Seconds(count) => count as f64,
    };
    let step = STEPS.into_iter().find(|step| seconds(*step) * PARTS >= high - low).unwrap_or(Step::Months(12_000));
    let mut found = Vec::new();
    match step {
        Step::Seconds(step) => {
            let first = (low / step as f64).ceil() as i64;
            let last = (high / step as f64).floor() as i64;
            for tick in first..=last {
                let at = (tick * step) as f64;
                found.push((at, if step < DAY { clock(at) } else { date(at) }));
            }
        }
        Step::Months(step) => {
            let months = |at: f64| {
                let date = Date::of_days((at / DAY as f64).floor() as i64);
                date.year * 12 + date.month - 1
            };
            for tick in months(low).div_euclid(step)..=months(high).div_euclid(step) {
                let (year, month) = ((tick * step).div_euclid(12), (tick * step).rem_euclid(12) + 1);
                let at = (Date { year, month, day: 1 }.days() * DAY) as f64;
                let text = if step >= 12 { format!("{year}") } else { format!("{year}-{month:02}") };
                if (low..=high).contains(&at) {
                    found.push((at, text));
                }
            }
        }
    }
    found
}

/// Formats an instant of a range: as a date, or with the time if the range is of a few days.
pub(crate) fn format(at: f64, range: f64) -> String {
    if range > 3.0 * DAY as f64 { date(at) } else { format!("{} {}", date(at), clock(at)) }
}

fn date(at: f64) -> String {
    let Date { year, month, day } = Date::of_days((at / DAY as f64).floor() as i64);
    format!("{year}-{month:02}-{day:02}")
}

fn clock(at: f64) -> String {
    let seconds = at.rem_euclid(DAY as f64) as i64;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if seconds == 0 { format!("{hours:02}:{minutes:02}") } else { format!("{hours:02}:{minutes:02}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_are_read() {
        for (text, seconds) in [
            ("1970-01-01", 0.0),
            ("1969-12-31", -86_400.0),
            ("2000-02-29", 951_782_400.0),
            ("2023-11-14T22:13:20Z", 1_700_000_000.0),
            ("2023-11-14 22:13:20.5", 1_700_000_000.5),
            ("2023-11-15T03:43:20+05:30", 1_700_000_000.0),
            ("2023-11-14T17:13:20-0500", 1_700_000_000.0),
            (" 2023-11-14T22:13 ", 1_699_999_980.0),
            ("2023-11", 1_698_796_800.0),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "2023",
            "2023-13-01",
            "2023-02-29",
            "2023-1-1",
            "12-11-2023",
            "2023-11-14T",
            "2023-11-14T5:00",
            "2023-11-14T22:13:20 Europe/Madrid",
            "2023-11-14x",
            "２０２３-11-14",
            "2023-11-1é",
            "0000-00-00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-800_000..800_000).step_by(97) {
            assert_eq!(Date::of_days(days).days(), days);
        }
    }

    #[test]
    fn ticks_are_at_round_dates() {
        let texts = |from: &str, to: &str| {
            let ticks = ticks(parse(from).unwrap(), parse(to).unwrap());
            ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>()
        };
        assert_eq!(texts("2015-03-02", "2024-01-01"), ["2016", "2018", "2020", "2022", "2024"]);
        assert_eq!(texts("2023-11-20", "2024-04-01"), ["2023-12", "2024-01", "2024-02", "2024-03", "2024-04"]);
        assert_eq!(
            texts("2024-02-27", "2024-03-02"),
            ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02"]
        );
        assert_eq!(texts("2024-01-01T10:10", "2024-01-01T12:00"), ["10:30", "11:00", "11:30", "12:00"]);
        assert!(ticks(-1e13, 1e13).len() < 1_000);
        assert_eq!(format(0.0, 1e9), "1970-01-01");
        assert_eq!(format(60.0, 100.0), "1970-01-01 00:01");
    }
}
