//! Progress of a download.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::streams::{Message, MessageFormat, Ui, write_line};
use super::text::{columns, size};

/// How often a line is printed where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often a program gets a message.
const MESSAGE_EVERY: Duration = Duration::from_millis(100);

/// Room for the numbers beside a bar: `1023.99 MiB of 1023.99 MiB, 1023.99 MiB/s`.
const NUMBERS: usize = 44;

/// What a bar shows: all of it where it fits into a line, else how much in per cent.
fn template(name: &str, columns: usize) -> &'static str {
    match columns.checked_sub(name.chars().count() + NUMBERS) {
        Some(34..) => "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}",
        Some(2..) => "{prefix} {bytes} of {total_bytes}, {bytes_per_sec}",
        Some(_) | None => "{percent}% {prefix}",
    }
}

/// A download: a bar on a terminal; elsewhere a line at its start, every few seconds and at its end; or messages for programs.
pub(crate) struct Transfer {
    name: String,
    total: u64,
    shown: Shown,
}

enum Shown {
    Nothing,
    Lines { next: Instant },
    Bar(ProgressBar),
    Json { next: Instant },
}

impl Transfer {
    fn new(ui: Ui, name: &str, total: u64) -> Self {
        let now = Instant::now();
        let shown = if ui.quiet {
            Shown::Nothing
        } else if ui.format == MessageFormat::Json {
            Shown::Json { next: now }
        } else if ui.draws {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(template(name, columns())) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            Shown::Bar(bar)
        } else {
            write_line(&format!("downloading {name} ({})", size(total)));
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
                    write_line(&format!("downloading {}: {} of {}", self.name, size(done), size(self.total)));
                }
            }
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Json { next } => {
                if now >= *next || done >= self.total {
                    *next = now + MESSAGE_EVERY;
                    Message::Download { file: &self.name, bytes: done, total: self.total }.write();
                }
            }
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Ui {
    /// Starts the display of a download of `total` bytes.
    pub(crate) fn transfer(&self, name: &str, total: u64) -> Transfer {
        Transfer::new(*self, name, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_shows_the_share_alone() {
        let shown = [30, 70, 100].map(|columns| template("model.safetensors", columns));
        assert!(
            shown[0] == "{percent}% {prefix}" && !shown[1].contains("bar") && shown[2].contains("bar"),
            "{shown:?}"
        );
    }
}
