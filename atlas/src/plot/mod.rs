//! Plots of points: one [`Figure`] in, an HTML, PNG, SVG or PDF file out. Pure: no clock, no network, and no files except
//! system fonts, for scripts that the bundled font lacks.

mod contour;
mod draw;
mod emoji;
mod font;
mod heatmap;
mod heatmap_page;
mod html;
mod label_placement;
mod labels;
mod layout;
mod legend;
mod names;
mod page_data;
mod palette;
mod panel;
mod pdf;
mod pdf_font;
mod png;
mod points;
mod range;
mod svg;
mod time;
mod tree;
mod view;

pub use heatmap::Heatmap;
pub use layout::Layout;
pub use page_data::NEAREST;
pub use png::PIXELS_MAX;
pub use tree::is_font;

use crate::umap::Nearest;

/// The content of a plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// The headline.
    pub title: String,
    /// One line below it, such as row counts and parameters.
    pub subtitle: String,
    /// Scatter plots, all with the same rows in the same order.
    pub panels: Vec<Panel>,
    /// The meaning of the colours.
    pub labels: Labels,
    /// Values shown for a point; the first column is the text, which is also searched.
    pub hover: Vec<HoverColumn>,
    /// A table below the panels.
    pub table: Option<Table>,
    /// What follows on the page. Pictures do not have it.
    pub sections: Vec<Section>,
    /// The size of the picture.
    pub layout: Layout,
}

/// One scatter plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// The model's name, or empty.
    pub title: String,
    /// A line below the title.
    pub note: String,
    /// One point per row, both coordinates finite.
    pub points: Vec<[f32; 2]>,
    /// The rows with the nearest vectors of each row.
    pub nearest: Option<Nearest>,
}

/// The value of each row that is shown as colour.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Labels {
    /// One colour for all.
    #[default]
    None,
    /// A colour per category, the largest first.
    Categories {
        /// Source column.
        column: String,
        /// The categories in legend order.
        names: Vec<String>,
        /// Index of each row's category.
        codes: Vec<u32>,
        /// How many of the names, the first ones, are values of the column. The others are in grey and get no name among the
        /// points: rare values together, and rows without a value.
        named: usize,
    },
    /// A colour bar.
    Continuous {
        /// Source column.
        column: String,
        /// What the numbers are.
        quantity: Quantity,
        /// One per row; NaN without a finite number.
        values: Vec<f64>,
        /// The other values, with their numbers of rows.
        others: Vec<(String, usize)>,
    },
}

/// What numbers on a colour bar are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Quantity {
    /// Any numbers.
    #[default]
    Number,
    /// Seconds since 1970, UTC.
    Time,
}

/// A column shown when the pointer is over a point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HoverColumn {
    /// Its name.
    pub name: String,
    /// One value per row.
    pub values: Vec<String>,
}

/// A table of formatted numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Column headers.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

/// A part of a page: paragraphs and a table under a title.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    /// The title.
    pub title: String,
    /// The paragraphs.
    pub paragraphs: Vec<String>,
    /// The table that follows them. Its first column is text, the others are numbers or names.
    pub table: Option<Table>,
}

/// The file format of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// One self-contained page.
    Html,
    /// Pixels.
    Png,
    /// Vectors.
    Svg,
    /// Vectors with the letters as text of embedded fonts.
    Pdf,
}

impl PlotFormat {
    /// Returns the format for a file's extension, if known.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "png" => Some(Self::Png),
            "svg" => Some(Self::Svg),
            "pdf" => Some(Self::Pdf),
            _ => None,
        }
    }
}

/// A rendered plot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// Characters without a font here, shown as U+FFFD.
    pub missing_chars: String,
}

impl From<String> for Picture {
    fn from(document: String) -> Picture {
        Picture { bytes: document.into_bytes(), missing_chars: String::new() }
    }
}

/// Why a plot cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Parts of the figure are inconsistent.
    #[error("the figure does not fit together: {0}")]
    Shape(String),
    /// The picture could not be drawn.
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
}

/// Renders a figure.
///
/// # Errors
/// When its parts have different numbers of rows, or the picture is too large.
pub fn render(figure: &Figure, format: PlotFormat) -> Result<Picture, PlotError> {
    check(figure)?;
    match format {
        PlotFormat::Html => Ok(html::page(figure).into()),
        PlotFormat::Png | PlotFormat::Svg | PlotFormat::Pdf => {
            picture(svg::draw(figure), &figure.title, format, &figure.layout)
        }
    }
}

/// Renders a heat map.
///
/// # Errors
/// When the matrix is not square, or has too many names.
pub fn render_heatmap(map: &Heatmap, format: PlotFormat) -> Result<Picture, PlotError> {
    let svg = heatmap::draw(map)?;
    match format {
        PlotFormat::Html => Ok(heatmap_page::page(map, &svg).into()),
        PlotFormat::Png | PlotFormat::Svg | PlotFormat::Pdf => picture(svg, &map.title, format, &Layout::default()),
    }
}

/// Converts an SVG document.
fn picture(svg: String, title: &str, format: PlotFormat, layout: &Layout) -> Result<Picture, PlotError> {
    if matches!(format, PlotFormat::Html | PlotFormat::Svg) {
        return Ok(svg.into());
    }
    let (tree, missing_chars) = tree::read(&svg, layout.font.as_deref())?;
    let bytes = match format {
        PlotFormat::Pdf => pdf::write(&tree, title)?,
        PlotFormat::Html | PlotFormat::Png | PlotFormat::Svg => png::paint(&tree, layout.dpi)?,
    };
    Ok(Picture { bytes, missing_chars })
}

/// Checks that every part of the figure has the same rows.
fn check(figure: &Figure) -> Result<(), PlotError> {
    let rows = figure.panels.first().map_or(0, |panel| panel.points.len());
    let same = |what: &str, found: usize| match found == rows {
        true => Ok(()),
        false => Err(PlotError::Shape(format!("{what} has {found} rows, the first panel {rows}"))),
    };
    for panel in &figure.panels {
        same(&format!("panel `{}`", panel.title), panel.points.len())?;
        if panel.points.iter().flatten().any(|x| !x.is_finite()) {
            return Err(PlotError::Shape(format!("panel `{}` has a point that is not finite", panel.title)));
        }
        if let Some(nearest) = &panel.nearest
            && (nearest.ids.len() != rows * nearest.k || nearest.ids.iter().any(|id| *id as usize >= rows))
        {
            return Err(PlotError::Shape(format!("panel `{}` has other rows than its nearest", panel.title)));
        }
    }
    match &figure.labels {
        Labels::None => {}
        Labels::Categories { column, names, codes, .. } => {
            same(&format!("label `{column}`"), codes.len())?;
            if let Some(code) = codes.iter().find(|code| **code as usize >= names.len()) {
                return Err(PlotError::Shape(format!("label `{column}` has no name for code {code}")));
            }
        }
        Labels::Continuous { column, values, .. } => same(&format!("label `{column}`"), values.len())?,
    }
    for column in &figure.hover {
        same(&format!("column `{}`", column.name), column.values.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod browser_driver_tests;
#[cfg(test)]
mod browser_selection_tests;
#[cfg(test)]
mod browser_tests;
#[cfg(test)]
mod tests;
