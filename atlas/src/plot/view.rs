//! The part of the plane that is drawn to scale: the bulk of the points. Far islets would shrink everything else, so they
//! are left out where they cost more room than their share of the points is worth. Pure.

use std::collections::BTreeMap;

/// Share of the points at each end of an axis that are outside of the initial box.
const TRIM_SHARE: f64 = 0.05;
/// Cells along the longer side of the initial box. Points in touching cells belong to one islet.
const CELLS_PER_SIDE: f32 = 24.0;
/// An islet may enlarge the view by this many times its share of the points.
const GROWTH_PER_SHARE: f32 = 8.0;
/// All islets that are worth less may enlarge it together by this factor, nearest first.
const SLACK: f32 = 1.1;
/// The ratio of width to height that a frame can follow.
pub(crate) const ASPECTS: [f32; 2] = [0.6, 1.8];
/// Grid cells per side for counting occupied cells.
const CELLS: usize = 128;

/// Minimum and maximum of x and y.
type Bounds = [[f32; 2]; 2];

/// A part of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// The minimum and maximum of x and y.
    pub(crate) bounds: Bounds,
    /// Number of points outside.
    pub(crate) outside: usize,
    /// Occupied cells of a fine grid: far fewer than points if these are clustered.
    pub(crate) occupied_cells: usize,
}

impl View {
    /// Returns the ratio of width to height, within what a frame can follow.
    pub(crate) fn aspect(&self) -> f32 {
        let [width, height] = self.bounds.map(|[low, high]| high - low);
        let ratio = width / height;
        if ratio.is_finite() { ratio.clamp(ASPECTS[0], ASPECTS[1]) } else { 1.0 }
    }

    /// Whether a point is inside.
    pub(crate) fn has(&self, point: &[f32; 2]) -> bool {
        point.iter().zip(self.bounds).all(|(x, [low, high])| (low..=high).contains(x))
    }
}

/// Points in touching cells.
struct Islet {
    points: usize,
    bounds: Bounds,
}

/// Returns the part of the plane with all points, or all but far islets.
pub(crate) fn view(points: &[[f32; 2]]) -> View {
    if points.is_empty() {
        return View { bounds: [[0.0, 1.0]; 2], outside: 0, occupied_cells: 0 };
    }
    let bounds = bulk(points);
    let mut view = View { bounds, outside: 0, occupied_cells: occupied_cells(points, bounds) };
    view.outside = points.iter().filter(|point| !view.has(point)).count();
    view
}

/// Returns the bounds of the bulk: those of the central points, enlarged by every islet that is worth it.
fn bulk(points: &[[f32; 2]]) -> Bounds {
    let mut bounds = [0, 1].map(|axis| {
        let mut sorted: Vec<f32> = points.iter().map(|point| point[axis]).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let trimmed = (sorted.len() as f64 * TRIM_SHARE) as usize;
        [sorted[trimmed], sorted[sorted.len() - 1 - trimmed]]
    });
    let side = bounds.iter().map(|[low, high]| high - low).fold(0.0, f32::max);
    let mut islets = islets(points, (side / CELLS_PER_SIDE).max(f32::MIN_POSITIVE));
    let growth = |bounds: &Bounds, islet: &Islet| size(&union(bounds, &islet.bounds)) / size(bounds).max(1e-30) - 1.0;
    islets.sort_by(|a, b| growth(&bounds, a).total_cmp(&growth(&bounds, b)));
    // An islet may become cheap by one that is farther out, so several passes; the number only bounds the time.
    for _ in 0..8 {
        let before = bounds;
        for islet in &islets {
            let share = islet.points as f32 / points.len() as f32;
            if growth(&bounds, islet) <= GROWTH_PER_SHARE * share {
                bounds = union(&bounds, &islet.bounds);
            }
        }
        if bounds == before {
            break;
        }
    }
    let most = size(&bounds) * SLACK;
    islets.sort_by(|a, b| growth(&bounds, a).total_cmp(&growth(&bounds, b)));
    for islet in &islets {
        let wider = union(&bounds, &islet.bounds);
        if size(&wider) <= most {
            bounds = wider;
        }
    }
    bounds
}

/// Returns the side of a square as large as the frame that these bounds need.
fn size(bounds: &Bounds) -> f32 {
    let [width, height] = bounds.map(|[low, high]| f64::from(high) - f64::from(low));
    (width.max(height * f64::from(ASPECTS[0])) * height.max(width / f64::from(ASPECTS[1]))).sqrt() as f32
}

fn union(a: &Bounds, b: &Bounds) -> Bounds {
    [0, 1].map(|axis| [a[axis][0].min(b[axis][0]), a[axis][1].max(b[axis][1])])
}

/// Groups the points whose cells touch.
fn islets(points: &[[f32; 2]], cell: f32) -> Vec<Islet> {
    let mut cells: BTreeMap<[i32; 2], Islet> = BTreeMap::new();
    for point in points {
        let bounds = point.map(|x| [x, x]);
        let found = cells.entry(point.map(|x| (x / cell).floor() as i32));
        let islet = found.or_insert(Islet { points: 0, bounds });
        islet.points += 1;
        islet.bounds = union(&islet.bounds, &bounds);
    }
    let mut islets = Vec::new();
    while let Some((first, mut islet)) = cells.pop_first() {
        let mut reached = vec![first];
        while let Some([x, y]) = reached.pop() {
            for (dx, dy) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
                let next = [x.saturating_add(dx), y.saturating_add(dy)];
                if let Some(found) = cells.remove(&next) {
                    islet.points += found.points;
                    islet.bounds = union(&islet.bounds, &found.bounds);
                    reached.push(next);
                }
            }
        }
        islets.push(islet);
    }
    islets
}

/// Counts the occupied cells of a grid over these bounds; points outside count at the edge.
fn occupied_cells(points: &[[f32; 2]], bounds: Bounds) -> usize {
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
    fn far_islets_are_outside_of_the_view_and_counted() {
        for side in [10, 30, 100] {
            let mut points = square(side);
            let far = side as f32 * 12.0;
            points.extend([[far, 10.0], [10.0, -far], [far, 11.0]]);
            let seen = view(&points);
            assert_eq!(seen.outside, 3, "{side}");
            assert!(seen.bounds[0][1] < side as f32 * 1.2 && seen.bounds[1][0] > side as f32 * -0.2, "{seen:?}");
        }
    }

    #[test]
    fn many_islets_around_do_not_squash_the_middle() {
        let mut points = square(60);
        for islet in 0..40 {
            let angle = islet as f32 * 0.157;
            points.extend((0..5).map(|at| [30.0 + 120.0 * angle.cos() + at as f32, 30.0 + 120.0 * angle.sin()]));
        }
        let seen = view(&points);
        assert!(seen.bounds.iter().all(|[low, high]| high - low < 80.0), "{seen:?}");
        assert!(seen.outside >= 190, "{seen:?}");
    }

    #[test]
    fn close_points_occupy_one_cell() {
        let points: Vec<[f32; 2]> = (0..900).map(|at| [(at % 3) as f32 * 50.0 + 1e-3 * at as f32, 0.0]).collect();
        assert!(view(&points).occupied_cells < 10);
    }

    #[test]
    fn groups_that_are_worth_their_room_and_few_points_are_inside() {
        let mut points = square(30);
        points.extend((0..90).map(|at| [60.0 + (at % 10) as f32, (at / 10) as f32]));
        assert_eq!(view(&points).outside, 0);
        assert_eq!(view(&[[0.0, 0.0], [1.0, 1.0], [90.0, 0.0]]).outside, 0);
    }

    #[test]
    fn equal_points_with_one_far_have_a_view() {
        let mut points = vec![[1.0, 1.0]; 50];
        points.push([f32::MAX, f32::MIN]);
        let seen = view(&points);
        assert_eq!((seen.outside, seen.aspect()), (1, 1.0));
        points.extend([[f32::MIN, f32::MAX]; 50]);
        assert!(view(&points).aspect() > 0.0);
    }
}
