//! The front of a text source: header, sample of records, and check of its encoding.

use encoding_rs::{UTF_16BE, UTF_16LE};
use spec::{Keep, ReadOptions};

use crate::corpus::RECORD_BYTES_MAX;
use crate::corpus::dialect::{self, Dialect, separator_line};
use crate::corpus::notice::{Notice, not_utf8};
use crate::corpus::object::Object;
use crate::corpus::stream::TextStream;
use crate::corpus::text_format::{ColumnProbe, SelectedColumns, Splitter, Tail, TextFormat};
use crate::error::{DatasetError, ErrorKind};

/// Maximum size of the front and of a header. The first record of a sampled format may be longer.
pub(crate) const FRONT_BYTES_MAX: usize = 1 << 20;

/// Bytes undefined in Windows-1252.
const NOT_WINDOWS_1252: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// Number of 16-bit units used to detect UTF-16 without a byte order mark.
const UNITS: std::ops::RangeInclusive<usize> = 8..=2048;

pub(crate) struct Front {
    /// As UTF-8, without the byte order mark.
    text: Vec<u8>,
    /// Ends of the whole records.
    ends: Vec<usize>,
    /// Whether it is the whole text.
    pub(crate) is_whole: bool,
    /// Whether it was decompressed or decoded.
    is_rewritten: bool,
    /// Whether it was decoded because of the options, though it is valid UTF-8.
    is_utf8_despite_option: bool,
    /// Offset of the first byte in the object, if not rewritten.
    start: u64,
}

impl Front {
    /// Reads the front of a text source.
    ///
    /// # Errors
    /// `BadInput` if the bytes are not text; the object cannot be read.
    pub(crate) async fn read(format: &dyn TextFormat, probe: &ColumnProbe<'_>) -> Result<Front, DatasetError> {
        let ColumnProbe { object, source, options, .. } = probe;
        let encoding = dialect::encoding_of(options);
        let mut stream = TextStream::open((*object).clone(), source.compression, encoding, 0).await?;
        let (is_rewritten, is_decoded, start) = (stream.is_rewritten(), stream.is_decoded(), stream.offset());
        let is_utf8_despite_option = encoding.is_some() && is_decoded && stream.is_good_utf8();
        // A sample needs at least one record, so the first one is read in full.
        let mut first = format.is_sampled().then(|| format.splitter(Dialect::of(source.format, options)));
        let (mut text, mut is_whole, mut bytes_max) = (Vec::new(), false, FRONT_BYTES_MAX);
        while !is_whole && (text.len() < bytes_max || (first.is_some() && text.len() as u64 <= RECORD_BYTES_MAX)) {
            match stream.next_block().await {
                Ok(Some(block)) => {
                    let end = first.as_mut().and_then(|splitter| splitter.find_end(&block));
                    if let Some(end) = end {
                        bytes_max = FRONT_BYTES_MAX.max(text.len() + end);
                        first = None;
                    }
                    text.extend_from_slice(&block);
                }
                Ok(None) => is_whole = true,
                // The data before the damage is used; planning reports the damaged row.
                Err(error) if !text.is_empty() && error.kind() == ErrorKind::Corrupt => break,
                Err(error) => return Err(error),
            }
        }
        if first.is_some() && !is_whole && text.len() as u64 > RECORD_BYTES_MAX {
            let problem =
                "its first record is larger than 32 MiB, so that its columns are not known: put another one first";
            return Err(DatasetError::bad_input(object.name(), problem));
        }
        if text.len() > bytes_max {
            text.truncate(bytes_max);
            is_whole = false;
        }
        if let Some(name) = utf16_without_mark(&text).filter(|_| !is_decoded) {
            let problem = format!("it is UTF-16 text without a byte order mark: add --encoding {name}");
            return Err(DatasetError::bad_input(object.name(), problem));
        }
        let mut start = start;
        if format.is_delimited()
            && let Some((named, length)) = separator_line(&text)
        {
            check_separator(object, named, Dialect::of(source.format, options))?;
            text.drain(..length);
            start += length as u64;
        }
        let mut front = Front { text, ends: Vec::new(), is_whole, is_rewritten, is_utf8_despite_option, start };
        front.split(format.splitter(Dialect::of(source.format, options)));
        Ok(front)
    }

    fn split(&mut self, mut splitter: Splitter) {
        let mut at = 0;
        while let Some(length) = splitter.find_end(&self.text[at..]) {
            at += length;
            self.ends.push(at);
        }
        if self.is_whole && splitter.finish() != Tail::Nothing {
            self.ends.push(self.text.len());
        }
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns its end in the object, unless it is rewritten.
    pub(crate) fn end_in_object(&self) -> Option<u64> {
        (!self.is_rewritten).then(|| self.start + self.text.len() as u64)
    }

    /// Returns the whole records, including the header, with line ends and preceding blank lines.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.text[start..end])
    }

    /// Checks that the records are in the expected encoding; a few exceptions cause a warning.
    ///
    /// # Errors
    /// `BadInput` if most records are not, since all rows of the file would be rejected.
    pub(crate) fn check_encoding(
        &self,
        format: &dyn TextFormat,
        header: &[String],
        probe: ColumnProbe<'_>,
    ) -> Result<(), DatasetError> {
        let ColumnProbe { object, source, options, notices, .. } = probe;
        let uri = object.name().to_owned();
        if self.is_utf8_despite_option {
            let encoding = options.encoding.clone().unwrap_or_default();
            notices.push(Notice::IsUtf8 { uri, encoding });
            return Ok(());
        }
        let names = needed(options);
        let selected = names.as_deref().map(|names| {
            let dialect = Dialect::of(source.format, options);
            SelectedColumns { names, header, dialect }
        });
        let is_utf8 = |record: &[u8]| match &selected {
            None => std::str::from_utf8(record).is_ok(),
            Some(selected) => format.cells(record, selected).iter().all(|cell| std::str::from_utf8(cell).is_ok()),
        };
        let (mut rows, mut invalid, mut valid, mut fits) = (0, 0, 0, true);
        for record in self.records().skip(usize::from(format.is_delimited())) {
            rows += 1;
            if record.is_ascii() {
                continue;
            }
            if is_utf8(record) {
                valid += 1;
            } else {
                invalid += 1;
                fits &= is_windows_1252(record);
            }
        }
        // In another encoding, hardly any non-ASCII row is valid UTF-8 by chance.
        let is_windows_1252 = fits && invalid > valid;
        if invalid * 2 > rows {
            return Err(DatasetError::bad_input(uri, not_utf8(invalid, rows, is_windows_1252)));
        }
        if invalid > 0 {
            notices.push(Notice::NotUtf8 { uri, invalid, rows, is_windows_1252 });
        }
        Ok(())
    }
}

/// Refuses a delimiter that the first line names where the fields are separated by another.
fn check_separator(object: &Object, named: u8, dialect: Dialect) -> Result<(), DatasetError> {
    if named == dialect.delimiter {
        return Ok(());
    }
    let (line, option) = match named {
        b'\t' => ("\\t".to_owned(), "tab".to_owned()),
        named => (char::from(named).to_string(), format!("'{}'", char::from(named))),
    };
    let problem = format!("its first line is Excel's `sep={line}`: add --delimiter {option}");
    Err(DatasetError::bad_input(object.name(), problem))
}

/// Returns the columns that must be UTF-8: the text and kept ones; `None` for all.
fn needed(options: &ReadOptions) -> Option<Vec<String>> {
    let columns: &[String] = match &options.keep {
        Keep::All => return None,
        Keep::None => &[],
        Keep::Columns(columns) => columns,
    };
    let read = std::iter::once(&options.text_column).chain(&options.id_column).chain(columns);
    Some(read.cloned().collect())
}

pub(crate) fn is_windows_1252(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| NOT_WINDOWS_1252.contains(byte))
}

/// Detects UTF-16 by its zeros: Latin text has one in nearly every unit, always in the same half.
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
