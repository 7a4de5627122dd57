//! Plain lines: every line is a record, blank ones too. LF, CRLF and a lone CR end a line, as in Python's text mode.

use memchr::memchr2;
use spec::RejectReason;

use crate::corpus::columns::{Rows, text_of};
use crate::corpus::text::Tail;

/// Finds line ends; see [`crate::corpus::text::Splitter`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Splitter {
    /// The line has bytes in earlier blocks.
    begun: bool,
    /// The block before ended in the CR of this line; an LF may follow.
    after_cr: bool,
}

impl Splitter {
    /// See [`crate::corpus::text::Splitter::find_end`].
    pub(crate) fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let first = *block.first()?;
        if self.after_cr {
            *self = Splitter::default();
            return Some(usize::from(first == b'\n'));
        }
        let Some(at) = memchr2(b'\n', b'\r', block) else {
            self.begun = true;
            return None;
        };
        match (block[at], block.get(at + 1)) {
            (b'\r', None) => {
                self.after_cr = true;
                None
            }
            (b'\r', Some(b'\n')) => {
                self.begun = false;
                Some(at + 2)
            }
            _ => {
                self.begun = false;
                Some(at + 1)
            }
        }
    }

    /// Tells what is left where the text ends.
    pub(crate) fn finish(&self) -> Tail {
        if self.begun || self.after_cr { Tail::Record } else { Tail::Nothing }
    }
}

/// Appends one line, given with its line end, to `rows`. The only column is the text.
pub(crate) fn parse(line: &[u8], rows: &mut Rows, text_column: &str) {
    let bytes = line.strip_suffix(b"\n").unwrap_or(line);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut fits = true;
    for (name, column) in rows.columns_by_name() {
        if name == text_column {
            fits &= column.append_bytes(bytes);
        } else {
            column.append_null();
        }
    }
    let text = text_of(bytes).and_then(|text| if fits { Ok(text) } else { Err(RejectReason::ColumnType) });
    rows.push_text(text, line.len());
}
