//! The widths of the two faces that pictures are lettered in, read from the font files that the program carries.

use std::collections::HashMap;
use std::sync::OnceLock;

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

fn is_without_width(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}')
}

fn widths(weight: Weight) -> &'static Widths {
    static REGULAR_WIDTHS: OnceLock<Widths> = OnceLock::new();
    static BOLD_WIDTHS: OnceLock<Widths> = OnceLock::new();
    let (cell, bytes) = match weight {
        Weight::Regular => (&REGULAR_WIDTHS, REGULAR),
        Weight::Bold => (&BOLD_WIDTHS, BOLD),
    };
    cell.get_or_init(|| Widths::read(bytes).expect("the carried fonts have the tables head, hhea, hmtx and cmap"))
}

impl Widths {
    /// Reads the tables `head`, `hhea`, `hmtx` and the format 4 subtable of `cmap`.
    fn read(font: &[u8]) -> Option<Widths> {
        let units = f32::from(u16_at(table(font, b"head")?, 18)?);
        let measured = u16_at(table(font, b"hhea")?, 34)?;
        let advances = table(font, b"hmtx")?;
        let advance = |glyph: u16| u16_at(advances, 4 * usize::from(glyph.min(measured.saturating_sub(1))));
        let cmap = table(font, b"cmap")?;
        let subtables = u16_at(cmap, 2)?;
        let offsets = (0..usize::from(subtables)).filter_map(|index| u32_at(cmap, 4 + 8 * index + 4));
        let segments = offsets.filter_map(|offset| cmap.get(offset..)).find(|table| u16_at(table, 0) == Some(4))?;
        let mut by_char = HashMap::new();
        for (code, glyph) in characters(segments)? {
            if let (Some(c), Some(advance)) = (char::from_u32(u32::from(code)), advance(glyph)) {
                by_char.insert(c, f32::from(advance) / units);
            }
        }
        Some(Widths { by_char })
    }
}

/// Lists code and glyph of every character in a `cmap` subtable of format 4.
fn characters(table: &[u8]) -> Option<Vec<(u16, u16)>> {
    let count = usize::from(u16_at(table, 6)?) / 2;
    let (ends, starts) = (14, 16 + 2 * count);
    let (deltas, ranges) = (starts + 2 * count, starts + 4 * count);
    let mut found = Vec::new();
    for segment in 0..count {
        let at = |array: usize| u16_at(table, array + 2 * segment);
        let (start, end, delta, range) = (at(starts)?, at(ends)?, at(deltas)?, usize::from(at(ranges)?));
        for code in start..=end {
            let glyph = match range {
                0 => code.wrapping_add(delta),
                _ => match u16_at(table, ranges + 2 * segment + range + 2 * usize::from(code - start)) {
                    Some(0) | None => 0,
                    Some(glyph) => glyph.wrapping_add(delta),
                },
            };
            if glyph != 0 && code != u16::MAX {
                found.push((code, glyph));
            }
        }
    }
    Some(found)
}

/// Finds a table of a font file by its tag.
fn table<'f>(font: &'f [u8], tag: &[u8; 4]) -> Option<&'f [u8]> {
    let count = usize::from(u16_at(font, 4)?);
    let record = (0..count).map(|index| 12 + 16 * index).find(|at| font.get(*at..at + 4) == Some(tag))?;
    let (start, length) = (u32_at(font, record + 8)?, u32_at(font, record + 12)?);
    font.get(start..start.checked_add(length)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_face() {
        // DejaVu Sans: `i` 569, `m` 1995 of 2048 units.
        assert!((width("i", 2048.0, Weight::Regular) - 569.0).abs() < 0.5);
        assert!((width("mi", 2048.0, Weight::Regular) - 2564.0).abs() < 0.5);
        assert!(width("mi", 10.0, Weight::Bold) > width("mi", 10.0, Weight::Regular));
    }

    #[test]
    fn the_languages_of_the_first_users_are_there() {
        assert!("¿Qué? ¡Señor! àèìòù äöüß çœ Ελληνικά Русский українська Đặng € … “x” → ≥".chars().all(covers));
        assert!(!"日本語".chars().any(covers));
    }
}
