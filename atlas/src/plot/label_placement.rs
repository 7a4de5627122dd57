//! Places label names on a panel: at the densest spot of their points where there is room, else in the margins, with a line
//! to that spot.

use super::draw::{Anchor, Rect, TextStyle, width};
use super::emoji::{self, Piece};
use super::font::Weight;
use super::view::View;

/// Share of the points around a label's spot from which on the label is in the lead there, and its name stands for all.
const LEAD: f32 = 0.3;
/// Grid cells per side for finding the densest spot.
const CELLS: usize = 32;
/// Maximum width of a name.
pub(crate) const WIDTH_MAX: f32 = 165.0;
/// Size of the letters of names.
const SIZE: f32 = 12.5;
/// Size of a name that is an emoji.
const EMOJI_SIZE: f32 = 19.0;
/// Distance of names in a margin.
const LINE: f32 = 16.0;
/// Smallest share of the names in the margins that are on one side.
const SIDE_SHARE_MIN: f32 = 0.35;
/// Distance of a name in a margin from its line.
const PADDING: f32 = 6.0;

/// Where a label's points are densest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spot {
    /// In data coordinates.
    pub(crate) at: [f32; 2],
    /// Standard deviation of the label's points around, in data coordinates.
    pub(crate) spread: f32,
    /// Whether the label has a good part of all points there. Labels that are mixed everywhere have not.
    pub(crate) leads: bool,
}

/// A name to place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Index of the label.
    pub(crate) code: usize,
    pub(crate) text: String,
    /// The spot on the page.
    pub(crate) spot: (f32, f32),
    /// Standard deviation of the label's points around the spot, on the page.
    pub(crate) spread: f32,
    pub(crate) leads: bool,
}

/// A placed name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name {
    /// Index of the label.
    pub(crate) code: usize,
    pub(crate) text: String,
    /// Where its baseline begins, ends or has its middle.
    pub(crate) at: (f32, f32),
    /// A line from the name to the spot.
    pub(crate) leader: Option<[(f32, f32); 2]>,
    size: f32,
    weight: Weight,
    anchor: Anchor,
}

impl Name {
    pub(crate) fn style<'c>(&self, colour: &'c str) -> TextStyle<'c> {
        TextStyle { size: self.size, weight: self.weight, colour, anchor: self.anchor, halo: Some("#ffffff") }
    }
}

/// The style by which names are measured.
pub(crate) fn measure(text: &str) -> TextStyle<'static> {
    let is_picture = matches!(emoji::pieces(text)[..], [Piece::Emoji(_)]);
    let size = if is_picture { EMOJI_SIZE } else { SIZE };
    TextStyle { size, weight: Weight::Bold, colour: "#1a1a1a", anchor: Anchor::Middle, halo: None }
}

/// Finds for each label the spot where it has most points, and most of all points. Points outside of the view count only
/// for labels that have no others.
pub(crate) fn spots(labels: usize, codes: &[u32], points: &[[f32; 2]], view: &View) -> Vec<Option<Spot>> {
    let mut counts = vec![0u32; labels * CELLS * CELLS];
    let mut all = vec![0u32; CELLS * CELLS];
    let mut far: Vec<Option<[f32; 2]>> = vec![None; labels];
    for (code, point) in codes.iter().zip(points) {
        match (cell_of(point, view), (*code as usize) < labels) {
            (Some(cell), is_label) => {
                all[cell] += 1;
                if is_label {
                    counts[*code as usize * CELLS * CELLS + cell] += 1;
                }
            }
            (None, true) => far[*code as usize] = far[*code as usize].or(Some(*point)),
            (None, false) => {}
        }
    }
    let all_near: Vec<u32> = (0..all.len()).map(|cell| neighbourhood_sum(&all, cell)).collect();
    let best: Vec<Option<(usize, bool)>> =
        counts.chunks(CELLS * CELLS).map(|counts| best_cell(counts, &all_near)).collect();
    let mut moments = vec![(Moments::default(), Moments::default()); labels];
    for (code, point) in codes.iter().zip(points) {
        let Some(Some((best, _))) = best.get(*code as usize) else { continue };
        let Some(cell) = cell_of(point, view) else { continue };
        let (at, near) = &mut moments[*code as usize];
        if cell == *best {
            at.add(point);
        }
        if (cell / CELLS).abs_diff(best / CELLS) <= 1 && (cell % CELLS).abs_diff(best % CELLS) <= 1 {
            near.add(point);
        }
    }
    let spot = |code: usize| match best[code] {
        Some((_, leads)) => {
            let (at, near) = moments[code];
            Some(Spot { at: at.mean().map(|x| x as f32), spread: near.spread(), leads })
        }
        None => far[code].map(|at| Spot { at, spread: 0.0, leads: true }),
    };
    (0..labels).map(spot).collect()
}

/// Sums over points.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sums: [f64; 2],
    squares: f64,
}

impl Moments {
    fn add(&mut self, point: &[f32; 2]) {
        let [x, y] = point.map(f64::from);
        self.count += 1.0;
        self.sums = [self.sums[0] + x, self.sums[1] + y];
        self.squares += x * x + y * y;
    }

    fn mean(&self) -> [f64; 2] {
        self.sums.map(|sum| sum / self.count)
    }

    fn spread(&self) -> f32 {
        let [x, y] = self.mean();
        (self.squares / self.count - x * x - y * y).max(0.0).sqrt() as f32
    }
}

fn cell_of(point: &[f32; 2], view: &View) -> Option<usize> {
    let cell = |axis: usize| {
        let [low, high] = view.bounds[axis];
        let share = (point[axis] - low) / (high - low);
        if share.is_finite() { ((share * CELLS as f32) as usize).min(CELLS - 1) } else { 0 }
    };
    view.has(point).then(|| cell(1) * CELLS + cell(0))
}

/// Sums a cell and its neighbours.
fn neighbourhood_sum(counts: &[u32], index: usize) -> u32 {
    let (row, column) = (index / CELLS, index % CELLS);
    let columns = column.saturating_sub(1)..=(column + 1).min(CELLS - 1);
    let rows = row.saturating_sub(1)..=(row + 1).min(CELLS - 1);
    rows.map(|row| columns.clone().map(|column| counts[row * CELLS + column]).sum::<u32>()).sum()
}

/// Returns the cell around which a label has many points and few others are, and whether it leads there. `all_near` are the
/// sums of every label.
fn best_cell(counts: &[u32], all_near: &[u32]) -> Option<(usize, bool)> {
    let mut best: Option<(f64, usize, bool)> = None;
    for (cell, own) in counts.iter().enumerate().filter(|(_, own)| **own > 0) {
        let near = neighbourhood_sum(counts, cell);
        // The cell itself counts twice, so that the middle of a cluster beats its rim.
        let weight = f64::from(near + own) * f64::from(near) / f64::from(all_near[cell]);
        if best.is_none_or(|(most, _, _)| weight > most) {
            best = Some((weight, cell, near as f32 >= LEAD * all_near[cell] as f32));
        }
    }
    best.map(|(_, cell, leads)| (cell, leads))
}

/// Places the names of labels that lead somewhere, in order of priority. Returns them, and those without room.
pub(crate) fn inside(wanted: &[Wanted], frame: Rect) -> (Vec<Name>, Vec<Wanted>) {
    let mut taken: Vec<Rect> = Vec::new();
    let (mut placed, mut left) = (Vec::new(), Vec::new());
    for name in wanted {
        let style = measure(&name.text);
        let (wide, tall) = (width(&name.text, style) + 6.0, style.size * 1.3);
        // A name on a small group would hide it.
        let first = usize::from(name.spread < tall);
        let boxes = offsets().map(|(dx, dy)| Rect {
            left: name.spot.0 - wide / 2.0 + dx * wide * 0.6,
            top: name.spot.1 - tall / 2.0 + dy * tall,
            width: wide,
            height: tall,
        });
        let is_free = |place: &Rect| within(place, &frame) && !taken.iter().any(|other| overlap(place, other));
        let Some(place) = boxes.into_iter().skip(first).find(|place| name.leads && is_free(place)) else {
            left.push(name.clone());
            continue;
        };
        placed.push(Name {
            code: name.code,
            text: name.text.clone(),
            at: (place.left + wide / 2.0, place.top + tall * 0.5 + style.size * 0.36),
            leader: None,
            size: style.size,
            weight: style.weight,
            anchor: style.anchor,
        });
        taken.push(place);
    }
    (placed, left)
}

/// The width of the margins that these names need.
pub(crate) fn margin_width(names: &[Wanted]) -> f32 {
    names.iter().map(|name| width(&name.text, in_margin(name, Anchor::Start))).fold(0.0, f32::max) + 3.0 * PADDING
}

fn in_margin(name: &Wanted, anchor: Anchor) -> TextStyle<'static> {
    let weight = if name.leads { Weight::Bold } else { Weight::Regular };
    TextStyle { size: SIZE.min(measure(&name.text).size), weight, anchor, ..TextStyle::plain(SIZE) }
}

/// Places names left and right of a frame, each with a line to its spot; the last ones are left out if there are too many.
pub(crate) fn in_margins(names: &[Wanted], frame: Rect, margin: f32) -> Vec<Name> {
    let per_side = ((frame.height - 2.0 * PADDING) / LINE) as usize;
    let frame = Rect { left: frame.left - margin, width: frame.width + 2.0 * margin, ..frame };
    let mut names: Vec<&Wanted> = names.iter().take(2 * per_side).collect();
    names.sort_by(|a, b| a.spot.0.total_cmp(&b.spot.0).then(a.code.cmp(&b.code)));
    let middle = frame.left + frame.width / 2.0;
    let on_left = names.iter().filter(|name| name.spot.0 < middle).count();
    // Neither side has much more than the other.
    let fewest = (names.len() as f32 * SIDE_SHARE_MIN) as usize;
    let on_left = on_left.clamp(fewest, names.len() - fewest);
    let on_left = on_left.min(per_side).max(names.len().saturating_sub(per_side));
    let (left, right) = names.split_at(on_left);
    let mut placed = column(left, frame, Anchor::Start);
    placed.extend(column(right, frame, Anchor::End));
    placed
}

/// Places names below each other, as near to the heights of their spots as there is room.
fn column(names: &[&Wanted], frame: Rect, anchor: Anchor) -> Vec<Name> {
    let mut names = names.to_vec();
    names.sort_by(|a, b| a.spot.1.total_cmp(&b.spot.1).then(a.code.cmp(&b.code)));
    let (first, last) = (frame.top + PADDING + LINE / 2.0, frame.top + frame.height - PADDING - LINE / 2.0);
    let heights = spread(&names.iter().map(|name| name.spot.1).collect::<Vec<_>>(), first, last);
    let place = |(name, height): (&&Wanted, f32)| {
        let style = in_margin(name, anchor);
        let wide = width(&name.text, style);
        let (x, end) = match anchor {
            Anchor::End => (frame.left + frame.width, frame.left + frame.width - PADDING - wide),
            Anchor::Start | Anchor::Middle => (frame.left, frame.left + PADDING + wide),
        };
        Name {
            code: name.code,
            text: name.text.clone(),
            at: (x, height + style.size * 0.36),
            leader: Some([(end, height), name.spot]),
            size: style.size,
            weight: style.weight,
            anchor,
        }
    };
    names.iter().zip(heights).map(place).collect()
}

/// Moves ascending heights apart by a line each, as little as possible (isotonic regression), within a range.
fn spread(heights: &[f32], first: f32, last: f32) -> Vec<f32> {
    // Less a line for each above, the heights must only not descend: those that do share their mean.
    let mut blocks: Vec<(f32, usize)> = Vec::new();
    for (index, height) in heights.iter().enumerate() {
        blocks.push((height - index as f32 * LINE, 1));
        while let [.., (above, many), (below, few)] = blocks[..]
            && above > below
        {
            blocks.truncate(blocks.len() - 2);
            blocks.push(((above * many as f32 + below * few as f32) / (many + few) as f32, many + few));
        }
    }
    let most = (last - heights.len().saturating_sub(1) as f32 * LINE).max(first);
    let moved = blocks.into_iter().flat_map(|(height, count)| std::iter::repeat_n(height.clamp(first, most), count));
    moved.enumerate().map(|(index, height)| height + index as f32 * LINE).collect()
}

/// The offsets to try: none, then increasing distances.
fn offsets() -> [(f32, f32); 17] {
    let mut all = [(0.0, 0.0); 17];
    for ring in 0..2 {
        for step in 0..8 {
            let angle = step as f32 * std::f32::consts::FRAC_PI_4;
            let reach = 1.0 + ring as f32 * 0.6;
            all[1 + ring * 8 + step] = (angle.sin() * reach, -angle.cos() * reach);
        }
    }
    all
}

fn within(inner: &Rect, outer: &Rect) -> bool {
    inner.left >= outer.left
        && inner.top >= outer.top
        && inner.left + inner.width <= outer.left + outer.width
        && inner.top + inner.height <= outer.top + outer.height
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a.left < b.left + b.width && b.left < a.left + a.width && a.top < b.top + b.height && b.top < a.top + a.height
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;

    const FRAME: Rect = Rect { left: 0.0, top: 0.0, width: 400.0, height: 400.0 };

    fn wanted(names: usize, spot: impl Fn(usize) -> (f32, f32), leads: bool) -> Vec<Wanted> {
        (0..names)
            .map(|code| Wanted { code, text: format!("label {code}"), spot: spot(code), spread: 50.0, leads })
            .collect()
    }

    #[test]
    fn the_spot_of_a_label_is_where_its_points_are() {
        let mut points: Vec<[f32; 2]> = (0..50).map(|i| [100.0 + (i % 7) as f32, 100.0 + (i / 7) as f32]).collect();
        points.extend((0..50).map(|i| [300.0 + (i % 7) as f32, 300.0 + (i / 7) as f32]));
        points.push([390.0, 10.0]);
        let codes: Vec<u32> = (0..101).map(|row| u32::from(row >= 50)).collect();
        let spots = spots(2, &codes, &points, &view::view(&points));
        for (spot, middle) in spots.iter().zip([103.0, 303.0]) {
            let Some(Spot { at: [x, y], leads: true, .. }) = *spot else { panic!("{spot:?}") };
            assert!((x - middle).abs() < 8.0 && (y - middle).abs() < 12.0, "{spot:?}");
            assert!((1.0..5.0).contains(&spot.unwrap().spread), "{spot:?}");
        }
    }

    #[test]
    fn a_label_prefers_its_own_island_to_a_crowd_of_others() {
        let mut points: Vec<[f32; 2]> = (0..2_000).map(|i| [(i % 40) as f32 / 40.0, (i / 40) as f32 / 50.0]).collect();
        let mut codes: Vec<u32> = (0..2_000).map(|row| u32::from(row % 10 == 0)).collect();
        points.extend((0..150).map(|i| [5.0 + (i % 10) as f32 / 10.0, (i / 10) as f32 / 15.0]));
        codes.extend([1; 150]);
        let spots = spots(2, &codes, &points, &view::view(&points));
        assert!(spots[1].unwrap().at[0] > 4.9, "{spots:?}");
    }

    #[test]
    fn labels_mixed_everywhere_do_not_lead() {
        let points: Vec<[f32; 2]> = (0..4_000).map(|row| [(row * 37 % 401) as f32, (row * 101 % 397) as f32]).collect();
        let codes: Vec<u32> = (0..4_000).map(|row| row / 2 % 20).collect();
        let spots = spots(20, &codes, &points, &view::view(&points));
        assert!(spots.iter().flatten().all(|spot| !spot.leads));
        assert_eq!(spots.iter().flatten().count(), 20);
    }

    #[test]
    fn names_inside_do_not_overlap_and_the_others_are_left() {
        let (placed, left) = inside(&wanted(60, |code| (150.0 + (code % 6) as f32 * 20.0, 200.0), true), FRAME);
        assert!(placed.len() > 6 && placed.len() + left.len() == 60);
        for (index, a) in placed.iter().enumerate() {
            for b in &placed[index + 1..] {
                let apart = (a.at.0 - b.at.0).abs() > 40.0 || (a.at.1 - b.at.1).abs() >= SIZE * 1.3 - 0.01;
                assert!(apart, "{a:?} {b:?}");
            }
        }
        assert!(inside(&wanted(3, |_| (200.0, 200.0), false), FRAME).0.is_empty(), "mixed labels go to the margins");
    }

    #[test]
    fn a_name_is_beside_a_group_that_it_would_hide() {
        let mut names = wanted(1, |_| (200.0, 200.0), true);
        let height = |names: &[Wanted]| inside(names, FRAME).0[0].at.1;
        assert!((height(&names) - 204.5).abs() < 1.0);
        names[0].spread = 3.0;
        assert!(height(&names) < 190.0);
    }

    #[test]
    fn crowded_heights_are_spread_around_their_middle() {
        assert_eq!(spread(&[100.0, 100.0, 100.0], 0.0, 400.0), [84.0, 100.0, 116.0]);
        assert_eq!(spread(&[10.0, 200.0], 0.0, 400.0), [10.0, 200.0]);
        assert_eq!(spread(&[3.0, 3.0], 8.0, 400.0), [8.0, 24.0]);
        assert_eq!(spread(&[399.0, 399.0], 8.0, 392.0), [376.0, 392.0]);
        assert!(spread(&[], 0.0, 1.0).is_empty());
    }

    #[test]
    fn names_in_the_margins_are_below_each_other_within_the_frame() {
        let names = wanted(40, |code| (code as f32 * 10.0, 390.0 - (code % 3) as f32), false);
        let placed = in_margins(&names, FRAME, 90.0);
        assert_eq!(placed.len(), 40);
        for side in [Anchor::Start, Anchor::End] {
            let mut heights: Vec<f32> =
                placed.iter().filter(|name| name.anchor == side).map(|name| name.at.1).collect();
            heights.sort_by(f32::total_cmp);
            assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 0.01), "{heights:?}");
            assert!(heights[0] > 0.0 && heights[heights.len() - 1] < 400.0);
        }
        assert!(placed.iter().all(|name| name.leader.is_some()));
        assert_eq!(
            in_margins(&wanted(100, |_| (1.0, 1.0), false), FRAME, 90.0).len(),
            48,
            "as many as there is room for"
        );
    }
}
