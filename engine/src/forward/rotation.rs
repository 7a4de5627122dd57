//! Rotary positions: the two halves of a head are pairs of components, rotated by angles proportional to the position.

use crate::Batch;
use crate::backend::rotary::RotaryBackend;
use crate::families::Rope;

/// The rotations of a model's layers.
pub(crate) struct Rotations<B: RotaryBackend> {
    /// Each one once.
    different: Vec<B::Rotation>,
    /// Index of that of each layer.
    of_layers: Vec<usize>,
}

impl<B: RotaryBackend> Rotations<B> {
    /// Takes that of each layer, for heads of an even size.
    pub(crate) fn new(
        ropes: impl IntoIterator<Item = Rope>,
        head_size: usize,
        backend: &B,
    ) -> Result<Rotations<B>, B::Error> {
        let mut different: Vec<Rope> = Vec::new();
        let index = |rope: Rope| {
            different.iter().position(|known| *known == rope).unwrap_or_else(|| {
                different.push(rope);
                different.len() - 1
            })
        };
        let of_layers = ropes.into_iter().map(index).collect();
        let different = different.iter().map(|rope| backend.rotation(frequencies(*rope, head_size)));
        Ok(Rotations { different: different.collect::<Result<_, _>>()?, of_layers })
    }

    /// Returns the angles of each layer, for all positions of a batch.
    pub(crate) fn angles(&self, backend: &B, batch: &Batch) -> Result<LayerAngles<'_, B>, B::Error> {
        let different = self.different.iter().map(|rotation| backend.angles(rotation, batch));
        Ok(LayerAngles { different: different.collect::<Result<_, _>>()?, of_layers: &self.of_layers })
    }
}

/// The angles of each layer.
pub(crate) struct LayerAngles<'r, B: RotaryBackend> {
    different: Vec<B::Angles>,
    of_layers: &'r [usize],
}

impl<B: RotaryBackend> LayerAngles<'_, B> {
    /// Returns those of a layer.
    pub(crate) fn of(&self, layer: usize) -> &B::Angles {
        &self.different[self.of_layers[layer]]
    }
}

/// Returns the angle by which each pair of a head is rotated per position.
pub(crate) fn frequencies(rope: Rope, head_size: usize) -> Vec<f32> {
    // In f32 like the reference: at far positions the last digits of the angle matter.
    let frequency = |pair: usize| 1.0 / (rope.theta as f32).powf((2 * pair) as f32 / head_size as f32);
    (0..head_size / 2).map(|pair| frequency(pair) / rope.slowdown as f32).collect()
}

/// The angle by which each pair of a head is rotated per position.
pub(crate) struct Rotation {
    pub(crate) frequencies: Vec<f32>,
}

impl Rotation {
    /// Returns the sines and cosines of the positions from 0 to `positions - 1`.
    pub(crate) fn angles(&self, positions: usize) -> Angles {
        let angles = (0..positions).flat_map(|position| self.frequencies.iter().map(move |f| position as f32 * f));
        let (sines, cosines) = angles.map(f32::sin_cos).unzip();
        Angles { pairs: self.frequencies.len(), sines, cosines }
    }
}

/// Sines and cosines by position and pair.
pub(crate) struct Angles {
    pairs: usize,
    sines: Vec<f32>,
    cosines: Vec<f32>,
}

impl Angles {
    /// Rotates the heads in the first `columns` of each row of one text, such as all queries and keys. Rows have
    /// `stride` numbers; the first has position 0.
    pub(crate) fn rotate(&self, rows: &mut [f32], stride: usize, columns: usize) {
        self.rotate_from(0, rows, (stride, columns));
    }

    /// As [`rotate`](Angles::rotate); the first row has position `first`.
    pub(crate) fn rotate_from(&self, first: usize, rows: &mut [f32], (stride, columns): (usize, usize)) {
        let angles = self.sines.chunks_exact(self.pairs).zip(self.cosines.chunks_exact(self.pairs));
        for (row, (sines, cosines)) in rows.chunks_exact_mut(stride).zip(angles.skip(first)) {
            for head in row[..columns].chunks_exact_mut(2 * self.pairs) {
                let (first, second) = head.split_at_mut(self.pairs);
                for (((a, b), sin), cos) in first.iter_mut().zip(second).zip(sines).zip(cosines) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_of_the_columns_is_rotated_by_its_position() {
        // Two heads of four, and two numbers that stay; frequencies 1 and 1/10.
        let row = [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 3.0, 0.0, 7.0, 8.0];
        let mut rows = [row, row, row].concat();
        let angles = Rotation { frequencies: frequencies(Rope::unscaled(100.0), 4) }.angles(3);
        angles.rotate(&mut rows, 10, 8);
        assert_eq!(rows[..10], row, "position 0 is not rotated");
        let mut last = row;
        angles.rotate_from(2, &mut last, (10, 8));
        assert_eq!(rows[20..], last, "rows may begin at any position");
        for position in [1, 2] {
            let ((sin, cos), (far_sin, far_cos)) = ((position as f32).sin_cos(), (position as f32 / 10.0).sin_cos());
            let expected = [cos, -far_sin, sin, far_cos, -3.0 * sin, 2.0 * far_cos, 3.0 * cos, 2.0 * far_sin, 7.0, 8.0];
            for (found, expected) in rows[position * 10..].iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "position {position}: {found} instead of {expected}");
            }
        }
    }
}
