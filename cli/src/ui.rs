//! What people and scripts see: data on stdout, talk on stderr. The only file in the workspace that prints.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

pub(crate) use atlas::thousands;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// How often a line of progress is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the bar is redrawn.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How far back the rate looks: long enough to be calm, short enough to follow a change.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// The two streams, and how talkative to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    quiet: bool,
    draws: bool,
}

impl Ui {
    /// Looks at the terminal once. Logs would tear a bar apart, so `-v` asks for lines.
    pub(crate) fn new(quiet: bool, verbose: u8) -> Self {
        Self { quiet, draws: verbose == 0 && io::stderr().is_terminal() }
    }

    /// Says something on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            say(text.as_ref());
        }
    }

    /// Says something on stderr that must not be missed.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        say(&format!("warning: {}", text.as_ref()));
    }

    /// Writes one line of data to stdout.
    pub(crate) fn data(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// Writes a value to stdout as one line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.data(serde_json::to_string(value)?)
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Starts the display of a download of `total` bytes.
    pub(crate) fn transfer(&self, name: &str, total: u64) -> Transfer {
        Transfer::new(*self, name, total)
    }

    /// Starts a display of progress; `done` rows are there already and do not count for the rate.
    pub(crate) fn progress(&self, what: &'static str, done: Amount) -> Progress {
        Progress::new(*self, what, done)
    }
}

/// Writes a line to stderr. Nobody listening there is no reason to stop.
fn say(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Prints an error with its causes, and what to do about it.
pub(crate) fn report(error: &anyhow::Error, hints: &[String]) {
    say(&format!("error: {error:#}"));
    for hint in hints {
        say(&format!("hint: {hint}"));
    }
}

/// Sends logs to stderr, as `ENCAJE_LOG` or `-v` asks.
pub(crate) fn start_logging(verbose: u8) {
    let by_flag = match verbose {
        0 => "error",
        1 => "warn,encaje=info,coordinator=info,worker=info,engine=info,dataset=info",
        _ => "info,encaje=debug,coordinator=debug,worker=debug,engine=debug,dataset=debug",
    };
    let filter = EnvFilter::try_from_env("ENCAJE_LOG").unwrap_or_else(|_| EnvFilter::new(by_flag));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Rows, and tokens where they are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Rows.
    pub(crate) rows: u64,
    /// Tokens; 0 where nothing counts them.
    pub(crate) tokens: u64,
}

/// A bar on a terminal, a line every few seconds elsewhere, nothing under `--quiet`.
pub(crate) struct Progress {
    what: &'static str,
    shown: Shown,
    rate: Rate,
}

enum Shown {
    Nothing,
    Lines { next: Instant },
    Bar { bar: ProgressBar, next: Instant },
}

impl Progress {
    fn new(ui: Ui, what: &'static str, done: Amount) -> Self {
        let now = Instant::now();
        let shown = if ui.quiet {
            Shown::Nothing
        } else if ui.draws {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            Shown::Bar { bar, next: now }
        } else {
            Shown::Lines { next: now + LINE_EVERY }
        };
        Self { what, shown, rate: Rate::new(now, done) }
    }

    /// Takes a new reading. `total` is `None` while it is not known; `planned` rows are known of.
    pub(crate) fn update(&mut self, done: Amount, planned: u64, total: Option<u64>) {
        let now = Instant::now();
        self.rate.add(now, done);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { next } => {
                if now >= *next {
                    *next = now + LINE_EVERY;
                    say(&format!("{}: {}", self.what, describe(done, planned, total, &self.rate)));
                }
            }
            Shown::Bar { bar, next } => {
                if now >= *next {
                    *next = now + BAR_EVERY;
                    draw(bar, self.what, done, planned, total, &self.rate);
                }
            }
        }
    }

    /// Says something on stderr that must not be missed, beside the display.
    pub(crate) fn warn(&self, text: &str) {
        let text = format!("warning: {text}");
        match &self.shown {
            Shown::Bar { bar, .. } => bar.suspend(|| say(&text)),
            Shown::Nothing | Shown::Lines { .. } => say(&text),
        }
    }

    /// Takes the display away.
    pub(crate) fn finish(&mut self) {
        if let Shown::Bar { bar, .. } = &self.shown {
            bar.finish_and_clear();
        }
        self.shown = Shown::Nothing;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Draws the bar within one line of the terminal: what does not fit is cut off at its end.
fn draw(bar: &ProgressBar, what: &str, done: Amount, planned: u64, total: Option<u64>, rate: &Rate) {
    let template = match total {
        Some(_) => "[{bar:12}] {percent}% {wide_msg}",
        None => "{spinner} {prefix} {wide_msg}",
    };
    if bar.prefix().is_empty() || bar.length() != total {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what.to_owned());
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
    }
    bar.set_position(done.rows);
    let rows = format!("{} / {} rows", thousands(done.rows), thousands(total.unwrap_or(planned)));
    bar.set_message(
        [Some(rows), left(done, total, rate), pace(rate)].into_iter().flatten().collect::<Vec<_>>().join(", "),
    );
    bar.tick();
}

/// Says where things stand in one line.
fn describe(done: Amount, planned: u64, total: Option<u64>, rate: &Rate) -> String {
    let rows = match total {
        Some(total) => {
            let percent = (done.rows * 100).checked_div(total).unwrap_or(100);
            format!("{} of {} rows ({percent}%)", thousands(done.rows), thousands(total))
        }
        None => format!("{} of {} rows and counting", thousands(done.rows), thousands(planned)),
    };
    [Some(rows), pace(rate), left(done, total, rate)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Says how fast it goes, once that is known.
fn pace(rate: &Rate) -> Option<String> {
    let (rows, tokens) = rate.per_second()?;
    let tokens = if tokens > 0.0 { format!(", {} tokens/s", speed(tokens)) } else { String::new() };
    Some(format!("{} rows/s{tokens}", speed(rows)))
}

/// Says how long it will take, once that is known.
fn left(done: Amount, total: Option<u64>, rate: &Rate) -> Option<String> {
    let (rows, _) = rate.per_second()?;
    let total = total.filter(|total| *total > done.rows)?;
    let seconds = (total - done.rows) as f64 / rows;
    Some(format!("{} left", duration(Duration::from_secs_f64(seconds.min(1e9)))))
}

/// A download: a bar on a terminal; elsewhere a line at its start, every few seconds and at its end.
pub(crate) struct Transfer {
    name: String,
    total: u64,
    shown: Shown,
}

impl Transfer {
    fn new(ui: Ui, name: &str, total: u64) -> Self {
        let now = Instant::now();
        let shown = if ui.quiet {
            Shown::Nothing
        } else if ui.draws {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            Shown::Bar { bar, next: now }
        } else {
            say(&format!("downloading {name} ({})", size(total)));
            Shown::Lines { next: now + LINE_EVERY }
        };
        Self { name: name.to_owned(), total, shown }
    }

    /// Takes a new reading.
    pub(crate) fn update(&mut self, done: u64) {
        let now = Instant::now();
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { next } => {
                if now >= *next && done < self.total {
                    *next = now + LINE_EVERY;
                    say(&format!("downloading {}: {} of {}", self.name, size(done), size(self.total)));
                }
            }
            Shown::Bar { bar, .. } => bar.set_position(done),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Shown::Bar { bar, .. } = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// The speed over the last half minute.
struct Rate {
    readings: VecDeque<(Instant, Amount)>,
}

impl Rate {
    fn new(now: Instant, done: Amount) -> Self {
        Self { readings: VecDeque::from([(now, done)]) }
    }

    fn add(&mut self, now: Instant, done: Amount) {
        self.readings.push_back((now, done));
        while self.readings.len() > 2 && now.duration_since(self.readings[1].0) > RATE_WINDOW {
            self.readings.pop_front();
        }
    }

    /// Rows and tokens per second, once there is anything to say.
    fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        let rows = last.1.rows.saturating_sub(first.1.rows);
        let tokens = last.1.tokens.saturating_sub(first.1.tokens);
        (seconds > 0.5 && rows > 0).then(|| (rows as f64 / seconds, tokens as f64 / seconds))
    }
}

/// Spells a number of things with its noun: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Spells a rate: whole above ten, one digit after the point below.
pub(crate) fn speed(per_second: f64) -> String {
    if per_second >= 10.0 { thousands(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// Spells a duration in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Spells a size in bytes.
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
        assert_eq!(speed(3.25), "3.2");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(duration(Duration::from_secs(3_725)), "1 h 2 min");
    }

    #[test]
    fn the_rate_leaves_out_what_was_there_before() {
        let start = Instant::now();
        let mut rate = Rate::new(start, Amount { rows: 1_000, tokens: 0 });
        assert_eq!(rate.per_second(), None);
        rate.add(start + Duration::from_secs(10), Amount { rows: 1_500, tokens: 1_000 });
        assert_eq!(rate.per_second(), Some((50.0, 100.0)));
    }

    #[test]
    fn the_rate_forgets_what_is_long_ago() {
        let start = Instant::now();
        let mut rate = Rate::new(start, Amount::default());
        for second in 1..=100 {
            let rows = if second <= 50 { second * 100 } else { 5_000 + (second - 50) };
            rate.add(start + Duration::from_secs(second), Amount { rows, tokens: 0 });
        }
        assert_eq!(rate.per_second().map(|(rows, _)| rows.round()), Some(1.0));
    }

    #[test]
    fn progress_says_how_long_it_takes() {
        let start = Instant::now();
        let mut rate = Rate::new(start, Amount::default());
        rate.add(start + Duration::from_secs(10), Amount { rows: 500, tokens: 10_000 });
        let text = describe(Amount { rows: 500, tokens: 10_000 }, 2_000, Some(2_000), &rate);
        assert_eq!(text, "500 of 2,000 rows (25%), 50 rows/s, 1,000 tokens/s, 30 s left");
    }
}
