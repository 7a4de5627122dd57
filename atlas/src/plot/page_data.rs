//! The data block of the page: points, columns, and what each column means as colour, as JSON with packed numbers.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::{Value, json};

use super::draw::{outline, sanitize};
use super::emoji::{self, Piece};
use super::range::ColourRange;
use super::{Figure, HoverColumn, Labels, label_placement, names, palette, view};
use crate::thousands;

/// Colours of the ramp that the page gets; it interpolates between them.
const STOPS: u32 = 16;
/// Maximum bytes of the columns' values: browsers take seconds to read more.
const TEXT_BYTES_MAX: usize = 128 << 20;
/// Lengths in characters at which values are cut, one after the other, while they are larger than that.
const CUTS: [usize; 3] = [1_000, 300, 100];
/// Maximum distinct values that are stored once, with an index per row.
const DICTIONARY_MAX: usize = 1 << 16;
/// The packed share of a row without a place on the colour bar; others are from 0 to one less.
const NO_SHARE: u16 = u16::MAX;
/// Maximum width of a name among the points.
const NAME_WIDTH_MAX: f32 = 170.0;
/// Rows of a column that are looked at before its values are counted.
const SAMPLE: usize = 2_000;

/// Neighbours of a point that the page shows.
pub const NEAREST: usize = 8;
/// Maximum bytes of a panel's neighbours; beyond, the page looks for near points in the plane.
const NEAREST_BYTES_MAX: usize = 16 << 20;

/// The data block of a page.
#[derive(Serialize)]
pub(super) struct Data<'f> {
    columns: Vec<Column<'f>>,
    #[serde(flatten)]
    rest: Value,
}

/// A column in one of three encodings. Texts are borrowed: those of a million rows are large.
#[derive(Serialize)]
struct Column<'f> {
    name: &'f str,
    #[serde(flatten)]
    values: Values<'f>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'f> {
    /// Packed 32-bit integers.
    Integers { integers: String },
    /// Few distinct values, and a packed index per row.
    Dictionary { dictionary: Vec<&'f str>, codes: String },
    /// One value per row.
    Texts { texts: Vec<&'f str> },
}

/// Returns the data block of a figure.
pub(super) fn data(figure: &Figure) -> Data<'_> {
    data_within(figure, TEXT_BYTES_MAX)
}

/// As [`data`], with another limit for the values of columns.
pub(super) fn data_within(figure: &Figure, bytes_max: usize) -> Data<'_> {
    let rows = figure.panels.first().map_or(0, |panel| panel.points.len());
    let mut drawings = BTreeMap::new();
    let colourings: Vec<Value> = colourings(figure).iter().map(|labels| colouring(labels, &mut drawings)).collect();
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
            let nearest =
                panel.nearest.as_ref().filter(|nearest| nearest.k > 0 && nearest.ids.len() * 4 <= NEAREST_BYTES_MAX);
            let nearest = nearest.map(
                |nearest| json!({ "k": nearest.k, "ids": packed(nearest.ids.iter().flat_map(|id| id.to_le_bytes())) }),
            );
            json!({
                "title": title, "note": note, "xy": xy, "spots": spots, "start": start, "crowds": view.occupied_cells,
                "outside": view.outside, "nearest": nearest,
            })
        })
        .collect();
    let outlines = palette::SHAPE_ORDER.map(|shape| {
        let mut path = String::new();
        // Coordinates have two decimals, so outlines are scaled by ten.
        outline(&mut path, shape, (0.0, 0.0), 10.0);
        path
    });
    let ramp = |part| {
        (0..=STOPS).map(|stop| palette::visible_ramp(f64::from(stop) / f64::from(STOPS), part)).collect::<Vec<_>>()
    };
    let (columns, left_out) = columns(&figure.hover, bytes_max);
    let text = figure.hover.first().map(|column| &column.name);
    let has_text = text.is_some() && columns.first().map(|column| column.name) == text.map(String::as_str);
    let rest = json!({
        "rows": rows, "panels": panels, "colourings": colourings, "labelled": figure.labels.column().is_some(),
        "drawings": drawings, "leftOut": left_out, "hasText": has_text, "outlines": outlines,
        "palette": palette::PALETTE, "inks": palette::PALETTE.map(|(light, _)| palette::ink(light)), "missing": palette::MISSING, "faint": palette::FAINT,
        "ramp": [ramp(palette::VISIBLE_RAMP.0), ramp(palette::VISIBLE_RAMP.1)],
    });
    Data { columns, rest }
}

/// Returns the columns' values, and sentences on what was left out to stay within `bytes_max`.
fn columns(columns: &[HoverColumn], bytes_max: usize) -> (Vec<Column<'_>>, Vec<String>) {
    let mut sizes: Vec<usize> = columns.iter().map(|column| column.values.iter().map(String::len).sum()).collect();
    let mut cuts = vec![None; columns.len()];
    let mut left_out = vec![false; columns.len()];
    while sizes.iter().sum::<usize>() > bytes_max {
        let largest = (0..sizes.len()).max_by_key(|column| sizes[*column]).expect("an empty sum is within the limit");
        let shorter = CUTS.into_iter().find(|cut| cuts[largest].is_none_or(|earlier| *cut < earlier));
        match shorter {
            Some(cut) => {
                cuts[largest] = Some(cut);
                sizes[largest] = columns[largest].values.iter().map(|value| shortened(value, cut).len()).sum();
            }
            None => (left_out[largest], sizes[largest]) = (true, 0),
        }
    }
    let mut notes = Vec::new();
    let mut written = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let name = sanitize(&column.name);
        match cuts[index] {
            _ if left_out[index] => {
                notes.push(format!("column “{name}” is left out"));
            }
            Some(cut) => {
                notes.push(format!("values of “{name}” are cut at {cut} characters"));
                let values = column.values.iter().map(|value| shortened(value, cut)).collect();
                written.push(Column { name: &column.name, values: encoded(values) });
            }
            None => {
                let values = column.values.iter().map(String::as_str).collect();
                written.push(Column { name: &column.name, values: encoded(values) });
            }
        }
    }
    (written, notes)
}

fn shortened(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Encodes a column: integers packed, few distinct values once with an index per row, others as they are.
fn encoded(values: Vec<&str>) -> Values<'_> {
    let integers: Option<Vec<i32>> = values.iter().map(|value| canonical_integer(value)).collect();
    if let Some(integers) = integers {
        return Values::Integers { integers: packed(integers.iter().flat_map(|x| x.to_le_bytes())) };
    }
    let mut index: HashMap<&str, u16> = HashMap::new();
    let mut dictionary: Vec<&str> = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    for value in &values {
        let code = *index.entry(value).or_insert_with(|| {
            dictionary.push(value);
            (dictionary.len() - 1) as u16
        });
        codes.push(code);
        if dictionary.len() >= DICTIONARY_MAX || dictionary.len() > values.len() / 2 + 1 {
            return Values::Texts { texts: values };
        }
    }
    Values::Dictionary { dictionary, codes: packed(codes.iter().flat_map(|x| x.to_le_bytes())) }
}

/// Reads an integer that is printed as the same text.
fn canonical_integer(text: &str) -> Option<i32> {
    let number: i32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Returns what can be shown as colour: the labels of the figure first, then its other columns.
fn colourings(figure: &Figure) -> Vec<Labels> {
    let given = (figure.labels != Labels::None).then(|| figure.labels.clone());
    let others = figure
        .hover
        .iter()
        .enumerate()
        .filter(|(index, column)| is_a_property(*index, column) && figure.labels.column() != Some(&column.name))
        .filter_map(|(_, column)| other_colouring(column));
    given.into_iter().chain(others).collect()
}

/// Returns whether a column says something of rows; the text and the row number only tell them apart.
fn is_a_property(index: usize, column: &HoverColumn) -> bool {
    index > 0 && column.name != "row"
}

/// Reads another column as colours; `None` where these would say little: one value, or mostly different ones.
fn other_colouring(column: &HoverColumn) -> Option<Labels> {
    let some = |values: &[String]| values.iter().map(|value| Some(value.clone())).collect::<Vec<_>>();
    // Texts are recognized by the first rows, without counting all.
    let first = &column.values[..column.values.len().min(SAMPLE)];
    let distinct: HashSet<&String> = first.iter().collect();
    if distinct.len() * 2 > first.len()
        && matches!(Labels::of_column(&column.name, &some(first)), Labels::Categories { .. })
    {
        return None;
    }
    let labels = Labels::of_column(&column.name, &some(&column.values));
    let is_telling = match &labels {
        Labels::None => false,
        Labels::Categories { names, .. } => names.len() > 1,
        Labels::Continuous { values, .. } => values.iter().any(|value| !value.is_nan()),
    };
    is_telling.then_some(labels)
}

/// Writes labels for the page, and collects the drawings of the emojis in their names.
fn colouring(labels: &Labels, drawings: &mut BTreeMap<&'static str, &'static str>) -> Value {
    match labels {
        Labels::None => Value::Null,
        Labels::Categories { column, names, codes, named } => {
            let mut counts = vec![0u64; names.len()];
            codes.iter().for_each(|code| counts[*code as usize] += 1);
            let index = |shape| palette::SHAPE_ORDER.iter().position(|other| *other == shape).unwrap_or(0);
            let styles: Vec<(usize, usize)> = palette::styles(names.len(), *named, codes.len())
                .into_iter()
                .map(|(colour, shape)| (colour, index(shape)))
                .collect();
            let mut pieces =
                |names: &[String]| -> Vec<Vec<Value>> { names.iter().map(|name| pieces(name, drawings)).collect() };
            let short = names::without_common_prefix(&names[..*named]);
            let short = pieces(&names::fit_all(&short, label_placement::measure("name"), NAME_WIDTH_MAX));
            let pieces = pieces(names);
            let codes = packed(codes.iter().flat_map(|code| (*code as u16).to_le_bytes()));
            json!({
                "kind": "names", "column": column, "names": names, "pieces": pieces, "codes": codes, "counts": counts,
                "styles": styles, "short": short, "named": named,
            })
        }
        Labels::Continuous { column, quantity, values, others } => {
            let range = ColourRange::of(values, *quantity);
            let others: Vec<String> =
                others.iter().map(|(name, count)| format!("{name} {}", thousands(*count as u64))).collect();
            let share = |value: &f64| match value.is_nan() {
                true => NO_SHARE,
                false => (range.share(*value) * f64::from(NO_SHARE - 1)).round() as u16,
            };
            let shares = packed(values.iter().flat_map(|value| share(value).to_le_bytes()));
            json!({
                "kind": "numbers", "column": column, "shares": shares, "ticks": range.ticks(), "note": range.note(),
                "others": others,
            })
        }
    }
}

/// Cuts a name at its emojis, and collects their drawings.
fn pieces(name: &str, drawings: &mut BTreeMap<&'static str, &'static str>) -> Vec<Value> {
    let piece = |piece: Piece<'_>| match piece {
        Piece::Text(text) => json!({ "text": text }),
        Piece::Emoji(drawing) => {
            drawings.insert(drawing.key, drawing.body);
            json!({ "emoji": drawing.key })
        }
    };
    emoji::pieces(&sanitize(name)).into_iter().map(piece).collect()
}

fn packed(bytes: impl Iterator<Item = u8>) -> String {
    BASE64.encode(bytes.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::super::Panel;
    use super::*;

    fn json_of(figure: &Figure) -> Value {
        serde_json::to_value(data(figure)).unwrap()
    }

    fn values_of(values: &[&str]) -> Value {
        serde_json::to_value(encoded(values.to_vec())).unwrap()
    }

    fn column(name: &str, values: &[&str]) -> HoverColumn {
        HoverColumn { name: name.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn bidi_control_characters_in_names_are_replaced() {
        let mut figure = super::super::tests::figure(2, &["\u{202E}etnamruf\u{7}"], 1);
        figure.hover.clear();
        let labels = json_of(&figure)["colourings"][0].clone();
        assert_eq!(labels["pieces"][0], json!([{ "text": "\u{FFFD}etnamruf\u{FFFD}" }]));
    }

    #[test]
    fn columns_are_packed_without_loss() {
        let integers = values_of(&["0", "-7", "2147483647"]);
        assert_eq!(BASE64.decode(integers["integers"].as_str().unwrap()).unwrap()[4..8], (-7i32).to_le_bytes());
        for kept_as_text in [["007", "8"], ["", "8"], ["2147483648", "1"]] {
            assert!(values_of(&kept_as_text)["integers"].is_null(), "{kept_as_text:?}");
        }
        let few = values_of(&["b", "a", "b", "b"]);
        assert_eq!(few["dictionary"], json!(["b", "a"]));
        assert_eq!(BASE64.decode(few["codes"].as_str().unwrap()).unwrap(), [0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(values_of(&["a", "b", "c", "d"])["texts"], json!(["a", "b", "c", "d"]));
    }

    #[test]
    fn values_are_cut_and_then_left_out_of_a_page_that_would_be_too_large() {
        let long = "ñ".repeat(2_000);
        let all = [column("text", &[&long, "short", "b"]), column("<b>", &["x", "y", "z"])];
        let (written, notes) = columns(&all, 1 << 20);
        let written = serde_json::to_value(written).unwrap();
        assert_eq!((written[0]["texts"][0].as_str(), notes.len()), (Some(long.as_str()), 0));
        let (written, notes) = columns(&all, 1_000);
        let written = serde_json::to_value(written).unwrap();
        assert_eq!(written[0]["texts"], json!([&long[..600], "short", "b"]));
        assert!(notes[0].contains("“text” are cut at 300 characters"), "{notes:?}");
        let (written, notes) = columns(&all, 5);
        assert_eq!(written[0].name, "<b>");
        assert!(notes[0].contains("“text” is left out"), "{notes:?}");
    }

    #[test]
    fn columns_that_say_something_of_rows_are_colourings() {
        let values = |make: fn(usize) -> String| (0..100).map(make).collect::<Vec<String>>();
        let named = |name: &str, values| HoverColumn { name: name.into(), values };
        let figure = Figure {
            panels: vec![Panel { points: vec![[0.0, 0.0]; 100], ..Panel::default() }],
            labels: Labels::of_column("label", &vec![Some("x".to_owned()); 100]),
            hover: vec![
                named("text", values(|row| format!("text {}", row % 3))),
                named("label", values(|_| "x".into())),
                named("id", values(|row| format!("id{row}"))),
                named("year", values(|row| (1950 + row / 2).to_string())),
                named("constant", values(|_| "same".into())),
                named("language", values(|row| ["es", "en"][row % 2].into())),
                named("row", values(|row| row.to_string())),
            ],
            ..Figure::default()
        };
        let found = json_of(&figure)["colourings"].clone();
        let found: Vec<(&str, &str)> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["column"].as_str().unwrap(), one["kind"].as_str().unwrap()))
            .collect();
        assert_eq!(found, [("label", "names"), ("year", "numbers"), ("language", "names")]);
    }
}
