//! Rasterizes an SVG document.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::Tree;

use super::PlotError;

/// Pixels of a document per inch.
const DOCUMENT_DPI: f32 = 96.0;
/// Maximum pixels along a side of a PNG.
pub const PIXELS_MAX: f32 = 20_000.0;

/// Rasterizes a document, with so many pixels per inch.
pub(crate) fn paint(tree: &Tree, dpi: f32) -> Result<Vec<u8>, PlotError> {
    let scale = dpi / DOCUMENT_DPI;
    let (width, height) = ((tree.size().width() * scale).round(), (tree.size().height() * scale).round());
    let too_large = || PlotError::Draw(format!("{width} x {height} pixels are more than {PIXELS_MAX} on a side"));
    if width > PIXELS_MAX || height > PIXELS_MAX {
        return Err(too_large());
    }
    let mut pixels = Pixmap::new(width as u32, height as u32).ok_or_else(too_large)?;
    resvg::render(tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    let bytes = pixels.encode_png().map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok(with_density(bytes, dpi))
}

/// Says in a PNG how many pixels an inch has, so that it is placed in its size: in a chunk `pHYs` behind the header.
fn with_density(mut png: Vec<u8>, dpi: f32) -> Vec<u8> {
    /// Length of signature and header.
    const HEADER_END: usize = 8 + 12 + 13;
    const INCHES_PER_METRE: f32 = 39.370_08;
    let per_metre = ((dpi * INCHES_PER_METRE).round() as u32).to_be_bytes();
    let content = [b"pHYs".as_slice(), &per_metre, &per_metre, &[1]].concat();
    let length = (content.len() - 4) as u32;
    let chunk = [length.to_be_bytes().as_slice(), &content, &crc(&content).to_be_bytes()].concat();
    png.splice(HEADER_END..HEADER_END, chunk);
    png
}

/// Returns the checksum of a chunk, CRC-32.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_png() {
        assert_eq!(crc(b"IEND"), 0xAE42_6082);
    }
}
