//! Writes an SVG document of this crate as PDF: vectors, and letters as text of embedded fonts.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};
use resvg::tiny_skia::{Path as Outline, PathSegment, Transform};
use resvg::usvg::fontdb::ID;
use resvg::usvg::{FillRule, Group, LineCap, LineJoin, Node, Opacity, Paint, PaintOrder, Path, Stroke, Text, Tree};

use super::PlotError;
use super::pdf_font::EmbeddedFont;

/// Points per pixel of a document: 72 and 96 per inch.
const SCALE: f32 = 0.75;

/// Writes a document. The same document gives the same bytes.
pub(crate) fn write(tree: &Tree, title: &str) -> Result<Vec<u8>, PlotError> {
    let (width, height) = (tree.size().width() * SCALE, tree.size().height() * SCALE);
    let mut page = Page { tree, content: Content::new(), states: BTreeMap::new(), fonts: Vec::new() };
    page.content.transform([SCALE, 0.0, 0.0, -SCALE, 0.0, height]);
    page.group(tree.root(), 1.0, Parts::All)?;
    let Page { content, states, fonts, .. } = page;

    let mut pdf = Pdf::new();
    let mut next = 1;
    let mut new_ref = || {
        next += 1;
        Ref::new(next - 1)
    };
    let [catalog, pages, page, contents, info] = std::array::from_fn(|_| new_ref());
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([page]).count(1);
    pdf.document_info(info).title(TextStr(title)).creator(TextStr("encaje"));
    let font_refs: Vec<Ref> = fonts.iter().map(|_| new_ref()).collect();
    let mut writer = pdf.page(page);
    writer.media_box(Rect::new(0.0, 0.0, width, height)).parent(pages).contents(contents);
    let mut resources = writer.resources();
    let mut named = resources.fonts();
    for (index, font) in font_refs.iter().enumerate() {
        named.pair(Name(&font_name(index)), *font);
    }
    named.finish();
    let mut named = resources.ext_g_states();
    for ([fill, stroke], index) in &states {
        let mut state = named.insert(Name(&state_name(*index))).start::<pdf_writer::writers::ExtGraphicsState<'_>>();
        state.non_stroking_alpha(f32::from(*fill) / 255.0).stroking_alpha(f32::from(*stroke) / 255.0);
    }
    named.finish();
    resources.finish();
    writer.finish();
    for ((_, font), at) in fonts.into_iter().zip(font_refs) {
        font.write(&mut pdf, at, &mut new_ref)?;
    }
    let content = compressed(&content.finish())?;
    pdf.stream(contents, &content).filter(Filter::FlateDecode);
    Ok(pdf.finish())
}

/// Compresses the content of a stream.
pub(crate) fn compressed(bytes: &[u8]) -> Result<Vec<u8>, PlotError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(|error| PlotError::Draw(error.to_string()))?;
    encoder.finish().map_err(|error| PlotError::Draw(error.to_string()))
}

fn font_name(index: usize) -> Vec<u8> {
    format!("F{index}").into_bytes()
}

fn state_name(index: usize) -> Vec<u8> {
    format!("G{index}").into_bytes()
}

/// What of a group is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    /// The strokes of its paths.
    Strokes,
}

struct Page<'t> {
    tree: &'t Tree,
    content: Content,
    /// Opacities of fills and strokes, with the index of their name.
    states: BTreeMap<[u8; 2], usize>,
    fonts: Vec<(ID, EmbeddedFont)>,
}

impl Page<'_> {
    fn group(&mut self, group: &Group, opacity: f32, parts: Parts) -> Result<(), PlotError> {
        // An opacity of a group as a whole is that of its parts, which hardly overlap.
        let opacity = opacity * group.opacity().get();
        self.content.save_state();
        self.transform(group.transform());
        if let Some(clip) = group.clip_path() {
            for child in clip.root().children() {
                if let Node::Path(path) = child {
                    self.outline(path.data());
                }
            }
            self.content.clip_nonzero().end_path();
        }
        for child in group.children() {
            match child {
                Node::Group(group) => self.group(group, opacity, parts)?,
                Node::Path(path) => self.path(path, opacity, parts)?,
                Node::Text(text) => self.text(text, opacity)?,
                Node::Image(_) => return Err(PlotError::Draw("a picture within a picture".into())),
            }
        }
        self.content.restore_state();
        Ok(())
    }

    fn transform(&mut self, by: Transform) {
        if by != Transform::identity() {
            self.content.transform([by.sx, by.ky, by.kx, by.sy, by.tx, by.ty]);
        }
    }

    fn path(&mut self, path: &Path, opacity: f32, parts: Parts) -> Result<(), PlotError> {
        if !path.is_visible() {
            return Ok(());
        }
        let fill = path.fill().filter(|_| parts == Parts::All);
        let mut steps = [false, true];
        if path.paint_order() == PaintOrder::StrokeAndFill {
            steps.reverse();
        }
        for is_stroke in steps {
            if let (true, Some(stroke)) = (is_stroke, path.stroke()) {
                self.stroke_style(stroke, opacity)?;
                self.outline(path.data());
                self.content.stroke();
            } else if let (false, Some(fill)) = (is_stroke, fill) {
                self.fill_style(fill.paint(), fill.opacity(), opacity)?;
                self.outline(path.data());
                match fill.rule() {
                    FillRule::NonZero => self.content.fill_nonzero(),
                    FillRule::EvenOdd => self.content.fill_even_odd(),
                };
            }
        }
        Ok(())
    }

    fn fill_style(&mut self, paint: &Paint, own: Opacity, opacity: f32) -> Result<(), PlotError> {
        let [r, g, b] = colour(paint)?;
        self.content.set_fill_rgb(r, g, b);
        self.opacities(own.get() * opacity, 1.0);
        Ok(())
    }

    fn stroke_style(&mut self, stroke: &Stroke, opacity: f32) -> Result<(), PlotError> {
        let [r, g, b] = colour(stroke.paint())?;
        self.content.set_stroke_rgb(r, g, b).set_line_width(stroke.width().get());
        self.content.set_line_cap(match stroke.linecap() {
            LineCap::Butt => pdf_writer::types::LineCapStyle::ButtCap,
            LineCap::Round => pdf_writer::types::LineCapStyle::RoundCap,
            LineCap::Square => pdf_writer::types::LineCapStyle::ProjectingSquareCap,
        });
        self.content.set_line_join(match stroke.linejoin() {
            LineJoin::Miter | LineJoin::MiterClip => pdf_writer::types::LineJoinStyle::MiterJoin,
            LineJoin::Round => pdf_writer::types::LineJoinStyle::RoundJoin,
            LineJoin::Bevel => pdf_writer::types::LineJoinStyle::BevelJoin,
        });
        self.opacities(1.0, stroke.opacity().get() * opacity);
        Ok(())
    }

    fn opacities(&mut self, fill: f32, stroke: f32) {
        let key = [fill, stroke].map(|share| (share * 255.0).round() as u8);
        let next = self.states.len();
        let index = *self.states.entry(key).or_insert(next);
        self.content.set_parameters(Name(&state_name(index)));
    }

    fn outline(&mut self, outline: &Outline) {
        let content = &mut self.content;
        let mut at = (0.0, 0.0);
        for segment in outline.segments() {
            match segment {
                PathSegment::MoveTo(to) => {
                    content.move_to(to.x, to.y);
                    at = (to.x, to.y);
                }
                PathSegment::LineTo(to) => {
                    content.line_to(to.x, to.y);
                    at = (to.x, to.y);
                }
                PathSegment::QuadTo(by, to) => {
                    let third = |from: f32, by: f32| from + (by - from) * 2.0 / 3.0;
                    let (x1, y1) = (third(at.0, by.x), third(at.1, by.y));
                    content.cubic_to(x1, y1, third(to.x, by.x), third(to.y, by.y), to.x, to.y);
                    at = (to.x, to.y);
                }
                PathSegment::CubicTo(a, b, to) => {
                    content.cubic_to(a.x, a.y, b.x, b.y, to.x, to.y);
                    at = (to.x, to.y);
                }
                PathSegment::Close => {
                    content.close_path();
                }
            }
        }
    }

    /// Draws letters as text, so that they can be found and copied, or as outlines if their font cannot be embedded. Their
    /// halos are outlines, since they would be found twice.
    fn text(&mut self, text: &Text, opacity: f32) -> Result<(), PlotError> {
        for glyph in text.layouted().iter().flat_map(|span| &span.positioned_glyphs) {
            if self.fonts.iter().all(|(id, _)| *id != glyph.font) {
                let Some(font) = EmbeddedFont::open(self.tree, glyph.font) else {
                    return self.group(text.flattened(), opacity, Parts::All);
                };
                self.fonts.push((glyph.font, font));
            }
        }
        if text.layouted().iter().any(|span| span.stroke.is_some()) {
            self.group(text.flattened(), opacity, Parts::Strokes)?;
        }
        for span in text.layouted() {
            let Some(fill) = &span.fill else { continue };
            self.fill_style(fill.paint(), fill.opacity(), opacity)?;
            self.content.begin_text();
            for glyph in &span.positioned_glyphs {
                let Some(index) = self.fonts.iter().position(|(id, _)| *id == glyph.font) else { continue };
                let font = &mut self.fonts[index].1;
                let id = font.glyph(glyph.id.0, &glyph.text);
                let by =
                    glyph.outline_transform().pre_concat(Transform::from_scale(font.units_per_em, font.units_per_em));
                self.content.set_font(Name(&font_name(index)), 1.0);
                self.content.set_text_matrix([by.sx, by.ky, by.kx, by.sy, by.tx, by.ty]);
                self.content.show(Str(&id.to_be_bytes()));
            }
            self.content.end_text();
        }
        Ok(())
    }
}

fn colour(paint: &Paint) -> Result<[f32; 3], PlotError> {
    match paint {
        Paint::Color(colour) => Ok([colour.red, colour.green, colour.blue].map(|channel| f32::from(channel) / 255.0)),
        Paint::LinearGradient(_) | Paint::RadialGradient(_) | Paint::Pattern(_) => {
            Err(PlotError::Draw("a paint that is no plain colour".into()))
        }
    }
}
