//! Tests of JSON lines.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_schema::{DataType, Field};
use proptest::prelude::*;

use super::*;

fn rows_of(types: &[(&str, DataType)]) -> (Schema, ChunkBuilder) {
    let fields: Vec<Field> = types.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    let schema = Schema::new(fields);
    (schema.clone(), ChunkBuilder::new(Arc::new(schema)))
}

fn text_in(record: &[u8]) -> Text {
    let (schema, mut rows) = rows_of(&[]);
    Parser::new("text", &schema, false).parse(record, &mut rows).unwrap();
    rows.finish(0).texts[0].clone()
}

#[test]
fn texts_are_rejected_by_kind() {
    use RejectReason::{EmptyText, InvalidUtf8, MalformedRecord, NotAString, NullText};
    let cases: [(&[u8], Text); 26] = [
        (br#"{"text":"hola"}"#, Ok("hola".to_owned())),
        (b"  {\"id\":1, \"text\" : \"a\\u00f1o \\ud83d\\ude00\\n\"} \r\n", Ok("a\u{f1}o \u{1f600}\n".to_owned())),
        (br#"{"te\u0078t":"escaped key"}"#, Ok("escaped key".to_owned())),
        (br#"{"text":"first","text":"last"}"#, Ok("last".to_owned())),
        (br#"{"a":{"text":"inner"},"b":["}",{"c":"\"]"}],"text":"outer"}"#, Ok("outer".to_owned())),
        (br#"{"text":null}"#, Err(NullText)),
        (br#"{"id":1}"#, Err(NullText)),
        (br#"{}"#, Err(NullText)),
        (br#"{"text":""}"#, Err(EmptyText)),
        (br#"{"text":" \t\u00a0"}"#, Err(EmptyText)),
        (br#"{"text":5}"#, Err(NotAString)),
        (br#"{"text":true}"#, Err(NotAString)),
        (br#"{"text":["a"]}"#, Err(NotAString)),
        (br#"{"text":{"a":"b"}}"#, Err(NotAString)),
        (b"{\"text\":\"a\xf1o\"}", Err(InvalidUtf8)),
        (br#"{"text":"\ud83d alone"}"#, Err(MalformedRecord)),
        (br#"{"text":NaN}"#, Err(NotAString)),
        (br#"{"a":[NaN,{"b":-Infinity}],"text":"NaN, Infinity"}"#, Ok("NaN, Infinity".to_owned())),
        (br#"{"a":NaN,"text":"cut"#, Err(MalformedRecord)),
        (br#"{"a":NaNa,"text":"a"}"#, Err(MalformedRecord)),
        (br#"{"a":1NaN,"text":"a"}"#, Err(MalformedRecord)),
        (br#"{NaN:1,"text":"a"}"#, Err(MalformedRecord)),
        (br#"{"text":"cut"#, Err(MalformedRecord)),
        (br#"["text"]"#, Err(MalformedRecord)),
        (br#""text""#, Err(MalformedRecord)),
        (br#"{"text":"a"} {"text":"b"}"#, Err(MalformedRecord)),
    ];
    for (record, expected) in cases {
        assert_eq!(text_in(record), expected, "{}", String::from_utf8_lossy(record));
    }
}

#[test]
fn kept_values_keep_their_spelling_or_reject_the_row() {
    let types = [("s", DataType::Utf8), ("i", DataType::Int64), ("f", DataType::Float64), ("b", DataType::Boolean)];
    let (schema, mut rows) = rows_of(&types);
    let mut parser = Parser::new("text", &schema, true);
    let records: [&[u8]; 8] = [
        br#"{"text":"x","s":"a","i":-5,"f":1.5,"b":true}"#,
        br#"{"text":"x","s":12345678901234567890123.10,"i":null,"f":7}"#,
        br#"{"text":"x","s":{"k": [1, 2]}}"#,
        br#"{"text":"x","i":1.5}"#,
        br#"{"text":"x","f":9007199254740993}"#,
        br#"{"text":"x","b":"true","s":"kept"}"#,
        br#"{"text":"x","s":"\udc00"}"#,
        b"{\"text\":\"x\",\"s\":[\"\xff\"]}",
    ];
    for record in records {
        parser.parse(record, &mut rows).unwrap();
    }
    let chunk = rows.finish(0);
    let ok = Ok("x".to_owned());
    let bad = Err(RejectReason::ColumnType);
    let expected = [ok.clone(), ok.clone(), ok, bad.clone(), bad.clone(), bad.clone(), bad.clone(), bad];
    assert_eq!(chunk.texts, expected);
    let strings: Vec<Option<&str>> = chunk.kept.column(0).as_string::<i32>().iter().collect();
    let long = Some("12345678901234567890123.10");
    assert_eq!(strings, [Some("a"), long, Some(r#"{"k": [1, 2]}"#), None, None, Some("kept"), None, None]);
    let integers: Vec<Option<i64>> = chunk.kept.column(1).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(integers[..4], [Some(-5), None, None, None]);
    let floats: Vec<Option<f64>> = chunk.kept.column(2).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(floats[..5], [Some(1.5), Some(7.0), None, None, None]);
    let booleans: Vec<Option<bool>> = chunk.kept.column(3).as_boolean().iter().collect();
    assert_eq!(booleans[..2], [Some(true), None]);
}

#[test]
fn an_unknown_key_is_an_error_if_all_columns_are_kept() {
    let (schema, mut rows) = rows_of(&[("text", DataType::Utf8)]);
    let record = br#"{"text":"x","late":1}"#;
    let mut all = Parser::new("text", &schema, true);
    assert_eq!(all.parse(record, &mut rows), Err(UnknownKey("late".to_owned())));
    assert_eq!(rows.len(), 0);
    Parser::new("text", &schema, false).parse(record, &mut rows).unwrap();
    assert_eq!(rows.len(), 1);
}

fn inferred(values: &[&str]) -> Option<DataType> {
    let mut inference = Inference::default();
    for value in values {
        let mut other = Inference::default();
        assert!(other.add(format!(r#"{{"k":{value}}}"#).as_bytes()));
        inference.merge(&other);
    }
    inference.type_of("k")
}

#[test]
fn inferred_types_are_the_narrowest_lossless_ones() {
    assert_eq!(inferred(&["null"]), None);
    assert_eq!(inferred(&["null", "5", "-9"]), Some(DataType::Int64));
    assert_eq!(inferred(&["5", "0.5", "null"]), Some(DataType::Float64));
    assert_eq!(inferred(&["9007199254740993", "0.5"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["18446744073709551615"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["1e999"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["5", "NaN"]), Some(DataType::Float64));
    assert_eq!(inferred(&["nan", "-Infinity", "-inf"]), Some(DataType::Float64));
    assert_eq!(inferred(&["9007199254740993", "NaN"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["[NaN]"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["true", "NaN"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["true", "false"]), Some(DataType::Boolean));
    assert_eq!(inferred(&["true", "1"]), Some(DataType::Utf8));
    assert_eq!(inferred(&["\"a\""]), Some(DataType::Utf8));
    assert_eq!(inferred(&["[1]"]), Some(DataType::Utf8));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no NaN", |value| value.is_finite()).prop_map(Into::into),
        "[a-c\\\\\"{}\\[\\]:,\n\u{e9}\u{1f600}]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            proptest::collection::btree_map("[a-c\\\\\"{}]{0,3}", inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn members_match_serde_json(
        object in proptest::collection::btree_map("[a-c\\\\\"{},:]{0,4}", json(), 0..5),
        is_pretty in any::<bool>(),
    ) {
        let object: serde_json::Map<String, serde_json::Value> = object.into_iter().collect();
        let text = if is_pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let members = json::members(text.as_bytes()).unwrap();
        let parsed: serde_json::Map<String, serde_json::Value> = members
            .into_iter()
            .map(|(key, value)| (key, serde_json::from_slice(value).unwrap()))
            .collect();
        // Compared with the text parsed as a whole: serde_json alone may round a float in its last place.
        let whole: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(parsed, whole);
    }
}
