//! A heat map as a page: the picture, in dark colours where these are preferred, and for narrow windows and screen readers
//! the texts, their most alike pairs and the matrix as a table. Without a script.

use std::fmt::Write;

use super::draw::{escape, sanitize};
use super::heatmap::{Heatmap, ink_on, lowest};
use super::html::policy_hash;
use super::palette;
use crate::excerpt;

const STYLE: &str = include_str!("page/heatmap.css");
/// Colours of the ramp, a class each: the policy of the page allows no styles of elements.
const STEPS: u32 = 64;
/// Maximum texts in a table; more are only drawn.
const TABLE_TEXTS_MAX: usize = 60;
/// Pairs that are listed.
const PAIRS: usize = 5;
/// Maximum characters of a listed text.
const TEXT_CHARS_MAX: usize = 300;

/// Writes the page of a heat map that was drawn as this SVG document.
pub(crate) fn page(map: &Heatmap, svg: &str) -> String {
    let style = format!("{STYLE}{}", ramp());
    let small = if map.names.len() <= TABLE_TEXTS_MAX { small(map) } else { String::new() };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'\">\n<title>{}</title>\n\
         <style>{style}</style>\n</head>\n<body>\n{small}<div class=\"wide\" role=\"img\" aria-label=\"{}\">\n{svg}</div>\n\
         </body>\n</html>\n",
        policy_hash(&style),
        text(&map.title),
        text(&format!("Heat map of {} texts", map.names.len())),
    )
}

fn text(text: &str) -> String {
    escape(&sanitize(&excerpt(text, TEXT_CHARS_MAX)))
}

fn ramp() -> String {
    (0..=STEPS).fold(String::new(), |mut css, step| {
        let share = f64::from(step) / f64::from(STEPS);
        let (colour, ink) = (palette::ramp(share), ink_on(share));
        writeln!(css, ".s{step} {{ background: {colour}; color: {ink}; }}").expect("a string takes all");
        css
    })
}

fn small(map: &Heatmap) -> String {
    let n = map.names.len();
    let low = lowest(map);
    let class = |value: f32| match value.is_finite() {
        true => format!("s{:.0}", ((value - low) / (1.0 - low)).clamp(0.0, 1.0) * STEPS as f32),
        false => String::new(),
    };
    let names: String = map.names.iter().map(|name| format!("<li>{}</li>\n", text(name))).collect();
    let mut pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    let of = |(a, b): (usize, usize)| map.values[a * n + b];
    pairs.retain(|pair| of(*pair).is_finite());
    pairs.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
    let alike: String = pairs
        .iter()
        .take(PAIRS)
        .map(|pair| {
            let (value, one, other) = (of(*pair), text(&map.names[pair.0]), text(&map.names[pair.1]));
            format!(
                "<li><b class=\"{}\">{value:.2}</b><div><span>{one}</span><span>{other}</span></div></li>\n",
                class(value)
            )
        })
        .collect();
    let head: String = (1..=n).map(|number| format!("<th scope=\"col\">{number}</th>")).collect();
    let rows: String = map
        .values
        .chunks(n.max(1))
        .enumerate()
        .map(|(row, values)| {
            let cells: String =
                values.iter().map(|value| format!("<td class=\"{}\">{value:.2}</td>", class(*value))).collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", row + 1)
        })
        .collect();
    let (title, subtitle) = (text(&map.title), text(&map.subtitle));
    format!(
        "<div class=\"small\">\n<h1>{title}</h1>\n<p>{subtitle}</p>\n<ol>\n{names}</ol>\n\
         <h2>Most alike</h2>\n<ol class=\"pairs\">\n{alike}</ol>\n<h2>All pairs</h2>\n<div class=\"scroll\" tabindex=\"0\">\
         <table>\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n</div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::{PlotFormat, render_heatmap};
    use super::*;

    #[test]
    fn texts_pairs_and_matrix_are_in_the_page_as_text() {
        let names = vec!["uno".to_owned(), "<b>dos</b>\u{202E}".to_owned(), "ñ".repeat(100_000)];
        let values = vec![1.0, 0.25, 0.5, 0.25, 1.0, 0.75, 0.5, 0.75, 1.0];
        let map = Heatmap { title: "<i>".into(), subtitle: String::new(), names, values };
        let page = String::from_utf8(render_heatmap(&map, PlotFormat::Html).unwrap().bytes).unwrap();
        assert!(!page.contains("<script") && !page.contains("<b>dos") && !page.contains("<i>"));
        assert!(!page.contains('\u{202E}') && page.len() < 100_000);
        let alike = page.find("0.75</b><div><span>&lt;b&gt;dos").unwrap();
        assert!(alike < page.find("0.50</b><div><span>uno").unwrap(), "the most alike come first");
        assert_eq!(page.matches("<td class=\"s").count(), 9);
        let many = Heatmap { names: vec!["a".into(); 61], values: vec![f32::NAN; 61 * 61], ..map };
        let page = String::from_utf8(render_heatmap(&many, PlotFormat::Html).unwrap().bytes).unwrap();
        assert!(!page.contains("<table"), "too many for a table");
    }
}
