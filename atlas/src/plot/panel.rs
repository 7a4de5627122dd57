//! Draws a panel: title, frame, points, names among them and in its margins, and a caption.

use std::collections::BTreeSet;

use super::draw::{Canvas, Rect, TextStyle, fit, wrap};
use super::label_placement::{self, Name, Spot, Wanted};
use super::palette::{self, PALETTE};
use super::points::{self, PointStyles, Repeats};
use super::view::View;
use super::{Figure, Labels, Panel, contour, names};
use crate::thousands;

/// Colour of frames and thin lines.
pub(crate) const FRAME: &str = "#d0d0d0";
/// Frames of this width and less have no margins for names.
const MARGINS_FRAME_MIN: f32 = 300.0;
/// Space between the frame and the points.
const PADDING: f32 = 14.0;
/// Height of a line of the caption.
const CAPTION_LINE: f32 = 15.0;
/// Points farther out in one place are one mark.
const MARK_CELL: f32 = 5.0;

/// Heights of what is above and below the frame.
pub(crate) const TITLE: f32 = 24.0;
pub(crate) const NOTE: f32 = 17.0;

/// What panels of a figure have in common.
pub(crate) struct Shared {
    styles: PointStyles,
    /// Width of the margins for names at both sides of a frame.
    pub(crate) margin: f32,
    /// Names to place, as long as there is room for.
    names: Vec<String>,
    /// The colours of names.
    inks: Vec<String>,
}

impl Shared {
    pub(crate) fn of(labels: &Labels) -> Shared {
        let styles = PointStyles::of(labels);
        let (names, inks) = match labels {
            Labels::Categories { names, named, codes, .. } if *named > 1 => {
                let short = names::without_common_prefix(&names::visible(&names[..*named]));
                let colours = palette::styles(*named, *named, codes.len()).into_iter();
                let inks = colours.map(|(colour, _)| palette::ink(PALETTE[colour].0)).collect();
                (names::fit_all(&short, label_placement::measure("names"), label_placement::WIDTH_MAX), inks)
            }
            Labels::Categories { .. } | Labels::None | Labels::Continuous { .. } => (Vec::new(), Vec::new()),
        };
        Shared { styles, margin: 0.0, names, inks }
    }
}

/// The map from the plane to a frame, with equal scales on both axes.
#[derive(Debug, Clone, Copy)]
struct Scale {
    scale: f32,
    middle: [f32; 2],
    centre: (f32, f32),
    reach: (f32, f32),
}

impl Scale {
    /// Fits a view into a frame.
    fn new(view: &View, frame: Rect) -> Scale {
        let spans = view.bounds.map(|[low, high]| (high - low).max(f32::MIN_POSITIVE));
        let room = (frame.width - 2.0 * PADDING, frame.height - 2.0 * PADDING);
        let scale = (room.0 / spans[0]).min(room.1 / spans[1]);
        Scale {
            scale: if scale.is_finite() { scale } else { 0.0 },
            middle: view.bounds.map(|[low, high]| low + (high - low) / 2.0),
            centre: (frame.left + frame.width / 2.0, frame.top + frame.height / 2.0),
            reach: (frame.width / 2.0 - PADDING / 2.0, frame.height / 2.0 - PADDING / 2.0),
        }
    }

    /// Returns the part of the plane that the frame shows.
    fn seen(&self, view: &View, points: &[[f32; 2]]) -> View {
        let reach = [self.reach.0, self.reach.1];
        let bounds = [0, 1].map(|axis| {
            let (middle, reach) = (self.middle[axis], reach[axis] / self.scale.max(f32::MIN_POSITIVE));
            [view.bounds[axis][0].min(middle - reach), view.bounds[axis][1].max(middle + reach)]
        });
        let seen = View { bounds, ..*view };
        View { outside: points.iter().filter(|point| !seen.has(point)).count(), ..seen }
    }

    /// Returns the place of a point. One beyond the frame is moved towards the middle, to the edge.
    fn place(&self, point: &[f32; 2]) -> (f32, f32) {
        let scaled = |axis: usize| (f64::from(point[axis]) - f64::from(self.middle[axis])) * f64::from(self.scale);
        let (right, up) = (scaled(0), scaled(1));
        let shrink = (right.abs() / f64::from(self.reach.0)).max(up.abs() / f64::from(self.reach.1)).max(1.0);
        (self.centre.0 + (right / shrink) as f32, self.centre.1 - (up / shrink) as f32)
    }
}

/// Returns the width of the margins that the names of a panel need if its frame is so large, one of `frames` of a page.
pub(crate) fn margin(labels: &Labels, panel: &Panel, view: &View, shared: &Shared, (width, height): (f32, f32)) -> f32 {
    let frame = Rect { left: 0.0, top: 0.0, width, height };
    let spots = spots(labels, panel, view, shared);
    let (_, left) = label_placement::inside(&wanted(&spots, shared, &Scale::new(view, frame)), frame);
    let margin = label_placement::margin_width(&left);
    if left.is_empty() || width - 2.0 * margin < MARGINS_FRAME_MIN { 0.0 } else { margin }
}

/// Draws a panel in a cell of the page.
pub(crate) fn draw(canvas: &mut Canvas, figure: &Figure, panel: &Panel, view: &View, shared: &Shared, cell: Rect) {
    let cell = Rect { left: cell.left + shared.margin, width: cell.width - 2.0 * shared.margin, ..cell };
    let mut top = cell.top;
    if !panel.title.is_empty() {
        let style = TextStyle::bold(15.0);
        canvas.line((cell.left, top + 13.0), &fit(&panel.title, style, cell.width), style);
        top += TITLE;
        if !panel.note.is_empty() {
            let style = TextStyle::faint(11.5);
            canvas.line((cell.left, top + 7.0), &fit(&panel.note, style, cell.width), style);
            top += NOTE;
        }
    }
    let style = TextStyle::faint(11.0);
    let (mut dots, repeats) = points::dots(&panel.points, view, &shared.styles);
    let spots = spots(&figure.labels, panel, view, shared);
    let is_mixed = shared.margin > 0.0 && spots.iter().flatten().any(|spot| !spot.leads);
    let mut said = wrap(&caption(view, repeats, is_mixed), style, cell.width);
    let below = said.len() as f32 * CAPTION_LINE;
    let frame = Rect { top, height: (cell.top + cell.height - top - below).max(1.0), ..cell };
    let scale = Scale::new(view, frame);
    // A frame of another shape than the view shows more.
    let seen = scale.seen(view, &panel.points);
    if seen.outside < view.outside {
        let (more, repeats) = points::dots(&panel.points, &seen, &shared.styles);
        dots = more;
        said = wrap(&caption(&seen, repeats, is_mixed), style, cell.width);
    }
    let Rect { left, width, height, .. } = frame;
    canvas.element(&format!(
        r##"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="#fcfcfc" stroke="{FRAME}"/>"##
    ));
    dots.iter_mut().for_each(|dot| dot.at = scale.place(&[dot.at.0, dot.at.1]));
    contour::draw(canvas, &dots, &shared.styles.area_colours(), frame);
    points::draw(canvas, &dots, &shared.styles, frame, view.occupied_cells);
    draw_marks(canvas, panel, &seen, &scale, shared);
    draw_names(canvas, &place_names(&wanted(&spots, shared, &scale), shared, frame), shared);
    for (line, text) in said.iter().enumerate() {
        canvas.line((left, top + height + 13.0 + line as f32 * CAPTION_LINE), text, style);
    }
}

/// Says what a reader cannot see: points beyond the frame, points that stand for several rows, and whether there are names of
/// labels that are mixed with others.
fn caption(view: &View, repeats: Repeats, is_mixed: bool) -> String {
    let number = |count: usize| thousands(count as u64);
    let mut said = Vec::new();
    match view.outside {
        0 => {}
        1 => said.push("1 point lies farther out: see the mark at the edge.".to_owned()),
        outside => said.push(format!("{} points lie farther out: see the marks at the edge.", number(outside))),
    }
    if repeats.places > 0 {
        let [places, rows, most] = [repeats.places, repeats.rows, repeats.most].map(number);
        said.push(format!(
            "Larger points stand for several equal rows: {places} for {rows} rows, the largest for {most}."
        ));
    }
    if is_mixed {
        said.push("Thin names are of labels spread among others: the line ends where they are densest.".to_owned());
    }
    said.join(" ")
}

/// Returns the spots of the names.
fn spots(labels: &Labels, panel: &Panel, view: &View, shared: &Shared) -> Vec<Option<Spot>> {
    let Labels::Categories { codes, .. } = labels else { return Vec::new() };
    label_placement::spots(shared.names.len(), codes, &panel.points, view)
}

/// Returns the names with the places of their spots.
fn wanted(spots: &[Option<Spot>], shared: &Shared, scale: &Scale) -> Vec<Wanted> {
    let name = |(code, spot): (usize, &Option<Spot>)| {
        let Spot { at, spread, leads } = (*spot)?;
        let (text, spread) = (shared.names[code].clone(), spread * scale.scale);
        Some(Wanted { code, text, spot: scale.place(&at), spread, leads })
    };
    spots.iter().enumerate().filter_map(name).collect()
}

/// Places names among the points, and those without room there in the margins, if there are some.
fn place_names(wanted: &[Wanted], shared: &Shared, frame: Rect) -> Vec<Name> {
    let (mut placed, left) = label_placement::inside(wanted, frame);
    if shared.margin > 0.0 {
        placed.extend(label_placement::in_margins(&left, frame, shared.margin));
    }
    placed
}

fn draw_names(canvas: &mut Canvas, names: &[Name], shared: &Shared) {
    for (name, [from, to]) in names.iter().filter_map(|name| Some((name, name.leader?))) {
        let ink = &shared.inks[name.code];
        let line = format!("M{:.1} {:.1}L{:.1} {:.1}", from.0, from.1, to.0, to.1);
        canvas.element(&format!(
            r##"<path d="{line}" fill="none" stroke="#ffffff" stroke-width="2.6" stroke-opacity="0.7"/>"##
        ));
        canvas.element(&format!(r#"<path d="{line}" fill="none" stroke="{ink}" stroke-width="0.8"/>"#));
        canvas.element(&format!(
            r##"<circle cx="{:.1}" cy="{:.1}" r="2.6" fill="{ink}" stroke="#ffffff" stroke-width="1"/>"##,
            to.0, to.1
        ));
    }
    for name in names {
        canvas.line(name.at, &name.text, name.style(&shared.inks[name.code]));
    }
}

/// Draws a mark at the edge for the points that lie farther out in its direction, once per style and place.
fn draw_marks(canvas: &mut Canvas, panel: &Panel, view: &View, scale: &Scale, shared: &Shared) {
    let mut drawn = BTreeSet::new();
    for (row, point) in panel.points.iter().enumerate().filter(|(_, point)| !view.has(point)) {
        let ((x, y), style) = (scale.place(point), shared.styles.of_row(row));
        if !drawn.insert(((x / MARK_CELL) as i32, (y / MARK_CELL) as i32, style)) {
            continue;
        }
        let (right, down) = (x - scale.centre.0, y - scale.centre.1);
        let length = right.hypot(down).max(1.0);
        let (right, down) = (right / length, down / length);
        let corner = |along: f32, across: f32| {
            format!("{:.1} {:.1}", x + right * along - down * across, y + down * along + right * across)
        };
        let colour = &shared.styles.styles[style].0;
        canvas.element(&format!(
            r##"<path d="M{}L{}L{}Z" fill="{colour}" stroke="#ffffff" stroke-width="0.8"/>"##,
            corner(5.5, 0.0),
            corner(-3.5, 4.0),
            corner(-3.5, -4.0)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::view;
    use super::*;

    #[test]
    fn both_axes_have_the_same_scale() {
        let frame = Rect { left: 0.0, top: 0.0, width: 228.0, height: 128.0 };
        let points = [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        let scale = Scale::new(&view(&points), frame);
        assert_eq!(points.map(|point| scale.place(&point)), [(64.0, 114.0), (164.0, 14.0), (64.0, 14.0)]);
    }

    #[test]
    fn points_beyond_the_frame_are_at_its_edge_in_their_direction() {
        let frame = Rect { left: 0.0, top: 0.0, width: 114.0, height: 114.0 };
        let scale = Scale::new(&view(&[[-1.0, -1.0], [1.0, 1.0]]), frame);
        assert_eq!(scale.place(&[100.0, 50.0]), (107.0, 32.0));
        assert_eq!(scale.place(&[f32::MAX, f32::MAX]), (107.0, 7.0));
    }

    #[test]
    fn a_wide_frame_shows_more_than_the_view() {
        let frame = Rect { left: 0.0, top: 0.0, width: 414.0, height: 114.0 };
        let view = View { outside: 2, ..view(&[[-1.0, -1.0], [1.0, 1.0]]) };
        let seen = Scale::new(&view, frame).seen(&view, &[[-3.0, 0.0], [0.0, 0.0], [0.0, 50.0]]);
        assert_eq!(seen.outside, 1);
        assert!(seen.bounds[0][1] > 4.0 && seen.bounds[1][1] < 1.2, "{seen:?}");
    }

    #[test]
    fn identical_points_are_centred() {
        let frame = Rect { left: 10.0, top: 0.0, width: 100.0, height: 80.0 };
        let scale = Scale::new(&view(&[[3.0, 4.0], [3.0, 4.0]]), frame);
        assert_eq!(scale.place(&[3.0, 4.0]), (60.0, 40.0));
    }

    #[test]
    fn the_caption_says_what_cannot_be_seen() {
        let seen = View { bounds: [[0.0, 1.0]; 2], outside: 0, occupied_cells: 1 };
        assert_eq!(caption(&seen, Repeats::default(), false), "");
        let told = caption(&View { outside: 1_234, ..seen }, Repeats { places: 3, rows: 4_000, most: 72 }, false);
        assert!(
            told.starts_with("1,234 points lie farther out") && told.ends_with("3 for 4,000 rows, the largest for 72.")
        );
    }
}
