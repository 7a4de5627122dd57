//! Files that a command writes: refused before any work if they cannot be written.

use std::path::Path;

use anyhow::Context;
use atlas::plot::{Picture, PlotFormat};
use dataset::vectors::write_atomically;

use crate::exit::Advice;
use crate::ui::{self, Ui};

/// Refuses a place that is taken (unless it may be replaced) or that is not in a folder. `option` names it in hints.
pub(crate) fn check(path: &Path, option: &str, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Advice::usage(format!("`{shown}` is a folder")).hint(format!("give a file as {option}")).into());
    }
    let is_there = path.try_exists().with_context(|| format!("cannot look for `{shown}`"))?;
    if is_there && !force {
        let hint = format!("give another {option}, or --force to replace it");
        return Err(Advice::usage(format!("`{shown}` already exists")).hint(hint).into());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let what = format!("cannot write `{shown}`: there is no folder `{}`", folder.display());
            Err(Advice::usage(what).hint("make the folder first").into())
        }
        Some(_) | None => Ok(()),
    }
}

/// The hint for a picture whose extension does not tell its format.
pub(crate) const PICTURE_HINT: &str = "the extension of --out tells what to draw";

/// As [`check`], for the picture that a command may draw. Returns its format.
pub(crate) fn check_picture(out: Option<&Path>, force: bool, hint: &str) -> anyhow::Result<Option<PlotFormat>> {
    let Some(out) = out else { return Ok(None) };
    let format = PlotFormat::of(out)
        .ok_or_else(|| Advice::usage(format!("`{}` does not end in .html, .png or .svg", out.display())).hint(hint))?;
    check(out, "--out", force)?;
    Ok(Some(format))
}

/// Writes a picture, and says what could not be lettered.
pub(crate) fn write_picture(ui: &Ui, path: &Path, picture: &Picture) -> anyhow::Result<()> {
    /// How many characters are named.
    const NAMED: usize = 12;
    write_atomically(path, &picture.bytes)?;
    let lacking = picture.missing_chars.chars().count() as u64;
    if lacking > 0 {
        let first: String = picture.missing_chars.chars().take(NAMED).collect();
        let more = if lacking > NAMED as u64 { "…" } else { "" };
        let lacking = ui::counted(lacking, "character");
        ui.warn(format!(
            "{}: no font of this machine has {lacking} ({first}{more}), drawn as \u{FFFD}; install one that has, or draw \
             .html, which takes the reader's fonts",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_there_is_kept_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        check(&path, "--out", false).unwrap();
        write_atomically(&path, b"one").unwrap();
        let error = check(&path, "--out", false).unwrap_err();
        assert!(error.to_string().contains("already exists"), "{error}");
        check(&path, "--out", true).unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no hidden file is left");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(&dir.path().join("absent/plot.svg"), "--out", false).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
        assert!(check(dir.path(), "--out", true).is_err(), "a folder");
    }
}
