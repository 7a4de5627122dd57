//! Tests of cutting by parts.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn slices_partition_the_rows_within_the_limits(
        sizes in proptest::collection::vec((0_u64..20, 0_u64..300), 0..12),
        rows_max in 1_u64..25,
        bytes_max in 1_u64..400,
    ) {
        let parts = || sizes.iter().map(|&(rows, bytes)| Part { rows, bytes });
        let total: u64 = sizes.iter().map(|(rows, _)| rows).sum();
        let placed = Parts::new(parts());
        let limits = CutLimits { rows_max, bytes_max };
        let row_bytes: Vec<u64> = parts()
            .flat_map(|part| (0..part.rows).map(move |_| part.bytes / part.rows))
            .collect();
        let mut start = 0;
        while let Some(end) = placed.slice_end(start, limits) {
            prop_assert!(end > start && end - start <= rows_max);
            let bytes: u64 = row_bytes[start as usize..end as usize].iter().sum();
            prop_assert!(bytes <= bytes_max || end - start == 1, "{} bytes in {}..{}", bytes, start, end);
            start = end;
        }
        prop_assert_eq!(start, total);
    }
}

#[test]
fn whole_parts_are_joined_and_large_ones_split() {
    let parts = Parts::new([10, 10, 10, 100].map(|rows| Part { rows, bytes: rows * 10 }));
    let limits = CutLimits { rows_max: 40, bytes_max: 1 << 20 };
    let mut ends = Vec::new();
    while let Some(end) = parts.slice_end(ends.last().copied().unwrap_or(0), limits) {
        ends.push(end);
    }
    assert_eq!(ends, [30, 70, 110, 130]);
}
