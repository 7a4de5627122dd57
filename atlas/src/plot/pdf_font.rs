//! The part of a font that a PDF uses.

use std::collections::BTreeMap;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Filter, Finish, Name, Pdf, Rect, Ref, Str};
use resvg::usvg::Tree;
use resvg::usvg::fontdb::ID;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, GlyphId, MetadataProvider};
use subsetter::{GlyphRemapper, subset};

use super::PlotError;
use super::font::is_without_width;
use super::pdf::compressed;

/// How glyphs are numbered: as in the embedded file.
const IDENTITY: SystemInfo<'static> = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };
/// Stands before the name of a font of which only a part is embedded: six capital letters.
const TAG: &str = "ENCAJE";

/// A font and the glyphs that are used of it.
pub(crate) struct EmbeddedFont {
    data: Vec<u8>,
    index: u32,
    name: String,
    /// Units of outlines per font size.
    pub(crate) units_per_em: f32,
    glyphs: GlyphRemapper,
    /// The characters of each glyph of the embedded file.
    texts: BTreeMap<u16, String>,
}

impl EmbeddedFont {
    /// Opens a font of a document; `None` if it cannot be embedded, such as one of pictures or a variable one.
    pub(crate) fn open(tree: &Tree, id: ID) -> Option<EmbeddedFont> {
        let fonts = tree.fontdb();
        let name = fonts.face(id)?.post_script_name.chars().filter(char::is_ascii_alphanumeric).collect();
        let (data, index) = fonts.with_face_data(id, |data, index| (data.to_vec(), index))?;
        let font = FontRef::from_index(&data, index).ok()?;
        let units_per_em = f32::from(font.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
        let glyphs = GlyphRemapper::new();
        subset(&data, index, &glyphs).ok()?;
        Some(EmbeddedFont { data, index, name, units_per_em, glyphs, texts: BTreeMap::new() })
    }

    /// Uses a glyph, which stands for some characters. Returns its number in the embedded file.
    pub(crate) fn glyph(&mut self, id: u32, text: &str) -> u16 {
        // TrueType and OpenType count glyphs by 16 bits; the first glyph stands for missing ones.
        let id = u16::try_from(id).unwrap_or_default();
        let new = self.glyphs.remap(id);
        // A character that is not to be seen is drawn as a space.
        if !text.chars().all(is_without_width) {
            self.texts.entry(new).or_insert_with(|| text.to_owned());
        }
        new
    }

    /// Writes the font under a reference.
    pub(crate) fn write(self, pdf: &mut Pdf, at: Ref, new_ref: &mut impl FnMut() -> Ref) -> Result<(), PlotError> {
        let failed = |error: &dyn std::fmt::Display| PlotError::Draw(format!("font {}: {error}", self.name));
        let file = subset(&self.data, self.index, &self.glyphs).map_err(|error| failed(&error))?;
        let font = FontRef::from_index(&self.data, self.index).map_err(|error| failed(&error))?;
        let [cid, descriptor, stream, cmap] = std::array::from_fn(|_| new_ref());
        let name = format!("{TAG}+{}", self.name);
        let name = Name(name.as_bytes());
        let is_cff = file.starts_with(b"OTTO");

        let mut composite = pdf.type0_font(at);
        composite.base_font(name).encoding_predefined(Name(b"Identity-H")).descendant_font(cid).to_unicode(cmap);
        composite.finish();

        // In thousandths of the font size.
        let metrics = font.metrics(Size::new(1_000.0), LocationRef::default());
        let widths = font.glyph_metrics(Size::new(1_000.0), LocationRef::default());
        let mut writer = pdf.cid_font(cid);
        writer.subtype(if is_cff { CidFontType::Type0 } else { CidFontType::Type2 });
        writer.base_font(name).system_info(IDENTITY).font_descriptor(descriptor).default_width(0.0);
        if !is_cff {
            writer.cid_to_gid_map_predefined(Name(b"Identity"));
        }
        let advances =
            self.glyphs.remapped_gids().map(|id| widths.advance_width(GlyphId::from(id)).unwrap_or_default());
        writer.widths().consecutive(0, advances);
        writer.finish();

        let bounds = metrics.bounds.unwrap_or_default();
        let mut writer = pdf.font_descriptor(descriptor);
        writer
            .name(name)
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max))
            .italic_angle(metrics.italic_angle)
            .ascent(metrics.ascent)
            .descent(metrics.descent)
            .cap_height(metrics.cap_height.unwrap_or(metrics.ascent))
            .stem_v(80.0);
        if is_cff {
            writer.font_file3(stream);
        } else {
            writer.font_file2(stream);
        }
        writer.finish();

        let compressed_file = compressed(&file)?;
        let mut writer = pdf.stream(stream, &compressed_file);
        writer.filter(Filter::FlateDecode);
        if is_cff {
            writer.pair(Name(b"Subtype"), Name(b"OpenType"));
        } else {
            writer.pair(Name(b"Length1"), file.len() as i32);
        }
        writer.finish();

        let mut unicode = UnicodeCmap::new(Name(b"Custom"), IDENTITY);
        for glyph in 1..self.glyphs.num_gids() {
            // Of the glyphs of a cluster, the first stands for its characters.
            let text = self.texts.get(&glyph).map_or("\u{200B}", String::as_str);
            unicode.pair_with_multiple(glyph, text.chars());
        }
        let unicode = compressed(&unicode.finish())?;
        pdf.cmap(cmap, &unicode).filter(Filter::FlateDecode);
        Ok(())
    }
}
