//! Looks at the headers of all sources before any work: what is wrong with a corpus shall be said in the first second.

use arrow_schema::{DataType, Field};

use crate::corpus::columnar::{self, is_text};
use crate::corpus::csv::{Fields, delimiter_of};
use crate::corpus::feed::{Record, RecordFeed};
use crate::corpus::json;
use crate::corpus::jsonl::Inference;
use crate::corpus::object::Object;
use crate::corpus::schema::{Columns, SourceColumns, encode_schema, unify};
use crate::corpus::stream::TextStream;
use crate::corpus::text::{Splitter, byte_order_mark};
use crate::corpus::{Compression, Format, PlannedSource, ReadOptions, Source};
use crate::error::DatasetError;

/// A header line beyond this is no header.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// The sample of a JSON source ends at this many records or bytes, at each of its places.
const SAMPLE_RECORDS_MAX: u64 = 1000;
const SAMPLE_BYTES_MAX: u64 = 1 << 20;

/// An uncompressed JSON source is sampled at its front and at this many places further on: keys and types that come late
/// are found before the work, not after hours of it.
const SAMPLE_PLACES: u64 = 15;
const SAMPLE_PLACE_BYTES: u64 = 128 << 10;

/// Reads headers and footers (of JSON: a sample) only, and decides the kept columns over all sources.
///
/// # Errors
/// A source is missing, empty without a header, damaged or in another format; the text column, id column or a kept
/// column is not there; a kept column collides with an output column, or has two types. Each names the source.
pub async fn inspect(sources: &[Source], options: &ReadOptions) -> Result<Vec<PlannedSource>, DatasetError> {
    let mut columns = Vec::with_capacity(sources.len());
    let mut fingerprints = Vec::with_capacity(sources.len());
    let mut inference = Inference::default();
    for source in sources {
        let object = Object::open(&source.uri).await?;
        columns.push(columns_of(&object, source, options, &mut inference).await?);
        object.check().await?;
        fingerprints.push(object.fingerprint().clone());
    }
    let kept_schema = encode_schema(&unify(&columns, &inference, options)?);
    let planned = sources.iter().zip(columns).zip(fingerprints).map(|((source, columns), fingerprint)| {
        let header = match source.format {
            Format::Csv | Format::Tsv => columns.names(),
            Format::Jsonl | Format::Parquet | Format::Arrow | Format::Txt => Vec::new(),
        };
        PlannedSource { source: source.clone(), fingerprint, header, kept_schema: kept_schema.clone() }
    });
    Ok(planned.collect())
}

async fn columns_of(
    object: &Object,
    source: &Source,
    options: &ReadOptions,
    inference: &mut Inference,
) -> Result<SourceColumns, DatasetError> {
    let utf8 = |name: &str| Field::new(name, DataType::Utf8, true);
    let columns = match source.format {
        Format::Csv | Format::Tsv => {
            Columns::Typed(csv_header(object, source).await?.iter().map(|name| utf8(name)).collect())
        }
        Format::Txt => {
            open_text(object, source).await?;
            Columns::Typed(vec![utf8(&options.text_column)])
        }
        Format::Jsonl => {
            let sample = json_sample(object, source).await?;
            inference.merge(&sample.inference);
            match sample.objects {
                0 => Columns::Unknown,
                _ => Columns::Sampled(sample.inference.keys()),
            }
        }
        Format::Parquet | Format::Arrow => {
            let schema = columnar::fields(object, source.format).await?;
            check_text_type(object, schema.field_with_name(&options.text_column).ok())?;
            Columns::Typed(schema.fields().iter().map(|field| field.as_ref().clone()).collect())
        }
    };
    Ok(SourceColumns { uri: source.uri.clone(), format: source.format, columns })
}

fn check_text_type(object: &Object, text: Option<&Field>) -> Result<(), DatasetError> {
    match text {
        Some(field) if !is_text(field.data_type()) => {
            let (name, data_type) = (field.name(), field.data_type());
            let problem = format!("its column `{name}` is {data_type}, not text: name another with --text-column");
            Err(DatasetError::bad_input(object.name(), problem))
        }
        _ => Ok(()),
    }
}

/// Opens a text source behind its byte order mark.
async fn open_text(object: &Object, source: &Source) -> Result<TextStream, DatasetError> {
    let mut stream = TextStream::open(object.clone(), source.compression, 0).await?;
    let front = stream.next_block().await?.unwrap_or_default();
    let mark = byte_order_mark(&front).map_err(|problem| DatasetError::bad_input(object.name(), problem))?;
    TextStream::open(object.clone(), source.compression, mark).await
}

fn splitter_of(format: Format) -> Splitter {
    Splitter::new(format).expect("only called for text formats")
}

async fn csv_header(object: &Object, source: &Source) -> Result<Vec<String>, DatasetError> {
    let bad = |problem: &str| DatasetError::bad_input(object.name(), problem);
    let stream = open_text(object, source).await?;
    let mut feed = RecordFeed::new(stream, splitter_of(source.format));
    let record = match feed.next().await? {
        None => return Err(bad("it is empty: the first line must name the columns")),
        Some(Record::Whole(record)) if record.len() as u64 <= HEADER_BYTES_MAX => record,
        Some(_) => {
            return Err(bad("its first record is larger than 1 MiB: is it CSV with a header, and no quote open?"));
        }
    };
    let mut fields = Fields::default();
    fields.split(record, delimiter_of(source.format));
    let name = |index| fields.get(index).map(|bytes| String::from_utf8(bytes.to_vec()));
    let names: Option<Result<Vec<String>, _>> =
        (0..fields.len()).map(name).collect::<Option<Vec<_>>>().map(|names| names.into_iter().collect());
    match names {
        Some(Ok(names)) => Ok(names),
        _ => Err(bad("its header is not UTF-8: convert it first, for example `iconv -f WINDOWS-1252 -t UTF-8`")),
    }
}

struct JsonSample {
    inference: Inference,
    /// Records that are JSON objects.
    objects: u64,
    /// All records.
    records: u64,
    /// The first line opens an array that other lines go on with: its elements are no lines, even where some parse.
    begins_an_array: bool,
}

async fn json_sample(object: &Object, source: &Source) -> Result<JsonSample, DatasetError> {
    let mut sample = JsonSample { inference: Inference::default(), objects: 0, records: 0, begins_an_array: false };
    let stream = open_text(object, source).await?;
    let front = stream.offset();
    sample.take(stream, SAMPLE_BYTES_MAX).await?;
    if sample.begins_an_array || (sample.objects == 0 && sample.records > 0) {
        let problem = "its first lines are no JSON objects: JSON lines are wanted, one object per line \
                       (an array becomes that with `jq -c '.[]'`)";
        return Err(DatasetError::bad_input(object.name(), problem));
    }
    let rest = object.size().saturating_sub(front + SAMPLE_BYTES_MAX);
    if source.compression == Compression::None && rest > 0 {
        for place in 1..=SAMPLE_PLACES {
            let start = front + SAMPLE_BYTES_MAX + (rest / SAMPLE_PLACES) * (place - 1);
            let end = object.size().min(start + SAMPLE_PLACE_BYTES);
            let mut stream = TextStream::plain(object.clone(), start..end);
            sample.take_lines_within(&mut stream).await?;
        }
    }
    Ok(sample)
}

impl JsonSample {
    /// Takes in whole records from the front of a stream.
    async fn take(&mut self, stream: TextStream, bytes_max: u64) -> Result<(), DatasetError> {
        let mut feed = RecordFeed::new(stream, splitter_of(Format::Jsonl));
        let mut bytes = 0;
        while self.records < SAMPLE_RECORDS_MAX && bytes < bytes_max {
            match feed.next().await? {
                None => return Ok(()),
                Some(Record::TooLarge) => bytes = bytes_max,
                Some(Record::Whole(record)) => {
                    bytes += record.len() as u64;
                    self.add(record);
                }
            }
        }
        Ok(())
    }

    /// Takes in the lines that lie wholly within a stream that begins and ends anywhere.
    async fn take_lines_within(&mut self, stream: &mut TextStream) -> Result<(), DatasetError> {
        let mut bytes = Vec::new();
        while let Some(block) = stream.next_block().await? {
            bytes.extend_from_slice(&block);
        }
        let mut lines = bytes.split(|&byte| byte == b'\n');
        lines.next();
        lines.next_back();
        for line in lines {
            self.add(line);
        }
        Ok(())
    }

    fn add(&mut self, record: &[u8]) {
        if self.records == 0 && record.trim_ascii_start().starts_with(b"[") {
            self.begins_an_array = !json::is_json(record);
        }
        self.records += 1;
        self.objects += u64::from(self.inference.add(record));
    }
}
