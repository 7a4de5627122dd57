//! A bias of attention by the distance between tokens, as in T5 and `MPNet`.

use crate::families::DistanceBuckets;

/// Returns the bias for each head and distance from a query to a key, from `1 - tokens` to `tokens - 1`. `table` is
/// `[buckets, heads]`.
pub(super) fn bias_by_distance(table: &[f32], buckets: DistanceBuckets, heads: usize, tokens: usize) -> Vec<f32> {
    let distances = 1 - tokens as i64..tokens as i64;
    let rows: Vec<usize> = distances.map(|distance| bucket(buckets, distance)).collect();
    (0..heads).flat_map(|head| rows.iter().map(move |row| table[row * heads + head])).collect()
}

/// Returns the bucket of a distance, with logarithms in f32 like the reference.
fn bucket(buckets: DistanceBuckets, distance: i64) -> usize {
    let half = buckets.count / 2;
    let side = if distance > 0 { half } else { 0 };
    let (near, distance) = (half / 2, distance.unsigned_abs() as usize);
    if distance < near {
        return side + distance;
    }
    let whole = (buckets.farthest as f64 / near as f64).ln() as f32;
    let far = (distance as f32 / near as f32).ln() / whole * (half - near) as f32;
    side + (near + far as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_change_at_the_distances_of_the_reference() {
        // Of transformers' `MPNetEncoder.relative_position_bucket`.
        let changes = [
            (-600, 15),
            (-90, 14),
            (-63, 13),
            (-45, 12),
            (-31, 11),
            (-22, 10),
            (-15, 9),
            (-11, 8),
            (-7, 7),
            (-6, 6),
            (-5, 5),
            (-4, 4),
            (-3, 3),
            (-2, 2),
            (-1, 1),
            (0, 0),
            (1, 17),
            (2, 18),
            (3, 19),
            (4, 20),
            (5, 21),
            (6, 22),
            (7, 23),
            (8, 24),
            (12, 25),
            (16, 26),
            (23, 27),
            (32, 28),
            (46, 29),
            (64, 30),
            (91, 31),
        ];
        let buckets = DistanceBuckets { table: "", rows: 32, count: 32, farthest: 128 };
        let mut found = Vec::new();
        for distance in -600..=600 {
            let bucket = bucket(buckets, distance);
            if found.last().is_none_or(|(_, last)| *last != bucket) {
                found.push((distance, bucket));
            }
        }
        assert_eq!(found, changes);
    }

    #[test]
    fn each_head_has_its_own_bias() {
        let buckets = DistanceBuckets { table: "", rows: 4, count: 4, farthest: 8 };
        let table = [0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0];
        assert_eq!(bias_by_distance(&table, buckets, 2, 2), [1.0, 0.0, 3.0, 11.0, 10.0, 13.0]);
    }
}
