//! Progress of rows: a bar on a terminal, a line every few seconds elsewhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::eta::{Eta, Rise};
use super::streams::{Message, MessageFormat, Ui, write_line};
use super::text::{columns, duration, reused, speed, thousands};

/// How often a line of progress is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the bar is redrawn.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// A narrower terminal has no room for a bar.
const COLUMNS_OF_A_BAR: usize = 50;
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

/// How far something got.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// What is done.
    pub(crate) done: Amount,
    /// Rows known of.
    pub(crate) planned: u64,
    /// Rows in all; `None` while that is not known.
    pub(crate) total: Option<u64>,
    /// Tokens expected in all; `None` where that cannot be estimated.
    pub(crate) tokens_expected: Option<u64>,
    /// Rows of these whose vectors were taken from earlier outputs, as far as shards are committed.
    pub(crate) reused: u64,
    /// Whether it waits until somebody resumes it.
    pub(crate) paused: bool,
}

impl Reading {
    /// The work done and expected, in tokens where they are counted: rows differ in length.
    fn work(&self) -> (f64, Option<f64>) {
        match (self.done.tokens, self.tokens_expected) {
            (0, None) => (self.done.rows as f64, self.total.map(|total| total as f64)),
            (tokens, expected) => (tokens as f64, expected.map(|expected| expected as f64)),
        }
    }
}

/// A bar on a terminal, a line every few seconds elsewhere, nothing under `--quiet`; or messages for programs.
pub(crate) struct Progress {
    ui: Ui,
    what: &'static str,
    shown: Shown,
    pace: Pace,
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
        Self { ui, what, shown, pace: Pace::new(now, done) }
    }

    /// Takes a new reading of rows. `total` is `None` while it is not known; `planned` rows are known of.
    pub(crate) fn update(&mut self, done: Amount, planned: u64, total: Option<u64>) {
        self.show(&Reading { done, planned, total, ..Reading::default() });
    }

    /// Takes a new reading.
    pub(crate) fn show(&mut self, reading: &Reading) {
        let now = Instant::now();
        self.pace.add(now, reading);
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Lines { next } => {
                if now >= *next {
                    *next = now + LINE_EVERY;
                    write_line(&format!("{}: {}", self.what, describe(reading, &self.pace, now)));
                }
            }
            Shown::Bar { bar, next } => {
                if now >= *next {
                    *next = now + BAR_EVERY;
                    draw(bar, self.what, reading, (&self.pace, now));
                }
            }
            Shown::Json { next } => {
                let Reading { done: Amount { rows, tokens }, planned, total, reused, .. } = *reading;
                if now >= *next || total == Some(rows) {
                    *next = now + BAR_EVERY;
                    Message::Progress { what: self.what, rows, tokens, planned, total, reused }.write();
                }
            }
        }
    }

    /// Returns how long it will take, once that is known.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.pace.eta.left(Instant::now()).map(|(left, _)| left)
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

/// Draws the bar within one line of the terminal.
fn draw(bar: &ProgressBar, what: &str, reading: &Reading, (pace, now): (&Pace, Instant)) {
    let columns = columns();
    let (template, taken) = match reading.total {
        Some(_) if columns < COLUMNS_OF_A_BAR => ("{percent}% {wide_msg}", "100% ".len()),
        Some(_) => ("[{bar:12}] {percent}% {wide_msg}", "[============] 100% ".len()),
        None if columns < COLUMNS_OF_A_BAR => ("{spinner} {wide_msg}", "* ".len()),
        None => ("{spinner} {prefix} {wide_msg}", "*  ".len() + what.len()),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    match reading.total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
    bar.set_position(reading.done.rows);
    bar.set_message(message(reading, pace, now, columns.saturating_sub(taken)));
    bar.tick();
}

/// Formats the text beside the bar, without the parts that do not fit into the columns.
fn message(reading: &Reading, pace: &Pace, now: Instant, columns: usize) -> String {
    let done = thousands(reading.done.rows);
    let of = thousands(reading.total.unwrap_or(reading.planned));
    let full = format!("{done} / {of} rows");
    let with_reused = (reading.reused > 0).then(|| format!("{full}{}", reused(reading.reused)));
    let (left, speed) = match reading.paused {
        true => (Some("paused".to_owned()), None),
        false => (pace.left(reading, now), pace.speed()),
    };
    let with_left = |text: &str| left.as_ref().map(|left| format!("{text}, {left}"));
    let texts = [
        with_reused.and_then(|text| with_left(&text)),
        with_left(&full),
        with_left(&format!("{done} rows")),
        Some(full),
    ];
    let text = texts.into_iter().flatten().find(|text| text.len() <= columns).unwrap_or(done);
    match speed.map(|speed| format!("{text}, {speed}")).filter(|text| text.len() <= columns) {
        Some(all) => all,
        None => text,
    }
}

/// Formats the progress in one line.
fn describe(reading: &Reading, pace: &Pace, now: Instant) -> String {
    let Reading { done: Amount { rows, .. }, planned, total, reused: of_reused, .. } = *reading;
    let done = match total {
        Some(total) => {
            let percent = (rows * 100).checked_div(total).unwrap_or(100);
            format!("{} of {} rows ({percent}%)", thousands(rows), thousands(total))
        }
        None => format!("{} of {} rows and counting", thousands(rows), thousands(planned)),
    };
    let done = format!("{done}{}", reused(of_reused));
    let parts = match reading.paused {
        true => [Some(done), Some("paused".to_owned()), None],
        false => [Some(done), pace.speed(), pace.left(reading, now)],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The speed and the time left.
struct Pace {
    rate: Rate,
    eta: Eta,
}

impl Pace {
    fn new(now: Instant, done: Amount) -> Self {
        let work = if done.tokens > 0 { done.tokens } else { done.rows };
        Self { rate: Rate::new(now, done), eta: Eta::new(now, work as f64) }
    }

    fn add(&mut self, now: Instant, reading: &Reading) {
        if reading.paused {
            // A pause is neither slow work nor part of the time left.
            *self = Self::new(now, reading.done);
            return;
        }
        self.rate.add(now, reading.done);
        let (done, expected) = reading.work();
        self.eta.add(now, done, expected);
    }

    /// Formats the rate, once it is known.
    fn speed(&self) -> Option<String> {
        let (rows, tokens) = self.rate.per_second()?;
        let tokens = if tokens > 0.0 { format!(", {} tokens/s", speed(tokens)) } else { String::new() };
        Some(format!("{} rows/s{tokens}", speed(rows)))
    }

    /// Formats the remaining time, once it is known.
    fn left(&self, reading: &Reading, now: Instant) -> Option<String> {
        let (left, rise) = self.eta.left(now).filter(|_| reading.total != Some(reading.done.rows))?;
        let reason = match rise {
            None => "",
            Some(Rise::Slower) => " (slower than before)",
            Some(Rise::MoreWork) => " (longer texts than before)",
        };
        Some(format!("{} left{reason}", duration(left.max(Duration::from_secs(1)))))
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

    /// What was read after ten seconds of work at 50 rows and 1,000 tokens a second.
    fn after_ten_seconds(reading: Reading) -> (Reading, Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start, Amount::default());
        for second in 1..=10 {
            let done = Amount { rows: second * 50, tokens: second * 1_000 };
            pace.add(start + Duration::from_secs(second), &Reading { done, ..reading });
        }
        (Reading { done: Amount { rows: 500, tokens: 10_000 }, ..reading }, pace, start + Duration::from_secs(10))
    }

    fn of_2000() -> Reading {
        Reading { planned: 2_000, total: Some(2_000), ..Reading::default() }
    }

    #[test]
    fn the_time_left_is_that_of_the_tokens_left() {
        let (reading, pace, now) = after_ten_seconds(Reading { tokens_expected: Some(15_000), ..of_2000() });
        let text = describe(&reading, &pace, now);
        assert_eq!(text, "500 of 2,000 rows (25%), 50 rows/s, 1,000 tokens/s, 5 s left");
        let (reading, pace, now) = after_ten_seconds(of_2000());
        assert!(!describe(&reading, &pace, now).contains("left"), "the number of tokens left is unknown");
    }

    #[test]
    fn a_paused_job_has_neither_speed_nor_time_left() {
        let (mut reading, mut pace, now) = after_ten_seconds(Reading { tokens_expected: Some(15_000), ..of_2000() });
        reading.paused = true;
        pace.add(now, &reading);
        assert_eq!(describe(&reading, &pace, now), "500 of 2,000 rows (25%), paused");
        assert_eq!(message(&reading, &pace, now, 60), "500 / 2,000 rows, paused");
    }

    #[test]
    fn a_narrow_terminal_shows_whole_parts() {
        let (reading, pace, now) = after_ten_seconds(Reading { tokens_expected: Some(15_000), ..of_2000() });
        assert_eq!(message(&reading, &pace, now, 26), "500 / 2,000 rows, 5 s left");
        assert_eq!(message(&reading, &pace, now, 25), "500 rows, 5 s left");
        assert_eq!(message(&reading, &pace, now, 17), "500 / 2,000 rows");
        assert_eq!(message(&reading, &pace, now, 60), "500 / 2,000 rows, 5 s left, 50 rows/s, 1,000 tokens/s");
    }
}
