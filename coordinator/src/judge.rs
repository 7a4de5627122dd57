//! PURE: whether a job exceeds its reject limit.

use proto::job::{JobSpec, MaxRejects, OnBadRow, RowCounts};

/// When a job is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Some of its rows are in.
    Underway,
    /// All of its rows are in.
    AtTheEnd,
}

/// Returns why the job must fail for its rejected rows, or `None` within the limit.
pub(crate) fn verdict(spec: &JobSpec, counts: &RowCounts, moment: Moment) -> Option<String> {
    let rejected = counts.rejected();
    if rejected == 0 {
        return None;
    }
    let found = || format!("{rejected} of {} rows were rejected ({})", counts.rows, reasons(counts));
    if spec.on_bad_row == OnBadRow::Fail {
        return Some(format!("{}, and --on-bad-row fail was given", found()));
    }
    match spec.max_rejects {
        MaxRejects::Unlimited => None,
        MaxRejects::Rows(max) if rejected > max => Some(format!("{}, more than --max-rejects {max}", found())),
        // Early shards may hold all the bad rows of a good corpus: only the whole has a percentage.
        MaxRejects::Percent(max) if moment == Moment::AtTheEnd && exceeds(rejected, counts.rows, max) => {
            Some(format!("{}, more than --max-rejects {max}%", found()))
        }
        MaxRejects::Rows(_) | MaxRejects::Percent(_) => None,
    }
}

fn exceeds(rejected: u64, rows: u64, percent: f64) -> bool {
    // Both numbers are far below 2^53, where floats are exact.
    rejected as f64 * 100.0 > rows as f64 * percent
}

fn reasons(counts: &RowCounts) -> String {
    let named: Vec<String> = counts.rejects.iter().map(|(reason, rows)| format!("{reason}: {rows}")).collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::RejectReason;
    use std::collections::BTreeMap;
    use testkit::job_spec as spec;

    fn counts(rows: u64, rejected: u64) -> RowCounts {
        let rejects = BTreeMap::from([(RejectReason::EmptyText, rejected)]);
        RowCounts { rows, rejects, ..RowCounts::default() }
    }

    fn fails(max_rejects: MaxRejects, rows: u64, rejected: u64, moment: Moment) -> bool {
        verdict(&JobSpec { max_rejects, ..spec() }, &counts(rows, rejected), moment).is_some()
    }

    #[test]
    fn a_row_limit_is_judged_as_rows_come_in_and_a_percentage_at_the_end() {
        use Moment::{AtTheEnd, Underway};
        assert!(!fails(MaxRejects::Unlimited, 10, 10, AtTheEnd));
        assert!(!fails(MaxRejects::Rows(2), 10, 2, AtTheEnd));
        assert!(fails(MaxRejects::Rows(2), 10, 3, Underway));
        assert!(fails(MaxRejects::Rows(0), 10, 1, Underway));
        assert!(!fails(MaxRejects::Rows(0), 10, 0, AtTheEnd));
        assert!(!fails(MaxRejects::Percent(10.0), 10, 9, Underway));
        assert!(!fails(MaxRejects::Percent(10.0), 10, 1, AtTheEnd));
        assert!(fails(MaxRejects::Percent(10.0), 10, 2, AtTheEnd));
        assert!(fails(MaxRejects::Percent(0.0), 10, 1, AtTheEnd));
    }

    #[test]
    fn the_reason_counts_rows_and_names_the_option() {
        let strict = JobSpec { on_bad_row: OnBadRow::Fail, ..spec() };
        let reason = verdict(&strict, &counts(10, 1), Moment::Underway).unwrap();
        assert_eq!(reason, "1 of 10 rows were rejected (empty_text: 1), and --on-bad-row fail was given");
        assert_eq!(verdict(&strict, &counts(10, 0), Moment::AtTheEnd), None);
    }
}
