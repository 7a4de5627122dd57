//! A figure as one self-contained page: template, style, scripts and data in one file.
//!
//! Two measures prevent data from being executed: it is in a JSON block with every `<` escaped, which scripts parse as
//! text; and the content security policy allows only the script with the given digest, and no connections.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::draw::{escape, outline, sanitize};
use super::emoji::{self, Piece};
use super::range::ColourRange;
use super::{Figure, Labels, Section, Table, label_placement, palette, view};
use crate::thousands;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = concat!(include_str!("page/scene.js"), include_str!("page/page.js"));
/// Colours of the ramp that the page gets; it interpolates between them.
const STOPS: u32 = 16;

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

/// Wraps an SVG document of this crate in a page.
pub(crate) fn page_of_svg(title: &str, svg: &str) -> String {
    const STYLE: &str = "svg { max-width: 100%; height: auto; }";
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{svg}</body>\n</html>\n",
        policy_hash(STYLE),
        escape(title)
    )
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
fn policy_hash(text: &str) -> String {
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

fn data(figure: &Figure) -> Value {
    let rows = figure.panels.first().map_or(0, |panel| panel.points.len());
    let (labels, drawings) = labels(&figure.labels);
    let panels: Vec<Value> = figure
        .panels
        .iter()
        .map(|panel| {
            let view = view::view(&panel.points);
            let spots = match &figure.labels {
                Labels::Categories { codes, named, .. } => {
                    let found = label_placement::spots(*named, codes, &panel.points, &view);
                    Some(found.into_iter().map(|spot| spot.map(|spot| spot.at)).collect::<Vec<_>>())
                }
                Labels::None | Labels::Continuous { .. } => None,
            };
            let xy = packed(panel.points.iter().flatten().flat_map(|x| x.to_le_bytes()));
            let [[left, right], [low, high]] = view.bounds;
            let start = json!({ "left": left, "right": right, "low": low, "high": high });
            let (title, note) = (&panel.title, &panel.note);
            json!({ "title": title, "note": note, "xy": xy, "spots": spots, "start": start, "crowds": view.occupied_cells })
        })
        .collect();
    let hover: Vec<Value> =
        figure.hover.iter().map(|column| json!({ "name": column.name, "values": column.values })).collect();
    let outlines = palette::SHAPE_ORDER.map(|shape| {
        let mut path = String::new();
        // Coordinates have two decimals, so outlines are scaled by ten.
        outline(&mut path, shape, (0.0, 0.0), 10.0);
        path
    });
    let ramp = |part| {
        (0..=STOPS).map(|stop| palette::visible_ramp(f64::from(stop) / f64::from(STOPS), part)).collect::<Vec<_>>()
    };
    json!({
        "rows": rows, "panels": panels, "labels": labels, "drawings": drawings, "hover": hover, "outlines": outlines,
        "palette": palette::PALETTE, "missing": palette::MISSING, "faint": palette::FAINT,
        "ramp": [ramp(palette::VISIBLE_RAMP.0), ramp(palette::VISIBLE_RAMP.1)],
    })
}

/// Returns the labels, and the drawings of the emojis in their names.
fn labels(labels: &Labels) -> (Value, BTreeMap<&'static str, &'static str>) {
    let mut drawings = BTreeMap::new();
    let value = match labels {
        Labels::None => Value::Null,
        Labels::Categories { column, names, codes, named } => {
            let mut counts = vec![0u64; names.len()];
            codes.iter().for_each(|code| counts[*code as usize] += 1);
            let index = |shape| palette::SHAPE_ORDER.iter().position(|other| *other == shape).unwrap_or(0);
            let styles: Vec<(usize, usize)> = palette::styles(names.len(), *named, codes.len())
                .into_iter()
                .map(|(colour, shape)| (colour, index(shape)))
                .collect();
            let pieces: Vec<Vec<Value>> = names
                .iter()
                .map(|name| {
                    let piece = |piece: Piece<'_>| match piece {
                        Piece::Text(text) => json!({ "text": text }),
                        Piece::Emoji(drawing) => {
                            drawings.insert(drawing.key, drawing.body);
                            json!({ "emoji": drawing.key })
                        }
                    };
                    emoji::pieces(&sanitize(name)).into_iter().map(piece).collect()
                })
                .collect();
            let codes = packed(codes.iter().flat_map(|code| (*code as u16).to_le_bytes()));
            json!({
                "kind": "names", "column": column, "names": names, "pieces": pieces, "codes": codes, "counts": counts,
                "styles": styles,
            })
        }
        Labels::Continuous { column, values, others } => {
            let range = ColourRange::of(values);
            let others: Vec<String> =
                others.iter().map(|(name, count)| format!("{name} {}", thousands(*count as u64))).collect();
            let values = packed(values.iter().flat_map(|value| (*value as f32).to_le_bytes()));
            json!({
                "kind": "numbers", "column": column, "values": values, "low": range.low, "high": range.high,
                "ticks": range.ticks(), "others": others,
            })
        }
    };
    (value, drawings)
}

fn packed(bytes: impl Iterator<Item = u8>) -> String {
    BASE64.encode(bytes.collect::<Vec<u8>>())
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
    format!("<section>\n<h2>{}</h2>\n{paragraphs}{table}</section>\n", escape(&sanitize(&section.title)))
}

#[cfg(test)]
mod tests {
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
    fn bidi_control_characters_in_names_are_replaced() {
        let mut figure = super::super::tests::figure(2, &["\u{202E}etnamruf\u{7}"], 1);
        figure.hover.clear();
        let labels = data(&figure)["labels"].clone();
        assert_eq!(labels["pieces"][0], json!([{ "text": "\u{FFFD}etnamruf\u{FFFD}" }]));
    }

    #[test]
    fn html_in_values_creates_no_elements() {
        let evil = "</title></script><script>alert(1)</script>{{script}}";
        let figure = Figure {
            title: evil.into(),
            subtitle: evil.into(),
            panels: vec![super::super::Panel { title: evil.into(), note: evil.into(), points: vec![[0.0, 1.0]] }],
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
