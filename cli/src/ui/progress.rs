//! Progress of rows: a bar on a terminal, a line every few seconds elsewhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::streams::{Message, MessageFormat, Ui, write_line};
use super::text::{duration, speed, thousands};

/// How often a line of progress is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the bar is redrawn.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How far back the rate looks: long enough to be calm, short enough to follow a change.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// Rows, and tokens where they are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Rows.
    pub(crate) rows: u64,
    /// Tokens; 0 where nothing counts them.
    pub(crate) tokens: u64,
}

/// A bar on a terminal, a line every few seconds elsewhere, nothing under `--quiet`; or messages for programs.
pub(crate) struct Progress {
    ui: Ui,
    what: &'static str,
    shown: Shown,
    rate: Rate,
}

enum Shown {
    Nothing,
    Lines { next: Instant },
    Bar { bar: ProgressBar, next: Instant },
    Json { next: Instant },
}

impl Progress {
    fn new(ui: Ui, what: &'static str, done: Amount) -> Self {
        let now = Instant::now();
        let shown = if ui.quiet {
            Shown::Nothing
        } else if ui.format == MessageFormat::Json {
            Shown::Json { next: now }
        } else if ui.draws {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            Shown::Bar { bar, next: now }
        } else {
            Shown::Lines { next: now + LINE_EVERY }
        };
        Self { ui, what, shown, rate: Rate::new(now, done) }
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
                    write_line(&format!("{}: {}", self.what, describe(done, planned, total, &self.rate)));
                }
            }
            Shown::Bar { bar, next } => {
                if now >= *next {
                    *next = now + BAR_EVERY;
                    draw(bar, self.what, done, planned, total, &self.rate);
                }
            }
            Shown::Json { next } => {
                if now >= *next || total == Some(done.rows) {
                    *next = now + BAR_EVERY;
                    let Amount { rows, tokens } = done;
                    Message::Progress { what: self.what, rows, tokens, planned, total }.write();
                }
            }
        }
    }

    /// Prints a warning on stderr without tearing the display.
    pub(crate) fn warn(&self, text: &str) {
        match &self.shown {
            Shown::Bar { bar, .. } => bar.suspend(|| self.ui.warn(text)),
            Shown::Nothing | Shown::Lines { .. } | Shown::Json { .. } => self.ui.warn(text),
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

/// Formats the progress in one line.
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

/// Formats the rate, once it is known.
fn pace(rate: &Rate) -> Option<String> {
    let (rows, tokens) = rate.per_second()?;
    let tokens = if tokens > 0.0 { format!(", {} tokens/s", speed(tokens)) } else { String::new() };
    Some(format!("{} rows/s{tokens}", speed(rows)))
}

/// Formats the remaining time, once it is known.
fn left(done: Amount, total: Option<u64>, rate: &Rate) -> Option<String> {
    let (rows, _) = rate.per_second()?;
    let total = total.filter(|total| *total > done.rows)?;
    let seconds = (total - done.rows) as f64 / rows;
    Some(format!("{} left", duration(Duration::from_secs_f64(seconds.min(1e9)))))
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

impl Ui {
    /// Starts a display of progress; `done` rows are there already and do not count for the rate.
    pub(crate) fn progress(&self, what: &'static str, done: Amount) -> Progress {
        Progress::new(*self, what, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
