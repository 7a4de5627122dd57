//! Emojis as Twemoji drawings, so that labels show on machines without an emoji font. `scripts/make_plot_assets.py`
//! creates and describes the compressed table of 1 MB, which is unpacked for the first emoji.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The table, compressed.
const PACKED: &[u8] = include_bytes!("assets/twemoji.zst");
/// Maximum unpacked size of the table.
const UNPACKED_MAX: usize = 16 << 20;
/// Maximum code points of an emoji without U+FE0F: a family with skin tones has ten.
const CODES_MAX: usize = 10;
/// Side of a drawing in its own units.
pub(crate) const SIDE: f32 = 36.0;

/// A part of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// Characters that a font draws. An emoji without a drawing becomes `U+1FAFF`.
    Text(Cow<'t, str>),
    /// An emoji.
    Emoji(Drawing),
}

/// An emoji's name and drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Drawing {
    /// Its code points in hex without U+FE0F, joined by `-`.
    pub(crate) key: &'static str,
    /// SVG elements that fill a square of [`SIDE`].
    pub(crate) body: &'static str,
}

/// Splits a text into characters and emojis. An emoji is the longest sequence with a drawing, so other sequences split
/// into their parts, as in fonts.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut plain_from = 0;
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let end = at + first.len_utf8();
        let found = match first {
            _ if !may_start(first) => None,
            '\u{200D}' | '\u{FE0F}' | '\u{E0020}'..='\u{E007F}' => Some((None, end)),
            _ => longest(&text[at..])
                .map(|(drawing, length)| (Some(Piece::Emoji(drawing)), at + length))
                .or_else(|| code_point_name(first).map(|spelled| (Some(Piece::Text(spelled)), end))),
        };
        let Some((piece, after)) = found else {
            at = end;
            continue;
        };
        if plain_from < at {
            pieces.push(Piece::Text(Cow::Borrowed(&text[plain_from..at])));
        }
        pieces.extend(piece);
        (at, plain_from) = (after, after);
    }
    if plain_from < text.len() {
        pieces.push(Piece::Text(Cow::Borrowed(&text[plain_from..])));
    }
    pieces
}

/// Whether an emoji may start here. Avoids unpacking the table for plain text.
fn may_start(c: char) -> bool {
    matches!(c, '0'..='9' | '#' | '*' | '©' | '®' | '\u{200D}' | '\u{203C}'..='\u{3299}' | '\u{FE0F}' | '\u{1F000}'..)
}

/// Whether a character is an emoji even without U+FE0F.
fn is_emoji_alone(c: char) -> bool {
    matches!(c, '\u{231A}' | '\u{231B}' | '\u{23E9}'..='\u{23F3}' | '\u{25FD}' | '\u{25FE}' | '\u{2600}'..)
}

/// Finds the longest emoji at the start of a text, and its length in bytes.
fn longest(text: &str) -> Option<(Drawing, usize)> {
    let mut key = String::new();
    let mut best = None;
    let mut codes = 0;
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        if c == '\u{FE0F}' {
            if let Some((_, length)) = best.as_mut().filter(|(_, length)| *length == start) {
                *length = end;
            }
            continue;
        }
        codes += 1;
        if codes > CODES_MAX || c.is_whitespace() {
            break;
        }
        if !key.is_empty() {
            key.push('-');
        }
        key.push_str(&format!("{:x}", u32::from(c)));
        if codes == 1 {
            let next = text[end..].chars().next();
            let shown = match next {
                Some('\u{FE0E}') => return None,
                Some('\u{FE0F}') => true,
                _ => is_emoji_alone(c),
            };
            if !shown {
                // `1` is a digit, `1` and U+20E3 a keycap.
                continue;
            }
        }
        if let Some((&key, &body)) = table().get_key_value(key.as_str()) {
            best = Some((Drawing { key, body }, end));
        }
    }
    best
}

/// Returns the name of an emoji without a drawing. Other characters may be in a font.
fn code_point_name(c: char) -> Option<Cow<'static, str>> {
    matches!(c, '\u{1F000}'..='\u{1FAFF}').then(|| Cow::Owned(format!("U+{:X}", u32::from(c))))
}

fn table() -> &'static HashMap<&'static str, &'static str> {
    static TEXT: OnceLock<String> = OnceLock::new();
    static TABLE: OnceLock<HashMap<&'static str, &'static str>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = TEXT.get_or_init(|| {
            let bytes = zstd::bulk::decompress(PACKED, UNPACKED_MAX).expect("the table was packed by zstd");
            String::from_utf8(bytes).expect("the table is text")
        });
        text.lines().filter_map(|line| line.split_once('\t')).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> Vec<String> {
        let show = |piece: Piece<'_>| match piece {
            Piece::Text(text) => format!("'{text}'"),
            Piece::Emoji(drawing) => drawing.key.to_owned(),
        };
        pieces(text).into_iter().map(show).collect()
    }

    #[test]
    fn emojis_are_found_between_words() {
        assert_eq!(spelled("perro 🐶 y 🍲"), ["'perro '", "1f436", "' y '", "1f372"]);
        assert_eq!(spelled("plain"), ["'plain'"]);
        assert!(spelled("").is_empty());
    }

    #[test]
    fn sequences_are_one_emoji() {
        assert_eq!(spelled("👩‍👩‍👧‍👦"), ["1f469-200d-1f469-200d-1f467-200d-1f466"]);
        assert_eq!(spelled("👍🏽"), ["1f44d-1f3fd"]);
        assert_eq!(spelled("🇲🇽🇪🇸"), ["1f1f2-1f1fd", "1f1ea-1f1f8"]);
        assert_eq!(spelled("1️⃣ 2"), ["31-20e3", "' 2'"]);
        assert_eq!(spelled("❤️❤"), ["2764", "2764"]);
        assert_eq!(spelled("🏴󠁧󠁢󠁥󠁮󠁧󠁿"), ["1f3f4-e0067-e0062-e0065-e006e-e0067-e007f"]);
        assert_eq!(spelled("👁️‍🗨️"), ["1f441-200d-1f5e8"]);
    }

    #[test]
    fn a_sequence_without_a_drawing_splits_into_parts() {
        assert_eq!(spelled("🐶\u{200D}🍲"), ["1f436", "1f372"]);
    }

    #[test]
    fn an_emoji_without_a_drawing_shows_its_code_point() {
        assert_eq!(spelled("a\u{1FAFF}"), ["'a'", "'U+1FAFF'"]);
    }

    #[test]
    fn text_symbols_without_a_variation_selector_stay_text() {
        assert_eq!(spelled("© 2024 #1 ↔ ™"), ["'© 2024 #1 ↔ ™'"]);
        assert_eq!(spelled("❤\u{FE0E}"), ["'❤\u{FE0E}'"]);
        assert_eq!(spelled("©\u{FE0F}"), ["a9"]);
    }

    #[test]
    fn every_drawing_is_plain_svg() {
        assert!(table().len() > 4_000, "{}", table().len());
        for (key, body) in table() {
            assert!(!body.contains("<svg") && !body.contains("<script") && !body.contains("href"), "{key}");
        }
    }
}
