//! A figure as one self-contained page: template, style, scripts and data in one file.
//!
//! Two measures prevent data from being executed: it is in a JSON block with every `<` escaped, which scripts parse as
//! text; and the content security policy allows only the script with the given digest, and no connections.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::draw::{escape, sanitize};
use super::page_data::data;
use super::{Figure, Section, Table};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// The parts of the script, in the order of their definitions.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/scene.js"),
    include_str!("page/grid.js"),
    include_str!("page/panels.js"),
    include_str!("page/colours.js"),
    include_str!("page/states.js"),
    include_str!("page/names.js"),
    include_str!("page/card.js"),
    include_str!("page/pointer.js"),
    include_str!("page/search.js"),
    include_str!("page/legend.js"),
    include_str!("page/table.js"),
    include_str!("page/link.js"),
    include_str!("page/page.js"),
);

/// Writes the page of a validated figure.
pub(crate) fn page(figure: &Figure) -> String {
    fill(PAGE, |name| match name {
        "title" => escape(&figure.title),
        "subtitle" => escape(&figure.subtitle),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "style-hash" => policy_hash(STYLE),
        "script-hash" => policy_hash(SCRIPT),
        "table" => figure.table.as_ref().map(table).unwrap_or_default(),
        "sections" => figure.sections.iter().map(section).collect(),
        "data" => escape_json_for_html(&data(figure).to_string()),
        other => unreachable!("the template asks for `{other}`"),
    })
}

/// Replaces every `{{name}}` of a template. Values are not expanded again.
fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::new();
    for (index, part) in template.split("{{").enumerate() {
        match part.split_once("}}") {
            Some((name, rest)) if index > 0 => {
                page.push_str(&value(name));
                page.push_str(rest);
            }
            Some(_) | None => page.push_str(part),
        }
    }
    page
}

/// Returns the CSP source expression for exactly this script.
pub(crate) fn policy_hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text.as_bytes())))
}

/// Escapes JSON so that it cannot end or begin an element or comment, nor end a line of JavaScript.
fn escape_json_for_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            // These only occur in strings, where the escape is equivalent.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all");
            }
            c => out.push(c),
        }
    }
    out
}

fn table(table: &Table) -> String {
    let cells = |tag: &str, row: &[String]| -> String {
        row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(&sanitize(cell)))).collect()
    };
    let rows: String = table.rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    format!(
        "<div class=\"table\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>",
        cells("th", &table.columns)
    )
}

fn section(section: &Section) -> String {
    let paragraphs: String =
        section.paragraphs.iter().map(|text| format!("<p>{}</p>\n", escape(&sanitize(text)))).collect();
    let table = section.table.as_ref().map(table).unwrap_or_default();
    format!(
        "<section class=\"section\">\n<h2>{}</h2>\n{paragraphs}{table}</section>\n",
        escape(&sanitize(&section.title))
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Labels;
    use super::*;

    #[test]
    fn values_of_a_template_are_not_expanded_again() {
        assert_eq!(fill("a {{x}} b {{y}}", |name| format!("{{{{{name}}}}}")), "a {{x}} b {{y}}");
    }

    #[test]
    fn json_cannot_end_its_script_block() {
        let texts = ["</script><script>alert(1)</script>", "<!--", "a\u{2028}b\u{2029}", "]]>", "&lt;"];
        let written = escape_json_for_html(&json!(texts).to_string());
        assert!(!written.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{written}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&written).unwrap(), texts);
    }

    #[test]
    fn html_in_values_creates_no_elements() {
        let evil = "</title></script><script>alert(1)</script>{{script}}";
        let figure = Figure {
            title: evil.into(),
            subtitle: evil.into(),
            panels: vec![super::super::Panel {
                title: evil.into(),
                note: evil.into(),
                points: vec![[0.0, 1.0]],
                nearest: None,
            }],
            labels: Labels::of_column(evil, &[Some(evil.into())]),
            hover: vec![super::super::HoverColumn { name: evil.into(), values: vec![evil.into()] }],
            table: Some(Table { columns: vec![evil.into()], rows: vec![vec![evil.into()]] }),
            sections: vec![Section { title: evil.into(), paragraphs: vec![evil.into()], table: None }],
            ..Figure::default()
        };
        let page = page(&figure);
        assert_eq!(page.matches("<script").count(), 2, "the data and the program");
        assert!(!page.contains("alert(1)</script>"));
    }
}
