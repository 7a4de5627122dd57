//! The operations of models with rotary positions, gates, or norms before each half of a layer, beside those of [`Backend`].

use std::convert::Infallible;

use kernels::{Activation, Heads, RowsView, Scoring, WeightFormat, Window, attend, attend_within};

use super::{Backend, Cpu};
use crate::Batch;
use crate::forward::kept_tokens::KeptTokens;
use crate::forward::positions::LayerPositions;
use crate::forward::rotation::{Angles, Rotation};
use crate::ops::{self, FeedForward, LayerNorm, Linear, Matrix, RmsNorm};

/// A device with the operations of rotary models. A sum is a matrix in f32, whatever the number format: it holds the
/// embeddings and the outputs of all layers so far, which a model normalises each time that it reads them.
pub(crate) trait RotaryBackend: Backend {
    /// A norm of a sum, of what is added to it, or of heads.
    type SumNorm;
    /// Linear layers to queries, keys and values.
    type Projections;
    /// The feed-forward half of a layer.
    type FeedForward;
    /// A rotation by position.
    type Rotation;
    /// The angles of a rotation for the tokens of a batch.
    type Angles;

    /// Uploads a norm.
    fn sum_norm(&self, norm: NormWeights, eps: f64) -> Result<Self::SumNorm, Self::Error>;

    /// Uploads one layer to queries, keys and values of the same width. Heads of queries must have keys of their own,
    /// without norms.
    fn joined_projections(&self, layer: Dense) -> Result<Self::Projections, Self::Error>;

    /// Uploads the layers to queries, keys and values. On a CPU the last layer projects no more queries than are kept, and
    /// with `exact_scores` queries and keys are projected in f32.
    fn projections(&self, layers: [Dense; 3], exact_scores: bool) -> Result<Self::Projections, Self::Error>;

    /// Returns `down(activation(up(x)))`, or if there is a gate, which is then first in `up`,
    /// `down(activation(gate(x)) * up(x))`.
    fn feed_forward_half(
        &self,
        up: Self::Linear,
        has_gate: bool,
        activation: Activation,
        down: Self::Linear,
    ) -> Self::FeedForward;

    /// Uploads a rotation: the angle by which each pair of a head turns per position.
    fn rotation(&self, frequencies: Vec<f32>) -> Result<Self::Rotation, Self::Error>;

    fn angles(&self, rotation: &Self::Rotation, batch: &Batch) -> Result<Self::Angles, Self::Error>;

    /// Begins a sum with the embeddings, `width` numbers each, and returns it with what the first layer reads.
    fn begin_sum(
        &self,
        words: (&Self::Table, usize),
        ids: &[u32],
        norms: SumNorms<'_, Self>,
    ) -> Result<(Self::Matrix, Self::Matrix), Self::Error>;

    /// Adds `linear(x)` to the sum, and returns what the next half reads.
    fn add_linear(
        &self,
        sum: &mut Self::Matrix,
        linear: &Self::Linear,
        x: Self::Matrix,
        norms: SumNorms<'_, Self>,
    ) -> Result<Self::Matrix, Self::Error>;

    /// As [`add_linear`](RotaryBackend::add_linear), for a feed-forward half.
    fn add_feed_forward(
        &self,
        sum: &mut Self::Matrix,
        feed_forward: &Self::FeedForward,
        x: Self::Matrix,
        norms: SumNorms<'_, Self>,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns `norm(feed_forward(x) + x)`.
    fn feed_forward_norm(
        &self,
        feed_forward: &Self::FeedForward,
        norm: &Self::Norm,
        x: &Self::Matrix,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of the kept tokens of a batch with the rows `x`.
    fn rotary_context(
        &self,
        projections: &Self::Projections,
        x: &Self::Matrix,
        attention: &Attention<'_, Self>,
        batch: &Batch,
        kept: KeptTokens,
    ) -> Result<Self::Matrix, Self::Error>;
}

/// The weights of a norm.
#[derive(Debug, Clone)]
pub(crate) enum NormWeights {
    Layer { weight: Vec<f32>, shift: Vec<f32> },
    RootMeanSquare { weight: Vec<f32> },
}

/// A linear layer as in a model file: `[outputs, inputs]` and `[outputs]`.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The norms around an addition, where a model has them.
pub(crate) struct SumNorms<'a, B: RotaryBackend + ?Sized> {
    /// Of what is added.
    pub(crate) added: Option<&'a B::SumNorm>,
    /// Of the sum, for the half that reads it next.
    pub(crate) sum: Option<&'a B::SumNorm>,
}

/// How the tokens of a text attend to each other.
pub(crate) struct Attention<'a, B: RotaryBackend + ?Sized> {
    /// Of keys and of values.
    pub(crate) heads: Heads,
    /// Heads of queries for each of them: the first of each of them side by side, then the second, and so on.
    pub(crate) group: usize,
    pub(crate) positions: LayerPositions<'a, B>,
    /// Of the heads of queries and of keys, before they are rotated.
    pub(crate) head_norms: Option<&'a [B::SumNorm; 2]>,
}

/// A norm of a sum on the CPU.
pub(crate) enum SumNorm {
    Layer(LayerNorm),
    RootMeanSquare(RmsNorm),
}

impl SumNorm {
    /// Normalises every row.
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        match self {
            SumNorm::Layer(norm) => norm.apply(rows),
            SumNorm::RootMeanSquare(norm) => norm.apply(rows),
        }
    }
}

/// The layers to queries, keys and values on the CPU.
pub(crate) enum Projections {
    /// Side by side.
    Joined(Linear),
    Apart(Box<[Linear; 3]>),
}

impl RotaryBackend for Cpu {
    type SumNorm = SumNorm;
    type Projections = Projections;
    type FeedForward = FeedForward;
    type Rotation = Rotation;
    type Angles = Angles;

    fn sum_norm(&self, norm: NormWeights, eps: f64) -> Result<SumNorm, Infallible> {
        let eps = eps as f32;
        Ok(match norm {
            NormWeights::Layer { weight, shift } => SumNorm::Layer(LayerNorm { weight, shift, eps }),
            NormWeights::RootMeanSquare { weight } => SumNorm::RootMeanSquare(RmsNorm { weight, eps }),
        })
    }

    fn joined_projections(&self, Dense { weight, bias }: Dense) -> Result<Projections, Infallible> {
        Ok(Projections::Joined(Linear::fused(&[weight], &[bias], self.format)))
    }

    fn projections(&self, layers: [Dense; 3], exact_scores: bool) -> Result<Projections, Infallible> {
        let of_scores = if exact_scores { WeightFormat::F32 } else { self.format };
        let linear = |Dense { weight, bias }, format| Linear::fused(&[weight], &[bias], format);
        let [queries, keys, values] = layers;
        let layers = [linear(queries, of_scores), linear(keys, of_scores), linear(values, self.format)];
        Ok(Projections::Apart(Box::new(layers)))
    }

    fn feed_forward_half(&self, up: Linear, has_gate: bool, activation: Activation, down: Linear) -> FeedForward {
        FeedForward { up, has_gate, down, activation }
    }

    fn rotation(&self, frequencies: Vec<f32>) -> Result<Rotation, Infallible> {
        Ok(Rotation { frequencies })
    }

    fn angles(&self, rotation: &Rotation, batch: &Batch) -> Result<Angles, Infallible> {
        Ok(rotation.angles(batch.longest()))
    }

    fn begin_sum(
        &self,
        (words, width): (&Vec<f32>, usize),
        ids: &[u32],
        norms: SumNorms<'_, Cpu>,
    ) -> Result<(Matrix, Matrix), Infallible> {
        let mut numbers = Vec::with_capacity(ids.len() * width);
        for id in ids {
            numbers.extend_from_slice(&words[*id as usize * width..][..width]);
        }
        if let Some(norm) = norms.added {
            norm.apply(&mut numbers);
        }
        let sum = Matrix { numbers, width };
        let read = read(&sum, norms.sum, Vec::new());
        Ok((sum, read))
    }

    fn add_linear(
        &self,
        sum: &mut Matrix,
        linear: &Linear,
        x: Matrix,
        norms: SumNorms<'_, Cpu>,
    ) -> Result<Matrix, Infallible> {
        Ok(add(sum, linear.forward(&x.numbers, None), norms, x.numbers))
    }

    fn add_feed_forward(
        &self,
        sum: &mut Matrix,
        feed_forward: &FeedForward,
        x: Matrix,
        norms: SumNorms<'_, Cpu>,
    ) -> Result<Matrix, Infallible> {
        Ok(add(sum, feed_forward.forward(&x.numbers), norms, x.numbers))
    }

    fn feed_forward_norm(
        &self,
        feed_forward: &FeedForward,
        norm: &LayerNorm,
        x: &Matrix,
    ) -> Result<Matrix, Infallible> {
        Ok(Matrix { numbers: feed_forward.forward_norm(&x.numbers, norm), width: x.width })
    }

    fn rotary_context(
        &self,
        projections: &Projections,
        x: &Matrix,
        attention: &Attention<'_, Cpu>,
        batch: &Batch,
        kept: KeptTokens,
    ) -> Result<Matrix, Infallible> {
        let numbers = match projections {
            Projections::Joined(qkv) => joined_context(qkv, x, attention, (batch, kept)),
            Projections::Apart(layers) => context_apart(layers, x, attention, (batch, kept)),
        };
        Ok(Matrix { numbers, width: attention.group * attention.heads.count * attention.heads.size })
    }
}

/// Returns the norm of a sum, in a buffer that is no longer needed.
fn read(sum: &Matrix, norm: Option<&SumNorm>, mut buffer: Vec<f32>) -> Matrix {
    buffer.clear();
    buffer.extend_from_slice(&sum.numbers);
    if let Some(norm) = norm {
        norm.apply(&mut buffer);
    }
    Matrix { numbers: buffer, width: sum.width }
}

fn add(sum: &mut Matrix, mut output: Vec<f32>, norms: SumNorms<'_, Cpu>, buffer: Vec<f32>) -> Matrix {
    if let Some(norm) = norms.added {
        norm.apply(&mut output);
    }
    ops::add(&mut sum.numbers, &output);
    read(sum, norms.sum, buffer)
}

/// Projects and attends a few texts at a time, so that queries, keys and values stay in the cache.
fn joined_context(
    qkv: &Linear,
    x: &Matrix,
    attention: &Attention<'_, Cpu>,
    (batch, kept): (&Batch, KeptTokens),
) -> Vec<f32> {
    let Attention { heads, .. } = *attention;
    let LayerPositions::Rotary { angles, reach } = attention.positions else {
        panic!("models with a bias project apart")
    };
    let (width, precision) = (heads.count * heads.size, qkv.precision());
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    qkv.by_texts(&x.numbers, &batch.offsets, |texts, qkv| {
        for span in texts.windows(2) {
            let (start, length) = ((span[0] - texts[0]) as usize, (span[1] - span[0]) as usize);
            let rows = &mut qkv[start * 3 * width..][..length * 3 * width];
            angles.rotate(rows, 3 * width, 2 * width);
            let queries = RowsView { data: rows, rows: length, stride: 3 * width };
            let (keys, values) = (queries.without_columns(width), queries.without_columns(2 * width));
            let (first, count) = kept.in_text(length);
            let done = out.len();
            out.resize(done + count * width, 0.0);
            attend_within(
                &mut out[done..],
                [queries.block(first, count), keys, values],
                Window { reach, first, group: 1 },
                (heads, precision),
                &mut scratch,
            );
        }
    });
    out
}

/// Projects the queries of the kept tokens alone.
fn context_apart(
    [queries, keys, values]: &[Linear; 3],
    x: &Matrix,
    attention: &Attention<'_, Cpu>,
    (batch, kept): (&Batch, KeptTokens),
) -> Vec<f32> {
    let Attention { heads, group, ref positions, head_norms } = *attention;
    let (key_width, precision) = (heads.count * heads.size, keys.precision());
    let query_width = group * key_width;
    let (mut keys, values) = (keys.forward(&x.numbers, None), values.forward(&x.numbers, None));
    let mut queries = match kept {
        KeptTokens::Every => queries.forward(&x.numbers, None),
        KeptTokens::First | KeptTokens::Last => queries.forward(&x.select(kept.rows(batch)).numbers, None),
    };
    if let Some([of_queries, of_keys]) = head_norms {
        of_queries.apply(&mut queries);
        of_keys.apply(&mut keys);
    }
    let mut out = vec![0.0; queries.len()];
    let (mut scratch, mut done) = (Vec::new(), 0);
    for span in batch.offsets.windows(2) {
        let (start, length) = (span[0] as usize, (span[1] - span[0]) as usize);
        let (first, count) = kept.in_text(length);
        let of_text = done * query_width..(done + count) * query_width;
        done += count;
        let queries = &mut queries[of_text.clone()];
        let keys = &mut keys[start * key_width..][..length * key_width];
        if let LayerPositions::Rotary { angles, .. } = positions {
            angles.rotate_from(first, queries, (query_width, query_width));
            angles.rotate(keys, key_width, key_width);
        }
        let view = |data, rows| RowsView { data, rows, stride: key_width };
        let views = [view(queries, count * group), view(keys, length), view(&values[start * key_width..], length)];
        let out = &mut out[of_text];
        match positions {
            LayerPositions::Rotary { reach, .. } => {
                let window = Window { reach: *reach, first, group };
                attend_within(out, views, window, (heads, precision), &mut scratch);
            }
            LayerPositions::Distances(bias) => {
                let scoring = Scoring { heads, bias: Some(bias.from(first)) };
                let [queries, keys, values] = views;
                attend(out, queries, keys, values, (scoring, precision), &mut scratch);
            }
        }
    }
    out
}
