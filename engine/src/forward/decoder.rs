//! Models in the shape of LLaMA: rotary positions or a bias by distance, heads of queries that share keys and values,
//! feed-forward layers with a gate; causal, in sliding windows, or to all tokens. They compute as
//! [`pre_norm`](super::pre_norm).

use kernels::{Heads, Reach};

use super::layers::{LayerReader, up_weights};
use super::positions::{DistanceTables, Positions};
use super::pre_norm::{Layer, PreNorm};
use super::rotation::Rotations;
use crate::LoadError;
use crate::backend::rotary::{Dense, RotaryBackend};
use crate::config::Config;
use crate::families::{DecoderConfig, DecoderPositions};
use crate::forward::bert::{Source, TensorShape};

/// Reads the weights and uploads them to the backend's device.
pub(crate) fn load<B: RotaryBackend>(
    config: &Config,
    settings: &DecoderConfig,
    source: Source<'_>,
    backend: &B,
) -> Result<PreNorm<B>, LoadError> {
    let reader = Reader { layers: LayerReader { config, source, backend }, settings };
    Ok(PreNorm {
        words: reader.words()?,
        hidden: config.hidden_size,
        word_norm: None,
        layers: (0..config.layers).map(|index| reader.layer(index)).collect::<Result<_, _>>()?,
        norm: reader.norm(settings.names.final_norm)?,
        heads: Heads { count: settings.key_value_heads, size: settings.head_size },
        group: config.heads / settings.key_value_heads,
        positions: reader.positions()?,
    })
}

struct Reader<'a, B> {
    layers: LayerReader<'a, B>,
    settings: &'a DecoderConfig,
}

impl<B: RotaryBackend> Reader<'_, B> {
    fn words(&self) -> Result<B::Table, LoadError> {
        let LayerReader { config, source, backend } = self.layers;
        let mut words = source(config.family.words, &[config.vocab_size, config.hidden_size])?;
        words.iter_mut().for_each(|number| *number *= self.settings.embedding_scale);
        self.layers.placed(backend.table(words, config.hidden_size))
    }

    fn norm(&self, name: &str) -> Result<B::SumNorm, LoadError> {
        self.layers.rms_norm(name, self.layers.config.hidden_size, |weight| weight + self.settings.norm_offset)
    }

    fn positions(&self) -> Result<Positions<B>, LoadError> {
        let DecoderConfig { names, positions, head_size, .. } = self.settings;
        match positions {
            DecoderPositions::Rotary(attention) => {
                let ropes = attention.iter().map(|attention| attention.rope);
                let rotations = Rotations::new(ropes, *head_size, self.layers.backend);
                Ok(Positions::Rotary(self.layers.placed(rotations)?))
            }
            DecoderPositions::Distances { buckets, tables } => {
                let (heads, layers) = (self.layers.config.heads, tables.layers(self.layers.config.layers));
                let table = |index: usize| {
                    let name = format!("{}.{index}.{}", names.layers, buckets.table);
                    (self.layers.source)(&name, &[buckets.rows, heads])
                };
                let tables = (0..layers).map(table).collect::<Result<_, _>>()?;
                Ok(Positions::Distances(DistanceTables { buckets: *buckets, tables, heads }))
            }
        }
    }

    fn layer(&self, index: usize) -> Result<Layer<B>, LoadError> {
        let (config, settings) = (self.layers.config, self.settings);
        let names = settings.names;
        let full = |name: &str| format!("{}.{index}.{name}", names.layers);
        let head_norm = |name: &str, scale: f32| {
            self.layers.rms_norm(&full(name), settings.head_size, |weight| (weight + settings.norm_offset) * scale)
        };
        Ok(Layer {
            reach: match &settings.positions {
                DecoderPositions::Rotary(attention) => attention[index].reach,
                DecoderPositions::Distances { .. } => Reach::ALL,
            },
            attention_norm: Some(self.norm(&full(names.attention_norm))?),
            projections: self.projections(full)?,
            head_norms: match names.head_norms {
                Some([queries, keys]) => Some([head_norm(queries, settings.query_scale)?, head_norm(keys, 1.0)?]),
                None => None,
            },
            out: self.out(&full(names.out))?,
            feed_forward_norm: self.norm(&full(names.feed_forward_norm))?,
            feed_forward: self.layers.feed_forward(
                (names.up, names.down),
                full,
                [settings.mlp_bias; 2],
                settings.activation.unwrap_or(config.activation),
            )?,
            output_norms: match names.output_norms {
                Some([attention, feed_forward]) => {
                    Some([self.norm(&full(attention))?, self.norm(&full(feed_forward))?])
                }
                None => None,
            },
        })
    }

    /// Returns the heads of the file in the order of [`Attention`](crate::backend::rotary::Attention).
    fn heads_in_order(&self) -> impl Iterator<Item = usize> {
        let keys = self.settings.key_value_heads;
        let group = self.layers.config.heads / keys;
        (0..group).flat_map(move |member| (0..keys).map(move |key| key * group + member))
    }

    /// Moves the heads of a matrix that has rows of `columns` numbers, such as the projection to queries.
    fn reordered(&self, numbers: &[f32], columns: usize) -> Vec<f32> {
        let head = self.settings.head_size * columns;
        self.heads_in_order().flat_map(|from| &numbers[from * head..][..head]).copied().collect()
    }

    fn projections(&self, full: impl Fn(&str) -> String) -> Result<B::Projections, LoadError> {
        let (config, settings) = (self.layers.config, self.settings);
        let hidden = config.hidden_size;
        let dense = |name: &str, heads: usize| {
            self.layers.dense_weights(&full(name), (hidden, heads * settings.head_size), settings.attention_bias)
        };
        let Dense { mut weight, mut bias } = dense(settings.names.queries, config.heads)?;
        if settings.names.head_norms.is_none() {
            // Where there are norms, they have the factor.
            weight.iter_mut().chain(&mut bias).for_each(|number| *number *= settings.query_scale);
        }
        let queries = Dense { weight: self.reordered(&weight, hidden), bias: self.reordered(&bias, 1) };
        let [keys, values] =
            [settings.names.keys, settings.names.values].map(|name| dense(name, settings.key_value_heads));
        // Without rotations scores are not scaled, so that errors count several times: in T5, half of all come from
        // rounding these layers.
        let exact_scores = match settings.positions {
            DecoderPositions::Rotary(_) => false,
            DecoderPositions::Distances { .. } => true,
        };
        self.layers.placed(self.layers.backend.projections([queries, keys?, values?], exact_scores))
    }

    fn out(&self, name: &str) -> Result<B::Linear, LoadError> {
        let (hidden, width) = (self.layers.config.hidden_size, self.layers.config.heads * self.settings.head_size);
        let Dense { weight, bias } = self.layers.dense_weights(name, (width, hidden), self.settings.attention_bias)?;
        let weight = weight.chunks_exact(width).flat_map(|row| self.reordered(row, 1)).collect();
        self.layers.placed(self.layers.backend.linear(&[weight], &[bias]))
    }
}

/// Returns name and shape of every tensor that [`load`] reads.
pub(crate) fn tensors(config: &Config, settings: &DecoderConfig) -> Vec<TensorShape> {
    let (hidden, inner) = (config.hidden_size, config.intermediate);
    let query_width = config.heads * settings.head_size;
    let key_width = settings.key_value_heads * settings.head_size;
    let names = settings.names;
    let mut tensors = vec![
        (config.family.words.to_owned(), vec![config.vocab_size, hidden]),
        (format!("{}.weight", names.final_norm), vec![hidden]),
    ];
    let norms =
        [names.attention_norm, names.feed_forward_norm].into_iter().chain(names.output_norms.into_iter().flatten());
    let mut layer: Vec<(&str, Vec<usize>, bool)> = norms.map(|name| (name, vec![hidden], false)).collect();
    layer.extend(names.head_norms.into_iter().flatten().map(|name| (name, vec![settings.head_size], false)));
    layer.extend([
        (names.queries, vec![query_width, hidden], settings.attention_bias),
        (names.keys, vec![key_width, hidden], settings.attention_bias),
        (names.values, vec![key_width, hidden], settings.attention_bias),
        (names.out, vec![hidden, query_width], settings.attention_bias),
        (names.down, vec![hidden, inner], settings.mlp_bias),
    ]);
    layer.extend(up_weights(names.up, hidden, inner).into_iter().map(|(name, shape)| (name, shape, settings.mlp_bias)));
    if let DecoderPositions::Distances { buckets, tables: layers } = &settings.positions {
        let table = |index: usize| format!("{}.{index}.{}", names.layers, buckets.table);
        tensors.extend((0..layers.layers(config.layers)).map(|index| (table(index), vec![buckets.rows, config.heads])));
    }
    for index in 0..config.layers {
        for (name, shape, bias) in &layer {
            tensors.push((format!("{}.{index}.{name}.weight", names.layers), shape.clone()));
            if *bias {
                tensors.push((format!("{}.{index}.{name}.bias", names.layers), vec![shape[0]]));
            }
        }
    }
    tensors
}
