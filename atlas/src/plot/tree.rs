//! Reads an SVG document of this crate, with the fonts that its letters need.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use resvg::usvg::fontdb::{Database, ID};
use resvg::usvg::{FontResolver, Options, Tree};

use super::{PlotError, font};

/// System font directories, read only for scripts that the bundled font lacks.
const FONT_DIRS: [&str; 5] =
    ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:\\Windows\\Fonts"];
/// Maximum bytes of system fonts that are read.
const FONT_BYTES_MAX: u64 = 512 << 20;

/// Reads a document. `extra` is a font for what the bundled one lacks; system fonts come after it. Characters without a
/// font become U+FFFD and are returned.
pub(crate) fn read(svg: &str, extra: Option<&[u8]>) -> Result<(Tree, String), PlotError> {
    let mut fonts = Database::new();
    fonts.load_font_data(font::REGULAR.to_vec());
    fonts.load_font_data(font::BOLD.to_vec());
    let carried: Vec<ID> = fonts.faces().map(|face| face.id).collect();
    if let Some(extra) = extra {
        fonts.load_font_data(extra.to_vec());
    }
    let foreign: BTreeSet<char> = svg.chars().filter(|c| !font::covers(*c)).collect();
    let mut fonts = Arc::new(fonts);
    if foreign.iter().any(|c| fallback(*c, &carried, &mut fonts).is_none()) {
        let (all, mut left) = (Arc::make_mut(&mut fonts), FONT_BYTES_MAX);
        FONT_DIRS.iter().for_each(|dir| load_fonts(all, Path::new(dir), &mut left, 4));
    }
    Arc::make_mut(&mut fonts).set_sans_serif_family(font::FAMILY);
    let missing: String = foreign.into_iter().filter(|c| fallback(*c, &carried, &mut fonts).is_none()).collect();
    let svg = match missing.is_empty() {
        true => Cow::Borrowed(svg),
        false => Cow::Owned(svg.replace(|c| missing.contains(c), "\u{FFFD}")),
    };
    let font_resolver = FontResolver { select_fallback: Box::new(fallback), ..FontResolver::default() };
    let font_family = font::FAMILY.to_owned();
    let options = Options { fontdb: fonts, font_family, font_resolver, ..Options::default() };
    let tree = Tree::from_str(&svg, &options).map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok((tree, missing))
}

/// Whether a file is a font that can be read.
pub fn is_font(file: &[u8]) -> bool {
    let mut fonts = Database::new();
    fonts.load_font_data(file.to_vec());
    !fonts.is_empty()
}

/// Finds a face with a character that those `tried` lack, preferring the same weight.
fn fallback(c: char, tried: &[ID], fonts: &mut Arc<Database>) -> Option<ID> {
    let any = FontResolver::default_fallback_selector();
    let weight = fonts.face(*tried.first()?)?.weight;
    let (mut passed, mut second_best) = (tried.to_vec(), None);
    while let Some(found) = any(c, &passed, fonts) {
        if fonts.face(found).is_some_and(|face| face.weight == weight) {
            return Some(found);
        }
        second_best = second_best.or(Some(found));
        passed.push(found);
    }
    second_best
}

/// Loads the font files below a folder, ignoring unreadable ones.
fn load_fonts(fonts: &mut Database, dir: &Path, left: &mut u64, depth: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && depth > 0 {
            load_fonts(fonts, &path, left, depth - 1);
            continue;
        }
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_ascii_lowercase();
        let size = std::fs::metadata(&path).map_or(u64::MAX, |file| file.len());
        if matches!(kind.as_str(), "ttf" | "otf" | "ttc") && size <= *left {
            *left -= size;
            if let Ok(bytes) = std::fs::read(&path) {
                fonts.load_font_data(bytes);
            }
        }
    }
}
