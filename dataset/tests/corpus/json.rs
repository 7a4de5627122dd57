//! JSON lines: the types of kept columns, and what differs from the sample.

use arrow_schema::DataType;
use dataset::{RejectReason, kept_schema_of};

use crate::harness::{Corpus, Outcome, Row, block_on};

fn types(outcome: &Outcome) -> Vec<(String, DataType)> {
    let schema = kept_schema_of(&outcome.planned[0]).unwrap();
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

fn typed(pairs: &[(&str, DataType)]) -> Vec<(String, DataType)> {
    pairs.iter().map(|(name, data_type)| ((*name).to_owned(), data_type.clone())).collect()
}

#[test]
fn columns_are_inferred_over_all_sources() {
    let mut corpus = Corpus::of("a.jsonl", b"{\"text\":\"x\",\"n\":1,\"nothing\":null}\n");
    corpus.add("b.jsonl", b"{\"text\":\"y\",\"n\":0.5,\"ok\":true,\"tags\":[\"a\", 1]}\n");
    corpus.add("c.ndjson", b"");
    let outcome = corpus.read();
    let expected = [
        ("text", DataType::Utf8),
        ("n", DataType::Float64),
        ("nothing", DataType::Utf8),
        ("ok", DataType::Boolean),
        ("tags", DataType::Utf8),
    ];
    assert_eq!(types(&outcome), typed(&expected));
    assert_eq!(outcome.rows[1].kept[4].as_deref(), Some("[\"a\", 1]"));
    assert_eq!(outcome.rows[0].kept[3], None);
}

#[test]
fn csv_and_jsonl_sources_share_text_columns() {
    let mut corpus = Corpus::of("a.csv", b"text,n\nhola,1\n");
    corpus.add("b.jsonl", b"{\"n\":2,\"text\":\"adios\"}\n");
    let outcome = corpus.read();
    assert_eq!(types(&outcome), typed(&[("text", DataType::Utf8), ("n", DataType::Utf8)]));
    assert_eq!(outcome.rows[1].kept, [Some("adios".to_owned()), Some("2".to_owned())]);
}

const MIB: usize = 1 << 20;

/// Four MiB of records, with `odd` where no sample looks: they are taken from the first MiB, and from places further on
/// that begin every 209 KiB and have 128 KiB.
fn large_file(odd: &str) -> (Vec<u8>, usize) {
    let mut text = Vec::new();
    let mut records = 0;
    let mut fill = |text: &mut Vec<u8>, size: usize| {
        while text.len() < size {
            text.extend_from_slice(format!("{{\"id\":{records},\"text\":\"frase {records}\"}}\n").as_bytes());
            records += 1;
        }
        records
    };
    let row = fill(&mut text, MIB + (170 << 10));
    text.extend_from_slice(odd.as_bytes());
    fill(&mut text, 4 * MIB);
    (text, row)
}

fn odd_row(odd: &str, keep: Option<&[&str]>) -> (Vec<String>, Row) {
    let (text, row) = large_file(odd);
    let corpus = Corpus::of("a.jsonl", &text).limits(20_000, 1 << 20);
    let outcome = if let Some(columns) = keep { corpus.keep(columns) } else { corpus }.read();
    assert!(outcome.rows.iter().all(|other| other.text.is_ok() || other.row == row as u64));
    let names = types(&outcome).into_iter().map(|(name, _)| name).collect();
    (names, outcome.rows[row].clone())
}

#[test]
fn unsampled_members_go_to_the_overflow_column() {
    let some = |text: &str| Some(text.to_owned());
    // A new key, with its spelling, and an integer column that holds something else.
    let (names, row) = odd_row("{\"id\":\"x7\",\"text\":\"tarde\",\"nuevo\":[1, 2.50]}\n", None);
    assert_eq!(names, ["id", "text", "extra"]);
    assert_eq!(row.text.as_deref(), Ok("tarde"));
    assert_eq!(row.kept, [None, some("tarde"), some("{\"nuevo\":[1, 2.50],\"id\":\"x7\"}")]);
    // The user's own key of that name, and a repeated one, whose last value counts.
    let (_, row) = odd_row("{\"id\":7,\"text\":\"tarde\",\"extra\":1,\"b\":1,\"b\":2}\n", None);
    assert_eq!(row.kept, [some("7"), some("tarde"), some("{\"extra\":1,\"b\":2}")]);
    let (_, row) = odd_row("{\"id\":NaN,\"text\":\"tarde\"}\n", None);
    assert_eq!((row.text.as_deref(), row.kept), (Ok("tarde"), vec![None, some("tarde"), some("{\"id\":NaN}")]));
    // What is no UTF-8 cannot be kept anywhere: that is said, not hidden.
    let text =
        Corpus::of("a.jsonl", b"{\"text\":\"x\"}\n{\"text\":\"y\",\"b\":\"\\ud83d\"}\n").keep(&["text", "extra"]);
    assert_eq!(text.read().rows[1].kept, [some("y"), some("{\"b\":\"\\ud83d\"}")]);
}

#[test]
fn with_named_columns_other_keys_are_ignored() {
    let (names, row) = odd_row("{\"id\":\"x7\",\"text\":\"tarde\",\"nuevo\":1}\n", Some(&["id"]));
    assert_eq!((names, row.text, row.kept), (vec!["id".to_owned()], Err(RejectReason::ColumnType), vec![None]));
    let (_, row) = odd_row("{\"id\":7,\"text\":\"tarde\",\"nuevo\":1}\n", Some(&["id"]));
    assert_eq!((row.text.as_deref(), row.kept), (Ok("tarde"), vec![Some("7".to_owned())]));
    // NaN says no more than that there is no number: the text is not lost for that.
    let (_, row) = odd_row("{\"id\":NaN,\"text\":\"tarde\"}\n", Some(&["id"]));
    assert_eq!((row.text.as_deref(), row.kept), (Ok("tarde"), vec![None]));
}

#[test]
fn a_fully_sampled_file_has_no_overflow_column() {
    let mut text = String::new();
    for id in 0..5000 {
        text.push_str(&format!("{{\"id\":{id},\"text\":\"frase {id}\"}}\n"));
    }
    text.push_str("{\"id\":5000,\"text\":\"tarde\",\"nuevo\":1.5}\n");
    let outcome = Corpus::of("a.jsonl", text.as_bytes()).read();
    let expected = [("id", DataType::Int64), ("text", DataType::Utf8), ("nuevo", DataType::Float64)];
    assert_eq!(types(&outcome), typed(&expected));
    assert_eq!(outcome.rows[5000].kept[2].as_deref(), Some("1.5"));
}

#[test]
fn nan_and_infinity_are_numbers() {
    let text = "{\"text\": \"hola mundo\", \"score\": 0.5}\n{\"text\": \"adios mundo\", \"score\": NaN}\n\
                {\"text\": \"otra\", \"score\": Infinity}\n{\"text\": \"mas\", \"score\": -Infinity}\n";
    let outcome = Corpus::of("nan.jsonl", text.as_bytes()).read();
    assert_eq!(types(&outcome), typed(&[("text", DataType::Utf8), ("score", DataType::Float64)]));
    let found: Vec<_> = outcome.rows.iter().map(|row| (row.text.as_deref(), row.kept[1].as_deref())).collect();
    let expected = [("hola mundo", "0.5"), ("adios mundo", "NaN"), ("otra", "inf"), ("mas", "-inf")];
    assert_eq!(found, expected.map(|(text, score)| (Ok(text), Some(score))));
}

#[test]
fn the_sample_covers_positions_far_into_a_large_file() {
    let mut text = Vec::new();
    while text.len() < 3 << 20 {
        text.extend_from_slice(b"{\"text\":\"una frase como otra cualquiera\",\"n\":1}\n");
    }
    while text.len() < 4 << 20 {
        text.extend_from_slice(b"{\"text\":\"una frase como otra cualquiera\",\"n\":1.5,\"late\":true}\n");
    }
    let corpus = Corpus::of("a.jsonl", &text);
    let planned = block_on(corpus.plan()).unwrap();
    let schema = kept_schema_of(&planned[0]).unwrap();
    assert_eq!(schema.field_with_name("n").unwrap().data_type(), &DataType::Float64);
    assert_eq!(schema.field_with_name("late").unwrap().data_type(), &DataType::Boolean);
}

#[test]
fn json_arrays_and_lines_are_distinguished() {
    for text in ["[\n{\"text\":\"x\"},\n{\"text\":\"y\"}\n]\n", "[{\"text\":\"x\"}]"] {
        Corpus::of("a.jsonl", text.as_bytes()).error(&["a.jsonl", "--format json"]);
    }
    for text in
        ["{\"text\":\"x\"}\n{\"text\":\"y\"}\n", "\n\n{\"text\":\"x\"}\n{\"text\":\"y\"}\n", "{\"text\":\"x\"}\n"]
    {
        Corpus::of("a.json", text.as_bytes()).error(&["a.json", "--format jsonl"]);
    }
    Corpus::of("a.json", b"{\"data\":\n[{\"text\":\"x\"}]}").error(&["a.json", "jq .data"]);
    Corpus::of("a.json", b"\"text\"").error(&["a.json", "no array of objects"]);
    Corpus::of("a.json", b" ").error(&["a.json", "is empty"]);
}

#[test]
fn the_elements_of_an_array_are_rows() {
    let text = "\u{feff}[\n  {\"text\": \"uno, [dos]\", \"n\": 1},\n  {\"n\": 2.5},\n  \"tres\",\n  {\"text\": 4, \"n\": null} ]\n";
    let outcome = Corpus::of("a.json", text.as_bytes()).read();
    assert_eq!(types(&outcome), typed(&[("text", DataType::Utf8), ("n", DataType::Float64)]));
    let found: Vec<_> = outcome.rows.iter().map(|row| (row.text.as_deref(), row.kept[1].as_deref())).collect();
    let expected = [
        (Ok("uno, [dos]"), Some("1.0")),
        (Err(&RejectReason::NullText), Some("2.5")),
        (Err(&RejectReason::MalformedRecord), None),
        (Err(&RejectReason::NotAString), None),
    ];
    assert_eq!(found, expected);
    assert_eq!(Corpus::of("a.json", b"[]").texts(), []);
}

#[test]
fn a_first_record_larger_than_the_sample_is_read_in_full() {
    let large = "palabra ".repeat(150_000);
    for (name, text) in [
        ("a.json", format!("[{{\"text\":\"{large}\",\"n\":1}},{{\"text\":\"b\",\"late\":2}}]")),
        ("a.jsonl", format!("{{\"text\":\"{large}\",\"n\":1}}\n{{\"text\":\"b\",\"late\":2}}\n")),
    ] {
        let outcome = Corpus::of(name, text.as_bytes()).read();
        let expected = [("text", DataType::Utf8), ("n", DataType::Int64), ("extra", DataType::Utf8)];
        assert_eq!(types(&outcome), typed(&expected), "{name}");
        assert_eq!(outcome.rows[1].kept[2].as_deref(), Some("{\"late\":2}"));
    }
    let endless = format!("[{{\"text\":\"{}\"}}]", "x".repeat(33 << 20));
    Corpus::of("a.json", endless.as_bytes()).error(&["a.json", "32 MiB", "put another one first"]);
}

#[test]
fn an_array_of_non_objects_is_refused() {
    for text in ["[\"a\",\"b\"]", "[[1],[2]]", "[null]"] {
        Corpus::of("a.json", text.as_bytes()).error(&["a.json", "no objects"]);
    }
}

#[test]
fn truncated_arrays_and_trailing_text_are_refused() {
    for text in ["[{\"text\":\"x\"},{\"text\":\"y\"}", "[{\"text\":\"x\"},", "[{\"text\":\"x\"},{\"text\":\"y]"] {
        Corpus::of("a.json", text.as_bytes()).error(&["a.json", "does not end"]);
    }
    Corpus::of("a.json", b"[{\"text\":\"x\"}]\n[{\"text\":\"y\"}]").error(&["a.json", "closing bracket"]);
}
