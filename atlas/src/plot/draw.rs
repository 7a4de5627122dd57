//! Writes SVG: escaped elements, lines of letters and emojis, point markers.

use std::borrow::Cow;
use std::fmt::Write;

use super::emoji::{self, Piece};
use super::font::{self, Weight};
use super::palette::{self, Shape};

/// A rectangle on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
}

/// An SVG document under construction.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    pub(crate) body: String,
}

/// The style of a line of text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextStyle<'s> {
    /// In pixels.
    pub(crate) size: f32,
    /// Regular or bold.
    pub(crate) weight: Weight,
    /// `#rrggbb`.
    pub(crate) colour: &'s str,
    /// What `x` refers to.
    pub(crate) anchor: Anchor,
    /// The colour of an outline, for text on top of points.
    pub(crate) halo: Option<&'s str>,
}

/// Which part of a line is at its `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

impl TextStyle<'static> {
    /// Regular dark grey text, starting at `x`.
    pub(crate) fn plain(size: f32) -> Self {
        TextStyle { size, weight: Weight::Regular, colour: "#333333", anchor: Anchor::Start, halo: None }
    }

    /// Small print.
    pub(crate) fn faint(size: f32) -> Self {
        TextStyle { colour: "#6b6b6b", ..TextStyle::plain(size) }
    }

    /// Bold text.
    pub(crate) fn bold(size: f32) -> Self {
        TextStyle { weight: Weight::Bold, colour: "#1a1a1a", ..TextStyle::plain(size) }
    }
}

impl Canvas {
    /// Draws a part of the colour ramp, lowest value at the bottom. Each step covers all above it, so that none shows an edge.
    pub(crate) fn ramp(&mut self, Rect { left, top, width, height }: Rect, part: [f64; 2]) {
        const STEPS: u32 = 64;
        for step in 0..STEPS {
            let colour = palette::hex(palette::visible_ramp(f64::from(step) / f64::from(STEPS - 1), part));
            let part = height * (1.0 - step as f32 / STEPS as f32);
            self.element(&format!(
                r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{part:.2}" fill="{colour}"/>"#
            ));
        }
    }

    /// Writes one line with its baseline at `y`; emojis are drawn slightly larger than letters.
    pub(crate) fn line(&mut self, (x, y): (f32, f32), text: &str, style: TextStyle<'_>) {
        let text = sanitize(text);
        let pieces = emoji::pieces(&text);
        let mut x = match style.anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width(&text, style) / 2.0,
            Anchor::End => x - width(&text, style),
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    self.letters((x, y), &text, style);
                    x += font::width(&text, style.size, style.weight);
                }
                Piece::Emoji(drawing) => {
                    let side = emoji_side(style.size);
                    let (left, top) = (x + side * 0.05, y - side * 0.84);
                    if let Some(halo) = style.halo {
                        let (cx, cy) = (left + side / 2.0, top + side / 2.0);
                        let radius = side * 0.62;
                        self.element(&format!(
                            r#"<circle cx="{cx:.1}" cy="{cy:.1}" r="{radius:.1}" fill="{halo}" fill-opacity="0.85"/>"#
                        ));
                    }
                    let scale = side / emoji::SIDE;
                    self.element(&format!(
                        r#"<g transform="translate({left:.2} {top:.2}) scale({scale:.4})">{}</g>"#,
                        drawing.body
                    ));
                    x += side * 1.1;
                }
            }
        }
    }

    fn letters(&mut self, (x, y): (f32, f32), text: &str, style: TextStyle<'_>) {
        if text.trim().is_empty() {
            return;
        }
        let weight = match style.weight {
            Weight::Regular => "",
            Weight::Bold => r#" font-weight="bold""#,
        };
        let halo = style.halo.map_or(String::new(), |colour| {
            let rim = style.size * 0.28;
            format!(r#" stroke="{colour}" stroke-width="{rim:.1}" stroke-linejoin="round" paint-order="stroke""#)
        });
        let (size, colour, text) = (style.size, style.colour, escape(text));
        self.element(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{colour}"{weight}{halo} xml:space="preserve">{text}</text>"#
        ));
    }

    /// Adds an element unescaped.
    pub(crate) fn element(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// Closes the document: so many units wide and high, with so many pixels per unit.
    pub(crate) fn finish(self, width: f32, height: f32, scale: f32) -> String {
        let (pixels_wide, pixels_high) = (width * scale, height * scale);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels_wide:.2}\" height=\"{pixels_high:.2}\" \
             viewBox=\"0 0 {width:.2} {height:.2}\" font-family=\"'{}', Verdana, sans-serif\">\n\
             <!-- encaje; emojis: Twemoji, CC-BY 4.0 -->\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            font::FAMILY,
            self.body
        )
    }
}

fn emoji_side(size: f32) -> f32 {
    size * 1.2
}

/// Returns the width of a line.
pub(crate) fn width(text: &str, style: TextStyle<'_>) -> f32 {
    emoji::pieces(&sanitize(text))
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => font::width(text, style.size, style.weight),
            Piece::Emoji(_) => emoji_side(style.size) * 1.1,
        })
        .sum()
}

/// Truncates a line to a width, with an ellipsis. Line breaks become spaces.
pub(crate) fn fit(text: &str, style: TextStyle<'_>, most: f32) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if width(&text, style) <= most {
        return text;
    }
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    // Measuring is linear, so the cut is found by binary search.
    let fits = ends.partition_point(|end| width(&format!("{}…", &text[..*end]), style) <= most);
    format!("{}…", text[..ends[fits.saturating_sub(1)]].trim_end())
}

/// Breaks a text into lines of a maximum width.
pub(crate) fn wrap(text: &str, style: TextStyle<'_>, most: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), style) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(fit(word, style, most)),
        }
    }
    lines
}

/// Replaces characters that are forbidden in XML or change the text direction by U+FFFD, and white space by spaces.
pub(crate) fn sanitize(text: &str) -> Cow<'_, str> {
    let replaced = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{0}'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}' => '\u{FFFD}',
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '\u{FFFD}',
        c => c,
    };
    match text.chars().all(|c| replaced(c) == c) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.chars().map(replaced).collect()),
    }
}

/// [Sanitizes](sanitize) and escapes a text for XML and HTML, in elements and quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in sanitize(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Appends the outline of a marker to the `d` of a path.
pub(crate) fn outline(d: &mut String, shape: Shape, (x, y): (f32, f32), r: f32) {
    let polygon = |d: &mut String, corners: &[(f32, f32)]| {
        for (index, (dx, dy)) in corners.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            write!(d, "{command}{:.2} {:.2}", x + dx * r, y + dy * r).ok();
        }
        d.push('Z');
    };
    match shape {
        Shape::Circle => {
            write!(
                d,
                "M{:.2} {y:.2}a{r:.2} {r:.2} 0 1 0 {:.2} 0a{r:.2} {r:.2} 0 1 0 {:.2} 0Z",
                x - r,
                2.0 * r,
                -2.0 * r
            )
            .ok();
        }
        Shape::Triangle => polygon(d, &[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)]),
        Shape::TriangleDown => polygon(d, &[(0.0, 1.25), (1.15, -0.85), (-1.15, -0.85)]),
        Shape::Square => polygon(d, &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        Shape::Diamond => polygon(d, &[(0.0, -1.35), (1.1, 0.0), (0.0, 1.35), (-1.1, 0.0)]),
        Shape::Plus => polygon(d, &PLUS),
        Shape::Cross => {
            let turn = std::f32::consts::FRAC_1_SQRT_2;
            polygon(d, &PLUS.map(|(dx, dy)| ((dx - dy) * turn, (dx + dy) * turn)));
        }
        Shape::Star => polygon(d, &star()),
    }
}

const PLUS: [(f32, f32); 12] = [
    (-0.42, -1.25),
    (0.42, -1.25),
    (0.42, -0.42),
    (1.25, -0.42),
    (1.25, 0.42),
    (0.42, 0.42),
    (0.42, 1.25),
    (-0.42, 1.25),
    (-0.42, 0.42),
    (-1.25, 0.42),
    (-1.25, -0.42),
    (-0.42, -0.42),
];

fn star() -> [(f32, f32); 10] {
    std::array::from_fn(|index| {
        let (angle, reach) = (index as f32 * std::f32::consts::PI / 5.0, if index % 2 == 0 { 1.45 } else { 0.62 });
        (angle.sin() * reach, -angle.cos() * reach)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            escape("<script>alert('1')</script>&\"\u{0}\u{202E}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{FFFD}\u{FFFD}"
        );
    }

    #[test]
    fn a_long_line_is_truncated_with_an_ellipsis() {
        let style = TextStyle::plain(10.0);
        let cut = fit("a label that is much too long for the legend", style, 100.0);
        assert!(cut.ends_with('…') && width(&cut, style) <= 100.0 && cut.starts_with("a label"), "{cut}");
        assert_eq!(fit("short\n one", style, 100.0), "short one");
    }

    #[test]
    fn text_is_measured_as_sanitized() {
        let style = TextStyle::plain(10.0);
        for (text, sanitized) in [("a\u{1b}b\u{202E}c", "a\u{FFFD}b\u{FFFD}c"), ("a\nb", "a b")] {
            assert_eq!(width(text, style), width(sanitized, style), "{text:?}");
        }
    }

    #[test]
    fn text_wraps_at_words() {
        let style = TextStyle::plain(10.0);
        let lines = wrap("one two three four five six seven", style, 80.0);
        assert!(lines.len() > 1 && lines.iter().all(|line| width(line, style) <= 80.0), "{lines:?}");
        assert_eq!(lines.join(" "), "one two three four five six seven");
    }
}
