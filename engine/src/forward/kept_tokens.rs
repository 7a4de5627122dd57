//! The tokens whose vectors a forward pass returns.

use crate::pooling::Pool;
use crate::{Batch, Pooling};

/// Which token vectors the last layer computes. Exact, since no later layer reads the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptTokens {
    Every,
    /// Of each text: one row per text.
    First,
    /// Of each text: one row per text.
    Last,
}

impl KeptTokens {
    /// Returns those that a pooling needs. If they are not all, they are the pooled vectors.
    pub(crate) fn of(pool: &Pool) -> KeptTokens {
        if *pool == Pooling::Cls.into() {
            KeptTokens::First
        } else if *pool == Pooling::Last.into() {
            KeptTokens::Last
        } else {
            KeptTokens::Every
        }
    }

    /// Returns the place in its text of the first kept token of a text of `length` tokens, and how many are kept.
    pub(crate) fn in_text(self, length: usize) -> (usize, usize) {
        match self {
            KeptTokens::Every => (0, length),
            KeptTokens::First => (0, 1),
            KeptTokens::Last => (length - 1, 1),
        }
    }

    /// Returns the rows of a batch that are kept.
    pub(crate) fn rows(self, batch: &Batch) -> impl Iterator<Item = usize> {
        batch.offsets.windows(2).flat_map(move |span| {
            let (first, kept) = self.in_text((span[1] - span[0]) as usize);
            span[0] as usize + first..span[0] as usize + first + kept
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_rows_are_those_of_each_text() {
        let batch: Batch = [vec![1u32, 2, 3], vec![4], vec![5, 6]].iter().collect();
        let rows = |kept: KeptTokens| kept.rows(&batch).collect::<Vec<_>>();
        assert_eq!(rows(KeptTokens::Every), [0, 1, 2, 3, 4, 5]);
        assert_eq!(rows(KeptTokens::First), [0, 3, 4]);
        assert_eq!(rows(KeptTokens::Last), [2, 3, 5]);
    }

    #[test]
    fn a_prompt_that_is_left_out_of_pooling_needs_every_token() {
        assert_eq!(KeptTokens::of(&Pooling::Cls.into()), KeptTokens::First);
        assert_eq!(KeptTokens::of(&Pooling::Last.into()), KeptTokens::Last);
        assert_eq!(KeptTokens::of(&Pooling::Mean.into()), KeptTokens::Every);
        assert_eq!(KeptTokens::of(&Pool { excluded: 1, ..Pooling::Last.into() }), KeptTokens::Every);
    }
}
