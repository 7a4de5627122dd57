//! The forward pass of ModernBERT and NomicBERT on packed tokens: rotary positions, gated feed-forward layers, and in
//! ModernBERT sliding-window attention.

use kernels::{Activation, Heads, Precision, RowsView, WeightFormat, activate, attend, attend_sliding_window};

use super::layers::{Dense, LayerReader, Norm, add};
use super::rotation::Rotation;
use crate::config::Config;
use crate::families::{RotaryAttention, RotaryConfig};
use crate::forward::bert::{Source, TensorShape};
use crate::{Batch, LoadError};

/// A loaded model.
pub(crate) struct Rotary {
    /// `[vocabulary, hidden]`, plus the embedding of token type 0 where the model has types.
    words: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    /// After the last layer, in pre-norm models.
    final_norm: Option<Norm>,
    activation: Activation,
    heads: Heads,
}

struct Layer {
    attention: RotaryAttention,
    /// `None` in ModernBERT's first layer, whose input is already normalised.
    attention_norm: Option<Norm>,
    qkv: Dense,
    out: Dense,
    output_norm: Norm,
    /// The gate, then what it multiplies.
    up: Dense,
    down: Dense,
}

impl Rotary {
    pub(crate) fn load(config: &Config, settings: &RotaryConfig, source: Source<'_>) -> Result<Rotary, LoadError> {
        let hidden = config.hidden_size;
        let reader = LayerReader { config, source, format: WeightFormat::F32 };
        let names = settings.names;
        let mut words = source(config.family.words, &[config.vocab_size, hidden])?;
        if settings.token_types > 0 {
            let types = source("embeddings.token_type_embeddings.weight", &[settings.token_types, hidden])?;
            words.chunks_exact_mut(hidden).for_each(|word| add(word, &types[..hidden]));
        }
        let layer = |(index, attention): (usize, &RotaryAttention)| {
            let first = names.final_norm.is_some() && index == 0;
            layer(&reader, settings, (index, first), *attention)
        };
        Ok(Rotary {
            words,
            norm: reader.norm(names.norm, settings.norm_bias)?,
            layers: settings.attention.iter().enumerate().map(layer).collect::<Result<_, _>>()?,
            final_norm: names.final_norm.map(|name| reader.norm(name, settings.norm_bias)).transpose()?,
            activation: config.activation,
            heads: Heads { count: config.heads, size: hidden / config.heads },
        })
    }

    /// Returns the token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, batch: &Batch) -> Vec<f32> {
        let hidden = self.heads.count * self.heads.size;
        let mut x = Vec::with_capacity(batch.ids.len() * hidden);
        for id in &batch.ids {
            x.extend_from_slice(&self.words[*id as usize * hidden..][..hidden]);
        }
        self.norm.apply(&mut x);
        for layer in &self.layers {
            match self.final_norm {
                Some(_) => self.norm_first(layer, &mut x, batch),
                None => self.norm_last(layer, &mut x, batch),
            }
        }
        if let Some(norm) = &self.final_norm {
            norm.apply(&mut x);
        }
        x
    }

    /// Pre-norm: each half normalises its input and adds its output to the residual.
    fn norm_first(&self, layer: &Layer, x: &mut [f32], batch: &Batch) {
        let mut read = x.to_vec();
        if let Some(norm) = &layer.attention_norm {
            norm.apply(&mut read);
        }
        add(x, &layer.out.forward(&self.context(layer, &read, batch), None));
        read.copy_from_slice(x);
        layer.output_norm.apply(&mut read);
        add(x, &self.feed_forward(layer, &read));
    }

    /// Post-norm: each half adds its output to its input and normalises the sum.
    fn norm_last(&self, layer: &Layer, x: &mut [f32], batch: &Batch) {
        add(x, &layer.out.forward(&self.context(layer, x, batch), None));
        if let Some(norm) = &layer.attention_norm {
            norm.apply(x);
        }
        add(x, &self.feed_forward(layer, x));
        layer.output_norm.apply(x);
    }

    fn feed_forward(&self, layer: &Layer, x: &[f32]) -> Vec<f32> {
        let tokens = x.len() / (self.heads.count * self.heads.size);
        let up = layer.up.forward(x, None);
        let width = up.len() / tokens / 2;
        let mut gated = Vec::with_capacity(tokens * width);
        up.chunks_exact(2 * width).for_each(|row| gated.extend_from_slice(&row[..width]));
        activate(&mut gated, &vec![0.0; width], Some(self.activation));
        for (row, up) in gated.chunks_exact_mut(width).zip(up.chunks_exact(2 * width)) {
            row.iter_mut().zip(&up[width..]).for_each(|(x, gate)| *x *= gate);
        }
        layer.down.forward(&gated, None)
    }

    fn context(&self, layer: &Layer, x: &[f32], batch: &Batch) -> Vec<f32> {
        let hidden = self.heads.count * self.heads.size;
        let mut qkv = layer.qkv.forward(x, None);
        let longest = batch.offsets.windows(2).map(|span| span[1] - span[0]).max().unwrap_or(0);
        let angles = Rotation::new(layer.attention.theta, self.heads.size).angles(longest as usize);
        let mut out = vec![0.0; batch.ids.len() * hidden];
        let mut scratch = Vec::new();
        for span in batch.offsets.windows(2) {
            let (start, end) = (span[0] as usize, span[1] as usize);
            let text = &mut qkv[start * 3 * hidden..end * 3 * hidden];
            angles.rotate(text, 3 * hidden, 2 * hidden);
            let queries = RowsView { data: text, rows: end - start, stride: 3 * hidden };
            let (keys, values) = (queries.without_columns(hidden), queries.without_columns(2 * hidden));
            let out = &mut out[start * hidden..end * hidden];
            match layer.attention.half_window {
                Some(half_window) => {
                    attend_sliding_window(out, [queries, keys, values], half_window, self.heads, &mut scratch);
                }
                None => attend(out, queries, keys, values, (self.heads.into(), Precision::Single), &mut scratch),
            }
        }
        out
    }
}

/// Returns name and shape of every tensor that [`Rotary::load`] reads.
pub(crate) fn tensors(config: &Config, settings: &RotaryConfig) -> Vec<TensorShape> {
    let (hidden, inner) = (config.hidden_size, config.intermediate);
    let names = settings.names;
    let mut tensors = vec![(config.family.words.to_owned(), vec![config.vocab_size, hidden])];
    if settings.token_types > 0 {
        tensors.push(("embeddings.token_type_embeddings.weight".into(), vec![settings.token_types, hidden]));
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
        for name in names.up {
            add(&full(name), &[2 * inner / names.up.len(), hidden], settings.mlp_bias);
        }
        add(&full(names.down), &[hidden, inner], settings.mlp_bias);
    }
    tensors
}

fn layer(
    reader: &LayerReader<'_>,
    settings: &RotaryConfig,
    (index, first): (usize, bool),
    attention: RotaryAttention,
) -> Result<Layer, LoadError> {
    let (hidden, inner, names) = (reader.config.hidden_size, reader.config.intermediate, settings.names);
    let full = |name: &str| format!("{}.{index}.{name}", names.layers);
    let up: Vec<String> = names.up.iter().map(|name| full(name)).collect();
    let attention_norm = match first {
        true => None,
        false => Some(reader.norm(&full(names.attention_norm), settings.norm_bias)?),
    };
    Ok(Layer {
        attention,
        attention_norm,
        qkv: reader.dense(&[full(names.qkv)], (hidden, 3 * hidden), settings.attention_bias)?,
        out: reader.dense(&[full(names.out)], (hidden, hidden), settings.attention_bias)?,
        output_norm: reader.norm(&full(names.output_norm), settings.norm_bias)?,
        up: reader.dense(&up, (hidden, 2 * inner / up.len()), settings.mlp_bias)?,
        down: reader.dense(&[full(names.down)], (inner, hidden), settings.mlp_bias)?,
    })
}
