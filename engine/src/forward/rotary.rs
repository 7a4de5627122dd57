//! The forward pass of ModernBERT, NomicBERT, GTE and Jina v3 on packed tokens: rotary positions, feed-forward layers that
//! mostly have a gate, and in ModernBERT sliding-window attention. ModernBERT normalises before each half of a layer, the
//! others after.

use kernels::{Heads, Reach};

use super::bert::{Source, TensorShape};
use super::kept_tokens::KeptTokens;
use super::layers::{LayerReader, up_weights};
use super::positions::{LayerPositions, Positions};
use super::pre_norm::{self, PreNorm};
use super::rotation::Rotations;
use crate::backend::Cpu;
use crate::backend::rotary::{Attention, RotaryBackend};
use crate::config::Config;
use crate::families::RotaryConfig;
use crate::ops::add;
use crate::{Batch, LoadError};

/// A loaded model.
pub(crate) enum Rotary<B: RotaryBackend> {
    Before(PreNorm<B>),
    After(PostNorm<B>),
}

/// A model in which each half adds its output to its input and normalises the sum.
pub(crate) struct PostNorm<B: RotaryBackend> {
    words: B::Table,
    /// A row of zeros: positions have no embeddings.
    positions: B::Table,
    norm: B::Norm,
    layers: Vec<Layer<B>>,
    heads: Heads,
    rotations: Rotations<B>,
}

struct Layer<B: RotaryBackend> {
    reach: Reach,
    projections: B::Projections,
    out: B::Linear,
    attention_norm: B::Norm,
    feed_forward: B::FeedForward,
    feed_forward_norm: B::Norm,
}

impl<B: RotaryBackend> Rotary<B> {
    /// Reads the weights and uploads them to the backend's device.
    pub(crate) fn load(
        config: &Config,
        settings: &RotaryConfig,
        source: Source<'_>,
        backend: &B,
    ) -> Result<Rotary<B>, LoadError> {
        let reader = Reader { layers: LayerReader { config, source, backend }, settings };
        match settings.names.final_norm {
            Some(final_norm) => reader.before(final_norm).map(Rotary::Before),
            None => reader.after().map(Rotary::After),
        }
    }

    /// Returns the kept token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, backend: &B, batch: &Batch, kept: KeptTokens) -> Result<B::Matrix, B::Error> {
        match self {
            Rotary::Before(model) => model.forward(backend, batch, kept),
            Rotary::After(model) => model.forward(backend, batch, kept),
        }
    }
}

impl Rotary<Cpu> {
    /// Returns what [`forward`](Rotary::forward) does, row-major.
    pub(crate) fn rows(&self, cpu: &Cpu, batch: &Batch, kept: KeptTokens) -> Vec<f32> {
        let Ok(rows) = self.forward(cpu, batch, kept);
        rows.numbers
    }
}

impl<B: RotaryBackend> PostNorm<B> {
    fn forward(&self, backend: &B, batch: &Batch, kept: KeptTokens) -> Result<B::Matrix, B::Error> {
        let angles = self.rotations.angles(backend, batch)?;
        let tokens: Vec<(u32, u32)> = batch.ids.iter().map(|id| (*id, 0)).collect();
        let mut x = backend.embed(&self.words, &self.positions, &self.norm, &tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            // Exact, since no later layer reads the other tokens.
            let kept = if index + 1 == self.layers.len() { kept } else { KeptTokens::Every };
            let positions = LayerPositions::Rotary { angles: angles.of(index), reach: layer.reach };
            let attention = Attention { heads: self.heads, group: 1, positions, head_norms: None };
            let context = backend.rotary_context(&layer.projections, &x, &attention, batch, kept)?;
            if kept != KeptTokens::Every {
                x = backend.select(&x, batch, kept)?;
            }
            x = backend.add_norm(&layer.out, &layer.attention_norm, &context, &x)?;
            x = backend.feed_forward_norm(&layer.feed_forward, &layer.feed_forward_norm, &x)?;
        }
        Ok(x)
    }
}

const TOKEN_TYPES: &str = "embeddings.token_type_embeddings.weight";

/// Returns name and shape of every tensor that [`Rotary::load`] reads.
pub(crate) fn tensors(config: &Config, settings: &RotaryConfig) -> Vec<TensorShape> {
    let (hidden, inner) = (config.hidden_size, config.intermediate);
    let names = settings.names;
    let mut tensors = vec![(config.family.words.to_owned(), vec![config.vocab_size, hidden])];
    if settings.token_types > 0 {
        tensors.push((TOKEN_TYPES.into(), vec![settings.token_types, hidden]));
    }
    let mut add = |name: &str, shape: &[usize], bias: bool| {
        tensors.push((format!("{name}.weight"), shape.to_vec()));
        if bias {
            tensors.push((format!("{name}.bias"), vec![shape[0]]));
        }
    };
    for name in [Some(names.norm), names.final_norm].into_iter().flatten() {
        add(name, &[hidden], settings.norm_bias);
    }
    for index in 0..config.layers {
        let full = |name: &str| format!("{}.{index}.{name}", names.layers);
        if names.final_norm.is_none() || index > 0 {
            add(&full(names.attention_norm), &[hidden], settings.norm_bias);
        }
        add(&full(names.qkv), &[3 * hidden, hidden], settings.attention_bias);
        add(&full(names.out), &[hidden, hidden], settings.attention_bias);
        add(&full(names.output_norm), &[hidden], settings.norm_bias);
        up_weights(names.up, hidden, inner).iter().for_each(|(name, shape)| add(&full(name), shape, settings.up_bias));
        add(&full(names.down), &[hidden, inner], settings.down_bias);
    }
    tensors
}

struct Reader<'a, B> {
    layers: LayerReader<'a, B>,
    settings: &'a RotaryConfig,
}

impl<B: RotaryBackend> Reader<'_, B> {
    /// Reads a model that normalises before each half.
    fn before(&self, final_norm: &str) -> Result<PreNorm<B>, LoadError> {
        let (config, names, norm_bias) = (self.layers.config, self.settings.names, self.settings.norm_bias);
        let layer = |index: usize| {
            let full = |name: &str| self.full(index, name);
            let norm = |name: &str| self.layers.sum_norm(&full(name), norm_bias);
            Ok(pre_norm::Layer {
                reach: self.settings.attention[index].reach,
                attention_norm: (index > 0).then(|| norm(names.attention_norm)).transpose()?,
                projections: self.projections(index)?,
                head_norms: None,
                out: self.out(index)?,
                feed_forward_norm: norm(names.output_norm)?,
                feed_forward: self.feed_forward(index)?,
                output_norms: None,
            })
        };
        Ok(PreNorm {
            words: self.words()?,
            hidden: config.hidden_size,
            word_norm: Some(self.layers.sum_norm(names.norm, norm_bias)?),
            layers: (0..config.layers).map(layer).collect::<Result<_, LoadError>>()?,
            norm: self.layers.sum_norm(final_norm, norm_bias)?,
            heads: self.heads(),
            group: 1,
            positions: Positions::Rotary(self.rotations()?),
        })
    }

    /// Reads a model that normalises after each half.
    fn after(&self) -> Result<PostNorm<B>, LoadError> {
        let (config, names, norm_bias) = (self.layers.config, self.settings.names, self.settings.norm_bias);
        let layer = |index: usize| {
            let norm = |name: &str| self.layers.norm(&self.full(index, name), norm_bias);
            Ok(Layer {
                reach: self.settings.attention[index].reach,
                projections: self.projections(index)?,
                out: self.out(index)?,
                attention_norm: norm(names.attention_norm)?,
                feed_forward: self.feed_forward(index)?,
                feed_forward_norm: norm(names.output_norm)?,
            })
        };
        let no_positions = vec![0.0; config.hidden_size];
        Ok(PostNorm {
            words: self.words()?,
            positions: self.layers.placed(self.layers.backend.table(no_positions, config.hidden_size))?,
            norm: self.layers.norm(names.norm, norm_bias)?,
            layers: (0..config.layers).map(layer).collect::<Result<_, LoadError>>()?,
            heads: self.heads(),
            rotations: self.rotations()?,
        })
    }

    /// Reads the word embeddings, plus the embedding of token type 0 where the model has types.
    fn words(&self) -> Result<B::Table, LoadError> {
        let LayerReader { config, source, backend } = self.layers;
        let (hidden, types) = (config.hidden_size, self.settings.token_types);
        let mut words = source(config.family.words, &[config.vocab_size, hidden])?;
        if types > 0 {
            let types = source(TOKEN_TYPES, &[types, hidden])?;
            words.chunks_exact_mut(hidden).for_each(|word| add(word, &types[..hidden]));
        }
        self.layers.placed(backend.table(words, hidden))
    }

    fn heads(&self) -> Heads {
        let config = self.layers.config;
        Heads { count: config.heads, size: config.hidden_size / config.heads }
    }

    fn rotations(&self) -> Result<Rotations<B>, LoadError> {
        let ropes = self.settings.attention.iter().map(|attention| attention.rope);
        self.layers.placed(Rotations::new(ropes, self.heads().size, self.layers.backend))
    }

    /// Returns the whole name of a layer's tensors.
    fn full(&self, index: usize, name: &str) -> String {
        format!("{}.{index}.{name}", self.settings.names.layers)
    }

    fn projections(&self, index: usize) -> Result<B::Projections, LoadError> {
        let (hidden, name) = (self.layers.config.hidden_size, self.full(index, self.settings.names.qkv));
        let layer = self.layers.dense_weights(&name, (hidden, 3 * hidden), self.settings.attention_bias)?;
        self.layers.placed(self.layers.backend.joined_projections(layer))
    }

    fn out(&self, index: usize) -> Result<B::Linear, LoadError> {
        let (hidden, name) = (self.layers.config.hidden_size, self.full(index, self.settings.names.out));
        self.layers.dense(&[name], (hidden, hidden), self.settings.attention_bias)
    }

    fn feed_forward(&self, index: usize) -> Result<B::FeedForward, LoadError> {
        let RotaryConfig { names, up_bias, down_bias, .. } = *self.settings;
        let activation = self.layers.config.activation;
        self.layers.feed_forward(
            (names.up, names.down),
            |name| self.full(index, name),
            [up_bias, down_bias],
            activation,
        )
    }
}
