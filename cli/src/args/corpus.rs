//! Which corpus is read, and how.

use clap::Args;
use spec::{Format, Keep, Quote, ReadOptions};

use super::values::{parse_delimiter, parse_encoding, parse_keep, parse_quote};

/// Which texts to embed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Corpus")]
pub(crate) struct CorpusArgs {
    /// Files, globs, URLs (`s3://`, `gs://`, `az://`, `https://`, `file://`; globs in buckets too), data sets of the Hugging
    /// Face Hub (`hf://datasets/OWNER/NAME[@REVISION][/PATH or glob]`), named pipes, or `-` for stdin, embedded in the order
    /// given. The extension tells the format: .csv .tsv .jsonl .ndjson .json .txt, these also
    /// as .gz or .zst; .parquet .arrow .arrows .feather .ipc. Stdin and pipes need --format; `run` keeps them in the
    /// output's state folder, `submit` uploads them.
    #[arg(required = true, value_name = "CORPUS")]
    pub(crate) corpus: Vec<String>,
    /// Reads every source as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Names the column that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_column: String,
    /// Names a column that must exist and is always kept.
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,
    /// Passes input columns through to the output: `all`, `none`, or names separated by commas.
    #[arg(long, value_name = "COLUMN,...", value_parser = parse_keep, default_value = "all")]
    pub(crate) keep: Keep,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
}

/// The dialect and encoding of a corpus.
#[derive(Debug, Args)]
pub(crate) struct DialectArgs {
    /// Separates the fields of csv and tsv by this one character, such as `;` or `tab`.
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub(crate) delimiter: Option<char>,
    /// Takes this one character for the quote of csv and tsv, instead of `"`; with `none`, quotes are characters like
    /// others and every line is a row.
    #[arg(long, value_name = "CHARACTER|none", value_parser = parse_quote)]
    pub(crate) quote: Option<Quote>,
    /// Decodes text formats from this character encoding, such as `windows-1252`, unless a byte order mark says which it
    /// is. The default is UTF-8.
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    pub(crate) encoding: Option<String>,
}

impl DialectArgs {
    /// Returns the options with what was given in the place of what they say.
    pub(crate) fn over(&self, options: ReadOptions) -> ReadOptions {
        let delimiter = self.delimiter.or(options.delimiter);
        let quote = self.quote.or(options.quote).filter(|quote| *quote != Quote::Char('"'));
        let encoding = self.encoding.clone().or(options.encoding).filter(|name| name != "UTF-8");
        ReadOptions { delimiter, quote, encoding, ..options }
    }
}
