//! What the numbers allow to say, in sentences, and what they do not.

use atlas::statistics::Estimate;
use clap::ValueEnum;
use serde::Serialize;

use super::NEIGHBORS;
use super::findings::{Confusion, Findings, LABEL_ROWS_MIN, LabelFinding, Lead};
use super::sets::Model;
use crate::ui;

/// A language of the sentences and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    /// English.
    En,
    /// Spanish.
    Es,
}

impl Language {
    /// Chooses between a text in English and one in Spanish.
    pub(crate) fn either<T>(self, english: T, spanish: T) -> T {
        match self {
            Language::En => english,
            Language::Es => spanish,
        }
    }
}

/// Shares that differ by less than this are called alike.
const ALIKE: f64 = 0.05;
/// Below this silhouette labels overlap, and from the other on they are clusters of their own.
const OVERLAPPING: f64 = 0.05;
const SEPARATE: f64 = 0.25;
/// A share of cut texts that is worth a warning.
const CUT_MIN: f64 = 0.01;
/// Labels, and confusions, that are named in a sentence.
const NAMED: usize = 3;
/// Characters of a label that are shown.
const NAME_CHARS: usize = 40;

/// What is compared.
pub(crate) struct Compared<'a> {
    pub(crate) label: &'a str,
    pub(crate) models: &'a [Model],
    pub(crate) findings: &'a Findings,
    pub(crate) rows: u64,
    /// Rows that lack a vector in one of the sets.
    pub(crate) left_out: u64,
}

impl Compared<'_> {
    /// Returns the share of rows with the most frequent label: the accuracy of always guessing it.
    pub(crate) fn majority_share(&self) -> Option<f64> {
        let largest = self.findings.by_label.first()?;
        Some(largest.rows as f64 / self.rows.max(1) as f64)
    }

    /// Returns how many nearest rows there are to look at.
    pub(crate) fn neighbors(&self) -> u64 {
        self.rows.saturating_sub(1).min(NEIGHBORS as u64)
    }
}

/// Returns what the numbers say, one sentence or two per line, the most important first.
pub(crate) fn sentences(compared: &Compared<'_>, language: Language) -> Vec<String> {
    let words = Words { compared, language };
    let of_labels = match &compared.findings.lead {
        None => vec![words.no_labels()],
        Some(lead) => {
            let mut lines = vec![words.best(lead)];
            lines.extend(words.majority(lead));
            lines.extend(words.rare_labels(lead));
            lines.extend(words.extremes(lead));
            lines.extend(words.confusions(lead));
            lines.push(words.separated(lead));
            lines.extend(words.silhouette(lead));
            lines
        }
    };
    let mut lines = of_labels;
    lines.extend(words.overlap());
    lines.extend(words.settings());
    lines.extend(words.cut());
    lines.extend(words.repeated());
    lines.extend(words.left_out());
    lines.push(words.limits());
    lines
}

struct Words<'a> {
    compared: &'a Compared<'a>,
    language: Language,
}

impl Words<'_> {
    fn name(&self, model: usize) -> &str {
        &self.compared.models[model].model
    }

    fn accuracy(&self, model: usize) -> Option<Estimate> {
        self.compared.models[model].label_accuracy
    }

    fn no_labels(&self) -> String {
        let label = self.compared.label;
        self.language.either(
            format!("“{label}” is a column of numbers: how well the models separate its values is not measured."),
            format!("«{label}» es una columna de números: no se mide qué tan bien separan sus valores los modelos."),
        )
    }

    fn best(&self, lead: &Lead) -> String {
        let (label, best, next) = (self.compared.label, self.name(lead.best), self.name(lead.next));
        let near = self.compared.neighbors();
        let accuracy = self.accuracy(lead.best).map(|estimate| self.interval(estimate)).unwrap_or_default();
        if lead.difference.value == 0.0 {
            return self.language.either(
                format!(
                    "No model separates the values of “{label}” better than {best} and {next}: with both, the label of {accuracy} of the \
                     rows is the most frequent one among the {near} nearest rows."
                ),
                format!(
                    "Ningún modelo separa los valores de «{label}» mejor que {best} y {next}: con ambos, la etiqueta del {accuracy} de las \
                     filas es la más frecuente entre las {near} filas más cercanas."
                ),
            );
        }
        let first = self.language.either(
            format!(
                "{best} separates the values of “{label}” best: for {accuracy} of the rows, their own label is the most \
                 frequent one among the {near} nearest rows."
            ),
            format!(
                "{best} es el que mejor separa los valores de «{label}»: en el {accuracy} de las filas, la etiqueta más \
                 frecuente entre las {near} filas más cercanas es la propia."
            ),
        );
        let points = self.points(lead.difference);
        let second = match lead.difference {
            Estimate { low, .. } if low > 0.0 => self.language.either(
                format!("It is ahead of {next} by {points}, more than the choice of rows explains."),
                format!("Supera a {next} por {points}, más de lo que explica la elección de las filas."),
            ),
            _ => self.language.either(
                format!("Its lead over {next} of {points} may be chance: these rows do not say which is better."),
                format!("Su ventaja de {points} sobre {next} puede ser azar: estas filas no dicen cuál es mejor."),
            ),
        };
        let chosen = match self.compared.models.len() {
            0..=2 => String::new(),
            models => self.language.either(
                format!(" As the best of {models} on these very rows, it looks a little better than it is."),
                format!(" Al ser el mejor de {models} en estas mismas filas, parece algo mejor de lo que es."),
            ),
        };
        format!("{first} {second}{chosen}")
    }

    /// Compares with guessing.
    fn majority(&self, lead: &Lead) -> Option<String> {
        let largest = self.compared.findings.by_label.first()?;
        let majority = self.compared.majority_share()?;
        let (name, share) = (shortened(&largest.label), percent(majority));
        let guessing = self.language.either(
            format!("Always guessing the most frequent label, “{name}”, is right for {share} of the rows"),
            format!("Apostar siempre por la etiqueta más frecuente, «{name}», acierta en el {share} de las filas"),
        );
        let is_no_better = |model: &usize| self.accuracy(*model).is_some_and(|accuracy| accuracy.low <= majority);
        let no_better: Vec<usize> = (0..self.compared.models.len()).filter(is_no_better).collect();
        let best = self.name(lead.best);
        let above = (self.accuracy(lead.best)?.value - majority) * 100.0;
        let than_that = match no_better.as_slice() {
            all if all.len() == self.compared.models.len() => self.language.either(
                "; these rows do not show that any model is better than that.".to_owned(),
                "; estas filas no muestran que algún modelo sea mejor que eso.".to_owned(),
            ),
            some => {
                let names = self.list(some.iter().map(|model| self.name(*model).to_owned()));
                let worse = match (some.len(), self.language) {
                    (0, _) => String::new(),
                    (_, Language::En) => format!("; of {names} these rows do not show that"),
                    (_, Language::Es) => format!("; de {names} estas filas no lo muestran"),
                };
                self.language.either(
                    format!(", and {best} is better than that by {above:.1} points{worse}."),
                    format!(", y {best} lo supera por {above:.1} puntos{worse}."),
                )
            }
        };
        Some(format!("{guessing}{than_that}"))
    }

    /// Says where the mean over labels tells another story.
    fn rare_labels(&self, lead: &Lead) -> Option<String> {
        let models = self.compared.models;
        let mean = |model: usize| models[model].label_accuracy_macro.unwrap_or_default();
        let ahead = (0..models.len()).max_by(|a, b| mean(*a).total_cmp(&mean(*b)))?;
        let (best, of_best) = (self.name(lead.best), percent(mean(lead.best)));
        if mean(ahead) > mean(lead.best) {
            let (other, of_other) = (self.name(ahead), percent(mean(ahead)));
            return Some(self.language.either(
                format!("With every label counted alike, {other} is ahead ({of_other} against {of_best} of {best})."),
                format!(
                    "Si cada etiqueta cuenta lo mismo, va por delante {other} (el {of_other} frente al {of_best} de {best})."
                ),
            ));
        }
        let difference = self.accuracy(lead.best)?.value - mean(lead.best);
        let english = if difference > 0.0 { "rare" } else { "frequent" };
        let spanish = if difference > 0.0 { "poco frecuentes" } else { "frecuentes" };
        (difference.abs() > ALIKE).then(|| {
            self.language.either(
                format!("With every label counted alike, it is right for {of_best}: {english} labels are separated less well."),
                format!("Si cada etiqueta cuenta lo mismo, acierta en el {of_best}: las etiquetas {spanish} se separan peor."),
            )
        })
    }

    /// Names the labels that the best model separates best and worst.
    fn extremes(&self, lead: &Lead) -> Option<String> {
        let mut labels: Vec<&LabelFinding> =
            self.compared.findings.by_label.iter().filter(|label| label.rows >= LABEL_ROWS_MIN).collect();
        if labels.len() < 2 * NAMED {
            return None;
        }
        let value = |label: &LabelFinding| label.accuracy[lead.best].value;
        labels.sort_by(|a, b| value(b).total_cmp(&value(a)));
        let spell = |label: &&LabelFinding| {
            let (name, share) = (shortened(&label.label), percent(value(label)));
            self.language.either(format!("“{name}” ({share})"), format!("«{name}» ({share})"))
        };
        let (high, low) = (labels[..NAMED].iter().map(spell), labels[labels.len() - NAMED..].iter().rev().map(spell));
        let (best, high, low) = (self.name(lead.best), self.list(high), self.list(low));
        Some(self.language.either(
            format!("{best} separates {high} best, and {low} least."),
            format!("{best} separa mejor {high}, y peor {low}."),
        ))
    }

    /// Names what labels are taken for most often.
    fn confusions(&self, lead: &Lead) -> Option<String> {
        let confusions = self.compared.findings.confusions.iter();
        let pairs: Vec<&Confusion> =
            confusions.filter(|confusion| confusion.share[lead.best] >= ALIKE).take(NAMED).collect();
        let pair = |confusion: &&Confusion| {
            let (label, other) = (shortened(&confusion.label), shortened(&confusion.taken_for));
            let share = percent(confusion.share[lead.best]);
            self.language.either(
                format!("“{label}” is taken for “{other}” ({share} of its rows)"),
                format!("«{label}» se toma por «{other}» ({share} de sus filas)"),
            )
        };
        let pairs = (!pairs.is_empty()).then(|| self.list(pairs.iter().map(pair)))?;
        let best = self.name(lead.best);
        Some(self.language.either(
            format!("Most often confused by {best}: {pairs}."),
            format!("Lo que más confunde {best}: {pairs}."),
        ))
    }

    fn separated(&self, lead: &Lead) -> String {
        let (best, next) = (self.name(lead.best), self.name(lead.next));
        let [one, other] = &lead.separated;
        let share = percent(one.rows as f64 / self.compared.rows.max(1) as f64);
        let (rows, others) = (ui::thousands(one.rows), ui::thousands(other.rows));
        self.language.either(
            format!(
                "{best} is right and {next} wrong on {rows} rows ({share}); it is the other way round on {others}."
            ),
            format!("{best} acierta y {next} falla en {rows} filas ({share}); al revés en {others}."),
        )
    }

    fn silhouette(&self, lead: &Lead) -> Option<String> {
        let labels = self.compared.findings.by_label.iter();
        let (labels, several) =
            labels.fold((0, false), |(count, several), label| (count + 1, several || label.rows > 1));
        // Undefined for one label, and for labels of a row each.
        if labels < 2 || !several {
            return None;
        }
        let value = self.compared.models[lead.best].silhouette?.value;
        let best = self.name(lead.best);
        let (english, spanish) = match value {
            value if value < OVERLAPPING => (
                "labels overlap, and a clustering will not find them by itself",
                "las etiquetas se solapan, y un agrupamiento no las encontrará por sí solo",
            ),
            value if value < SEPARATE => {
                ("labels are groups that partly overlap", "las etiquetas son grupos que en parte se solapan")
            }
            _ => ("labels are groups of their own", "las etiquetas son grupos bien separados"),
        };
        Some(self.language.either(
            format!("The silhouette of {best} is {value:.3}: {english}."),
            format!("La silueta de {best} es {value:.3}: {spanish}."),
        ))
    }

    fn overlap(&self) -> Option<String> {
        let (overlaps, nearest) = (&self.compared.findings.overlaps, self.compared.neighbors());
        if nearest == 0 {
            return None;
        }
        let least = overlaps.iter().min_by(|a, b| a.shared.total_cmp(&b.shared))?;
        let most = overlaps.iter().max_by(|a, b| a.shared.total_cmp(&b.shared))?;
        let pair =
            |[one, other]: [usize; 2]| self.list([one, other].map(|model| self.name(model).to_owned()).into_iter());
        let (low, high) = (percent(least.shared), percent(most.shared));
        let (far, near) = (pair(least.models), pair(most.models));
        Some(match overlaps.len() {
            several if several > 1 && low == high => self.language.either(
                format!("Of the {nearest} rows nearest to a row, each two models share {low} on average."),
                format!("De las {nearest} filas más cercanas a cada fila, cada dos modelos comparten el {low} en promedio."),
            ),
            1 => self.language.either(
                format!("Of the {nearest} rows nearest to a row, {far} share {low} on average."),
                format!("De las {nearest} filas más cercanas a cada fila, {far} comparten el {low} en promedio."),
            ),
            _ => self.language.either(
                format!("Of the {nearest} rows nearest to a row, {near} share the most ({high} on average), {far} the least ({low})."),
                format!(
                    "De las {nearest} filas más cercanas a cada fila, {near} son los que más comparten (el {high} en promedio), {far} los que \
                     menos (el {low})."
                ),
            ),
        })
    }

    /// Says that sets differ in more than the model.
    fn settings(&self) -> Option<String> {
        let models = self.compared.models;
        let differs = |same: fn(&Model, &Model) -> bool| models.iter().any(|model| !same(model, &models[0]));
        let pooling =
            differs(|a, b| a.pooling == b.pooling).then_some(self.language.either("pooling", "en el pooling"));
        let length = differs(|a, b| a.max_length == b.max_length)
            .then(|| self.language.either("the maximum length", "en la longitud máxima"));
        let prompt = differs(|a, b| a.prefix == b.prefix)
            .then(|| self.language.either("the text before every text", "en el texto que precede a cada texto"));
        let settings: Vec<String> = [pooling, length, prompt].into_iter().flatten().map(str::to_owned).collect();
        let settings = (!settings.is_empty()).then(|| self.list(settings.into_iter()))?;
        Some(self.language.either(
            format!("The sets differ in {settings} too: what is compared is each model with its settings."),
            format!("Los conjuntos difieren también {settings}: se compara cada modelo con sus ajustes."),
        ))
    }

    fn cut(&self) -> Option<String> {
        let cut = self.compared.models.iter().filter(|model| model.truncated >= CUT_MIN);
        let cut: Vec<String> = cut.map(|model| format!("{} ({})", model.model, percent(model.truncated))).collect();
        let cut = (!cut.is_empty()).then(|| self.list(cut.into_iter()))?;
        Some(self.language.either(
            format!("Texts were cut to the maximum length by {cut}: what was cut off is not compared."),
            format!("Hay textos cortados a la longitud máxima en {cut}: lo que se cortó no se compara."),
        ))
    }

    /// Says how many rows have the vector of another: the fewest are those with the same text, more have texts that were cut.
    fn repeated(&self) -> Option<String> {
        let models = self.compared.models;
        let least = models.iter().map(|model| model.repeated).min()?;
        let share = |rows: u64| rows as f64 / self.compared.rows.max(1) as f64;
        let spell = |rows: u64| format!("{} ({})", ui::thousands(rows), percent(share(rows)));
        let more = models.iter().filter(|model| share(model.repeated - least) >= CUT_MIN);
        let more: Vec<String> = more.map(|model| format!("{} {}", model.model, spell(model.repeated))).collect();
        if share(least) < CUT_MIN && more.is_empty() {
            return None;
        }
        let count = spell(least);
        let first = self
            .language
            .either(format!("Rows that repeat another row: {count}"), format!("Filas que repiten otra fila: {count}"));
        let second = match more.is_empty() {
            true => String::new(),
            false => {
                let more = self.list(more.into_iter());
                self.language.either(
                    format!("; up to where texts were cut, {more}"),
                    format!("; hasta donde se cortaron los textos, {more}"),
                )
            }
        };
        Some(self.language.either(
            format!(
                "{first}{second}. Copies are nearest to each other, which raises the accuracy where they have the same label and makes \
                 the intervals too narrow."
            ),
            format!(
                "{first}{second}. Las copias son las más cercanas entre sí, lo que sube el acierto donde tienen la misma etiqueta y \
                 hace los intervalos demasiado estrechos."
            ),
        ))
    }

    fn left_out(&self) -> Option<String> {
        let rows = self.compared.left_out;
        let count = ui::thousands(rows);
        (rows > 0).then(|| {
            self.language.either(
                format!("Rows that lack a vector in one of the sets were left out of all: {count}."),
                format!("Las filas sin vector en alguno de los conjuntos se dejaron fuera de todos: {count}."),
            )
        })
    }

    fn limits(&self) -> String {
        let trust = self.compared.models.iter().map(|model| model.trustworthiness);
        let trust = trust.fold(f64::INFINITY, f64::min);
        self.language.either(
            format!(
                "All of this is about these rows and this column; it says nothing of other tasks, such as search. The plots keep \
                 neighbourhoods with a trustworthiness of {trust:.3} or more: where plot and table differ, the table counts."
            ),
            format!(
                "Todo esto vale para estas filas y esta columna; no dice nada de otras tareas, como la búsqueda. Los mapas conservan las \
                 vecindades con una confiabilidad (trustworthiness) de al menos {trust:.3}: donde mapa y tabla difieran, cuenta la tabla."
            ),
        )
    }

    /// Joins names: `a, b and c`.
    fn list(&self, names: impl Iterator<Item = String>) -> String {
        let names: Vec<String> = names.collect();
        let Some((last, first)) = names.split_last().filter(|(_, first)| !first.is_empty()) else {
            return names.concat();
        };
        let and = self.language.either("and", "y");
        format!("{} {and} {last}", first.join(", "))
    }

    fn interval(&self, estimate: Estimate) -> String {
        let Estimate { value, low, high } = estimate;
        let (low, high) = (percent(low), percent(high));
        let range = self.language.either(format!("{low} to {high}"), format!("de {low} a {high}"));
        format!("{} ({range})", percent(value))
    }

    /// A difference of shares in percentage points.
    fn points(&self, difference: Estimate) -> String {
        let Estimate { value, low, high } = difference;
        // Adding zero turns a rounded negative zero into zero.
        let [value, low, high] = [value, low, high].map(|share| (share * 1000.0).round() / 10.0 + 0.0);
        self.language.either(
            format!("{value:.1} points ({low:.1} to {high:.1})"),
            format!("{value:.1} puntos (de {low:.1} a {high:.1})"),
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A label on one line.
pub(super) fn shortened(label: &str) -> String {
    ui::one_line(label, NAME_CHARS)
}

#[cfg(test)]
mod tests {
    use super::super::findings::{Overlap, Separated};
    use super::*;

    fn model(name: &str, accuracy: f64) -> Model {
        let estimate = |value: f64| Some(Estimate { value, low: value - 0.05, high: value + 0.05 });
        Model {
            model: name.to_owned(),
            target: name.into(),
            dimensions: 4,
            pooling: "cls".into(),
            max_length: 64,
            prefix: String::new(),
            rejected: 0,
            missing: 0,
            repeated: 0,
            label_accuracy: estimate(accuracy),
            label_accuracy_macro: Some(accuracy),
            label_accuracy_difference: None,
            silhouette: estimate(0.1),
            trustworthiness: 0.9,
            truncated: 0.0,
            tokens_per_row: 10.0,
            rows_per_second: None,
            tokens_per_second: None,
        }
    }

    /// The sentences about two models, of which the first is ahead by so much, over labels of so many rows.
    fn said(models: [Model; 2], difference: Estimate, labels: &[u64], language: Language) -> String {
        let separated = || Separated { by: 0, not_by: 1, rows: 3, examples: Vec::new() };
        let by_label = labels.iter().enumerate().map(|(index, &rows)| LabelFinding {
            label: format!("l{index}"),
            rows,
            accuracy: vec![difference; 2],
        });
        let findings = Findings {
            by_label: by_label.collect(),
            lead: Some(Lead { best: 0, next: 1, difference, separated: [separated(), separated()] }),
            overlaps: vec![Overlap { models: [0, 1], shared: 0.5 }],
            ..Findings::default()
        };
        let rows = labels.iter().sum();
        let compared = Compared { label: "label", models: &models, findings: &findings, rows, left_out: 0 };
        sentences(&compared, language).join("\n")
    }

    fn lead(value: f64, half: f64) -> Estimate {
        Estimate { value, low: value - half, high: value + half }
    }

    #[test]
    fn a_lead_is_more_than_chance_only_where_its_interval_says_so() {
        let both = || [model("a", 0.8), model("b", 0.7)];
        assert!(
            said(both(), lead(0.1, 0.05), &[60, 40], Language::En).contains("more than the choice of rows explains")
        );
        assert!(said(both(), lead(0.1, 0.2), &[60, 40], Language::En).contains("may be chance"));
        assert!(said(both(), lead(0.1, 0.1), &[60, 40], Language::Es).contains("(de 0.0 a 20.0)"), "no negative zero");
        let equal = said([model("a", 0.8), model("b", 0.8)], lead(0.0, 0.0), &[60, 40], Language::Es);
        assert!(equal.starts_with("Ningún modelo separa") && !equal.contains("es el que mejor"), "{equal}");
    }

    #[test]
    fn guessing_is_beaten_only_where_the_interval_says_so() {
        let near = said([model("a", 0.62), model("b", 0.58)], lead(0.04, 0.01), &[60, 40], Language::En);
        assert!(near.contains("these rows do not show that any model is better"), "{near}");
        let above = said([model("a", 0.8), model("b", 0.62)], lead(0.18, 0.01), &[60, 40], Language::En);
        assert!(above.contains("a is better than that by 20.0 points; of b these rows do not show that"), "{above}");
    }

    #[test]
    fn what_is_not_defined_is_not_said() {
        let both = || [model("a", 0.8), model("b", 0.7)];
        for labels in [&[50][..], &[1; 50]] {
            assert!(!said(both(), lead(0.1, 0.05), labels, Language::En).contains("silhouette"), "{labels:?}");
        }
        assert!(said(both(), lead(0.1, 0.05), &[1, 1, 1], Language::En).contains("Of the 2 rows nearest"));
        assert!(!said(both(), lead(0.1, 0.05), &[1], Language::En).contains("nearest to a row"));
    }

    #[test]
    fn rows_that_are_equal_only_where_they_were_cut_are_told_from_repeats() {
        let mut models = [model("a", 0.8), model("b", 0.7)];
        (models[0].repeated, models[1].repeated) = (5, 40);
        let found = said(models, lead(0.1, 0.05), &[60, 40], Language::En);
        assert!(found.contains("repeat another row: 5 (5.0 %); up to where texts were cut, b 40 (40.0 %)."), "{found}");
    }
}
