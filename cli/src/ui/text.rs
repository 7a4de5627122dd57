//! Numbers as people read them.

use std::time::Duration;

pub(crate) use atlas::thousands;

/// Formats how many rows were reused, as a part of a list that begins with the embedded ones; nothing where there are none.
pub(crate) fn reused(rows: u64) -> String {
    if rows == 0 { String::new() } else { format!(", {} reused", thousands(rows)) }
}

/// The width of a terminal that does not say it.
const COLUMNS_DEFAULT: usize = 80;

/// Returns the width of the terminal that messages are written to.
pub(super) fn columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS_DEFAULT } else { columns }
}

/// Formats a count with its noun: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Puts a text on one line of at most so many characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > most {
        true => line.chars().take(most - 1).chain(['…']).collect(),
        false => line,
    }
}

/// Formats how many rows are committed, of how many where that is known, and how many more are embedded.
pub(crate) fn rows_so_far(committed: u64, total: Option<u64>, in_flight: u64) -> String {
    let committed = match total {
        Some(total) => format!("{} of {}", thousands(committed), counted(total, "row")),
        None => format!("{} so far", counted(committed, "row")),
    };
    let more = format!("{committed}, {} more embedded but not committed yet", thousands(in_flight));
    if in_flight == 0 { committed } else { more }
}

/// Formats a rate: whole above ten, one digit after the point below.
pub(crate) fn speed(per_second: f64) -> String {
    if per_second >= 10.0 { thousands(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// Formats a duration in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats a size in bytes.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(rows_so_far(0, Some(9_000), 4_096), "0 of 9,000 rows, 4,096 more embedded but not committed yet");
        assert_eq!(rows_so_far(1, None, 0), "1 row so far");
        assert_eq!(speed(3.25), "3.2");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(duration(Duration::from_secs(3_725)), "1 h 2 min");
    }
}
