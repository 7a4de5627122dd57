//! The text format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the process restarts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts observations by size.
    Histogram,
}

/// A page in the making: metrics one after the other, each with its samples.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    pub(super) fn metric(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample of the metric.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.sample_of("", labels, value);
    }

    /// Adds a sample of a part of the metric, such as a histogram's `_sum`.
    pub(super) fn sample_of(&mut self, part: &str, labels: &[(&str, &str)], value: f64) {
        let name = self.name;
        self.push(format_args!("{name}{part}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let opening = if at == 0 { '{' } else { ',' };
            self.push(format_args!("{opening}{label}=\"{}\"", escaped(text)));
        }
        self.push(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, words: std::fmt::Arguments<'_>) {
        self.text.write_fmt(words).expect("writing into a string cannot fail");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_their_metric_with_their_labels_escaped() {
        let mut page = Exposition::default();
        page.metric("a_total", Kind::Counter, "What a is.");
        page.sample(&[], 2.0);
        page.sample(&[("x", "1"), ("y", "\"\\\n")], 0.5);
        page.sample_of("_sum", &[("le", "+Inf")], 1e9);
        let expected = "# HELP a_total What a is.\n# TYPE a_total counter\na_total 2\na_total{x=\"1\",y=\"\\\"\\\\\\n\"} 0.5\n\
            a_total_sum{le=\"+Inf\"} 1000000000\n";
        assert_eq!(page.finish(), expected);
    }
}
