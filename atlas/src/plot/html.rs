//! A figure as one self-contained page: template, style, scripts and data in one file.
//!
//! Two measures prevent data from being executed: it is in a JSON block with every `<` escaped, which scripts parse as
//! text; and the content security policy allows only the script with the given digest, and no connections.

use std::fmt::Write;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::draw::{escape, sanitize};
use super::page_data::{Data, data};
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
    page_with(figure, &data(figure))
}

pub(super) fn page_with(figure: &Figure, data: &Data<'_>) -> String {
    fill(PAGE, |name, page| match name {
        "title" => page.push_str(&escape(&figure.title)),
        "subtitle" => page.push_str(&escape(&figure.subtitle)),
        "style" => page.push_str(STYLE),
        "script" => page.push_str(SCRIPT),
        "style-hash" => page.push_str(&policy_hash(STYLE)),
        "script-hash" => page.push_str(&policy_hash(SCRIPT)),
        "table" => page.push_str(&figure.table.as_ref().map(table).unwrap_or_default()),
        "sections" => figure.sections.iter().for_each(|part| page.push_str(&section(part))),
        "data" => write_json(page, data),
        other => unreachable!("the template asks for `{other}`"),
    })
}

/// Replaces every `{{name}}` of a template. Values are not expanded again.
fn fill(template: &str, write: impl Fn(&str, &mut String)) -> String {
    let mut page = String::new();
    for (index, part) in template.split("{{").enumerate() {
        match part.split_once("}}") {
            Some((name, rest)) if index > 0 => {
                write(name, &mut page);
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

/// Appends JSON, without a copy in memory: it may be the texts of a million rows.
fn write_json(page: &mut String, value: &impl Serialize) {
    serde_json::to_writer(Escaped(page), value).expect("keys are strings, and a string takes all");
}

/// Takes JSON, and escapes it so that it cannot end or begin an element or comment, nor end a line of JavaScript.
struct Escaped<'p>(&'p mut String);

impl io::Write for Escaped<'_> {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        // The serializer writes whole strings between its own escapes.
        let json_text = std::str::from_utf8(json).map_err(io::Error::other)?;
        let mut rest = json_text;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, from) = rest.split_at(at);
            let c = from.chars().next().expect("it was found");
            // These only occur in strings, where the escape is equivalent.
            write!(self.0, "{before}\\u{:04x}", u32::from(c)).expect("a string takes all");
            rest = &from[c.len_utf8()..];
        }
        self.0.push_str(rest);
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let same = |name: &str, page: &mut String| page.push_str(&format!("{{{{{name}}}}}"));
        assert_eq!(fill("a {{x}} b {{y}}", same), "a {{x}} b {{y}}");
    }

    #[test]
    fn json_cannot_end_its_script_block() {
        let texts = ["</script><script>alert(1)</script>", "<!--", "a\u{2028}b\u{2029}", "]]>", "&lt;"];
        let mut written = String::new();
        write_json(&mut written, &json!(texts));
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
