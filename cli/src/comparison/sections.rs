//! The tables of a comparison, and what follows the plots on the page.

use atlas::plot::{Section, Table};
use atlas::statistics::Estimate;

use super::findings::Separated;
use super::words::{Compared, Language, sentences, shortened};
use crate::ui;

/// Returns the table of the models.
pub(crate) fn table(compared: &Compared<'_>, language: Language) -> Table {
    let has_prompt = compared.models.iter().any(|model| !model.prefix.is_empty());
    let mut columns = vec![
        language.either("model", "modelo"),
        "pooling",
        language.either("length", "longitud"),
        language.either("dim.", "dim."),
        language.either("kNN accuracy (95 %)", "acierto kNN (95 %)"),
        "macro",
        language.either("to the best (95 %)", "al mejor (95 %)"),
        language.either("silhouette (95 %)", "silueta (95 %)"),
        language.either("trustw.", "confiab."),
        language.either("cut", "cortados"),
        "tokens",
        language.either("rows/s", "filas/s"),
        "tokens/s",
    ];
    if has_prompt {
        columns.insert(3, language.either("prompt", "prompt"));
    }
    let speed = |rate: Option<f64>| rate.map_or("–".to_owned(), ui::speed);
    let interval = |estimate: &Option<Estimate>| estimate.map_or("–".to_owned(), |e| spell(e, language));
    let best = compared.findings.lead.as_ref().map(|lead| lead.best);
    let rows = compared.models.iter().enumerate().map(|(index, model)| {
        let difference = match model.label_accuracy_difference {
            None => "–".to_owned(),
            Some(_) if best == Some(index) => language.either("best", "el mejor").to_owned(),
            Some(e) => format!("{:+.3} ({:+.3} {} {:+.3})", e.value, e.low, language.either("to", "a"), e.high),
        };
        let mut row = vec![
            model.model.clone(),
            model.pooling.clone(),
            model.max_length.to_string(),
            model.dimensions.to_string(),
            interval(&model.label_accuracy),
            model.label_accuracy_macro.map_or("–".to_owned(), |share| format!("{share:.3}")),
            difference,
            interval(&model.silhouette),
            format!("{:.3}", model.trustworthiness),
            format!("{:.1} %", model.truncated * 100.0),
            format!("{:.1}", model.tokens_per_row),
            speed(model.rows_per_second),
            speed(model.tokens_per_second),
        ];
        if has_prompt {
            row.insert(3, shortened(&model.prefix));
        }
        row
    });
    Table { columns: columns.into_iter().map(str::to_owned).collect(), rows: rows.collect() }
}

/// Returns the accuracy of every label, the most frequent first.
pub(crate) fn by_label(compared: &Compared<'_>, language: Language) -> Table {
    let mut columns = vec![compared.label.to_owned(), language.either("rows", "filas").to_owned()];
    columns.extend(compared.models.iter().map(|model| model.model.clone()));
    let rows = compared.findings.by_label.iter().map(|label| {
        let mut row = vec![shortened(&label.label), ui::thousands(label.rows)];
        row.extend(label.accuracy.iter().map(|accuracy| spell(*accuracy, language)));
        row
    });
    Table { columns, rows: rows.collect() }
}

/// Returns what follows the plots: the sentences, and a table of each kind of finding.
pub(crate) fn sections(compared: &Compared<'_>, language: Language) -> Vec<Section> {
    let titled = |english: &str, spanish: &str, table| Section {
        title: language.either(english, spanish).to_owned(),
        paragraphs: Vec::new(),
        table: Some(table),
    };
    let mut sections = vec![Section {
        title: language.either("What the numbers say", "Lo que dicen los números").to_owned(),
        paragraphs: sentences(compared, language),
        table: None,
    }];
    if compared.models.len() > 2 {
        let title = ("Nearest rows that models share", "Filas cercanas que comparten los modelos");
        sections.push(titled(title.0, title.1, overlaps(compared, language)));
    }
    let Some(lead) = &compared.findings.lead else { return sections };
    let title = ("Accuracy by label (95 %)", "Acierto por etiqueta (95 %)");
    sections.push(titled(title.0, title.1, by_label(compared, language)));
    if !compared.findings.confusions.is_empty() {
        let title = ("Confusions: the share of a label's rows", "Confusiones: la parte de las filas de una etiqueta");
        sections.push(titled(title.0, title.1, confusions(compared, language)));
    }
    for separated in lead.separated.iter().filter(|separated| separated.rows > 0) {
        sections.push(examples(separated, compared, language));
    }
    sections
}

fn overlaps(compared: &Compared<'_>, language: Language) -> Table {
    let mut columns = vec![language.either("model", "modelo").to_owned()];
    columns.extend(compared.models.iter().map(|model| model.model.clone()));
    let shared = |one: usize, other: usize| {
        let pair = [one.min(other), one.max(other)];
        let overlap = compared.findings.overlaps.iter().find(|overlap| overlap.models == pair);
        overlap.map_or("–".to_owned(), |overlap| format!("{:.1} %", overlap.shared * 100.0))
    };
    let all = 0..compared.models.len();
    let row = |one: usize| {
        let name = compared.models[one].model.clone();
        std::iter::once(name).chain(all.clone().map(|other| shared(one, other))).collect()
    };
    Table { columns, rows: all.clone().map(row).collect() }
}

fn confusions(compared: &Compared<'_>, language: Language) -> Table {
    let heads = language.either(["label", "taken for"], ["etiqueta", "se toma por"]).map(str::to_owned);
    let columns = heads.into_iter().chain(compared.models.iter().map(|model| model.model.clone()));
    let rows = compared.findings.confusions.iter().map(|confusion| {
        let share = confusion.share.iter().map(|share| format!("{:.1} %", share * 100.0));
        [&confusion.label, &confusion.taken_for].map(|label| shortened(label)).into_iter().chain(share).collect()
    });
    Table { columns: columns.collect(), rows: rows.collect() }
}

fn examples(separated: &Separated, compared: &Compared<'_>, language: Language) -> Section {
    let (one, other) = (&compared.models[separated.by].model, &compared.models[separated.not_by].model);
    let (count, shown) = (ui::thousands(separated.rows), separated.examples.len());
    let title = language.either(format!("{one} is right, {other} is not"), format!("{one} acierta, {other} no"));
    let paragraph = language.either(
        format!("{count} rows; the {shown} texts of which the models differ most:"),
        format!("{count} filas; los {shown} textos en que más difieren los modelos:"),
    );
    let taken_for = language.either(format!("{other} takes it for"), format!("{other} lo toma por"));
    let columns = [
        language.either("text", "texto").to_owned(),
        language.either("row", "fila").to_owned(),
        compared.label.to_owned(),
        taken_for,
    ];
    let rows = separated.examples.iter().map(|example| {
        vec![example.text.clone(), example.row.to_string(), shortened(&example.label), shortened(&example.taken_for)]
    });
    let table = Table { columns: columns.to_vec(), rows: rows.collect() };
    Section { title, paragraphs: vec![paragraph], table: Some(table) }
}

fn spell(estimate: Estimate, language: Language) -> String {
    let Estimate { value, low, high } = estimate;
    format!("{value:.3} ({low:.3} {} {high:.3})", language.either("to", "a"))
}

/// Formats a table for a terminal: the first column to the left, the others to the right.
pub(crate) fn aligned_lines(table: &Table) -> Vec<String> {
    let rows: Vec<&Vec<String>> = std::iter::once(&table.columns).chain(&table.rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let table = Table { columns: row(["model", "dim."]), rows: vec![row(["a", "384"]), row(["bertin", "1024"])] };
        assert_eq!(aligned_lines(&table), ["model   dim.", "a        384", "bertin  1024"]);
    }
}
