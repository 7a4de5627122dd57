//! Plain lines: every line is a record, even if blank. LF, CRLF and CR end a line, as in Python's text mode.

use std::borrow::Cow;

use arrow_schema::{DataType, Field, Schema};
use futures::FutureExt;
use futures::future::BoxFuture;
use memchr::memchr2;
use spec::{ReadOptions, RejectReason};

use crate::corpus::PlannedSource;
use crate::corpus::columns::{ChunkBuilder, text_of};
use crate::corpus::dialect::Dialect;
use crate::corpus::sample::Front;
use crate::corpus::schema::Columns;
use crate::corpus::text_format::{ColumnProbe, Parse, SelectedColumns, Split, Splitter, Tail, TextFormat, UnknownKey};
use crate::error::DatasetError;

pub(crate) struct Txt;

impl TextFormat for Txt {
    fn is_delimited(&self) -> bool {
        false
    }

    fn is_sampled(&self) -> bool {
        false
    }

    fn splitter(&self, _: Dialect) -> Splitter {
        Box::new(Lines::default())
    }

    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>> {
        async move {
            let text = Field::new(&probe.options.text_column, DataType::Utf8, true);
            Front::read(self, &probe).await?.check_encoding(self, &[], probe)?;
            Ok(Columns::Typed(vec![text]))
        }
        .boxed()
    }

    fn cells<'a>(&self, record: &'a [u8], _: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>> {
        vec![Cow::Borrowed(record)]
    }

    fn parser(&self, _: &PlannedSource, options: &ReadOptions, _: &Schema) -> Result<Box<dyn Parse>, DatasetError> {
        Ok(Box::new(Parser { text_column: options.text_column.clone() }))
    }
}

#[derive(Debug, Clone, Default)]
struct Lines {
    /// Whether the line has bytes in earlier blocks.
    begun: bool,
    /// Whether the last block ended with the CR of this line, which an LF may follow.
    after_cr: bool,
}

impl Split for Lines {
    fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let first = *block.first()?;
        if self.after_cr {
            *self = Lines::default();
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

    fn finish(&self) -> Tail {
        if self.begun || self.after_cr { Tail::Record } else { Tail::Nothing }
    }

    fn end_problem(&self) -> Option<&'static str> {
        None
    }
}

/// Converts lines to rows with the text only.
struct Parser {
    text_column: String,
}

impl Parse for Parser {
    fn parse(&mut self, line: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey> {
        let bytes = line.strip_suffix(b"\n").unwrap_or(line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut fits = true;
        for (name, column) in rows.columns_by_name() {
            if name == self.text_column {
                fits &= column.append_bytes(bytes);
            } else {
                column.append_null();
            }
        }
        let text = text_of(bytes).and_then(|text| if fits { Ok(text) } else { Err(RejectReason::ColumnType) });
        rows.push_text(text, line.len());
        Ok(())
    }
}
