//! PURE: which part of the plane a picture shows first. A few strays far out must not shrink everything else to a blot.

/// Fewest points among which some may count as strays.
const STRAYS_FROM: usize = 200;
/// The share of points at each end of an axis that may be strays.
const STRAY_SHARE: f64 = 0.003;
/// Room around the others, as a share of what they span.
const ROOM: f32 = 0.08;
/// Strays are left out only where that makes the others so many times larger.
const GAIN_MIN: f32 = 1.3;
/// Cells of the grid that crowds are counted in, along each side.
const CELLS: usize = 128;

/// A part of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// The least and the greatest x and y.
    pub(crate) bounds: [[f32; 2]; 2],
    /// How many points lie outside.
    pub(crate) outside: usize,
    /// How many cells of a fine grid have points: far fewer than points where these crowd together.
    pub(crate) crowds: usize,
}

/// Returns the part of the plane that shows the points well: all of them, or all but a few strays.
pub(crate) fn view(points: &[[f32; 2]]) -> View {
    if points.is_empty() {
        return View { bounds: [[0.0, 1.0]; 2], outside: 0, crowds: 0 };
    }
    let (mut all, mut most) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
    for axis in 0..2 {
        let mut sorted: Vec<f32> = points.iter().map(|point| point[axis]).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let strays = if points.len() < STRAYS_FROM { 0 } else { (points.len() as f64 * STRAY_SHARE) as usize };
        let (low, high) = (sorted[strays], sorted[sorted.len() - 1 - strays]);
        let room = (high - low) * ROOM;
        all[axis] = [sorted[0], sorted[sorted.len() - 1]];
        most[axis] = [all[axis][0].max(low - room), all[axis][1].min(high + room)];
    }
    let span = |bounds: [[f32; 2]; 2]| bounds.iter().map(|[low, high]| high - low).fold(0.0, f32::max);
    if span(all) < GAIN_MIN * span(most) {
        return View { bounds: all, outside: 0, crowds: crowds(points, all) };
    }
    let is_inside = |point: &&[f32; 2]| point.iter().zip(most).all(|(x, [low, high])| (low..=high).contains(x));
    let outside = points.len() - points.iter().filter(is_inside).count();
    View { bounds: most, outside, crowds: crowds(points, most) }
}

/// Counts the cells that have points, of a grid over these bounds; what is outside is counted at the edge.
fn crowds(points: &[[f32; 2]], bounds: [[f32; 2]; 2]) -> usize {
    let side = bounds.iter().map(|[low, high]| high - low).fold(f32::MIN_POSITIVE, f32::max);
    let mut taken = vec![false; CELLS * CELLS];
    for point in points {
        // A cast of what is negative gives 0.
        let [column, row] = [0, 1].map(|axis| ((point[axis] - bounds[axis][0]) / side * CELLS as f32) as usize);
        taken[row.min(CELLS - 1) * CELLS + column.min(CELLS - 1)] = true;
    }
    taken.into_iter().filter(|taken| *taken).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(side: usize) -> Vec<[f32; 2]> {
        (0..side * side).map(|at| [(at % side) as f32, (at / side) as f32]).collect()
    }

    #[test]
    fn without_strays_everything_is_in_view() {
        assert_eq!(view(&square(20)), View { bounds: [[0.0, 19.0]; 2], outside: 0, crowds: 400 });
        assert_eq!(view(&[[3.0, 4.0]]), View { bounds: [[3.0, 3.0], [4.0, 4.0]], outside: 0, crowds: 1 });
        assert_eq!(view(&[]).outside, 0);
    }

    #[test]
    fn a_few_strays_are_outside_and_counted() {
        let mut points = square(30);
        points.extend([[500.0, 10.0], [10.0, -400.0]]);
        let seen = view(&points);
        assert_eq!(seen.outside, 2);
        assert!(seen.bounds[0][1] < 40.0 && seen.bounds[1][0] > -10.0, "{seen:?}");
    }

    #[test]
    fn points_close_together_are_one_crowd() {
        let points: Vec<[f32; 2]> = (0..900).map(|at| [(at % 3) as f32 * 50.0 + 1e-3 * at as f32, 0.0]).collect();
        assert!(view(&points).crowds < 10);
    }

    #[test]
    fn a_group_apart_is_no_stray_and_nor_is_one_of_few() {
        let mut points = square(30);
        points.extend((0..20).map(|at| [500.0 + at as f32, 10.0]));
        assert_eq!(view(&points).outside, 0);
        assert_eq!(view(&[[0.0, 0.0], [1.0, 1.0], [90.0, 0.0]]).outside, 0);
    }
}
