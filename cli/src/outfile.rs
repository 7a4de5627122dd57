//! Files that a command writes: refused before any work if they cannot be written.

use std::path::Path;

use atlas::plot::{Picture, PlotError, PlotFormat};
use dataset::vectors::{place, write_atomically};

use crate::args::Place;
use crate::exit::Advice;
use crate::ui::{self, Ui};

/// Refuses a URL where nothing can be written.
pub(crate) fn check_place(path: &Path) -> Result<(), Advice> {
    place::check_writable(path).map_err(|error| Advice::usage(error.to_string()))
}

/// Refuses a place that is taken (unless it may be replaced), that is not in a folder, or that is a URL where nothing can be
/// written. `option` names it in hints.
pub(crate) fn check(path: &Path, option: &str, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    check_place(path)?;
    if path.is_dir() {
        return Err(Advice::usage(format!("`{shown}` is a folder")).hint(format!("give a file as {option}")).into());
    }
    if place::size_of(path)?.is_some() && !force {
        let hint = format!("give another {option}, or --force to replace it");
        return Err(Advice::usage(format!("`{shown}` already exists")).hint(hint).into());
    }
    match path.parent().filter(|_| place::url_of(path).is_none()) {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            let what = format!("cannot write `{shown}`: there is no folder `{}`", folder.display());
            Err(Advice::usage(what).hint("make the folder first").into())
        }
        Some(_) | None => Ok(()),
    }
}

/// The hint for a picture whose extension does not tell its format.
pub(crate) const PICTURE_HINT: &str = "the extension of --out tells what to draw";

/// A picture that a command draws, as `--out` names it.
#[derive(Debug)]
pub(crate) struct PictureFile<'a> {
    path: &'a Path,
    format: PlotFormat,
}

/// As [`check`], for the pictures that a command may draw. Returns their formats.
pub(crate) fn check_pictures<'a>(outs: &'a [Place], force: bool, hint: &str) -> anyhow::Result<Vec<PictureFile<'a>>> {
    let checked = |path: &'a Place| {
        let format = PlotFormat::of(path).ok_or_else(|| {
            Advice::usage(format!("`{}` does not end in .html, .png, .svg or .pdf", path.display())).hint(hint)
        })?;
        check(path, "--out", force)?;
        Ok(PictureFile { path, format })
    };
    outs.iter().map(checked).collect()
}

/// Draws the same picture in each format.
pub(crate) fn write_pictures(
    ui: &Ui,
    files: &[PictureFile<'_>],
    draw: impl Fn(PlotFormat) -> Result<Picture, PlotError>,
) -> anyhow::Result<()> {
    files.iter().try_for_each(|file| write_picture(ui, file.path, &draw(file.format)?))
}

/// Writes a picture, and says what could not be lettered.
fn write_picture(ui: &Ui, path: &Path, picture: &Picture) -> anyhow::Result<()> {
    /// How many characters are named.
    const NAMED: usize = 12;
    write_atomically(path, &picture.bytes)?;
    let lacking = picture.missing_chars.chars().count() as u64;
    if lacking > 0 {
        let first: String = picture.missing_chars.chars().take(NAMED).collect();
        let more = if lacking > NAMED as u64 { "…" } else { "" };
        let lacking = ui::counted(lacking, "character");
        ui.warn(format!(
            "{}: no font of this machine has {lacking} ({first}{more}), drawn as \u{FFFD}; give one that has by \
             `project --font FILE`, install it, or draw .html, which takes the reader's fonts",
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
