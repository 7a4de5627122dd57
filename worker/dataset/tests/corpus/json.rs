//! JSON lines: the types of kept columns, and what differs from the sample.

use arrow_schema::DataType;
use dataset::{ErrorKind, RejectReason, kept_schema_of};

use crate::harness::{Corpus, Outcome, block_on};

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

/// More records than a sample takes, then `last`.
fn long_file(last: &str) -> Vec<u8> {
    let mut text = String::new();
    for id in 0..2000 {
        text.push_str(&format!("{{\"id\":{id},\"text\":\"frase {id}\"}}\n"));
    }
    text.push_str(last);
    text.into_bytes()
}

#[test]
fn a_value_that_does_not_fit_its_column_rejects_its_own_row() {
    let corpus = Corpus::of("a.jsonl", &long_file("{\"id\":\"x2000\",\"text\":\"tarde\"}\n"));
    let rows = corpus.read().rows;
    assert_eq!(rows.len(), 2001);
    assert_eq!(rows[2000].text, Err(RejectReason::ColumnType));
    assert_eq!(rows[2000].kept, [None, Some("tarde".to_owned())]);
    assert!(rows[..2000].iter().all(|row| row.text.is_ok()));
}

#[test]
fn a_key_that_no_sample_showed_is_an_error_with_row_and_remedy() {
    let file = long_file("{\"id\":2000,\"text\":\"tarde\",\"nuevo\":1}\n");
    let error = Corpus::of("a.jsonl", &file).error(&["a.jsonl", "row 2000", "`nuevo`", "--keep"]);
    assert_eq!(error.kind(), ErrorKind::BadInput);
    let rows = Corpus::of("a.jsonl", &file).keep(&["id"]).read().rows;
    assert_eq!(rows[2000].text.as_deref(), Ok("tarde"));
}

#[test]
fn keys_far_down_a_large_file_are_in_the_sample() {
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
fn an_array_is_told_from_lines() {
    Corpus::of("a.jsonl", b"[\n{\"text\":\"x\"},\n{\"text\":\"y\"}\n]\n")
        .keep(&["text"])
        .error(&["a.jsonl", "jq -c '.[]'"]);
}
