//! The summary of a finished run, for people and for scripts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dataset::{RejectReason, RowCounts};
use serde::Serialize;

use crate::exit::Exit;
use crate::ui::{self, Ui};

/// The summary of a finished run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunSummary {
    /// The directory or file.
    pub(crate) out: String,
    /// Whether everything was there before this run began.
    #[serde(rename = "was_done")]
    pub(crate) already_complete: bool,
    /// Rows with or without a vector.
    pub(crate) rows: u64,
    /// Rows with a vector that was computed for them.
    pub(crate) embedded: u64,
    /// Rows whose vector was taken from an earlier output.
    pub(crate) reused: u64,
    /// Rows without, by reason.
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    /// Rows of the corpus that are in none of the files.
    pub(crate) missing: u64,
    /// Rows whose text was cut to the maximum length.
    pub(crate) truncated: u64,
    /// Tokens of rows with a vector.
    pub(crate) tokens: u64,
    /// How long this run took.
    pub(crate) seconds: f64,
    /// Rows embedded, reused or rejected by this run, per second.
    pub(crate) rows_per_second: f64,
    /// Tokens of the rows of this run, those of reused ones included, per second.
    pub(crate) tokens_per_second: f64,
}

impl RunSummary {
    /// Sums up a run that took `took` and found `before` done already.
    pub(crate) fn new(out: &Path, totals: &RowCounts, took: Duration, before: ui::Amount) -> Self {
        let seconds = took.as_secs_f64();
        let rate = |number: u64| if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
        Self {
            out: out.display().to_string(),
            already_complete: false,
            rows: totals.rows,
            embedded: totals.embedded(),
            reused: totals.reused,
            rejected: totals.rejects.clone(),
            missing: 0,
            truncated: totals.truncated,
            tokens: totals.tokens,
            seconds: round(seconds),
            rows_per_second: round(rate(totals.rows.saturating_sub(before.rows))),
            tokens_per_second: round(rate(totals.tokens.saturating_sub(before.tokens))),
        }
    }

    /// Sums up a run that found everything done.
    pub(crate) fn already_complete(out: &Path, totals: &RowCounts) -> Self {
        let all = ui::Amount { rows: totals.rows, tokens: totals.tokens };
        Self { already_complete: true, ..Self::new(out, totals, Duration::ZERO, all) }
    }

    /// Adds the rows that the job went without.
    pub(crate) fn missing(self, missing: u64) -> Self {
        Self { missing, ..self }
    }

    /// The exit code of a command that made this output.
    pub(crate) fn exit(&self) -> Exit {
        if self.missing > 0 { Exit::Incomplete } else { Exit::Done }
    }

    /// Rows without a vector.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Prints the summary on stdout, and what needs attention on stderr.
    pub(crate) fn print(&self, ui: &Ui, as_json: bool) -> anyhow::Result<()> {
        self.explain(ui);
        if as_json { ui.json(self) } else { ui.data(self.line()) }
    }

    /// Reports missing, rejected and truncated rows.
    fn explain(&self, ui: &Ui) {
        note_missing(ui, self.missing);
        if self.rejected() > 0 {
            let reasons: Vec<String> =
                self.rejected.iter().map(|(reason, rows)| format!("{} {reason}", ui::thousands(*rows))).collect();
            ui.note(format!("{} rejected: {}", ui::counted(self.rejected(), "row"), reasons.join(", ")));
            ui.note("  they have a null `embedding`, and the reason in the column `error`");
            if self.rejected.contains_key(&RejectReason::InvalidUtf8) {
                ui.note(
                    "  invalid_utf8: if the corpus is not UTF-8, say what it is with --encoding, such as windows-1252",
                );
            }
        }
        if self.truncated > 0 {
            let rows = ui::counted(self.truncated, "row");
            ui.note(format!(
                "{rows} had more tokens than the model was given: see the column `truncated`, --max-length"
            ));
        }
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{}: {}, {} embedded{}, {} rejected, {} truncated, {}",
            self.out,
            ui::counted(self.rows, "row"),
            ui::thousands(self.embedded),
            ui::reused(self.reused),
            ui::thousands(self.rejected()),
            ui::thousands(self.truncated),
            ui::counted(self.tokens, "token"),
        );
        if self.missing > 0 {
            line.push_str(&format!(", {} MISSING", ui::thousands(self.missing)));
        }
        // A downloaded result was computed elsewhere, at an unknown speed.
        if !self.already_complete && self.rows_per_second > 0.0 {
            line.push_str(&format!(", {:.1} s, {} rows/s", self.seconds, ui::speed(self.rows_per_second)));
            // Those of reused rows were fed to the model in another run.
            if self.reused == 0 {
                line.push_str(&format!(", {} tokens/s", ui::speed(self.tokens_per_second)));
            }
        }
        line
    }
}

/// Says on stderr how many rows of the corpus an output does not have.
pub(crate) fn note_missing(ui: &Ui, missing: u64) {
    if missing > 0 {
        let rows = ui::counted(missing, "row");
        ui.warn(format!(
            "{rows} of the corpus missing: the job was allowed to end without; `encaje verify` names them"
        ));
    }
}

/// Rounds to three decimals.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals() -> RowCounts {
        let rejects = [(RejectReason::EmptyText, 2)].into();
        RowCounts { rows: 1_000, rejects, truncated: 3, tokens: 20_000, reused: 0 }
    }

    #[test]
    fn a_resumed_run_counts_its_own_speed() {
        let before = ui::Amount { rows: 500, tokens: 10_000 };
        let summary = RunSummary::new(Path::new("out"), &totals(), Duration::from_secs(10), before);
        assert_eq!(
            summary.line(),
            "out: 1,000 rows, 998 embedded, 2 rejected, 3 truncated, 20,000 tokens, 10.0 s, 50 rows/s, 1,000 tokens/s"
        );
    }

    #[test]
    fn reused_rows_are_counted_apart() {
        let counts = RowCounts { reused: 900, ..totals() };
        let summary = RunSummary::new(Path::new("out"), &counts, Duration::from_secs(10), ui::Amount::default());
        assert_eq!(
            summary.line(),
            "out: 1,000 rows, 98 embedded, 900 reused, 2 rejected, 3 truncated, 20,000 tokens, 10.0 s, 100 rows/s"
        );
    }

    #[test]
    fn missing_rows_are_not_overlooked() {
        let summary = RunSummary::already_complete(Path::new("out"), &totals()).missing(7);
        assert!(summary.line().ends_with("20,000 tokens, 7 MISSING"), "{}", summary.line());
        assert_eq!(serde_json::to_value(&summary).unwrap()["missing"], 7);
    }

    #[test]
    fn the_json_has_every_number() {
        let summary = RunSummary::new(Path::new("out"), &totals(), Duration::from_secs(10), ui::Amount::default());
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["rejected"]["empty_text"], 2);
        assert_eq!((&json["rows"], &json["embedded"]), (&1_000.into(), &998.into()));
        assert_eq!(json["tokens_per_second"], 2_000.0);
    }
}
