//! Rasterizes an SVG document.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, ID};
use resvg::usvg::{FontResolver, Options, Tree};

use super::{Picture, PlotError, font};

/// Pixels of a document per inch.
const DOCUMENT_DPI: f32 = 96.0;
/// Maximum pixels along a side.
const SIDE_MAX: f32 = 20_000.0;
/// System font directories, read only for scripts that the bundled font lacks.
const FONT_DIRS: [&str; 5] =
    ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:\\Windows\\Fonts"];
/// Maximum bytes of system fonts that are read.
const FONT_BYTES_MAX: u64 = 512 << 20;

/// Rasterizes a document of this crate. Characters without a font become U+FFFD and are reported.
pub(crate) fn paint(svg: &str, dpi: f32) -> Result<Picture, PlotError> {
    let mut fonts = Database::new();
    fonts.load_font_data(font::REGULAR.to_vec());
    fonts.load_font_data(font::BOLD.to_vec());
    let carried: Vec<ID> = fonts.faces().map(|face| face.id).collect();
    let foreign: BTreeSet<char> = svg.chars().filter(|c| !font::covers(*c)).collect();
    if !foreign.is_empty() {
        let mut left = FONT_BYTES_MAX;
        FONT_DIRS.iter().for_each(|dir| load_fonts(&mut fonts, Path::new(dir), &mut left, 4));
    }
    fonts.set_sans_serif_family(font::FAMILY);
    let mut fonts = Arc::new(fonts);
    let missing_chars: String = foreign.into_iter().filter(|c| fallback(*c, &carried, &mut fonts).is_none()).collect();
    let svg = match missing_chars.is_empty() {
        true => Cow::Borrowed(svg),
        false => Cow::Owned(svg.replace(|c| missing_chars.contains(c), "\u{FFFD}")),
    };
    let font_resolver = FontResolver { select_fallback: Box::new(fallback), ..FontResolver::default() };
    let font_family = font::FAMILY.to_owned();
    let options = Options { fontdb: fonts, font_family, font_resolver, ..Options::default() };
    let tree = Tree::from_str(&svg, &options).map_err(|error| PlotError::Draw(error.to_string()))?;
    let scale = dpi / DOCUMENT_DPI;
    let (width, height) = ((tree.size().width() * scale).round(), (tree.size().height() * scale).round());
    let too_large = || PlotError::Draw(format!("{width} x {height} pixels are more than {SIDE_MAX} on a side"));
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(too_large());
    }
    let mut pixels = Pixmap::new(width as u32, height as u32).ok_or_else(too_large)?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    let bytes = pixels.encode_png().map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok(Picture { bytes, missing_chars })
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
