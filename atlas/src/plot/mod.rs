//! Pictures of points: one [`Figure`] in, the bytes of an HTML, PNG or SVG file out. Pure: no clock, no network, and
//! no files but the system's fonts, for scripts that the carried font lacks.

mod draw;
mod emoji;
mod font;
mod heatmap;
mod html;
mod labels;
mod names;
mod palette;
mod png;
mod range;
mod svg;
mod view;

pub use heatmap::Heatmap;

/// What one picture shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// The headline.
    pub title: String,
    /// One line below it: how many rows, how many left out, the parameters.
    pub subtitle: String,
    /// One scatter plot each. All have the same rows in the same order.
    pub panels: Vec<Panel>,
    /// What the colours mean.
    pub labels: Labels,
    /// What a point says about itself; the first column is the text, which the search looks through too.
    pub hover: Vec<HoverColumn>,
    /// Numbers below the panels.
    pub table: Option<Table>,
}

/// One scatter plot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Panel {
    /// The name of the model, or nothing.
    pub title: String,
    /// A line below the title.
    pub note: String,
    /// One point per row, both coordinates finite.
    pub points: Vec<[f32; 2]>,
}

/// One value per row, shown as colour.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Labels {
    /// One colour for all.
    #[default]
    None,
    /// A colour and a shape per name.
    Categories {
        /// The column that they come from.
        column: String,
        /// The names, in the order of the legend.
        names: Vec<String>,
        /// For each row the index of its name.
        codes: Vec<u32>,
    },
    /// A colour bar.
    Continuous {
        /// The column that they come from.
        column: String,
        /// One per row; NaN for those that have no place along the bar.
        values: Vec<f64>,
        /// What those have instead, and how many rows do.
        others: Vec<(String, usize)>,
    },
}

/// A column that a point shows when the pointer is over it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HoverColumn {
    /// Its name.
    pub name: String,
    /// One value per row.
    pub values: Vec<String>,
}

/// Numbers in rows and columns, already spelled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The heads of the columns.
    pub columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

/// The kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlotFormat {
    /// One page that needs nothing else.
    Html,
    /// Pixels.
    Png,
    /// Vectors.
    Svg,
}

impl PlotFormat {
    /// Reads the extension of a file name; `None` for any other.
    pub fn of(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "png" => Some(Self::Png),
            "svg" => Some(Self::Svg),
            _ => None,
        }
    }
}

/// A picture that has been drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The file.
    pub bytes: Vec<u8>,
    /// Characters that no font here has, and that stand as U+FFFD in the picture.
    pub lacking: String,
}

impl From<String> for Picture {
    fn from(document: String) -> Picture {
        Picture { bytes: document.into_bytes(), lacking: String::new() }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Parts of the figure do not fit each other.
    #[error("the figure does not fit together: {0}")]
    Shape(String),
    /// The picture could not be drawn.
    #[error("the picture could not be drawn: {0}")]
    Draw(String),
}

/// Draws a figure.
///
/// # Errors
/// When its parts have different numbers of rows, or the picture is larger than can be drawn.
pub fn render(figure: &Figure, format: PlotFormat) -> Result<Picture, PlotError> {
    check(figure)?;
    match format {
        PlotFormat::Html => Ok(html::page(figure).into()),
        PlotFormat::Png => png::paint(&svg::draw(figure)),
        PlotFormat::Svg => Ok(svg::draw(figure).into()),
    }
}

/// Draws a matrix.
///
/// # Errors
/// When it is not square, or has more names than can be read.
pub fn render_heatmap(map: &Heatmap, format: PlotFormat) -> Result<Picture, PlotError> {
    let svg = heatmap::draw(map)?;
    match format {
        PlotFormat::Html => Ok(html::page_of_svg(&map.title, &svg).into()),
        PlotFormat::Png => png::paint(&svg),
        PlotFormat::Svg => Ok(svg.into()),
    }
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
    }
    match &figure.labels {
        Labels::None => {}
        Labels::Categories { column, names, codes } => {
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
mod browser_tests;
#[cfg(test)]
mod tests;
