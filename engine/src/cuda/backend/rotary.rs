//! The operations of rotary models on a GPU.

use std::sync::Arc;

use ::kernels::{Activation, Heads};

use super::{DeviceMatrix, Gpu, Linear, Norm, ScoreBias, Table};
use crate::Batch;
use crate::backend::Backend;
use crate::backend::rotary::{Attention, Dense, NormWeights, RotaryBackend, SumNorms};
use crate::cuda::device::{Buffer, Device, Fault, FloatFormat};
use crate::cuda::kernels::{self, AddedAt, RowsAt, ScoringAt};
use crate::forward::kept_tokens::KeptTokens;
use crate::forward::positions::LayerPositions;

/// The feed-forward half of a layer.
pub(crate) struct FeedForward<D: Device> {
    /// The gate, if there is one, then what it multiplies.
    up: Linear<D>,
    has_gate: bool,
    activation: Activation,
    down: Linear<D>,
}

/// The angles of a batch: kernels multiply the frequencies by the positions.
pub(crate) struct Angles<D: Device> {
    frequencies: Arc<Buffer<D>>,
    /// Of every token.
    positions: Buffer<D>,
}

impl<D: Device> RotaryBackend for Gpu<D> {
    type SumNorm = Norm<D>;
    /// Side by side.
    type Projections = Linear<D>;
    type FeedForward = FeedForward<D>;
    /// Frequencies in f32.
    type Rotation = Arc<Buffer<D>>;
    type Angles = Angles<D>;

    fn sum_norm(&self, norm: NormWeights, eps: f64) -> Result<Norm<D>, Fault> {
        match norm {
            NormWeights::Layer { weight, shift } => self.norm(weight, shift, eps),
            NormWeights::RootMeanSquare { weight } => {
                let shift = vec![0.0; weight.len()];
                Ok(Norm { centered: false, ..self.norm(weight, shift, eps)? })
            }
        }
    }

    fn joined_projections(&self, Dense { weight, bias }: Dense) -> Result<Linear<D>, Fault> {
        let (weights, width) = (weight.len() / 3, bias.len() / 3);
        let weights: Vec<_> = weight.chunks_exact(weights).map(<[f32]>::to_vec).collect();
        let biases: Vec<_> = bias.chunks_exact(width).map(<[f32]>::to_vec).collect();
        self.linear(&weights, &biases)
    }

    fn projections(&self, layers: [Dense; 3], _: bool) -> Result<Linear<D>, Fault> {
        let (weights, biases): (Vec<_>, Vec<_>) = layers.into_iter().map(|layer| (layer.weight, layer.bias)).unzip();
        self.linear(&weights, &biases)
    }

    fn feed_forward_half(
        &self,
        up: Linear<D>,
        has_gate: bool,
        activation: Activation,
        down: Linear<D>,
    ) -> FeedForward<D> {
        FeedForward { up, has_gate, activation, down }
    }

    fn rotation(&self, frequencies: Vec<f32>) -> Result<Arc<Buffer<D>>, Fault> {
        self.place(FloatFormat::F32, &frequencies).map(Arc::new)
    }

    fn angles(&self, frequencies: &Arc<Buffer<D>>, batch: &Batch) -> Result<Angles<D>, Fault> {
        let positions: Vec<u32> = batch.offsets.windows(2).flat_map(|span| 0..span[1] - span[0]).collect();
        Ok(Angles { frequencies: Arc::clone(frequencies), positions: Buffer::of_u32(&self.device, &positions)? })
    }

    fn begin_sum(
        &self,
        (words, width): (&Table<D>, usize),
        ids: &[u32],
        norms: SumNorms<'_, Self>,
    ) -> Result<(DeviceMatrix<D>, DeviceMatrix<D>), Fault> {
        let placed = Buffer::of_u32(&self.device, ids)?;
        let mut sum = DeviceMatrix::new(&self.device, FloatFormat::F32, ids.len(), width)?;
        let added = AddedAt::Words { words: words.buffer.address(), ids: placed.address() };
        let read = self.add(&mut sum, added, norms)?;
        Ok((sum, read))
    }

    fn add_linear(
        &self,
        sum: &mut DeviceMatrix<D>,
        linear: &Linear<D>,
        x: DeviceMatrix<D>,
        norms: SumNorms<'_, Self>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let output = self.multiply(linear, 0..linear.outputs, &x, false)?;
        drop(x);
        self.add(sum, AddedAt::Output { x: output.adjacent(), bias: linear.bias_f32.address() }, norms)
    }

    fn add_feed_forward(
        &self,
        sum: &mut DeviceMatrix<D>,
        feed_forward: &FeedForward<D>,
        x: DeviceMatrix<D>,
        norms: SumNorms<'_, Self>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let inner = self.activated(feed_forward, &x)?;
        drop(x);
        self.add_linear(sum, &feed_forward.down, inner, norms)
    }

    fn feed_forward_norm(
        &self,
        feed_forward: &FeedForward<D>,
        norm: &Norm<D>,
        x: &DeviceMatrix<D>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let inner = self.activated(feed_forward, x)?;
        self.add_norm(&feed_forward.down, norm, &inner, x)
    }

    fn rotary_context(
        &self,
        projections: &Linear<D>,
        x: &DeviceMatrix<D>,
        attention: &Attention<'_, Self>,
        batch: &Batch,
        kept: KeptTokens,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let Attention { heads, group, .. } = *attention;
        let (key_width, query_heads) = (heads.count * heads.size, Heads { count: group * heads.count, ..heads });
        let query_width = group * key_width;
        let all = query_width + 2 * key_width;
        let (queries, keys_values) = match kept {
            KeptTokens::Every => {
                let qkv = self.project(projections, 0..all, x)?;
                (Self::columns(&qkv, 0..query_width)?, Self::columns(&qkv, query_width..all)?)
            }
            KeptTokens::First | KeptTokens::Last => {
                let queries = self.project(projections, 0..query_width, &self.select(x, batch, kept)?)?;
                (queries, self.project(projections, query_width..all, x)?)
            }
        };
        self.rotate(&queries, &keys_values, attention, (batch, kept))?;
        let scoring = scoring(attention, batch);
        let [keys, values] = [0, key_width].map(|first| keys_values.columns_at(first));
        self.attend_by(&queries, [keys, values], (query_heads, heads.count), (kept, scoring))
    }
}

/// Returns how queries are scored: without a window where it hides no key of any text.
fn scoring<D: Device>(attention: &Attention<'_, Gpu<D>>, batch: &Batch) -> ScoringAt {
    match attention.positions {
        LayerPositions::Rotary { reach, .. } => {
            let hides_none = reach.before.min(reach.after) >= batch.longest().saturating_sub(1);
            match attention.group == 1 && hides_none {
                true => ScoringAt::Everything,
                false => ScoringAt::Within(reach),
            }
        }
        LayerPositions::Distances(ScoreBias { numbers, tokens }) => {
            ScoringAt::Biased { numbers: numbers.address(), tokens: *tokens }
        }
    }
}

impl<D: Device> Gpu<D> {
    /// Adds to a sum, or begins it, and returns its norm.
    fn add(
        &self,
        sum: &mut DeviceMatrix<D>,
        added: AddedAt,
        norms: SumNorms<'_, Self>,
    ) -> Result<DeviceMatrix<D>, Fault> {
        let out = DeviceMatrix::new(&self.device, self.format, sum.rows, sum.stride)?;
        let norms = [norms.added, norms.sum].map(|norm| norm.map(Norm::at));
        let at = (sum.adjacent(), out.buffer.address());
        kernels::add_to_sum(&*self.device, self.format, added, at, norms, (sum.rows, sum.stride))?;
        Ok(out)
    }

    /// Returns the input of a half's second layer.
    fn activated(&self, feed_forward: &FeedForward<D>, x: &DeviceMatrix<D>) -> Result<DeviceMatrix<D>, Fault> {
        let FeedForward { up, has_gate, activation, .. } = feed_forward;
        let inner = self.multiply(up, 0..up.outputs, x, false)?;
        let at = (inner.buffer.address(), up.bias_f32.address());
        if !has_gate {
            kernels::activate(&*self.device, self.format, at, (x.rows, up.outputs), *activation)?;
            return Ok(inner);
        }
        let width = up.outputs / 2;
        let out = DeviceMatrix::new(&self.device, self.format, x.rows, width)?;
        let at = (at.0, at.1, out.buffer.address());
        kernels::gate(&*self.device, self.format, at, (x.rows, width), *activation)?;
        Ok(out)
    }

    /// Normalises and rotates the heads of queries and keys, in place.
    fn rotate(
        &self,
        queries: &DeviceMatrix<D>,
        keys: &DeviceMatrix<D>,
        attention: &Attention<'_, Self>,
        (batch, kept): (&Batch, KeptTokens),
    ) -> Result<(), Fault> {
        let Attention { heads, group, head_norms, .. } = *attention;
        let LayerPositions::Rotary { angles, .. } = attention.positions else { return Ok(()) };
        let query_heads = Heads { count: group * heads.count, ..heads };
        let rotate = |rows: (RowsAt, usize), heads: Heads, positions: &Buffer<D>, norm: Option<&Norm<D>>| {
            let angles = (positions.address(), angles.frequencies.address());
            kernels::rotate(&*self.device, self.format, rows, heads, angles, norm.map(Norm::at))
        };
        let all = &angles.positions;
        if kept == KeptTokens::Every && head_norms.is_none() {
            // Keys follow queries in the same rows.
            let both = Heads { count: query_heads.count + heads.count, ..heads };
            return rotate((queries.columns_at(0), queries.rows), both, all, None);
        }
        let [of_queries, of_keys] = match head_norms {
            Some([queries, keys]) => [Some(queries), Some(keys)],
            None => [None, None],
        };
        rotate((keys.columns_at(0), keys.rows), heads, all, of_keys)?;
        let of_kept;
        let positions = match kept {
            KeptTokens::Every => all,
            KeptTokens::First | KeptTokens::Last => {
                let lengths = batch.offsets.windows(2).map(|span| (span[1] - span[0]) as usize);
                let places: Vec<u32> = lengths.map(|length| kept.in_text(length).0 as u32).collect();
                of_kept = Buffer::of_u32(&self.device, &places)?;
                &of_kept
            }
        };
        rotate((queries.columns_at(0), queries.rows), query_heads, positions, of_queries)
    }
}
