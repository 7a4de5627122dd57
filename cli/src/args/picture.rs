//! How large a picture for print is, and what is written on it.

use std::sync::Arc;

use anyhow::Context;
use atlas::plot::{self, Layout};
use clap::Args;

use super::Place;
use crate::exit::Advice;

/// The page of a picture.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pictures for print (.png, .svg, .pdf)")]
pub(crate) struct PictureArgs {
    /// Writes this above the picture instead of the model's name. An empty one leaves out the line below it, too.
    #[arg(long, value_name = "TEXT", env = "ENCAJE_PROJECT_TITLE")]
    pub(crate) title: Option<String>,
    /// Makes the page so large: `180x120mm`, `18x12cm`, `7x5in`, or `2000x1500px`, which are pixels of the PNG. Without a height it follows
    /// the data.
    #[arg(long, value_name = "W[xH]UNIT", value_parser = parse_size, env = "ENCAJE_PROJECT_SIZE")]
    pub(crate) size: Option<Size>,
    /// Gives the frame this ratio of width to height, as in `4:3`, instead of that of the points.
    #[arg(long, value_name = "W:H", value_parser = parse_aspect, env = "ENCAJE_PROJECT_ASPECT")]
    pub(crate) aspect: Option<f32>,
    /// Draws so many pixels per inch. The default is 300 where `--size` is a length, and 192 elsewhere.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(36..=1_200), env = "ENCAJE_PROJECT_DPI")]
    pub(crate) dpi: Option<u16>,
    /// Makes the letters of the legend so high; all else follows. The default is 9.75 points, and down to 7 on small pages.
    #[arg(long, value_name = "POINTS", value_parser = parse_font_size, env = "ENCAJE_PROJECT_FONT_SIZE")]
    pub(crate) font_size: Option<f32>,
    /// Takes letters of other scripts (Chinese, Devanagari, Thai, Arabic …) from this TrueType or OpenType file, before the fonts of the
    /// system.
    #[arg(long, value_name = "FILE.ttf|.otf|.ttc", env = "ENCAJE_PROJECT_FONT")]
    pub(crate) font: Option<Place>,
}

/// A width and perhaps a height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    width: f32,
    height: Option<f32>,
    /// Inches of one; none for pixels.
    inches: Option<f32>,
}

/// Pixels of a document per inch, and points.
const PIXELS: f32 = 96.0;
const POINTS: f32 = 72.0;
/// Smallest and largest side of a page in inches.
const SIDES: [f32; 2] = [1.0, 100.0];

impl PictureArgs {
    /// Returns the layout of a page.
    ///
    /// # Errors
    /// When a side is too small or too large, or the font cannot be read.
    pub(crate) fn layout(&self) -> anyhow::Result<Layout> {
        let is_length = self.size.is_some_and(|size| size.inches.is_some());
        let dpi = self.dpi.map_or(if is_length { 300.0 } else { Layout::default().dpi }, f32::from);
        let side = |side: Option<f32>| -> anyhow::Result<Option<f32>> {
            let Some((side, size)) = side.zip(self.size) else { return Ok(None) };
            let inches = side * size.inches.unwrap_or(1.0 / dpi);
            if !(SIDES[0]..=SIDES[1]).contains(&inches) || inches * dpi > plot::PIXELS_MAX {
                let most = SIDES[1].min(plot::PIXELS_MAX / dpi);
                let what = format!("--size: a side of {inches:.2} inches at {dpi} pixels per inch");
                return Err(Advice::usage(what).hint(format!("sides are from 1 to {most:.1} inches")).into());
            }
            Ok(Some(inches * PIXELS))
        };
        Ok(Layout {
            width: side(self.size.map(|size| size.width))?,
            height: side(self.size.and_then(|size| size.height))?,
            aspect: self.aspect,
            font_size: self.font_size.map(|points| points * PIXELS / POINTS),
            dpi,
            font: self.font.as_ref().map(read_font).transpose()?,
        })
    }
}

fn read_font(path: &Place) -> anyhow::Result<Arc<[u8]>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the font `{path}`"))?;
    match plot::is_font(&bytes) {
        true => Ok(bytes.into()),
        false => Err(Advice::usage(format!("--font `{path}` is no TrueType or OpenType font")).into()),
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let lower = text.trim().to_ascii_lowercase();
    let units = [
        ("mm", Some(1.0 / 25.4)),
        ("cm", Some(1.0 / 2.54)),
        ("in", Some(1.0)),
        ("pt", Some(1.0 / POINTS)),
        ("px", None),
    ];
    let found = units.into_iter().find_map(|(unit, inches)| Some((lower.strip_suffix(unit)?, inches)));
    // Pixels are what a size without a unit is everywhere.
    let (sides, inches) = found.unwrap_or((&lower, None));
    let side = |side: &str| side.trim().parse::<f32>().ok().filter(|side| side.is_finite() && *side > 0.0);
    let size = match sides.split_once(['x', '×']) {
        Some((width, height)) => side(width).zip(side(height)).map(|(width, height)| (width, Some(height))),
        None => side(sides).map(|width| (width, None)),
    };
    let (width, height) =
        size.ok_or_else(|| format!("expected a size such as 180x120mm or 2000x1500px, found `{text}`"))?;
    Ok(Size { width, height, inches })
}

fn parse_aspect(text: &str) -> Result<f32, String> {
    let side = |side: &str| side.trim().parse::<f32>().ok().filter(|side| *side > 0.0);
    let ratio = match text.split_once([':', '/']) {
        Some((width, height)) => side(width).zip(side(height)).map(|(width, height)| width / height),
        None => side(text),
    };
    match ratio {
        Some(ratio) if (0.1..=10.0).contains(&ratio) => Ok(ratio),
        Some(_) | None => Err(format!("expected a ratio from 1:10 to 10:1 such as 4:3, found `{text}`")),
    }
}

fn parse_font_size(text: &str) -> Result<f32, String> {
    match text.trim().trim_end_matches("pt").parse() {
        Ok(points) if (3.0..=72.0).contains(&points) => Ok(points),
        Ok(_) | Err(_) => Err(format!("expected points from 3 to 72, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(size: &str, dpi: Option<u16>) -> PictureArgs {
        let size = (!size.is_empty()).then(|| parse_size(size).unwrap());
        PictureArgs { title: None, size, aspect: None, dpi, font_size: None, font: None }
    }

    #[test]
    fn lengths_are_printed_and_pixels_are_those_of_the_png() {
        let layout = args("180x120mm", None).layout().unwrap();
        assert_eq!(
            (layout.width.map(f32::round), layout.height.map(f32::round), layout.dpi),
            (Some(680.0), Some(454.0), 300.0)
        );
        let layout = args("2000x1500", None).layout().unwrap();
        assert_eq!((layout.width, layout.height, layout.dpi), (Some(1_000.0), Some(750.0), 192.0));
        assert_eq!(args("8.5cm", Some(600)).layout().unwrap().height, None);
        assert_eq!(args("", None).layout().unwrap(), Layout::default());
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for text in ["", "x", "0x5mm", "-3in", "5x", "1e99mm x", "NaNmm", "12furlongs"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for size in ["10px", "3000in", "90in", "inf mm"] {
            assert!(parse_size(size).is_err() || args(size, None).layout().is_err(), "{size}");
        }
        for text in ["4:0", "x", "1:100", "0", "a:b"] {
            assert!(parse_aspect(text).is_err(), "{text}");
        }
        assert_eq!(
            [parse_aspect("4:3"), parse_aspect("16/9"), parse_aspect("1.5")]
                .map(|found| (found.unwrap() * 100.0) as u32),
            [133, 177, 150]
        );
        assert!(parse_font_size("2").is_err() && parse_font_size("8pt") == Ok(8.0));
    }
}
