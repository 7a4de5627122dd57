//! Batches without padding: grouping of texts, and the layout of their token ids. Pure.

/// The token ids of several texts, concatenated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids of all rows.
    pub(crate) ids: Vec<u32>,
    /// Start of each row, and the end of the last: 0, then non-decreasing up to the number of ids.
    pub(crate) offsets: Vec<u32>,
}

impl Batch {
    /// Returns an empty batch.
    pub fn new() -> Batch {
        Batch { ids: Vec::new(), offsets: vec![0] }
    }

    /// Appends one row.
    ///
    /// # Panics
    /// When the batch would hold more than `u32::MAX` tokens.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.offsets.push(u32::try_from(self.ids.len()).expect("a batch holds fewer than 2^32 tokens"));
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Returns the number of tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Returns the number of tokens of the longest row.
    pub(crate) fn longest(&self) -> usize {
        self.offsets.windows(2).map(|span| (span[1] - span[0]) as usize).max().unwrap_or(0)
    }

    /// Returns the token ids of one row.
    pub fn row(&self, index: usize) -> &[u32] {
        &self.ids[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl<R: AsRef<[u32]>> FromIterator<R> for Batch {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Batch {
        let mut batch = Batch::new();
        for row in rows {
            batch.push(row.as_ref());
        }
        batch
    }
}

/// Groups texts of the given token counts into batches of at most `token_budget` tokens.
///
/// Longest first, so that a batch has similar lengths and a lack of memory shows early. Every index appears exactly
/// once; a text over the budget gets its own batch. Ties keep their order, so the result is deterministic.
pub fn pack(lengths: &[usize], token_budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    // `None` while the last batch is over budget, so that not even an empty text is added.
    let mut tokens_left: Option<usize> = None;
    for index in order {
        let length = lengths[index];
        match (batches.last_mut(), tokens_left.and_then(|left| left.checked_sub(length))) {
            (Some(batch), Some(left)) => {
                batch.push(index);
                tokens_left = Some(left);
            }
            _ => {
                batches.push(vec![index]);
                tokens_left = token_budget.checked_sub(length);
            }
        }
    }
    batches
}

/// Splits the offsets of a batch into those of consecutive texts that have at most `tokens` together, or of one longer
/// text. Each part begins with the end of the one before.
pub(crate) fn text_blocks(offsets: &[u32], tokens: usize) -> impl Iterator<Item = &[u32]> {
    let mut rest = offsets;
    std::iter::from_fn(move || {
        let [first, _, ..] = *rest else { return None };
        let fitting = rest.partition_point(|end| (end - first) as usize <= tokens);
        let texts = &rest[..fitting.max(2)];
        rest = &rest[texts.len() - 1..];
        Some(texts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_returns_the_rows_pushed() {
        let rows: [&[u32]; 3] = [&[4, 7, 5], &[4, 5], &[4, 9, 9, 5]];
        let batch: Batch = rows.iter().collect();
        assert_eq!((batch.rows(), batch.tokens()), (3, 9));
        assert_eq!((0..3).map(|row| batch.row(row)).collect::<Vec<_>>(), rows);
        assert_eq!(Batch::default().rows(), 0);
    }

    #[test]
    fn a_text_over_budget_gets_its_own_batch() {
        assert_eq!(pack(&[3, 100, 4], 10), vec![vec![1], vec![2, 0]]);
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_batches_keep_the_budget(
            lengths in prop::collection::vec(0usize..600, 0..300),
            token_budget in 0usize..2000,
        ) {
            let batches = pack(&lengths, token_budget);
            let mut seen: Vec<usize> = batches.concat();
            for batch in &batches {
                let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
                prop_assert!(tokens <= token_budget || batch.len() == 1);
            }
            prop_assert!(seen.windows(2).all(|pair| lengths[pair[0]] >= lengths[pair[1]]), "longest first");
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn blocks_of_texts_hold_a_few_texts_or_one_longer_one() {
        let blocks: Vec<&[u32]> = text_blocks(&[0, 3, 5, 6, 20, 21, 22], 5).collect();
        assert_eq!(blocks, [&[0, 3, 5][..], &[5, 6], &[6, 20], &[20, 21, 22]]);
        assert_eq!(text_blocks(&[0], 5).count(), 0);
    }
}
