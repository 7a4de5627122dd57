//! The front of a text source: its header, a sample of its records, and whether these are UTF-8 at all.

use encoding_rs::{UTF_16BE, UTF_16LE};
use spec::{Format, Keep, ReadOptions, Source};

use crate::corpus::csv::Fields;
use crate::corpus::dialect::{self, Dialect};
use crate::corpus::json;
use crate::corpus::jsonl::Inference;
use crate::corpus::notice::{Notice, not_utf8};
use crate::corpus::object::Object;
use crate::corpus::stream::TextStream;
use crate::corpus::text::{Splitter, Tail};
use crate::error::{DatasetError, ErrorKind};

/// Bytes of text that are looked at: a header beyond them is no header.
pub(crate) const FRONT_BYTES_MAX: usize = 1 << 20;

/// An uncompressed JSON source is also sampled at so many places further on: keys and types that come late are found
/// before the work, not after hours of it.
const PLACES: u64 = 15;
const PLACE_BYTES: u64 = 128 << 10;

/// Bytes that Windows-1252 has no character for.
const NOT_WINDOWS_1252: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// Units of two bytes that are looked at to tell UTF-16 without a byte order mark.
const UNITS: std::ops::RangeInclusive<usize> = 8..=2048;

/// The front of a text.
pub(crate) struct Front {
    /// As UTF-8, behind the byte order mark.
    text: Vec<u8>,
    /// Where its whole records end.
    ends: Vec<usize>,
    /// It is all of the text.
    pub(crate) is_whole: bool,
    /// It is not the object's bytes as they are.
    is_rewritten: bool,
    /// It was decoded because the options say so, though it would be good UTF-8.
    is_utf8_anyway: bool,
    /// Offset in the object of the first byte, where it is not rewritten.
    start: u64,
}

impl Front {
    /// Reads the front of a text source.
    ///
    /// # Errors
    /// `BadInput` where its bytes are those of no text; the object cannot be read.
    pub(crate) async fn read(object: &Object, source: &Source, options: &ReadOptions) -> Result<Front, DatasetError> {
        let encoding = dialect::encoding_of(options);
        let mut stream = TextStream::open(object.clone(), source.compression, encoding, 0).await?;
        let (is_rewritten, is_decoded, start) = (stream.is_rewritten(), stream.is_decoded(), stream.offset());
        let is_utf8_anyway = encoding.is_some() && is_decoded && stream.is_good_utf8();
        let (mut text, mut is_whole) = (Vec::new(), false);
        while text.len() < FRONT_BYTES_MAX && !is_whole {
            match stream.next_block().await {
                Ok(Some(block)) => text.extend_from_slice(&block),
                Ok(None) => is_whole = true,
                // What lies before the damage is read, and planning names the row where it begins.
                Err(error) if !text.is_empty() && error.kind() == ErrorKind::Corrupt => break,
                Err(error) => return Err(error),
            }
        }
        if text.len() > FRONT_BYTES_MAX {
            text.truncate(FRONT_BYTES_MAX);
            is_whole = false;
        }
        if let Some(name) = utf16_without_mark(&text).filter(|_| !is_decoded) {
            let problem = format!("it is UTF-16 text without a byte order mark: add --encoding {name}");
            return Err(DatasetError::bad_input(object.name(), problem));
        }
        let mut front = Front { text, ends: Vec::new(), is_whole, is_rewritten, is_utf8_anyway, start };
        front.split(source.format, Dialect::of(source.format, options));
        Ok(front)
    }

    fn split(&mut self, format: Format, dialect: Dialect) {
        let mut splitter = Splitter::new(format, dialect).expect("only called for text formats");
        let mut at = 0;
        while let Some(length) = splitter.find_end(&self.text[at..]) {
            at += length;
            self.ends.push(at);
        }
        if self.is_whole && splitter.finish() != Tail::Nothing {
            self.ends.push(self.text.len());
        }
    }

    /// Returns the whole records, the header among them, each with its line end and the blank lines before it.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.text[start..end])
    }

    /// Returns the fields of the header of csv and tsv.
    ///
    /// # Errors
    /// `BadInput` for a header that is missing, beyond the front, or no UTF-8.
    pub(crate) fn header(&self, object: &Object, dialect: Dialect) -> Result<Vec<String>, DatasetError> {
        let bad = |problem: &str| DatasetError::bad_input(object.name(), problem);
        let record = match self.records().next() {
            Some(record) => record,
            None if self.is_whole => return Err(bad("it is empty: the first line must name the columns")),
            None => {
                return Err(bad("its first record is larger than 1 MiB: is it CSV with a header, and no quote open? \
                                If quotes are ordinary characters in it, add --quote none"));
            }
        };
        let mut fields = Fields::default();
        fields.split(record, dialect);
        let names = (0..fields.len()).filter_map(|index| fields.get(index));
        let names: Result<Vec<String>, _> = names.map(|name| String::from_utf8(name.to_vec())).collect();
        names.map_err(|_| {
            if is_windows_1252(record) {
                bad("its header is not UTF-8 but good Windows-1252: add --encoding windows-1252")
            } else {
                bad("its header is not UTF-8: say how it is encoded with --encoding")
            }
        })
    }

    /// Judges whether the records are in the encoding that they are read in.
    ///
    /// # Errors
    /// `BadInput` where most of them are not: nothing is gained by rejecting every row of a file.
    pub(crate) fn judge(
        &self,
        object: &Object,
        format: Format,
        header: &[String],
        options: &ReadOptions,
    ) -> Result<Option<Notice>, DatasetError> {
        let uri = object.name().to_owned();
        if self.is_utf8_anyway {
            let encoding = options.encoding.clone().unwrap_or_default();
            return Ok(Some(Notice::IsUtf8 { uri, encoding }));
        }
        let mut needed = Needed::new(format, header, options);
        let skipped = usize::from(matches!(format, Format::Csv | Format::Tsv));
        let (mut rows, mut invalid, mut valid, mut fits) = (0, 0, 0, true);
        for record in self.records().skip(skipped) {
            rows += 1;
            if record.is_ascii() {
                continue;
            }
            if needed.is_utf8(record) {
                valid += 1;
            } else {
                invalid += 1;
                fits &= is_windows_1252(record);
            }
        }
        // A file in another encoding has hardly a row beyond ASCII that is UTF-8 by chance.
        let is_windows_1252 = fits && invalid > valid;
        if invalid * 2 > rows {
            return Err(DatasetError::bad_input(uri, not_utf8(invalid, rows, is_windows_1252)));
        }
        Ok((invalid > 0).then_some(Notice::NotUtf8 { uri, invalid, rows, is_windows_1252 }))
    }

    /// Infers the types of a JSON source. Returns what was inferred, and whether that was from all of its records.
    ///
    /// # Errors
    /// `BadInput` where its first lines are no JSON objects; the object cannot be read.
    pub(crate) async fn infer(&self, object: &Object) -> Result<JsonSample, DatasetError> {
        let mut sample = JsonSample::default();
        self.records().for_each(|record| sample.add(record));
        if sample.begins_an_array || (sample.objects == 0 && sample.records > 0) {
            let problem = "its first lines are no JSON objects: JSON lines are wanted, one object per line \
                           (an array becomes that with `jq -c '.[]'`)";
            return Err(DatasetError::bad_input(object.name(), problem));
        }
        sample.is_complete = self.is_whole;
        let front = self.start + FRONT_BYTES_MAX as u64;
        let rest = object.size().saturating_sub(front);
        if !self.is_rewritten && rest > 0 {
            for place in 0..PLACES {
                let start = front + (rest / PLACES) * place;
                let end = object.size().min(start + PLACE_BYTES);
                sample.take_lines_within(&object.read(start..end).await?);
            }
        }
        Ok(sample)
    }
}

/// What a sample of JSON lines shows.
#[derive(Default)]
pub(crate) struct JsonSample {
    pub(crate) inference: Inference,
    /// Records that are JSON objects.
    pub(crate) objects: u64,
    /// The sample is the whole source.
    pub(crate) is_complete: bool,
    /// All records.
    records: u64,
    /// The first line opens an array that other lines go on with: its elements are no lines, even where some parse.
    begins_an_array: bool,
}

impl JsonSample {
    /// Takes in the lines that lie wholly within bytes that begin and end anywhere.
    fn take_lines_within(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        lines.next();
        lines.next_back();
        lines.for_each(|line| self.add(line));
    }

    fn add(&mut self, record: &[u8]) {
        if self.records == 0 && record.trim_ascii_start().starts_with(b"[") {
            self.begins_an_array = !json::is_json(record);
        }
        self.records += 1;
        self.objects += u64::from(self.inference.add(record));
    }
}

/// The cells of a record that must be UTF-8: those of the text and of the kept columns.
enum Needed {
    /// All of the record.
    Record,
    /// These fields.
    Fields { fields: Fields, dialect: Dialect, positions: Vec<usize> },
    /// The values of these keys.
    Keys(Vec<String>),
}

impl Needed {
    fn new(format: Format, header: &[String], options: &ReadOptions) -> Needed {
        let columns: &[String] = match &options.keep {
            Keep::All => return Needed::Record,
            Keep::None => &[],
            Keep::Columns(columns) => columns,
        };
        let mut names = vec![options.text_column.clone()];
        names.extend(options.id_column.iter().chain(columns).cloned());
        match format {
            Format::Csv | Format::Tsv => {
                let positions = (0..header.len()).filter(|&index| names.contains(&header[index])).collect();
                Needed::Fields { fields: Fields::default(), dialect: Dialect::of(format, options), positions }
            }
            Format::Jsonl => Needed::Keys(names),
            Format::Txt | Format::Parquet | Format::Arrow => Needed::Record,
        }
    }

    fn is_utf8(&mut self, record: &[u8]) -> bool {
        let is_utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        match self {
            Needed::Record => is_utf8(record),
            Needed::Fields { fields, dialect, positions } => {
                fields.split(record, *dialect);
                positions.iter().filter_map(|&index| fields.get(index)).all(is_utf8)
            }
            Needed::Keys(keys) => {
                let members = json::members(record).unwrap_or_default();
                members.iter().filter(|(key, _)| keys.contains(key)).all(|(_, value)| is_utf8(value))
            }
        }
    }
}

fn is_windows_1252(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| NOT_WINDOWS_1252.contains(byte))
}

/// Tells UTF-16 by its zeros: text of Latin letters has one in nearly every unit, and always in the same half.
fn utf16_without_mark(text: &[u8]) -> Option<&'static str> {
    let units = (text.len() / 2).min(*UNITS.end());
    if units < *UNITS.start() {
        return None;
    }
    let zeros = |half: usize| text.iter().skip(half).step_by(2).take(units).filter(|byte| **byte == 0).count();
    let (first, second) = (zeros(0), zeros(1));
    match (first * 10 > units * 7, second * 10 > units * 7) {
        (true, false) if second * 10 < units => Some(UTF_16BE.name()),
        (false, true) if first * 10 < units => Some(UTF_16LE.name()),
        _ => None,
    }
}
