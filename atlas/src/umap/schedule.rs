//! When each edge is due, and the order in which points are moved.

use std::ops::Range;

use super::force::LANES;
use super::fuzzy::Graph;

/// An edge of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    /// Schedule position of the other end.
    pub(super) other: u32,
    /// Share of epochs in which it is due, in units of 2^-32.
    share: u32,
}

/// Makes a share of nearly 1 due in every epoch but the first, like exactly 1.
const SLACK: u32 = 1 << 16;

impl Edge {
    /// An edge of full strength is due in every epoch but the first, a weaker one in proportion: whenever the
    /// accumulated shares pass an integer.
    #[inline(always)]
    pub(super) fn is_due(self, epoch: u32) -> bool {
        epoch > 0 && self.share.wrapping_mul(epoch).wrapping_add(SLACK) < self.share
    }
}

/// The edges by schedule position. Points with similar numbers of edges are moved together.
pub(super) struct Schedule {
    /// The point at each position.
    pub(super) order: Vec<u32>,
    /// The positions of each group.
    pub(super) groups: Vec<Range<usize>>,
    /// Maximum edges of a point, plus one.
    pub(super) longest: usize,
    offsets: Vec<usize>,
    edges: Vec<Edge>,
}

impl Schedule {
    /// Sorts the points by work and distributes them to groups, a vector at a time.
    pub(super) fn new(graph: &Graph, groups: usize) -> Self {
        let n = graph.len();
        let strongest = f64::from(graph.strongest());
        let load = |point: usize| graph.row(point).map(|edge| edge.1).sum::<f32>();
        let mut loads: Vec<(f32, u32)> = (0..n).map(|point| (load(point), point as u32)).collect();
        loads.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (mut order, mut ranges) = (Vec::with_capacity(n), Vec::new());
        for group in 0..groups {
            let start = order.len();
            let chunks = loads.chunks(LANES).skip(group).step_by(groups);
            order.extend(chunks.flatten().map(|load| load.1));
            ranges.push(start..order.len());
        }
        let mut place = vec![0u32; n];
        order.iter().enumerate().for_each(|(index, &point)| place[point as usize] = index as u32);
        let (mut offsets, mut edges) = (vec![0], Vec::with_capacity(graph.columns.len()));
        for &point in &order {
            edges.extend(graph.row(point as usize).map(|(other, weight)| Edge {
                other: place[other],
                // The cast saturates.
                share: (f64::from(weight) / strongest * 2f64.powi(32)) as u32,
            }));
            offsets.push(edges.len());
        }
        let longest = offsets.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0) + 1;
        Self { order, groups: ranges, longest, offsets, edges }
    }

    /// Returns the edges of the point at a position.
    #[inline(always)]
    pub(super) fn edges(&self, place: usize) -> &[Edge] {
        &self.edges[self.offsets[place]..self.offsets[place + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_due_in_proportion_to_their_weight() {
        for (share, times) in [(1.0, 499), (0.5, 249), (0.002, 0), (0.1, 49)] {
            let edge = Edge { other: 0, share: (share * 2f64.powi(32)) as u32 };
            assert_eq!((0..500).filter(|&epoch| edge.is_due(epoch)).count(), times, "{share}");
        }
    }

    #[test]
    fn the_schedule_is_a_permutation_and_keeps_edges() {
        // A star of 40 points: the centre has the most edges.
        let n = 41;
        let mut graph = Graph { offsets: vec![0], columns: Vec::new(), weights: Vec::new() };
        for point in 0..n {
            let others: Vec<u32> = if point == 7 { (0..n).filter(|&other| other != 7).collect() } else { vec![7] };
            graph.weights.extend(others.iter().map(|&other| (other.max(point) as f32 + 1.0) / n as f32));
            graph.columns.extend(others);
            graph.offsets.push(graph.columns.len());
        }
        let schedule = Schedule::new(&graph, 4);
        let mut seen = schedule.order.clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..n).collect::<Vec<_>>());
        assert_eq!(schedule.order[0], 7, "the busiest is moved first");
        let ends: Vec<usize> = schedule.groups.iter().map(|group| group.end).collect();
        assert_eq!((schedule.groups[0].start, ends), (0, vec![32, 41, 41, 41]));
        for place in 1..n as usize {
            let others: Vec<u32> = schedule.edges(place).iter().map(|edge| edge.other).collect();
            assert_eq!(others, [0], "all others know the middle alone");
        }
        assert_eq!((schedule.edges(0).len(), schedule.longest), (40, 41));
    }
}
