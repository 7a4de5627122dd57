//! The initially visible part of the plane: without outliers that would shrink everything else. Pure.

/// Minimum points for some to count as outliers.
const OUTLIER_POINTS_MIN: usize = 200;
/// Maximum share of outliers at each end of an axis.
const OUTLIER_SHARE: f64 = 0.003;
/// Margin, as a share of the visible span.
const MARGIN_SHARE: f32 = 0.08;
/// Outliers are left out only if that enlarges the rest at least this much.
const GAIN_MIN: f32 = 1.3;
/// Grid cells per side for counting occupied cells.
const CELLS: usize = 128;

/// A part of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// The minimum and maximum of x and y.
    pub(crate) bounds: [[f32; 2]; 2],
    /// Number of points outside.
    pub(crate) outside: usize,
    /// Occupied cells of a fine grid: far fewer than points if these are clustered.
    pub(crate) occupied_cells: usize,
}

/// Returns the part of the plane with all points, or all but a few outliers.
pub(crate) fn view(points: &[[f32; 2]]) -> View {
    if points.is_empty() {
        return View { bounds: [[0.0, 1.0]; 2], outside: 0, occupied_cells: 0 };
    }
    let (mut all, mut most) = ([[0.0; 2]; 2], [[0.0; 2]; 2]);
    for axis in 0..2 {
        let mut sorted: Vec<f32> = points.iter().map(|point| point[axis]).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let strays = if points.len() < OUTLIER_POINTS_MIN { 0 } else { (points.len() as f64 * OUTLIER_SHARE) as usize };
        let (low, high) = (sorted[strays], sorted[sorted.len() - 1 - strays]);
        let room = (high - low) * MARGIN_SHARE;
        all[axis] = [sorted[0], sorted[sorted.len() - 1]];
        most[axis] = [all[axis][0].max(low - room), all[axis][1].min(high + room)];
    }
    let span = |bounds: [[f32; 2]; 2]| bounds.iter().map(|[low, high]| high - low).fold(0.0, f32::max);
    if span(all) < GAIN_MIN * span(most) {
        return View { bounds: all, outside: 0, occupied_cells: occupied_cells(points, all) };
    }
    let is_inside = |point: &&[f32; 2]| point.iter().zip(most).all(|(x, [low, high])| (low..=high).contains(x));
    let outside = points.len() - points.iter().filter(is_inside).count();
    View { bounds: most, outside, occupied_cells: occupied_cells(points, most) }
}

/// Counts the occupied cells of a grid over these bounds; points outside count at the edge.
fn occupied_cells(points: &[[f32; 2]], bounds: [[f32; 2]; 2]) -> usize {
    let side = bounds.iter().map(|[low, high]| high - low).fold(f32::MIN_POSITIVE, f32::max);
    let mut taken = vec![false; CELLS * CELLS];
    for point in points {
        // Casts of negative numbers give 0.
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
    fn without_outliers_all_points_are_visible() {
        assert_eq!(view(&square(20)), View { bounds: [[0.0, 19.0]; 2], outside: 0, occupied_cells: 400 });
        assert_eq!(view(&[[3.0, 4.0]]), View { bounds: [[3.0, 3.0], [4.0, 4.0]], outside: 0, occupied_cells: 1 });
        assert_eq!(view(&[]).outside, 0);
    }

    #[test]
    fn outliers_are_outside_of_the_view_and_counted() {
        let mut points = square(30);
        points.extend([[500.0, 10.0], [10.0, -400.0]]);
        let seen = view(&points);
        assert_eq!(seen.outside, 2);
        assert!(seen.bounds[0][1] < 40.0 && seen.bounds[1][0] > -10.0, "{seen:?}");
    }

    #[test]
    fn close_points_occupy_one_cell() {
        let points: Vec<[f32; 2]> = (0..900).map(|at| [(at % 3) as f32 * 50.0 + 1e-3 * at as f32, 0.0]).collect();
        assert!(view(&points).occupied_cells < 10);
    }

    #[test]
    fn separate_groups_and_small_data_have_no_outliers() {
        let mut points = square(30);
        points.extend((0..20).map(|at| [500.0 + at as f32, 10.0]));
        assert_eq!(view(&points).outside, 0);
        assert_eq!(view(&[[0.0, 0.0], [1.0, 1.0], [90.0, 0.0]]).outside, 0);
    }
}
