//! The first texts of a corpus, for commands that look at a few.

use anyhow::Context;
use dataset::{Cursor, CutLimits, Cutter, ReadOptions, Source, Storage, expand, inspect, read};
use spec::Format;

use crate::stream::{Corpora, ScratchFolder};
use crate::ui::Ui;

/// Re-cut pieces of sources are as large as this at most, and deleted after use.
const LIMITS: CutLimits = CutLimits { rows_max: 10_000, bytes_max: 4 << 20 };

/// Reads the first `rows` records; `None` stands for one whose text is missing or cannot be read.
pub(crate) fn first(
    ui: &Ui,
    from: &str,
    format: Option<Format>,
    options: &ReadOptions,
    rows: usize,
) -> anyhow::Result<Vec<Option<String>>> {
    let input = ScratchFolder::new();
    let corpora = Corpora::keep_streams(ui, &[from.to_owned()], format, input.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let scratch = std::env::temp_dir().join(format!("encaje-texts-{}", std::process::id()));
    let sources = runtime.block_on(expand(&corpora.patterns, format))?;
    let found = runtime.block_on(first_texts(&sources, options, rows, &scratch.to_string_lossy()));
    // Best effort: what is left is small, and in the folder for temporary files.
    drop(std::fs::remove_dir_all(&scratch));
    found
}

async fn first_texts(
    sources: &[Source],
    options: &ReadOptions,
    rows: usize,
    scratch: &str,
) -> anyhow::Result<Vec<Option<String>>> {
    let planned = inspect(sources, options).await?;
    let recut = Storage::open(scratch)?;
    let cut = (planned.clone(), options.clone());
    let mut cutter = Cutter::new(cut.0, cut.1, LIMITS, recut.clone(), "recut".to_owned(), Cursor::default()).await?;
    let mut texts: Vec<Option<String>> = Vec::new();
    while texts.len() < rows
        && let Some(slice) = Box::pin(cutter.next()).await?
    {
        let source = planned.get(slice.source_index as usize).context("a slice is of one of the sources")?;
        let mut reader = read(source, &slice, options, &recut).await?;
        while texts.len() < rows
            && let Some(chunk) = reader.next_chunk().await?
        {
            texts.extend(chunk.texts.into_iter().map(Result::ok));
        }
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
            first(&Ui::new(true, 0), path.to_str().unwrap(), None, &options, rows)
        };
        assert_eq!(texts("text", 3).unwrap(), [Some("uno".to_owned()), None, Some("tres,\ncuatro".to_owned())]);
        assert_eq!(texts("text", 100).unwrap().len(), 4);
        assert!(texts("missing", 3).is_err());
    }
}
