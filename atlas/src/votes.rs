//! What nearest neighbours say of the label of a point, and of each other. Pure.

use std::collections::BTreeMap;

use crate::umap::Neighbors;

/// How the nearest neighbours of every point vote for its label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelVotes {
    /// 1 for a point whose label is the most frequent among its neighbours, else 0. Ties count in equal shares, the expectation
    /// of guessing: preferring one, such as the nearest, would bias the comparison of models.
    pub hits: Vec<f32>,
    /// The share of votes for a point's label, less that for the most frequent other label: from -1 to 1.
    pub margins: Vec<f32>,
    /// The most frequent label among the neighbours other than that of the point; the one of the nearest where several are. `None`
    /// where all have its label.
    pub rivals: Vec<Option<u32>>,
    /// How many points of the first label have the second one as the most frequent among their neighbours. Ties count in equal
    /// shares, and the sum over second labels is the number of points.
    pub confusion: BTreeMap<(u32, u32), f64>,
}

impl LabelVotes {
    /// Counts the votes of the `k` nearest neighbours, the point itself excluded.
    pub fn count(neighbors: &Neighbors, labels: &[u32], k: usize) -> LabelVotes {
        let mut counted = LabelVotes::default();
        for (point, &own) in labels.iter().enumerate() {
            let mut votes: Vec<(u32, usize)> = Vec::new();
            for label in nearest(neighbors, point, k).map(|other| labels[other as usize]) {
                match votes.iter_mut().find(|vote| vote.0 == label) {
                    Some(vote) => vote.1 += 1,
                    None => votes.push((label, 1)),
                }
            }
            counted.add(own, &votes);
        }
        counted
    }

    fn add(&mut self, own: u32, votes: &[(u32, usize)]) {
        let most = votes.iter().map(|vote| vote.1).max();
        let leaders: Vec<u32> = votes.iter().filter(|vote| Some(vote.1) == most).map(|vote| vote.0).collect();
        let share = 1.0 / leaders.len().max(1) as f64;
        self.hits.push(if leaders.contains(&own) { share as f32 } else { 0.0 });
        leaders.iter().for_each(|leader| *self.confusion.entry((own, *leader)).or_default() += share);
        let others = votes.iter().filter(|vote| vote.0 != own);
        // The last of the maxima that `max_by_key` returns is the first here: the one of the nearest neighbour.
        let rival = others.rev().max_by_key(|vote| vote.1);
        let of_own = votes.iter().find(|vote| vote.0 == own).map_or(0, |vote| vote.1);
        let total = votes.iter().map(|vote| vote.1).sum::<usize>().max(1);
        self.margins.push((of_own as f32 - rival.map_or(0, |vote| vote.1) as f32) / total as f32);
        self.rivals.push(rival.map(|vote| vote.0));
    }
}

/// Returns the mean share of the `k` nearest neighbours of a point that it has in both spaces, the point itself excluded; 1
/// without points.
pub fn shared_neighbors(one: &Neighbors, other: &Neighbors, k: usize) -> f64 {
    let points = one.ids.len() / one.k.max(1);
    let (mut shared, mut all) = (0, 0);
    for point in 0..points {
        let theirs: Vec<u32> = nearest(other, point, k).collect();
        for neighbor in nearest(one, point, k) {
            shared += u64::from(theirs.contains(&neighbor));
            all += 1_u64;
        }
    }
    if all == 0 { 1.0 } else { shared as f64 / all as f64 }
}

fn nearest(neighbors: &Neighbors, point: usize, k: usize) -> impl Iterator<Item = u32> {
    let row = &neighbors.ids[point * neighbors.k..(point + 1) * neighbors.k];
    row.iter().copied().filter(move |&other| other as usize != point).take(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a line, two and two.
    fn line() -> Neighbors {
        let ids = vec![0, 1, 2, 3, 1, 0, 2, 3, 2, 3, 1, 0, 3, 2, 1, 0];
        Neighbors { k: 4, distances: vec![0.0; ids.len()], ids }
    }

    #[test]
    fn ties_count_in_equal_shares() {
        let hits = |labels: [u32; 4], k| LabelVotes::count(&line(), &labels, k).hits;
        assert_eq!(hits([0, 0, 1, 1], 3), [0.0; 4]);
        assert_eq!(hits([0, 0, 1, 1], 1), [1.0; 4]);
        assert_eq!(hits([0, 0, 1, 1], 2), [0.5; 4], "one each: its share");
        assert_eq!(hits([5, 5, 5, 5], 3), [1.0; 4]);
    }

    #[test]
    fn votes_say_what_a_label_is_taken_for() {
        let votes = LabelVotes::count(&line(), &[0, 0, 1, 2], 3);
        assert_eq!(votes.rivals, [Some(1), Some(1), Some(0), Some(0)]);
        assert_eq!(votes.hits, [1.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        assert_eq!(votes.margins, [0.0, 0.0, -2.0 / 3.0, -2.0 / 3.0]);
        let of = |own, other| votes.confusion[&(own, other)];
        assert!((of(0, 0) - 2.0 / 3.0).abs() < 1e-9 && (of(0, 1) - 2.0 / 3.0).abs() < 1e-9, "{votes:?}");
        assert_eq!((of(1, 0), of(2, 0)), (1.0, 1.0));
        assert_eq!(votes.confusion.values().sum::<f64>().round(), 4.0);
        assert_eq!(LabelVotes::count(&line(), &[3; 4], 3).rivals, [None; 4]);
    }

    #[test]
    fn neighborhoods_are_shared_as_far_as_they_are_the_same() {
        let other = Neighbors { ids: vec![0, 2, 1, 3, 1, 3, 2, 0, 2, 0, 3, 1, 3, 1, 0, 2], ..line() };
        assert_eq!(shared_neighbors(&line(), &line(), 2), 1.0);
        assert_eq!(shared_neighbors(&line(), &other, 1), 0.0);
        assert_eq!(shared_neighbors(&line(), &other, 3), 1.0);
    }
}
