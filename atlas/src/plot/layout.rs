//! The size of a page and of what is on it. A page is laid out in units, of which letters are 13 high; the layout says how
//! large a unit is.

use std::sync::Arc;

use super::draw::{Canvas, Rect};
use super::legend::Legend;
use super::panel::{NOTE, TITLE};
use super::view::View;
use super::{Figure, Labels, svg};

/// How large a picture is. Lengths are in CSS pixels, of which an inch has 96.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The width of the page; by default what its content needs.
    pub width: Option<f32>,
    /// The height of the page; by default what its content needs.
    pub height: Option<f32>,
    /// Width divided by height of a panel; by default that of the points.
    pub aspect: Option<f32>,
    /// The height of the letters of the legend; others follow it. By default 13, and less on pages that are narrower than 1,200.
    pub font_size: Option<f32>,
    /// Pixels per inch of a PNG.
    pub dpi: f32,
    /// A font file for characters that the bundled font lacks, before those of the system.
    pub font: Option<Arc<[u8]>>,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { width: None, height: None, aspect: None, font_size: None, dpi: 192.0, font: None }
    }
}

/// Height of the letters of the legend in units.
pub(crate) const FONT_UNITS: f32 = 13.0;
/// The smallest letters that a page gets by default: 7 points.
const FONT_SIZE_MIN: f32 = 9.33;
/// The width of a page whose letters are one unit per pixel.
const USUAL_WIDTH: f32 = 1200.0;

impl Layout {
    /// Returns the pixels per unit.
    pub(crate) fn scale(&self) -> f32 {
        let share = self.width.map_or(1.0, |width| width / USUAL_WIDTH);
        self.font_size.unwrap_or((FONT_UNITS * share).clamp(FONT_SIZE_MIN, FONT_UNITS)) / FONT_UNITS
    }
}

/// The margin of a page.
pub(crate) const MARGIN: f32 = 32.0;
/// Space between panels, and between panels and legend.
pub(crate) const GAP: f32 = 24.0;
/// Area of all panels of a page whose size is not given.
const PANELS_AREA: f32 = 900.0 * 780.0;
/// Smallest side of a panel.
const PANEL_SIDE_MIN: f32 = 60.0;
/// Largest share of a page's width for a legend beside the panels; a wider one is below.
const LEGEND_SHARE_MAX: f32 = 0.36;

/// Smallest width of a frame of several that gives room to margins.
const SEVERAL_FRAME_MIN: f32 = 380.0;
/// Largest share of a page's height for a legend below the panels.
const LEGEND_HEIGHT_MAX: f32 = 0.35;
/// Smallest share of a page's height for the panels above a legend.
const FRAMES_HEIGHT_MIN: f32 = 0.45;

/// The grid of panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Grid {
    /// Returns the most square grid; without a legend to fill a hole, one row of three.
    pub(crate) fn of(panels: usize, has_legend: bool) -> Grid {
        let panels = panels.max(1);
        if panels == 3 && !has_legend {
            return Grid { columns: 3, rows: 1 };
        }
        let columns = (1..).find(|side| side * side >= panels).expect("some square is large enough");
        Grid { columns, rows: panels.div_ceil(columns) }
    }
}

/// The places of all parts of a page, in units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// The cells of the panels, with their titles, captions and margins.
    pub(crate) cells: Vec<Rect>,
    /// Width of the margins for names at both sides of a frame.
    pub(crate) margin: f32,
    pub(crate) legend: Legend,
    /// Left and top of the legend.
    pub(crate) legend_at: (f32, f32),
    /// Top of the table.
    pub(crate) table_at: f32,
}

/// Where the legend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LegendPlace {
    Beside,
    Below,
    /// In the part of the last row of panels that has none.
    Hole,
}

impl Plan {
    /// Plans the page of a figure whose panels show these views. `margin` is the width of the margins for names that frames
    /// of a size need.
    pub(crate) fn of(figure: &Figure, views: &[View], margin: impl Fn((f32, f32)) -> f32) -> Plan {
        let layout = &figure.layout;
        let scale = layout.scale();
        let [page_width, page_height] = [layout.width, layout.height].map(|side| side.map(|side| side / scale));
        let aspect = layout.aspect.unwrap_or_else(|| mean_aspect(views));
        let grid = Grid::of(figure.panels.len(), !matches!(figure.labels, Labels::None));
        let table = figure.table.as_ref().map_or(0.0, |table| 36.0 + MARGIN + 18.0 * table.rows.len() as f32);
        let titles = titles_height(figure);
        let usual = PANELS_AREA * if figure.panels.len() > 1 { 1.25 } else { 1.0 };
        let free = (usual * aspect / (grid.columns * grid.rows) as f32).sqrt();
        let mut margins = margin((free, free / aspect));
        // Pages of several panels would become too wide to be read.
        let narrow = (free - 2.0 * margins).max(SEVERAL_FRAME_MIN).min(free);
        let free = if figure.panels.len() > 1 { narrow } else { free };
        margins = margin((free + 2.0 * margins, free / aspect));
        let mut cell = (free + 2.0 * margins, free / aspect + titles);
        let (place, legend) = place_legend(figure, grid, page_width, page_height.map(|height| height - 100.0), cell);
        let legend = fit_legend(figure, (place, legend), page_height.map(|height| (height, table)), page_width);
        let beside = if place == LegendPlace::Beside && legend.width > 0.0 { legend.width + GAP } else { 0.0 };
        let gaps = |count: usize| GAP * (count - 1) as f32;
        let width = page_width.unwrap_or_else(|| {
            let least = if figure.table.is_some() { 1_100.0 } else { 600.0 };
            (2.0 * MARGIN + grid.columns as f32 * cell.0 + gaps(grid.columns) + beside).max(least)
        });
        let top = svg::heading(&mut Canvas::default(), &figure.title, &figure.subtitle, width);
        let below = if place == LegendPlace::Below && legend.height > 0.0 { legend.height + GAP } else { 0.0 };
        if page_width.is_some() {
            cell.0 = (width - 2.0 * MARGIN - beside - gaps(grid.columns)) / grid.columns as f32;
            margins = margin((cell.0, cell.0 / aspect));
            cell.1 = (cell.0 - 2.0 * margins) / aspect + titles;
        }
        if let Some(height) = page_height {
            cell.1 = (height - top - below - table - MARGIN - gaps(grid.rows)) / grid.rows as f32;
            if layout.aspect.is_some() {
                cell.0 = cell.0.min((cell.1 - titles) * aspect + 2.0 * margins);
                cell.1 = cell.1.min((cell.0 - 2.0 * margins) / aspect + titles);
            }
        }
        cell = (cell.0.max(PANEL_SIDE_MIN), cell.1.max(PANEL_SIDE_MIN + titles));
        let corner = |index: usize| {
            let (column, row) = (index % grid.columns, index / grid.columns);
            (MARGIN + column as f32 * (cell.0 + GAP), top + row as f32 * (cell.1 + GAP))
        };
        let cells = (0..figure.panels.len()).map(|index| {
            let (left, top) = corner(index);
            Rect { left, top, width: cell.0, height: cell.1 }
        });
        let bottom = top + grid.rows as f32 * cell.1 + gaps(grid.rows);
        let legend_at = match place {
            LegendPlace::Beside => (MARGIN + grid.columns as f32 * (cell.0 + GAP), top),
            LegendPlace::Below => (MARGIN, bottom + GAP),
            LegendPlace::Hole => corner(figure.panels.len()),
        };
        let end = if place == LegendPlace::Beside { bottom.max(top + legend.height) } else { bottom + below };
        Plan {
            width,
            height: page_height.unwrap_or(end + MARGIN + table),
            cells: cells.collect(),
            margin: margins,
            legend,
            legend_at,
            table_at: end + MARGIN,
        }
    }
}

/// Puts the legend where the grid has a hole, beside the panels if it is narrow, or below them.
fn place_legend(
    figure: &Figure,
    grid: Grid,
    page_width: Option<f32>,
    height: Option<f32>,
    cell: (f32, f32),
) -> (LegendPlace, Legend) {
    let holes = (grid.columns * grid.rows - figure.panels.len().max(1)) as f32;
    let room = page_width.map(|width| width - 2.0 * MARGIN);
    let panels = (grid.columns as f32 * (cell.0 + GAP) - GAP, grid.rows as f32 * (cell.1 + GAP) - GAP);
    let cell_width = room.map_or(cell.0, |room| room / grid.columns as f32 - GAP);
    let shrunk = cell.1 * cell_width / cell.0;
    let shrunk = height.map_or(shrunk, |height| shrunk.min(height / grid.rows as f32 - GAP));
    let in_hole = Legend::of_height(&figure.labels, shrunk);
    let fitting = in_hole.narrowed(holes * (cell_width + GAP) - GAP).filter(|legend| legend.height <= shrunk);
    if let Some(in_hole) = fitting.filter(|_| holes > 0.0) {
        return (LegendPlace::Hole, in_hole);
    }
    let beside = Legend::of_height(&figure.labels, height.unwrap_or(room.map_or(panels.1, |room| room * 0.7)));
    let all = room.unwrap_or(panels.0 + GAP + beside.width);
    if beside.width <= LEGEND_SHARE_MAX * all {
        return (LegendPlace::Beside, beside);
    }
    (LegendPlace::Below, Legend::of_width(&figure.labels, room.unwrap_or(panels.0)))
}

/// Cuts a legend to the page, whose height is given with that of its table, if it is.
fn fit_legend(
    figure: &Figure,
    (place, legend): (LegendPlace, Legend),
    page: Option<(f32, f32)>,
    page_width: Option<f32>,
) -> Legend {
    match (page, place) {
        (Some((height, table)), LegendPlace::Below) => {
            let width = page_width.unwrap_or(USUAL_WIDTH);
            let top = svg::heading(&mut Canvas::default(), &figure.title, &figure.subtitle, width);
            let room = height * (1.0 - FRAMES_HEIGHT_MIN) - top - table - MARGIN - GAP;
            legend.cut_or_none(room.min(height * LEGEND_HEIGHT_MAX))
        }
        (Some((height, _)), LegendPlace::Beside) => legend.cut(height - 100.0),
        (Some(_), LegendPlace::Hole) | (None, _) => legend,
    }
}

fn mean_aspect(views: &[View]) -> f32 {
    let logarithms: f32 = views.iter().map(|view| view.aspect().ln()).sum();
    (logarithms / views.len().max(1) as f32).exp()
}

/// Returns the height of the titles of panels.
fn titles_height(figure: &Figure) -> f32 {
    let has = |what: fn(&super::Panel) -> &String| figure.panels.iter().any(|panel| !what(panel).is_empty());
    match (has(|panel| &panel.title), has(|panel| &panel.note)) {
        (false, _) => 0.0,
        (true, false) => TITLE,
        (true, true) => TITLE + NOTE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Panel;
    use super::super::view::view;
    use super::*;

    fn figure(panels: usize, labels: usize) -> Figure {
        let values: Vec<Option<String>> = (0..300).map(|row| Some(format!("name {}", row % labels))).collect();
        let points: Vec<[f32; 2]> = (0..300).map(|row| [(row % 20) as f32, (row / 20) as f32]).collect();
        let panel = Panel { title: "model".into(), note: "0.8".into(), points, nearest: None };
        Figure {
            title: "title".into(),
            panels: vec![panel; panels],
            labels: Labels::categories_of("label", &values),
            ..Figure::default()
        }
    }

    fn plan(figure: &Figure) -> Plan {
        let views: Vec<View> = figure.panels.iter().map(|panel| view(&panel.points)).collect();
        Plan::of(figure, &views, |_| 0.0)
    }

    #[test]
    fn panels_are_arranged_in_a_square_grid() {
        let grid = |panels| (Grid::of(panels, true).columns, Grid::of(panels, true).rows);
        assert_eq!([grid(1), grid(2), grid(3), grid(4), grid(5)], [(1, 1), (2, 1), (2, 2), (2, 2), (3, 2)]);
        assert_eq!(Grid::of(3, false), Grid { columns: 3, rows: 1 });
    }

    #[test]
    fn the_legend_fills_the_hole_of_three_panels() {
        let three = plan(&figure(3, 8));
        let (left, top) = three.legend_at;
        assert!(left == three.cells[1].left && top == three.cells[2].top, "{three:?}");
        assert!(left + three.legend.width < three.width);
    }

    #[test]
    fn the_frame_follows_the_data_or_the_given_aspect() {
        let mut one = figure(1, 3);
        let ratio = |plan: Plan| plan.cells[0].width / (plan.cells[0].height - TITLE - NOTE);
        assert!((ratio(plan(&one)) - 19.0 / 14.0).abs() < 0.01);
        one.layout.aspect = Some(0.75);
        assert!((ratio(plan(&one)) - 0.75).abs() < 0.01);
        one.layout = Layout { width: Some(900.0), height: Some(500.0), ..one.layout.clone() };
        assert!((ratio(plan(&one)) - 0.75).abs() < 0.01);
    }

    #[test]
    fn small_pages_keep_room_for_the_map() {
        for (width, height) in [(321.0, 227.0), (340.0, 227.0), (340.0, 321.0)] {
            for labels in [3, 10, 300] {
                let mut small = figure(1, labels);
                small.layout = Layout { width: Some(width), height: Some(height), ..Layout::default() };
                let plan = plan(&small);
                assert!(plan.cells[0].height > 0.4 * plan.height, "{labels}: {plan:?}");
            }
        }
    }

    #[test]
    fn a_page_has_the_given_size_and_everything_is_on_it() {
        for labels in [1, 3, 25, 200] {
            for panels in [1, 2, 3, 5] {
                let mut some = figure(panels, labels);
                some.layout = Layout { width: Some(700.0), height: Some(480.0), ..Layout::default() };
                let (plan, scale) = (plan(&some), some.layout.scale());
                assert!((plan.width * scale - 700.0).abs() < 0.1 && (plan.height * scale - 480.0).abs() < 0.1);
                let right = plan.cells.iter().map(|cell| cell.left + cell.width).fold(0.0, f32::max);
                assert!(right <= plan.width && plan.legend_at.0 + plan.legend.width <= plan.width, "{plan:?}");
                assert!(plan.legend_at.1 + plan.legend.height <= plan.height, "{plan:?}");
            }
        }
    }
}
