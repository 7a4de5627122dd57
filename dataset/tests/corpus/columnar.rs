//! Parquet and Arrow: every way that texts and kept columns may be stored.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::DataType;
use dataset::{Cursor, FallbackSource, RejectReason, kept_schema_of, slice_blake3};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use crate::harness::{Corpus, Row, Text};

#[derive(Debug, Clone, Copy)]
enum Layout {
    Parquet { group_rows: usize, page_rows: usize },
    ArrowFile { is_compressed: bool },
    ArrowStream,
}

/// Writes batches; the group and page sizes of parquet are small, so that slices cross them.
fn write(layout: Layout, batches: &[RecordBatch]) -> (&'static str, Vec<u8>) {
    let schema = batches[0].schema();
    let mut bytes = Vec::new();
    match layout {
        Layout::Parquet { group_rows, page_rows } => {
            let properties = WriterProperties::builder()
                .set_max_row_group_row_count(Some(group_rows))
                .set_data_page_row_count_limit(page_rows)
                .set_write_batch_size(1)
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .build();
            let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.close().unwrap();
            ("a.parquet", bytes)
        }
        Layout::ArrowFile { is_compressed } => {
            let compression = is_compressed.then_some(CompressionType::LZ4_FRAME);
            let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
            let mut writer = FileWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.finish().unwrap();
            drop(writer);
            ("a.feather", bytes)
        }
        Layout::ArrowStream => {
            let mut writer = StreamWriter::try_new(&mut bytes, &schema).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.finish().unwrap();
            drop(writer);
            ("a.arrow", bytes)
        }
    }
}

fn batch(texts: &[Option<String>], first: usize, text_type: &DataType) -> RecordBatch {
    let ids = Int64Array::from_iter_values((first..first + texts.len()).map(|id| id as i64));
    let mut tags = ListBuilder::new(StringBuilder::new());
    for id in 0..texts.len() {
        tags.append_value((0..id % 3).map(|tag| Some(format!("t{tag}"))));
    }
    let text: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let text = arrow_cast::cast(&text, text_type).unwrap();
    let columns: [(&str, ArrayRef, bool); 3] =
        [("id", Arc::new(ids), false), ("text", text, true), ("tags", Arc::new(tags.finish()), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn text_types() -> Vec<DataType> {
    let dictionary = |value| DataType::Dictionary(Box::new(DataType::Int32), Box::new(value));
    vec![
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
        dictionary(DataType::Utf8),
        dictionary(DataType::LargeUtf8),
    ]
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![
        (1_usize..9, 1_usize..4).prop_map(|(group_rows, page_rows)| Layout::Parquet { group_rows, page_rows }),
        any::<bool>().prop_map(|is_compressed| Layout::ArrowFile { is_compressed }),
        Just(Layout::ArrowStream),
    ]
}

fn judge(text: Option<&str>) -> Text {
    match text {
        None => Err(RejectReason::NullText),
        Some(text) if text.trim().is_empty() => Err(RejectReason::EmptyText),
        Some(text) => Ok(text.to_owned()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn slices_cover_the_file_once(
        parts in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of("[a-z\u{f1} \u{1f600}]{0,10}"), 1..8), 1..5),
        layout in layout(),
        text_type in proptest::sample::select(text_types()),
        rows_max in 1_u64..9,
        bytes_max in 1_u64..2000,
    ) {
        // The IPC stream writer may replace dictionaries between batches; the file writer may not.
        let is_file = matches!(layout, Layout::ArrowFile { .. });
        let is_dictionary = matches!(text_type, DataType::Dictionary(..));
        let parts = if is_file && is_dictionary { vec![parts.concat()] } else { parts };
        let mut first = 0;
        let batches: Vec<RecordBatch> = parts.iter().map(|texts| {
            let batch = batch(texts, first, &text_type);
            first += texts.len();
            batch
        }).collect();
        let (name, bytes) = write(layout, &batches);
        let corpus = Corpus::of(name, &bytes).keep(&["id"]).limits(rows_max, bytes_max);
        let outcome = corpus.read();
        let expected: Vec<Row> = parts.concat().iter().zip(0..).map(|(text, row)| {
            Row { row, text: judge(text.as_deref()), kept: vec![Some(row.to_string())] }
        }).collect();
        prop_assert_eq!(&outcome.rows, &expected);
        prop_assert_eq!(corpus.read().hashes, outcome.hashes.clone());
        corpus.check_resume(&outcome);
    }
}

fn layouts() -> [Layout; 3] {
    [Layout::Parquet { group_rows: 3, page_rows: 2 }, Layout::ArrowFile { is_compressed: true }, Layout::ArrowStream]
}

#[test]
fn nested_and_dictionary_columns_pass_through_with_their_types() {
    let texts: Vec<Option<String>> = (0..10).map(|row| Some(format!("frase {}", row % 2))).collect();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let batch = batch(&texts, 0, &dictionary);
    for layout in layouts() {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        let outcome = Corpus::of(name, &bytes).limits(4, 1 << 20).read();
        let schema = kept_schema_of(&outcome.planned[0]).unwrap();
        for (kept, original) in schema.fields().iter().zip(batch.schema().fields()) {
            assert_eq!(kept.data_type(), original.data_type(), "{layout:?}");
        }
        assert_eq!(outcome.rows[5].kept[2].as_deref(), Some("[t0, t1]"), "{layout:?}");
    }
}

#[tokio::test]
async fn a_row_slice_keeps_its_digest_until_the_file_changes() {
    let texts: Vec<Option<String>> = (0..10).map(|row| Some(format!("frase {row}"))).collect();
    let batch = batch(&texts, 0, &DataType::Utf8);
    for layout in [Layout::Parquet { group_rows: 10, page_rows: 10 }, Layout::ArrowStream] {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        let corpus = Corpus::of(name, &bytes);
        let (planned, storage) = (corpus.plan().await.unwrap(), corpus.storage("store"));
        let slice = corpus.cutter(&planned, &storage, Cursor::default()).await.next().await.unwrap().unwrap();
        let fallback = FallbackSource { storage: storage.clone(), key: "none".to_owned() };
        let again = || slice_blake3(&planned[0], &slice, &corpus.options, &storage, &fallback);
        assert_eq!(Some(again().await.unwrap()), slice.blake3, "{layout:?}");
        std::fs::write(&corpus.files[0], vec![0; bytes.len()]).unwrap();
        again().await.unwrap_err();
    }
}

#[test]
fn invalid_utf8_in_binary_texts_only_rejects_its_row() {
    let text: ArrayRef = Arc::new(BinaryArray::from(vec![&b"uno"[..], b"a\xf1o", b"tres"]));
    let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
    for layout in layouts() {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        let mut corpus = Corpus::of(name, &bytes);
        corpus.options.keep = dataset::Keep::None;
        let expected = [Ok("uno".to_owned()), Err(RejectReason::InvalidUtf8), Ok("tres".to_owned())];
        assert_eq!(corpus.texts(), expected, "{layout:?}");
    }
}

#[test]
fn columns_absent_from_a_source_are_null() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["uno"]));
    let tags = batch(&[Some("dos".to_owned())], 7, &DataType::Utf8);
    let plain = RecordBatch::try_from_iter([("text", text)]).unwrap();
    for layout in layouts() {
        let mut corpus = Corpus::of("first.csv", b"text\ncero\n");
        let (name, bytes) = write(layout, std::slice::from_ref(&plain));
        corpus.add(name, &bytes);
        let (name, bytes) = write(layout, std::slice::from_ref(&tags));
        corpus.add(&format!("b{name}"), &bytes);
        let rows = corpus.read().rows;
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
        assert_eq!(texts, ["cero", "uno", "dos"]);
        assert_eq!(rows[0].kept[1..], [None, None]);
        assert_eq!(rows[1].kept[1..], [None, None]);
        assert_eq!(rows[2].kept[1..], [Some("7".to_owned()), Some("[]".to_owned())]);
    }
}

#[test]
fn a_text_column_of_the_wrong_type_is_named() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("text", numbers)]).unwrap();
    for layout in layouts() {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        Corpus::of(name, &bytes).error(&[name, "`text`", "Int64", "--text-column"]);
    }
}

#[test]
fn missing_columns_and_collisions_are_named() {
    let batch = batch(&[Some("x".to_owned())], 0, &DataType::Utf8);
    for layout in layouts() {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        let mut corpus = Corpus::of(name, &bytes);
        corpus.options.text_column = "body".to_owned();
        corpus.error(&[name, "`body`", "`id`, `text`, `tags`"]);
        let columns = [("text", Arc::clone(batch.column(1))), ("embedding", Arc::clone(batch.column(0)))];
        let (name, bytes) = write(layout, &[RecordBatch::try_from_iter(columns).unwrap()]);
        Corpus::of(name, &bytes).error(&[name, "`embedding`", "--keep"]);
    }
}

#[test]
fn truncations_and_bit_flips_fail_or_change_nothing() {
    let texts: Vec<Option<String>> = (0..20).map(|row| Some(format!("frase {row}"))).collect();
    let batch = batch(&texts, 0, &DataType::Utf8);
    for layout in layouts() {
        let (name, bytes) = write(layout, std::slice::from_ref(&batch));
        for end in (0..bytes.len()).step_by(37) {
            let corpus = Corpus::of(name, &bytes[..end]);
            if let Ok(outcome) = crate::harness::block_on(corpus.try_read()) {
                // Only a stream may end anywhere between messages: without its end mark it is complete.
                assert!(matches!(layout, Layout::ArrowStream), "{name} cut at {end}");
                assert!(outcome.rows.is_empty() || outcome.rows.len() == 20);
            }
        }
        for at in (0..bytes.len()).step_by(53) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            if let Err(error) = crate::harness::block_on(Corpus::of(name, &damaged).try_read()) {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}
