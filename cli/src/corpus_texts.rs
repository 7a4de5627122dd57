//! The first texts of a corpus, for commands that look at a few.

use anyhow::Context;
use dataset::{ReadOptions, Source, records};
use spec::Format;

use crate::pins;
use crate::stream::Corpora;
use crate::ui::Ui;

/// Reads the first `rows` records; `None` for a record whose text is missing or invalid.
pub(crate) fn first(
    ui: &Ui,
    from: &str,
    format: Option<Format>,
    options: &ReadOptions,
    rows: usize,
) -> anyhow::Result<Vec<Option<String>>> {
    let corpora = Corpora::save_streams_temporarily(ui, &[from.to_owned()], format)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let sources = runtime.block_on(pins::expand(ui, &corpora.patterns, format, &[]))?.sources;
    runtime.block_on(first_texts(&sources, options, rows))
}

async fn first_texts(sources: &[Source], options: &ReadOptions, rows: usize) -> anyhow::Result<Vec<Option<String>>> {
    let mut records = records(sources, options).await?;
    let mut texts: Vec<Option<String>> = Vec::new();
    while texts.len() < rows
        && let Some(chunk) = records.next_chunk().await?
    {
        texts.extend(chunk.texts.into_iter().map(Result::ok));
    }
    texts.truncate(rows);
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_are_read_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "id,text\n1,uno\n2,\n3,\"tres,\ncuatro\"\n4,cinco\n").unwrap();
        let texts = |column: &str, rows| {
            let options = ReadOptions { text_column: column.to_owned(), ..ReadOptions::default() };
            first(&Ui::silent(), path.to_str().unwrap(), None, &options, rows)
        };
        assert_eq!(texts("text", 3).unwrap(), [Some("uno".to_owned()), None, Some("tres,\ncuatro".to_owned())]);
        assert_eq!(texts("text", 100).unwrap().len(), 4);
        assert!(texts("missing", 3).is_err());
    }
}
