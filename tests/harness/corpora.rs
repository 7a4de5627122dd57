//! Makes corpora: the same texts in every format, deterministically.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

const WORDS: [&str; 32] = [
    "el", "perro", "corre", "por", "la", "playa", "mientras", "una", "niña", "come", "pan", "con", "queso", "y",
    "mira", "cómo", "llueve", "sobre", "los", "tejados", "rojos", "de", "Cádiz", "qué", "día", "tan", "raro", "señora",
    "dijo", "aquel", "camión", "azul",
];

/// A sentence that depends on its number alone. No two of a corpus are equal; lengths vary from 3 to 30 words.
pub(crate) fn sentence(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678);
    let mut next = || {
        state ^= state >> 30;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state ^= state >> 27;
        state = state.wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
        state
    };
    let length = 3 + next() % 28;
    let words: Vec<&str> = (0..length).map(|_| WORDS[(next() % 32) as usize]).collect();
    format!("{} {number}.", words.join(" "))
}

/// So many sentences.
pub(crate) fn sentences(count: u64) -> Vec<String> {
    (0..count).map(sentence).collect()
}

/// A CSV with the columns id, text, label. Some texts are quoted and span lines.
pub(crate) fn csv(texts: &[String]) -> String {
    let mut csv = "id,text,label\n".to_owned();
    for (index, text) in texts.iter().enumerate() {
        let text = if index % 7 == 3 { text.replacen(' ', "\n", 1) } else { text.clone() };
        csv.push_str(&format!("{index},\"{}\",{}\n", text.replace('"', "\"\""), label(index)));
    }
    csv
}

/// What the CSV reader must find: line breaks inside quotes are part of the text.
pub(crate) fn csv_texts(texts: &[String]) -> Vec<String> {
    let broken =
        |(index, text): (usize, &String)| if index % 7 == 3 { text.replacen(' ', "\n", 1) } else { text.clone() };
    texts.iter().enumerate().map(broken).collect()
}

/// The label of a row.
pub(crate) fn label(index: usize) -> &'static str {
    ["🌮", "⚽", "🎬", "🌧️"][index % 4]
}

/// A TSV with the columns id and text.
pub(crate) fn tsv(texts: &[String]) -> String {
    let lines: String = texts.iter().enumerate().map(|(index, text)| format!("{index}\t{text}\n")).collect();
    format!("id\ttext\n{lines}")
}

/// One JSON object per line with id and text.
pub(crate) fn jsonl(texts: &[String]) -> String {
    let line = |(index, text): (usize, &String)| format!("{}\n", serde_json::json!({ "id": index, "text": text }));
    texts.iter().enumerate().map(line).collect()
}

/// One text per line.
pub(crate) fn txt(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text}\n")).collect()
}

/// The columns id and text as an Arrow batch.
pub(crate) fn batch(texts: &[String]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]);
    let ids = Int64Array::from_iter_values(0..i64::try_from(texts.len()).unwrap());
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(StringArray::from(texts.to_vec()))]).unwrap()
}

/// A Parquet file with row groups of 100 rows.
pub(crate) fn write_parquet(path: &Path, texts: &[String]) {
    let batch = batch(texts);
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// An Arrow IPC file of two batches.
pub(crate) fn write_arrow(path: &Path, texts: &[String]) {
    let batch = batch(texts);
    let file = std::fs::File::create(path).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &batch.schema()).unwrap();
    let half = batch.num_rows() / 2;
    writer.write(&batch.slice(0, half)).unwrap();
    writer.write(&batch.slice(half, batch.num_rows() - half)).unwrap();
    writer.finish().unwrap();
}

/// Gzip, in two members.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let half = bytes.len() / 2;
    let member = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    [member(&bytes[..half]), member(&bytes[half..])].concat()
}

/// Zstandard.
pub(crate) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}
