//! Made-up files in many dialects against what other programs read from them: Python's `csv`, `json` and text mode, and,
//! where a file is well formed, pyarrow and DuckDB. The programs are asked by `references.py`.

use std::path::Path;
use std::process::Command;

use dataset::{Format, Quote, ReadOptions, RejectReason};
use serde_json::{Value, json};

use crate::harness::{Corpus, Outcome, Text, block_on};

/// Delimiter, quote (`None` for none), our name of the encoding, Python's. A new dialect is a line here.
const DIALECTS: &[(char, Option<char>, &str, &str)] = &[
    (',', Some('"'), "utf-8", "utf-8"),
    (',', Some('"'), "utf-8", "utf-8-sig"),
    ('\t', Some('"'), "utf-8", "utf-8"),
    ('\t', None, "utf-8", "utf-8"),
    (',', None, "utf-8", "utf-8"),
    (';', Some('"'), "windows-1252", "cp1252"),
    (';', Some('\''), "iso-8859-15", "iso-8859-15"),
    ('|', Some('"'), "utf-16", "utf-16"),
    (';', None, "utf-16le", "utf-16-le"),
    (';', Some('"'), "utf-16be", "utf-16-be"),
    (',', Some('"'), "shift_jis", "shift_jis"),
    (' ', Some('"'), "windows-1251", "cp1251"),
];

const FILES_PER_DIALECT: u64 = 8;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// One file, how it is to be read, and how Python is told.
struct Case {
    format: Format,
    options: ReadOptions,
    bytes: Vec<u8>,
    codec: &'static str,
    is_well_formed: bool,
}

/// Characters that every one of the encodings has, and some that only those of Unicode have.
fn character(numbers: &mut Numbers, encoding: &str) -> char {
    const WESTERN: &str = "abc xyz0159.-;:,|'\t";
    let more = match encoding {
        "windows-1252" | "iso-8859-15" => "ñáÜ¿€",
        "windows-1251" => "дЖя€",
        "shift_jis" => "漢字かナ",
        _ => "ñ€漢\u{1f600}\u{301}\u{2028}\u{85}\u{a0}\u{0}",
    };
    let all: Vec<char> = WESTERN.chars().chain(more.chars()).collect();
    all[numbers.below(all.len())]
}

fn encode(text: &str, label: &str, codec: &str) -> Vec<u8> {
    let units = |to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    match codec {
        "utf-8" => text.as_bytes().to_vec(),
        "utf-8-sig" => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        "utf-16" => [vec![0xff, 0xfe], units(u16::to_le_bytes)].concat(),
        "utf-16-le" => units(u16::to_le_bytes),
        "utf-16-be" => units(u16::to_be_bytes),
        _ => {
            let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
            let (bytes, _, has_unmappable) = encoding.encode(text);
            assert!(!has_unmappable, "{label}: {text}");
            bytes.into_owned()
        }
    }
}

fn field(numbers: &mut Numbers, encoding: &str, lines: bool) -> String {
    // Some are beyond what readers have in a buffer at once.
    let length = if numbers.is_one_in(200) { 70_000 } else { numbers.below(8) };
    let mut text = String::new();
    for _ in 0..length {
        match numbers.below(12) {
            0 if lines => text.push_str(["\n", "\r\n", "\r"][numbers.below(3)]),
            1 => text.push('"'),
            _ => text.push(character(numbers, encoding)),
        }
    }
    text
}

/// Writes a file as RFC 4180 has it (with other characters), one line end throughout, all rows as wide as the header.
fn well_formed(numbers: &mut Numbers, dialect: (char, Option<char>, &str, &str)) -> String {
    let (delimiter, quote, encoding, _) = dialect;
    let width = 2 + numbers.below(3);
    let names: Vec<String> =
        (0..width).map(|index| if index == 1 { "text".to_owned() } else { format!("c{index}") }).collect();
    let mut text = format!("{}\n", names.join(&delimiter.to_string()));
    for _ in 0..numbers.below(40) {
        let fields: Vec<String> = (0..width)
            .map(|_| {
                // pyarrow and DuckDB have their own ideas of lone CRs, zeros and white space around.
                let field = field(numbers, encoding, quote.is_some()).replace(['\r', '\0'], "");
                let Some(quote) = quote else { return format!("x{}", field.replace(['\n', delimiter], "")) };
                let must = field.contains([delimiter, quote, '\n', '\'', '"']) || field.trim() != field;
                let doubled = field.replace(quote, &format!("{quote}{quote}"));
                if must || numbers.is_one_in(4) { format!("{quote}{doubled}{quote}") } else { format!("x{field}") }
            })
            .collect();
        text.push_str(&format!("{}\n", fields.join(&delimiter.to_string())));
    }
    text
}

/// Writes anything: stray quotes, rows of any width, every line end, blank lines.
fn wild(numbers: &mut Numbers, dialect: (char, Option<char>, &str, &str)) -> String {
    let (delimiter, quote, encoding, _) = dialect;
    let mut text = format!("id{delimiter}text{delimiter}z\n");
    for _ in 0..numbers.below(60) {
        for index in 0..[3, 3, 3, 3, 3, 2, 4, 1][numbers.below(8)] {
            if index > 0 {
                text.push(delimiter);
            }
            let field = field(numbers, encoding, false);
            match numbers.below(10) {
                0..3 => text.extend(quote.into_iter().chain(field.chars()).chain(quote)),
                // A stray quote, mostly where it is none.
                3 if numbers.is_one_in(6) => text.extend(quote.into_iter().chain(field.chars())),
                _ => text.push_str(&field),
            }
        }
        text.push_str(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"][numbers.below(5)]);
    }
    text.push('\n');
    text
}

fn csv_cases(cases: &mut Vec<Case>) {
    for (index, &dialect) in DIALECTS.iter().enumerate() {
        for file in 0..FILES_PER_DIALECT {
            let mut numbers = Numbers(1000 * index as u64 + file);
            let (delimiter, quote, label, codec) = dialect;
            let is_well_formed = file < FILES_PER_DIALECT / 2;
            let make = if is_well_formed { well_formed } else { wild };
            let text = make(&mut numbers, dialect);
            let options = ReadOptions {
                delimiter: Some(delimiter),
                quote: Some(quote.map_or(Quote::None, Quote::Char)),
                encoding: Some(label.to_owned()),
                ..ReadOptions::default()
            };
            let bytes = encode(&text, label, codec);
            cases.push(Case { format: Format::Csv, options, bytes, codec, is_well_formed });
        }
    }
}

fn txt_cases(cases: &mut Vec<Case>) {
    for (index, (_, _, label, codec)) in DIALECTS.iter().enumerate() {
        let mut numbers = Numbers(50_000 + index as u64);
        let mut text = String::new();
        for _ in 0..numbers.below(60) {
            text.push_str(&field(&mut numbers, label, false));
            text.push_str(["\n", "\r\n", "\r"][numbers.below(3)]);
        }
        let options = ReadOptions { encoding: Some((*label).to_owned()), ..ReadOptions::default() };
        let bytes = encode(&text, label, codec);
        cases.push(Case { format: Format::Txt, options, bytes, codec, is_well_formed: false });
    }
}

fn json_cases(cases: &mut Vec<Case>) {
    for file in 0..12 {
        let mut numbers = Numbers(90_000 + file);
        let is_well_formed = file < 6;
        let mut text = String::new();
        for row in 0..1 + numbers.below(60) {
            let value = serde_json::to_string(&field(&mut numbers, "utf-8", true).replace('\0', "")).unwrap();
            let n = ["1.5", "-2", "NaN", "Infinity", "-Infinity", "null", "1e3"][numbers.below(7)];
            let odd =
                ["{\"text\":", "[1]", "{\"text\":5,\"n\":1}", "{\"n\":NaN}", "{\"text\":null}", "{\"text\":\"a\"}}"];
            match numbers.below(if is_well_formed { 1 } else { 4 }) {
                3 if row > 0 => text.push_str(odd[numbers.below(odd.len())]),
                _ => text.push_str(&format!("{{\"n\": {n}, \"text\":{value}}}")),
            }
            text.push_str(["\n", "\r\n", "\n \n"][if is_well_formed { 0 } else { numbers.below(3) }]);
        }
        let options = ReadOptions::default();
        cases.push(Case { format: Format::Jsonl, options, bytes: text.into_bytes(), codec: "utf-8", is_well_formed });
    }
}

fn array_cases(cases: &mut Vec<Case>) {
    for file in 0..12 {
        let mut numbers = Numbers(120_000 + file);
        let is_well_formed = file < 6;
        let mut text = String::from("[");
        for row in 0..1 + numbers.below(60) {
            let space = ["", " ", "\n", "\r\n\t"][numbers.below(4)];
            if row > 0 {
                text.push_str(&format!("{space},{space}"));
            }
            let value = serde_json::to_string(&field(&mut numbers, "utf-8", true).replace('\0', "")).unwrap();
            let n = ["1.5", "-2", "null", "1e3", "0"][numbers.below(5)];
            let odd = [
                "[[1], {}]",
                "\"],{\"",
                "-1.5e3",
                "null",
                "{\"text\":5,\"n\":1}",
                "{\"text\":{\"a\":[\"}\"]}}",
                "true",
            ];
            match numbers.below(if is_well_formed { 1 } else { 3 }) {
                2 if row > 0 => text.push_str(odd[numbers.below(odd.len())]),
                _ => text.push_str(&format!("{{{space}\"n\":{n},{space}\"text\": {value}{space}}}")),
            }
        }
        text.push_str(["]", " ]\n", "\n]\r\n\n"][numbers.below(3)]);
        let (options, bytes) = (ReadOptions::default(), text.into_bytes());
        cases.push(Case { format: Format::Json, options, bytes, codec: "utf-8", is_well_formed });
    }
}

fn ask_python(folder: &Path, cases: &[Case]) -> Vec<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../build/venv/bin/python");
    assert!(python.is_file(), "`{}` is missing: run `make setup`", python.display());
    let list: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            std::fs::write(folder.join(name_of(index, case)), &case.bytes).unwrap();
            let quote = match case.options.quote {
                Some(Quote::Char(quote)) => Some(quote),
                Some(Quote::None) | None => None,
            };
            json!({
                "file": name_of(index, case),
                "format": case.format,
                "delimiter": case.options.delimiter,
                "quote": quote,
                "codec": case.codec,
                "well_formed": case.is_well_formed,
            })
        })
        .collect();
    std::fs::write(folder.join("cases.json"), serde_json::to_vec(&list).unwrap()).unwrap();
    let output = Command::new(python).arg(root.join("tests/corpus/references.py")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(folder.join("rows.json")).unwrap()).unwrap()
}

fn name_of(index: usize, case: &Case) -> String {
    format!("{index}.{}", case.format)
}

fn judged(text: &str) -> Text {
    if text.trim().is_empty() { Err(RejectReason::EmptyText) } else { Ok(text.to_owned()) }
}

/// Compares delimited rows or lines: `width` fields each, of which `text` is the text; others are malformed.
fn compare_fields(name: &str, outcome: &Outcome, expected: &[Value], width: usize, text: usize) {
    assert_eq!(outcome.rows.len(), expected.len(), "{name}");
    for (row, fields) in outcome.rows.iter().zip(expected) {
        let fields: Vec<String> = serde_json::from_value(fields.clone()).unwrap();
        let kept: Vec<Option<String>> = (0..width).map(|index| fields.get(index).cloned()).collect();
        assert_eq!(row.kept, kept, "{name}: row {}", row.row);
        let expected = match fields.len() {
            found if found == width => judged(&fields[text]),
            _ => Err(RejectReason::MalformedRecord),
        };
        assert_eq!(row.text, expected, "{name}: row {}", row.row);
    }
}

fn compare_objects(name: &str, outcome: &Outcome, expected: &[Value]) {
    assert_eq!(outcome.rows.len(), expected.len(), "{name}");
    let columns = ["n", "text"];
    for (row, object) in outcome.rows.iter().zip(expected) {
        let text = match &object["text"] {
            _ if object.is_null() => Err(RejectReason::MalformedRecord),
            Value::Null => Err(RejectReason::NullText),
            Value::String(text) => judged(text),
            _ => Err(RejectReason::NotAString),
        };
        assert_eq!(row.text, text, "{name}: row {}", row.row);
        let number =
            |text: &str| text.replace("inf", "Infinity").replace("nan", "NaN").parse::<f64>().unwrap().to_string();
        let kept = columns.iter().position(|column| *column == "n").and_then(|index| row.kept[index].as_deref());
        assert_eq!(kept.map(number), object["n"].as_str().map(number), "{name}: row {}", row.row);
    }
}

#[test]
fn files_of_every_dialect_match_other_programs() {
    let mut cases = Vec::new();
    csv_cases(&mut cases);
    txt_cases(&mut cases);
    json_cases(&mut cases);
    array_cases(&mut cases);
    let folder = tempfile::tempdir().unwrap();
    let expected = ask_python(folder.path(), &cases);
    let (mut rows, mut unclosed) = (0, 0);
    for (index, (case, expected)) in cases.iter().zip(&expected).enumerate() {
        let name = format!("{} {:?}", name_of(index, case), case.options);
        for limits in [(3, 200), (1000, 1 << 20)] {
            let mut corpus = Corpus::of(&name_of(index, case), &case.bytes).limits(limits.0, limits.1);
            corpus.options = case.options.clone();
            let outcome = match block_on(corpus.try_read()) {
                Ok(outcome) => outcome,
                // Python reads to the end of the file as one field; we refuse to.
                Err(error) if !case.is_well_formed && error.to_string().contains("never closes it") => {
                    unclosed += 1;
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            rows += outcome.rows.len();
            match case.format {
                Format::Jsonl | Format::Json => compare_objects(&name, &outcome, expected),
                Format::Txt => compare_fields(&name, &outcome, expected, 1, 0),
                Format::Csv | Format::Tsv | Format::Parquet | Format::Arrow => {
                    let header: Vec<String> = serde_json::from_value(expected[0].clone()).unwrap();
                    assert_eq!(outcome.planned[0].header, header, "{name}");
                    let text = header.iter().position(|column| column == "text").unwrap();
                    compare_fields(&name, &outcome, &expected[1..], header.len(), text);
                }
            }
        }
    }
    assert!(rows > 4000 && unclosed * 4 < cases.len(), "{rows} rows compared, {unclosed} files with an open quote");
}
