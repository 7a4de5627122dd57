//! The forward pass of models that normalise before each half of a layer, and add the outputs of both to a sum that is not
//! normalised until the end.

use kernels::{Heads, Reach};

use super::kept_tokens::KeptTokens;
use super::positions::Positions;
use crate::Batch;
use crate::backend::Cpu;
use crate::backend::rotary::{Attention, RotaryBackend, SumNorms};

/// A loaded model.
pub(crate) struct PreNorm<B: RotaryBackend> {
    /// `[vocabulary, hidden]`
    pub(crate) words: B::Table,
    pub(crate) hidden: usize,
    /// Of the embeddings, before the sum begins with them.
    pub(crate) word_norm: Option<B::SumNorm>,
    /// At least one.
    pub(crate) layers: Vec<Layer<B>>,
    /// Of the sum, after the last layer.
    pub(crate) norm: B::SumNorm,
    /// Of keys and values.
    pub(crate) heads: Heads,
    /// Heads of queries for each of them.
    pub(crate) group: usize,
    pub(crate) positions: Positions<B>,
}

pub(crate) struct Layer<B: RotaryBackend> {
    pub(crate) reach: Reach,
    /// `None` in `ModernBERT`'s first layer, where the sum was just normalised.
    pub(crate) attention_norm: Option<B::SumNorm>,
    pub(crate) projections: B::Projections,
    /// Of queries and keys, by head.
    pub(crate) head_norms: Option<[B::SumNorm; 2]>,
    pub(crate) out: B::Linear,
    pub(crate) feed_forward_norm: B::SumNorm,
    pub(crate) feed_forward: B::FeedForward,
    /// Of the outputs of both halves.
    pub(crate) output_norms: Option<[B::SumNorm; 2]>,
}

impl<B: RotaryBackend> PreNorm<B> {
    /// Returns the kept token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, backend: &B, batch: &Batch, kept: KeptTokens) -> Result<B::Matrix, B::Error> {
        let positions = self.positions.of_batch(backend, batch)?;
        let first = SumNorms { added: self.word_norm.as_ref(), sum: self.layers[0].attention_norm.as_ref() };
        let (mut sum, mut x) = backend.begin_sum((&self.words, self.hidden), &batch.ids, first)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(index + 1);
            // Exact, since no later layer reads the other tokens.
            let kept = if next.is_none() { kept } else { KeptTokens::Every };
            let attention = Attention {
                heads: self.heads,
                group: self.group,
                positions: positions.of(index, layer.reach),
                head_norms: layer.head_norms.as_ref(),
            };
            let context = backend.rotary_context(&layer.projections, &x, &attention, batch, kept)?;
            drop(x);
            if kept != KeptTokens::Every {
                sum = backend.select(&sum, batch, kept)?;
            }
            let [of_attention, of_feed_forward] = match &layer.output_norms {
                Some([attention, feed_forward]) => [Some(attention), Some(feed_forward)],
                None => [None, None],
            };
            let norms = SumNorms { added: of_attention, sum: Some(&layer.feed_forward_norm) };
            let read = backend.add_linear(&mut sum, &layer.out, context, norms)?;
            let norm = next.map_or(Some(&self.norm), |next| next.attention_norm.as_ref());
            let norms = SumNorms { added: of_feed_forward, sum: norm };
            x = backend.add_feed_forward(&mut sum, &layer.feed_forward, read, norms)?;
        }
        Ok(x)
    }
}

impl PreNorm<Cpu> {
    /// Returns what [`forward`](PreNorm::forward) does, row-major.
    pub(crate) fn rows(&self, cpu: &Cpu, batch: &Batch, kept: KeptTokens) -> Vec<f32> {
        let Ok(rows) = self.forward(cpu, batch, kept);
        rows.numbers
    }
}
