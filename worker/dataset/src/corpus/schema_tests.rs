//! Tests of how columns unite over sources.

use std::sync::Arc;

use super::*;
use crate::corpus::{Compression, Fingerprint, Source};
use crate::error::ErrorKind;

fn csv(uri: &str, names: &[&str]) -> SourceColumns {
    let fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    SourceColumns { uri: uri.to_owned(), format: Format::Csv, columns: Columns::Typed(fields) }
}

fn parquet(uri: &str, fields: &[(&str, DataType)]) -> SourceColumns {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect();
    SourceColumns { uri: uri.to_owned(), format: Format::Parquet, columns: Columns::Typed(fields) }
}

fn json(uri: &str, record: &str, inference: &mut Inference) -> SourceColumns {
    let mut own = Inference::default();
    assert!(own.add(record.as_bytes()));
    inference.merge(&own);
    SourceColumns { uri: uri.to_owned(), format: Format::Jsonl, columns: Columns::Sampled(own.keys()) }
}

fn options(keep: Keep, id: Option<&str>) -> ReadOptions {
    ReadOptions { text_column: "text".to_owned(), id_column: id.map(str::to_owned), keep }
}

fn columns(names: &[&str]) -> Keep {
    Keep::Columns(names.iter().map(|name| (*name).to_owned()).collect())
}

fn names(sources: &[SourceColumns], options: &ReadOptions) -> Vec<String> {
    let schema = unify(sources, &Inference::default(), options).unwrap();
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

#[test]
fn the_kept_columns_follow_the_options() {
    let sources = [csv("a", &["id", "text", "x"]), csv("b", &["text", "y", "id"])];
    assert_eq!(names(&sources, &options(Keep::All, None)), ["id", "text", "x", "y"]);
    assert_eq!(names(&sources, &options(Keep::None, None)), [""; 0]);
    assert_eq!(names(&sources, &options(Keep::None, Some("id"))), ["id"]);
    assert_eq!(names(&sources, &options(columns(&["y", "x"]), Some("id"))), ["id", "y", "x"]);
    assert_eq!(names(&sources, &options(columns(&["y", "id"]), Some("id"))), ["y", "id"]);
}

#[test]
fn each_complaint_names_the_file_and_the_remedy() {
    let cases: [(Vec<SourceColumns>, ReadOptions, &[&str]); 9] = [
        (
            vec![csv("a", &["text"]), csv("b", &["texto", "id"])],
            options(Keep::All, None),
            &["`b`", "`text`", "`texto`, `id`", "--text-column"],
        ),
        (vec![csv("a", &["Text "])], options(Keep::All, None), &["is it `Text `?"]),
        (vec![csv("a", &["id;text"])], options(Keep::All, None), &["semicolons"]),
        (vec![csv("a", &["id\ttext"])], options(Keep::All, None), &["--format tsv"]),
        (vec![csv("a", &["text", "x", "x"])], options(Keep::None, None), &["`a`", "two columns named `x`"]),
        (
            vec![csv("a", &["text"]), csv("b", &["text", "error"])],
            options(Keep::All, None),
            &["`b`", "`error`", "--keep"],
        ),
        (
            vec![csv("a", &["text", "id"]), csv("b", &["text"])],
            options(Keep::None, Some("id")),
            &["`b`", "`id`", "--id-column"],
        ),
        (vec![csv("a", &["text"])], options(columns(&["x"]), None), &["`a`", "`x`", "--keep", "`text`"]),
        (vec![csv("a", &["text", "x"])], options(columns(&["x", "x"]), None), &["`x`", "twice"]),
    ];
    for (sources, options, words) in cases {
        let error = unify(&sources, &Inference::default(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{message} lacks {word}");
        }
    }
}

#[test]
fn every_output_column_collides_only_when_kept() {
    for name in OUTPUT_COLUMNS {
        let sources = [csv("a", &["text", name])];
        assert!(unify(&sources, &Inference::default(), &options(Keep::All, None)).is_err());
        assert_eq!(names(&sources, &options(columns(&["text"]), None)), ["text"]);
    }
}

#[test]
fn types_that_differ_name_both_files() {
    let sources = [
        csv("a", &["text"]),
        parquet("b", &[("text", DataType::Utf8), ("n", DataType::Int64)]),
        csv("c", &["text", "n"]),
    ];
    let message = unify(&sources, &Inference::default(), &options(Keep::All, None)).unwrap_err().to_string();
    for word in ["`n`", "Int64 in `b`", "Utf8 in `c`", "--keep"] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn json_yields_to_typed_sources_where_it_can() {
    let mut inference = Inference::default();
    let typed = parquet("a", &[("text", DataType::Utf8), ("f", DataType::Float64), ("s", DataType::Utf8)]);
    let sampled = json("b", r#"{"text":"x","f":1,"s":[1],"only":true}"#, &mut inference);
    let schema = unify(&[typed, sampled], &inference, &options(Keep::All, None)).unwrap();
    let types: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
    assert_eq!(types, ["text:Utf8", "f:Float64", "s:Utf8", "only:Boolean"]);
    assert!(schema.fields().iter().all(|field| field.is_nullable()));

    let typed = parquet("a", &[("text", DataType::Utf8), ("f", DataType::Date32)]);
    let sampled = json("b", r#"{"text":"x","f":1}"#, &mut inference);
    let message = unify(&[typed, sampled], &inference, &options(Keep::All, None)).unwrap_err().to_string();
    assert!(message.contains("Date32 in `a`") && message.contains("`b`"), "{message}");
}

#[test]
fn a_source_without_records_misses_no_column() {
    let empty = SourceColumns { uri: "b".to_owned(), format: Format::Jsonl, columns: Columns::Unknown };
    assert_eq!(names(&[csv("a", &["text", "id"]), empty], &options(Keep::All, Some("id"))), ["text", "id"]);
}

#[test]
fn the_schema_survives_its_encoding() {
    let nested = DataType::List(Arc::new(Field::new_list_field(DataType::LargeUtf8, true)));
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema = Schema::new(vec![Field::new("tags", nested, true), Field::new("label", dictionary, true)]);
    let mut planned = PlannedSource {
        source: Source { uri: "/a.parquet".to_owned(), format: Format::Parquet, compression: Compression::None },
        fingerprint: Fingerprint { size: 0, etag: None },
        header: Vec::new(),
        kept_schema: encode_schema(&schema),
    };
    assert_eq!(kept_schema_of(&planned).unwrap(), schema);
    planned.kept_schema.replace_range(4..8, "AAAA");
    let error = kept_schema_of(&planned).unwrap_err();
    assert!(error.to_string().contains("/a.parquet"));
}
