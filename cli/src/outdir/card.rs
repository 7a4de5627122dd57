//! The card of an output folder: a `README.md` that says what is in it, with the header by which the Hugging Face Hub and its
//! `datasets` library open the folder as a data set.

use std::fmt::Write as _;

use dataset::vectors::{place, write_atomically};
use dataset::{DatasetError, Manifest};
use spec::OutputDtype;

use super::directory::OutDir;
use crate::ui::thousands;

pub(super) const NAME: &str = "README.md";
/// The line by which a card of ours is known: a file of the user's is left alone.
const MARK: &str = "<!-- Written by encaje, again at every run; remove this line to keep changes. -->";

impl OutDir {
    /// Writes the card, unless there is another file of this name.
    pub(super) fn write_card(&self, manifest: &Manifest) -> anyhow::Result<()> {
        if self.may_write_card()? {
            write_atomically(&self.root().join(NAME), card(manifest).as_bytes())?;
        }
        Ok(())
    }

    /// Tells whether the card may be written: there is no such file, or it is one of ours.
    pub(super) fn may_write_card(&self) -> Result<bool, DatasetError> {
        let content = place::read_small(&self.root().join(NAME))?;
        Ok(content.is_none_or(|content| String::from_utf8_lossy(&content).contains(MARK)))
    }
}

/// The card: the same for the same manifest.
fn card(manifest: &Manifest) -> String {
    let (info, totals) = (&manifest.info, &manifest.totals);
    let mut rows = vec![
        ("model", code(&info.model)),
        ("revision", info.revision.as_deref().map_or_else(|| "a local directory".to_owned(), code)),
        ("digest of the model", code(&info.model_digest)),
        ("pooling", info.pooling.clone()),
        ("vectors", format!("{} dimensions, {}", info.dimensions, element(info.output_dtype))),
        ("unit length", if info.normalized { "yes" } else { "no" }.to_owned()),
        ("tokens at most", info.max_length.to_string()),
        ("number format", info.dtype.clone()),
    ];
    if !info.prefix.is_empty() {
        rows.push(("before every text", code(&info.prefix)));
    }
    rows.push(("rows", thousands(totals.rows)));
    if totals.reused > 0 {
        rows.push(("of an earlier output", thousands(totals.reused)));
    }
    for (reason, count) in &totals.rejects {
        rows.push(("rejected", format!("{} ({reason})", thousands(*count))));
    }
    if manifest.missing() > 0 {
        rows.push(("missing", thousands(manifest.missing())));
    }
    rows.push(("truncated", thousands(totals.truncated)));
    rows.push(("tokens", thousands(totals.tokens)));
    let mut text = format!(
        "---\nconfigs:\n- config_name: default\n  data_files: part-*.parquet\ntags:\n- embeddings\n---\n\n{MARK}\n\n\
         # Embedding vectors\n\n\
         Each row of a corpus with its vector in the column `embedding`, or with the reason why it has none in `error`.\n\n\
         | | |\n|---|---|\n"
    );
    for (name, value) in rows {
        // A string takes what is written to it.
        writeln!(text, "| {name} | {value} |").ok();
    }
    text.push_str("\n`encaje verify` checks the files against `manifest.json`, and against the corpus.\n");
    text
}

fn element(dtype: OutputDtype) -> &'static str {
    match dtype {
        OutputDtype::F32 => "float32",
        OutputDtype::F16 => "float16",
        OutputDtype::Int8 => "int8, times `embedding_scale`",
        OutputDtype::Binary => "one bit each, packed into uint8",
    }
}

/// Quotes text of elsewhere, in a cell of a table.
fn code(text: &str) -> String {
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`{}`", shown.replace('`', "'").replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_elsewhere_stays_in_its_cell() {
        assert_eq!(code("owner/name"), "`owner/name`");
        assert_eq!(code("a|b`c\nd"), "`a\\|b'c d`");
    }

    #[test]
    fn a_file_of_the_user_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (out, path) = (OutDir::new(dir.path().to_owned()), dir.path().join(NAME));
        assert!(out.may_write_card().unwrap());
        std::fs::write(&path, "# Mine\n").unwrap();
        assert!(!out.may_write_card().unwrap());
        assert_eq!(out.other_file().unwrap(), Some(path.clone()));
        std::fs::write(&path, format!("# Embedding vectors\n{MARK}\n")).unwrap();
        assert!(out.may_write_card().unwrap());
        assert_eq!(out.other_file().unwrap(), None);
    }
}
