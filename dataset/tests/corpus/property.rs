//! For every text format, compression and shard limit: the slices together are the file, once, in order.

use dataset::{Compression, CutLimits, Format, RejectReason};
use proptest::prelude::*;

use crate::harness::{Corpus, Row, Text, compress};

#[derive(Debug, Clone)]
struct Record {
    text: Option<String>,
    number: Option<i64>,
    /// How it is written: quoting, line end, blank lines before it.
    style: (bool, usize, usize),
}

#[derive(Debug, Clone)]
struct File {
    records: Vec<Record>,
    has_mark: bool,
    has_last_line_end: bool,
    compression: Compression,
}

fn file() -> impl Strategy<Value = File> {
    let text = prop_oneof![
        4 => "[a-z\u{f1}\u{1f600} ,;\"\t\r\n\\\\]{0,12}".prop_map(Some),
        1 => Just(Some(String::new())),
        1 => Just(None),
    ];
    let record = (text, proptest::option::of(any::<i64>()), (any::<bool>(), 0_usize..3, 0_usize..3))
        .prop_map(|(text, number, style)| Record { text, number, style });
    let compression = proptest::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]);
    (proptest::collection::vec(record, 0..12), any::<bool>(), any::<bool>(), compression).prop_map(
        |(records, has_mark, has_last_line_end, compression)| File {
            records,
            has_mark,
            has_last_line_end,
            compression,
        },
    )
}

/// What must be read from a record: its text and its kept columns.
type Expected = (Text, Vec<Option<String>>);

/// Writes a file and what must be read from it.
fn write(format: Format, file: &File) -> (Vec<u8>, Vec<Expected>) {
    let mut text = if file.has_mark { "\u{feff}".to_owned() } else { String::new() };
    let mut expected = Vec::new();
    match format {
        Format::Csv | Format::Tsv => {
            let delimiter = if format == Format::Tsv { "\t" } else { "," };
            text.push_str(&["n", "text"].join(delimiter));
            text.push_str("\r\n");
            for record in &file.records {
                let (is_quoted, line_end, blanks) = record.style;
                text.push_str(&"\n".repeat(blanks));
                let value = record.text.clone().unwrap_or_default();
                let number = record.number.map(|number| number.to_string()).unwrap_or_default();
                let must_quote = value.contains(['"', '\n', '\r']) || value.contains(delimiter);
                let cell =
                    if is_quoted || must_quote { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.clone() };
                text.push_str(&format!("{number}{delimiter}{cell}{}", ["\n", "\r\n", "\r"][line_end]));
                expected.push((judge(&value), vec![Some(number), Some(value)]));
            }
        }
        Format::Jsonl => {
            for record in &file.records {
                let (is_spaced, line_end, blanks) = record.style;
                text.push_str(&" \t\n".repeat(blanks));
                let space = if is_spaced { " " } else { "" };
                let number = record.number.map_or("null".to_owned(), |number| number.to_string());
                let value = serde_json::to_string(&record.text).unwrap();
                text.push_str(&format!(
                    "{space}{{\"n\":{space}{number},\"text\":{value}{space}}}{}",
                    ["\n", "\r\n", " \n"][line_end]
                ));
                let found = record.text.as_deref().map_or(Err(RejectReason::NullText), judge);
                expected.push((found, vec![record.number.map(|number| number.to_string()), record.text.clone()]));
            }
        }
        Format::Json => {
            text.push('[');
            for (index, record) in file.records.iter().enumerate() {
                let (is_spaced, line_end, blanks) = record.style;
                let comma = if index > 0 { "," } else { "" };
                let space = if is_spaced { "\n    " } else { "" };
                let number = record.number.map_or("null".to_owned(), |number| number.to_string());
                let value = serde_json::to_string(&record.text).unwrap();
                text.push_str(&format!(
                    "{}{comma}{space}{{{space}\"n\":{number},{space}\"text\":{value}{space}}}{}",
                    " \t\n".repeat(blanks),
                    ["", "\r\n", " "][line_end]
                ));
                let found = record.text.as_deref().map_or(Err(RejectReason::NullText), judge);
                expected.push((found, vec![record.number.map(|number| number.to_string()), record.text.clone()]));
            }
            text.push_str("]\n");
        }
        Format::Parquet | Format::Arrow => unreachable!("no text"),
        Format::Txt => {
            for record in &file.records {
                let line = record.text.clone().unwrap_or_default().replace(['\n', '\r'], "");
                // A lone CR before an empty line would pair with its LF.
                let line_end = ["\n", "\r\n", "\n"][record.style.1];
                text.push_str(&format!("{line}{line_end}"));
                expected.push((judge(&line), vec![Some(line)]));
            }
        }
    }
    // A last line without a line end exists only by its characters.
    let last_is_empty = expected.last().is_none_or(|(_, kept)| kept.last() == Some(&Some(String::new())));
    let needs_line_end = format == Format::Txt && last_is_empty;
    if !file.has_last_line_end && !needs_line_end {
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    (text.into_bytes(), expected)
}

fn judge(text: &str) -> Text {
    if text.trim().is_empty() { Err(RejectReason::EmptyText) } else { Ok(text.to_owned()) }
}

fn check(format: Format, files: &[File], limits: (u64, u64)) {
    let mut corpus = Corpus::new();
    corpus.limits = CutLimits { rows_max: limits.0, bytes_max: limits.1 };
    let mut expected = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let (text, records) = write(format, file);
        let suffix = match file.compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        };
        corpus.add(&format!("{index}.{format}{suffix}"), &compress(file.compression, &text));
        expected.extend(records);
    }
    if matches!(format, Format::Jsonl | Format::Json) {
        // Their own property has the types; here one type whatever the sample shows.
        corpus = corpus.keep(&["n", "text"]);
    }
    let expected: Vec<Row> = expected.into_iter().zip(0..).map(|((text, kept), row)| Row { row, text, kept }).collect();
    let outcome = corpus.read();
    assert_eq!(outcome.rows, expected);
    assert_eq!(corpus.read().hashes, outcome.hashes);
    corpus.check_resume(&outcome);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn slices_of_every_text_format_cover_the_file_once(
        files in proptest::collection::vec(file(), 1..3),
        rows in 1_u64..8,
        bytes in 1_u64..120,
    ) {
        for format in Format::ALL {
            match format {
                Format::Csv | Format::Tsv | Format::Jsonl | Format::Json | Format::Txt => check(*format, &files, (rows, bytes)),
                // `columnar.rs` has theirs.
                Format::Parquet | Format::Arrow => {}
            }
        }
    }
}

#[test]
fn records_may_cross_block_boundaries() {
    const BLOCK: usize = 1 << 20;
    // Every byte of this tail falls on the border once: quotes, doubled quotes, CR and LF, a delimiter, a wide character.
    let tail = "9,\"a\"\"b\r\nc\u{1f600}\"\r\n10,z\r11,y\n";
    for shift in 0..tail.len() {
        let mut text = String::from("id,text\n1,");
        text.push_str(&"x".repeat(BLOCK - shift - text.len() - 1));
        text.push('\n');
        assert_eq!(text.len(), BLOCK - shift);
        text.push_str(tail);
        let rows = Corpus::of("a.csv", text.as_bytes()).limits(2, 1 << 30).read().rows;
        let texts: Vec<&str> = rows[1..].iter().map(|row| row.text.as_deref().unwrap()).collect();
        assert_eq!(texts, ["a\"b\r\nc\u{1f600}", "z", "y"], "border {shift} bytes into the tail");
    }
}
