//! Tests of the CSV rules against csv-core, an independent parser.

use std::sync::Arc;

use proptest::prelude::*;
use spec::Format;

use super::*;

fn ours(text: &[u8], dialect: Dialect) -> Vec<Vec<Vec<u8>>> {
    let mut splitter = CsvSplit::new(dialect);
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(length) = splitter.find_end(&text[at..]) {
        records.push(&text[at..at + length]);
        at += length;
    }
    if splitter.finish() != Tail::Nothing {
        records.push(&text[at..]);
    }
    let mut fields = Fields::default();
    let parse = |record: &[u8]| {
        fields.split(record, dialect);
        (0..fields.len()).map(|index| fields.get(index).unwrap().to_vec()).collect()
    };
    records.into_iter().map(parse).collect()
}

fn theirs(mut text: &[u8], dialect: Dialect) -> Vec<Vec<Vec<u8>>> {
    use csv_core::ReadRecordResult;
    let mut builder = csv_core::ReaderBuilder::new();
    builder.delimiter(dialect.delimiter).quoting(dialect.quote.is_some());
    if let Some(quote) = dialect.quote {
        builder.quote(quote);
    }
    let mut reader = builder.build();
    let (mut output, mut ends) = (vec![0; 4096], vec![0; 4096]);
    let (mut records, mut written, mut fields) = (Vec::new(), 0, 0);
    loop {
        let (result, read, out, found) = reader.read_record(text, &mut output[written..], &mut ends[fields..]);
        text = &text[read..];
        written += out;
        fields += found;
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::Record => {
                let starts = std::iter::once(&0).chain(&ends);
                let record = starts.zip(&ends[..fields]).map(|(&start, &end)| output[start..end].to_vec());
                records.push(record.collect());
                (written, fields) = (0, 0);
            }
            ReadRecordResult::End => return records,
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => panic!("test buffers are too small"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn records_and_fields_match_csv_core(
        text in proptest::collection::vec(proptest::sample::select(b"aab,\t;'\"\"\r\n".to_vec()), 0..40),
        delimiter in proptest::sample::select(b",\t;|".to_vec()),
        quote in proptest::sample::select(vec![Some(b'"'), Some(b'\''), None]),
    ) {
        let dialect = Dialect { delimiter, quote };
        prop_assert_eq!(ours(&text, dialect), theirs(&text, dialect), "{:?}", String::from_utf8_lossy(&text));
    }
}

fn parse(record: &[u8], keep: &[&str]) -> (Result<String, RejectReason>, Vec<Option<String>>) {
    use arrow_array::cast::AsArray;
    let fields: Vec<Field> = keep.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let header = ["id", "text", "label"].map(str::to_owned);
    let mut parser = Parser::new(Dialect::of_format(Format::Csv), &header, "text", &schema).unwrap();
    let mut rows = ChunkBuilder::new(schema);
    parser.parse(record, &mut rows).unwrap();
    let chunk = rows.finish(0);
    let kept =
        chunk.kept.columns().iter().map(|column| column.as_string::<i32>().iter().next().flatten().map(str::to_owned));
    (chunk.texts[0].clone(), kept.collect())
}

#[test]
fn a_malformed_record_keeps_its_existing_fields() {
    let some = |text: &str| Some(text.to_owned());
    let malformed = Err(RejectReason::MalformedRecord);
    assert_eq!(parse(b"7\n", &["id", "label"]), (malformed.clone(), vec![some("7"), None]));
    assert_eq!(parse(b"7,hola,x,y\n", &["id", "label"]), (malformed.clone(), vec![some("7"), some("x")]));
    assert_eq!(parse(b"7,hola,\"x", &["id", "label"]), (malformed, vec![some("7"), some("x")]));
}

#[test]
fn invalid_utf8_rejects_only_where_it_is_needed() {
    let some = |text: &str| Some(text.to_owned());
    // In the text: the row is rejected, its other columns stay.
    let found = parse(b"7,a\xf1o,x\n", &["id", "text", "label"]);
    assert_eq!(found, (Err(RejectReason::InvalidUtf8), vec![some("7"), None, some("x")]));
    // In a kept column: rejected rather than silently dropped.
    let found = parse(b"7,hola,\xf1\n", &["id", "label"]);
    assert_eq!(found, (Err(RejectReason::ColumnType), vec![some("7"), None]));
    // In a column that is not kept: ignored.
    assert_eq!(parse(b"7,hola,\xf1\n", &["id"]), (Ok("hola".to_owned()), vec![some("7")]));
}

#[test]
fn a_column_of_other_sources_is_null() {
    assert_eq!(parse(b"7,hola,x", &["other"]), (Ok("hola".to_owned()), vec![None]));
}

#[test]
fn empty_and_blank_texts_are_rejected() {
    for record in [&b"7,,x"[..], b"7,\"\",x", b"7, \t ,x", b"7,\"\r\n\",x", "7,\u{a0}\u{2003},x".as_bytes()] {
        assert_eq!(parse(record, &[]).0, Err(RejectReason::EmptyText));
    }
}
