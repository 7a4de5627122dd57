//! The text widths of the two bundled font faces.

use std::collections::HashMap;
use std::sync::OnceLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::raw::ReadError;
use skrifa::{FontRef, MetadataProvider};

/// The family's name.
pub(crate) const FAMILY: &str = "DejaVu Sans";
/// The regular face, cut to Latin, Greek, Cyrillic and common signs.
pub(crate) const REGULAR: &[u8] = include_bytes!("assets/DejaVuSans.ttf");
/// Its bold face.
pub(crate) const BOLD: &[u8] = include_bytes!("assets/DejaVuSans-Bold.ttf");

/// The weight of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// For most.
    Regular,
    /// For titles.
    Bold,
}

/// Advance widths, as shares of the font size.
struct Widths {
    by_char: HashMap<char, f32>,
}

/// Returns how wide a text is at this font size. A character that the face lacks counts as wide as a script of its
/// kind usually is.
pub(crate) fn width(text: &str, size: f32, weight: Weight) -> f32 {
    let widths = widths(weight);
    let of = |c: char| match widths.by_char.get(&c) {
        Some(width) => *width,
        None if is_without_width(c) => 0.0,
        None if c >= '\u{1100}' => 1.0,
        None => 0.6,
    };
    text.chars().map(of).sum::<f32>() * size
}

/// Whether the faces can show a character, or nothing of it is to be seen.
pub(crate) fn covers(c: char) -> bool {
    let unseen = c.is_control() || c.is_whitespace() || is_without_width(c);
    unseen || widths(Weight::Regular).by_char.contains_key(&c)
}

/// Whether a character takes no room of its own.
pub(crate) fn is_without_width(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}')
}

fn widths(weight: Weight) -> &'static Widths {
    static REGULAR_WIDTHS: OnceLock<Widths> = OnceLock::new();
    static BOLD_WIDTHS: OnceLock<Widths> = OnceLock::new();
    let (cell, bytes) = match weight {
        Weight::Regular => (&REGULAR_WIDTHS, REGULAR),
        Weight::Bold => (&BOLD_WIDTHS, BOLD),
    };
    cell.get_or_init(|| Widths::read(bytes).expect("the carried files are fonts"))
}

impl Widths {
    fn read(font: &[u8]) -> Result<Widths, ReadError> {
        let font = FontRef::new(font)?;
        let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
        let characters = font.charmap().mappings();
        let width = |(code, glyph)| Some((char::from_u32(code)?, metrics.advance_width(glyph)?));
        Ok(Widths { by_char: characters.filter_map(width).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_match_the_font() {
        // DejaVu Sans: `i` 569, `m` 1995 of 2048 units.
        assert!((width("i", 2048.0, Weight::Regular) - 569.0).abs() < 0.5);
        assert!((width("mi", 2048.0, Weight::Regular) - 2564.0).abs() < 0.5);
        assert!(width("mi", 10.0, Weight::Bold) > width("mi", 10.0, Weight::Regular));
    }

    #[test]
    fn european_languages_are_covered() {
        assert!("¿Qué? ¡Señor! àèìòù äöüß çœ Ελληνικά Русский українська Đặng € … “x” → ≥".chars().all(covers));
        assert!(!"日本語".chars().any(covers));
    }
}
