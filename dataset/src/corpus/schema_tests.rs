//! Tests of the schema over several sources.

use std::sync::Arc;

use spec::{Compression, Format, Source};

use super::*;
use crate::corpus::Fingerprint;
use crate::error::ErrorKind;

fn csv(uri: &str, names: &[&str]) -> SourceColumns {
    let fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    SourceColumns::new(uri, Some(Dialect::of_format(Format::Csv)), Columns::Typed(fields))
}

fn parquet(uri: &str, fields: &[(&str, DataType)]) -> SourceColumns {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect();
    SourceColumns::new(uri, None, Columns::Typed(fields))
}

fn json(uri: &str, record: &str, inference: &mut Inference) -> SourceColumns {
    let mut own = Inference::default();
    assert!(own.add(record.as_bytes()));
    inference.merge(&own);
    SourceColumns::new(uri, None, Columns::Sampled { keys: own.keys(), is_complete: true })
}

fn options(keep: Keep, id: Option<&str>) -> ReadOptions {
    ReadOptions { id_column: id.map(str::to_owned), keep, ..ReadOptions::default() }
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
fn errors_name_the_file_and_the_remedy() {
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
fn output_column_names_collide_only_with_kept_columns() {
    for name in OUTPUT_COLUMNS {
        let sources = [csv("a", &["text", name])];
        assert!(unify(&sources, &Inference::default(), &options(Keep::All, None)).is_err());
        assert_eq!(names(&sources, &options(columns(&["text"]), None)), ["text"]);
    }
}

#[test]
fn a_type_conflict_names_both_files() {
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
fn json_values_adapt_to_typed_sources() {
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
fn an_empty_json_source_lacks_no_column() {
    let empty = SourceColumns::new("b", None, Columns::Unknown);
    assert_eq!(names(&[csv("a", &["text", "id"]), empty], &options(Keep::All, Some("id"))), ["text", "id"]);
}

#[test]
fn the_encoded_schema_round_trips() {
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

#[test]
fn duplicate_and_empty_column_names_become_unique() {
    let named = |names: &[&str]| unique_names(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(named(&["text", "label", "label"]), ["text", "label", "label_2"]);
    assert_eq!(named(&["text", "label", "", ""]), ["text", "label", "column_3", "column_4"]);
    // Names of the file itself are never given to other columns.
    assert_eq!(named(&["a", "a", "a_2", "a"]), ["a", "a_3", "a_2", "a_4"]);
    assert_eq!(named(&["", "column_1", ""]), ["column_1_2", "column_1", "column_3"]);
    assert_eq!(named(&["a", "b"]), ["a", "b"]);
    assert_eq!(named(&[]), [""; 0]);
}

#[test]
fn renaming_many_duplicate_columns_is_fast() {
    let names = unique_names(vec!["x".to_owned(); 50_000]);
    assert_eq!((names[1].as_str(), names[49_999].as_str()), ("x_2", "x_50000"));
}

fn incomplete(uri: &str, keys: &[&str]) -> SourceColumns {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    SourceColumns::new(uri, None, Columns::Sampled { keys, is_complete: false })
}

#[test]
fn a_json_source_larger_than_its_sample_gets_an_overflow_column() {
    let overflow = |sources: &[SourceColumns], keep: Keep| {
        let schema = unify(sources, &Inference::default(), &options(keep, None)).unwrap();
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), is_overflow(field))).collect::<Vec<_>>()
    };
    let pairs = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
        names.iter().map(|(name, is_overflow)| ((*name).to_owned(), *is_overflow)).collect()
    };
    let large = || [incomplete("a", &["text", "x"])];
    assert_eq!(overflow(&large(), Keep::All), pairs(&[("text", false), ("x", false), ("extra", true)]));
    assert_eq!(overflow(&large(), Keep::None), pairs(&[]));
    assert_eq!(overflow(&large(), columns(&["x"])), pairs(&[("x", false)]));
    assert_eq!(overflow(&large(), columns(&["extra", "x"])), pairs(&[("extra", true), ("x", false)]));
    // A column of that name keeps it.
    let own = [incomplete("a", &["text", "extra"])];
    assert_eq!(overflow(&own, Keep::All), pairs(&[("text", false), ("extra", false), ("extra_2", true)]));
    assert_eq!(overflow(&own, columns(&["extra"])), pairs(&[("extra", false)]));
    // Formats with a header or schema have no overflow column.
    let error = unify(&[csv("a", &["text"])], &Inference::default(), &options(columns(&["extra"]), None)).unwrap_err();
    assert!(error.to_string().contains("`extra`"), "{error}");
}

#[test]
fn the_overflow_column_is_marked_in_the_planned_schema() {
    let schema = unify(&[incomplete("a", &["text"])], &Inference::default(), &options(Keep::All, None)).unwrap();
    let planned = PlannedSource {
        source: Source { uri: "a".to_owned(), format: Format::Jsonl, compression: Compression::None },
        fingerprint: Fingerprint { size: 0, etag: None },
        header: Vec::new(),
        kept_schema: encode_schema(&schema),
    };
    let found = kept_schema_of(&planned).unwrap();
    assert!(is_overflow(found.field_with_name("extra").unwrap()) && !is_overflow(found.field(0)));
}

#[test]
fn a_wrong_delimiter_error_names_the_option() {
    let message = |names: &[&str], format, delimiter| {
        let names: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let options = ReadOptions { delimiter, ..ReadOptions::default() };
        let source = SourceColumns::new("a", Some(Dialect::of(format, &options)), Columns::Typed(names));
        unify(&[source], &Inference::default(), &options).unwrap_err().to_string()
    };
    let ends = |message: String, end: &str| assert!(message.ends_with(end), "{message} does not end with {end}");
    ends(message(&["id;text;label"], Format::Csv, None), "add --delimiter ';'");
    ends(message(&["id;text;x", "y"], Format::Csv, None), "add --delimiter ';'");
    ends(message(&["id|text"], Format::Csv, None), "add --delimiter '|'");
    ends(message(&["id\ttext"], Format::Csv, None), "add --format tsv");
    ends(message(&["id,text"], Format::Tsv, None), "add --format csv");
    ends(message(&["id,text"], Format::Csv, Some(';')), "add --delimiter ','");
    ends(message(&["id\ttext"], Format::Csv, Some(';')), "add --delimiter tab");
    ends(message(&["id", "Text"], Format::Csv, None), "(is it `Text`?)");
    ends(message(&["id", "texto"], Format::Csv, None), "--text-column");
}
