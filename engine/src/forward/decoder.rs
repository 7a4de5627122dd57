//! The forward pass of models in the shape of LLaMA on packed tokens: norms before each half, rotary positions, heads of
//! queries that share keys and values, feed-forward layers with a gate; causal, in sliding windows, or to all tokens.

use std::ops::Range;

use kernels::{Heads, Reach, RowsView, Scoring, WeightFormat, Window, attend, attend_within};

use super::layers::{LayerReader, RmsNorm, add, up_weights};
use super::positions::{DistanceTables, LayerPositions, Positions};
use super::rotation::Rotations;
use crate::config::Config;
use crate::families::{DecoderConfig, DecoderPositions};
use crate::forward::bert::{Source, TensorShape};
use crate::ops::{FeedForward, Linear};
use crate::{Batch, LoadError};

/// A loaded model.
pub(crate) struct Decoder {
    /// `[vocabulary, hidden]`
    words: Vec<f32>,
    /// Multiplies the embeddings.
    scale: f32,
    hidden: usize,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// Of keys and values.
    heads: Heads,
    /// Heads of queries for each of them.
    group: usize,
    positions: Positions,
}

/// Which token vectors the last layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptTokens {
    Every,
    /// Of each text.
    First,
    /// Of each text.
    Last,
}

/// A text of a batch.
struct Text {
    /// Its rows.
    tokens: Range<usize>,
    /// The place of the first kept token in it.
    first: usize,
    /// The rows of the kept tokens among all kept ones.
    kept: Range<usize>,
}

/// The heads of queries are in another order than in the file: for each of the group its heads of all keys, side by side.
/// So the queries of a token are rows like those of its keys.
struct Layer {
    reach: Reach,
    attention_norm: RmsNorm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    /// Of queries and keys, by head.
    head_norms: Option<[RmsNorm; 2]>,
    out: Linear,
    feed_forward_norm: RmsNorm,
    feed_forward: FeedForward,
    /// Of the outputs of both halves.
    output_norms: Option<[RmsNorm; 2]>,
}

impl Decoder {
    pub(crate) fn load(
        config: &Config,
        settings: &DecoderConfig,
        source: Source<'_>,
        format: WeightFormat,
    ) -> Result<Decoder, LoadError> {
        let reader = Reader { layers: LayerReader { config, source, format }, settings };
        Ok(Decoder {
            words: (reader.layers.source)(config.family.words, &[config.vocab_size, config.hidden_size])?,
            scale: settings.embedding_scale,
            hidden: config.hidden_size,
            layers: (0..config.layers).map(|index| reader.layer(index)).collect::<Result<_, _>>()?,
            norm: reader.norm(settings.names.final_norm)?,
            heads: Heads { count: settings.key_value_heads, size: settings.head_size },
            group: config.heads / settings.key_value_heads,
            positions: reader.positions()?,
        })
    }

    /// Returns the kept token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, batch: &Batch, kept: KeptTokens) -> Vec<f32> {
        let mut x = Vec::with_capacity(batch.ids.len() * self.hidden);
        for id in &batch.ids {
            x.extend(self.words[*id as usize * self.hidden..][..self.hidden].iter().map(|x| x * self.scale));
        }
        let positions = self.positions.of_batch(batch);
        let (every, kept) = (texts(batch, KeptTokens::Every), texts(batch, kept));
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            x = self.layer(layer, x, if index == last { &kept } else { &every }, positions.of(index));
        }
        self.norm.apply(&mut x);
        x
    }

    /// Returns the outputs of a layer for the kept tokens.
    fn layer(&self, layer: &Layer, mut x: Vec<f32>, texts: &[Text], positions: LayerPositions<'_>) -> Vec<f32> {
        let mut read = x.clone();
        layer.attention_norm.apply(&mut read);
        let keys_values = (layer.keys.forward(&read, None), layer.values.forward(&read, None));
        if texts.iter().any(|text| text.kept.len() < text.tokens.len()) {
            (x, read) = (self.kept_rows(&x, texts), self.kept_rows(&read, texts));
        }
        let queries = layer.queries.forward(&read, None);
        let context = self.context(layer, queries, keys_values, texts, positions);
        let norms = layer.output_norms.as_ref();
        add_output(&mut x, layer.out.forward(&context, None), norms.map(|norms| &norms[0]));
        read.copy_from_slice(&x);
        layer.feed_forward_norm.apply(&mut read);
        add_output(&mut x, layer.feed_forward.forward(&read), norms.map(|norms| &norms[1]));
        x
    }

    fn kept_rows(&self, rows: &[f32], texts: &[Text]) -> Vec<f32> {
        let kept = |text: &Text| {
            let first = text.tokens.start + text.first;
            &rows[first * self.hidden..(first + text.kept.len()) * self.hidden]
        };
        texts.iter().flat_map(kept).copied().collect()
    }

    /// Normalises queries and keys, rotates them if the model has rotations, and returns the context of every query.
    fn context(
        &self,
        layer: &Layer,
        mut queries: Vec<f32>,
        (mut keys, values): (Vec<f32>, Vec<f32>),
        texts: &[Text],
        positions: LayerPositions<'_>,
    ) -> Vec<f32> {
        if let Some([of_queries, of_keys]) = &layer.head_norms {
            of_queries.apply(&mut queries);
            of_keys.apply(&mut keys);
        }
        let key_width = self.heads.count * self.heads.size;
        let query_width = self.group * key_width;
        let mut out = vec![0.0; queries.len()];
        let mut scratch = Vec::new();
        for Text { tokens, first, kept } in texts {
            let (tokens, first) = (tokens.clone(), *first);
            let queries = &mut queries[kept.start * query_width..kept.end * query_width];
            if let LayerPositions::Rotary(angles) = positions {
                angles.rotate_from(first, queries, (query_width, query_width));
                angles.rotate(&mut keys[tokens.start * key_width..tokens.end * key_width], key_width, key_width);
            }
            let queries = RowsView { data: queries, rows: kept.len() * self.group, stride: key_width };
            let [keys, values] = [&keys, &values].map(|all| RowsView {
                data: &all[tokens.start * key_width..],
                rows: tokens.len(),
                stride: key_width,
            });
            let out = &mut out[kept.start * query_width..kept.end * query_width];
            let precision = layer.keys.precision();
            match positions {
                LayerPositions::Rotary(_) => {
                    let window = Window { reach: layer.reach, first, group: self.group };
                    attend_within(out, [queries, keys, values], window, (self.heads, precision), &mut scratch);
                }
                LayerPositions::Distances(bias) => {
                    let scoring = Scoring { heads: self.heads, bias: Some(bias.from(first)) };
                    attend(out, queries, keys, values, (scoring, precision), &mut scratch);
                }
            }
        }
        out
    }
}

fn texts(batch: &Batch, kept: KeptTokens) -> Vec<Text> {
    let text = |(index, span): (usize, &[u32])| {
        let tokens = span[0] as usize..span[1] as usize;
        let (first, kept) = match kept {
            KeptTokens::Every => (0, tokens.clone()),
            KeptTokens::First => (0, index..index + 1),
            KeptTokens::Last => (tokens.len() - 1, index..index + 1),
        };
        Text { tokens, first, kept }
    };
    batch.offsets.windows(2).enumerate().map(text).collect()
}

fn add_output(x: &mut [f32], mut output: Vec<f32>, norm: Option<&RmsNorm>) {
    if let Some(norm) = norm {
        norm.apply(&mut output);
    }
    add(x, &output);
}

struct Reader<'a> {
    layers: LayerReader<'a>,
    settings: &'a DecoderConfig,
}

impl Reader<'_> {
    fn norm(&self, name: &str) -> Result<RmsNorm, LoadError> {
        self.layers.rms_norm(name, self.layers.config.hidden_size, |weight| weight + self.settings.norm_offset)
    }

    fn positions(&self) -> Result<Positions, LoadError> {
        let DecoderConfig { names, positions, head_size, .. } = self.settings;
        match positions {
            DecoderPositions::Rotary(attention) => {
                let ropes = attention.iter().map(|attention| attention.rope);
                Ok(Positions::Rotary(Rotations::new(ropes, *head_size)))
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

    fn layer(&self, index: usize) -> Result<Layer, LoadError> {
        let (config, settings) = (self.layers.config, self.settings);
        let (hidden, names) = (config.hidden_size, settings.names);
        let key_width = settings.key_value_heads * settings.head_size;
        let full = |name: &str| format!("{}.{index}.{name}", names.layers);
        let head_norm = |name: &str, scale: f32| {
            self.layers.rms_norm(&full(name), settings.head_size, |weight| (weight + settings.norm_offset) * scale)
        };
        let key_value = |layers: &LayerReader<'_>, name: &str| {
            layers.dense(&[full(name)], (hidden, key_width), settings.attention_bias)
        };
        Ok(Layer {
            reach: match &settings.positions {
                DecoderPositions::Rotary(attention) => attention[index].reach,
                DecoderPositions::Distances { .. } => Reach::ALL,
            },
            attention_norm: self.norm(&full(names.attention_norm))?,
            queries: self.queries(&full(names.queries))?,
            keys: key_value(&LayerReader { format: self.format_of_scores(), ..self.layers }, names.keys)?,
            values: key_value(&self.layers, names.values)?,
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

    /// Returns the heads of the file in the order of [`Layer`].
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

    /// Returns the number format of the layers that scores are made of. Without rotations scores are not scaled, so that
    /// errors count several times: in T5, half of all come from rounding these layers.
    fn format_of_scores(&self) -> WeightFormat {
        match self.settings.positions {
            DecoderPositions::Rotary(_) => self.layers.format,
            DecoderPositions::Distances { .. } => WeightFormat::F32,
        }
    }

    fn queries(&self, name: &str) -> Result<Linear, LoadError> {
        let config = self.layers.config;
        let (hidden, width) = (config.hidden_size, config.heads * self.settings.head_size);
        let mut weight = (self.layers.source)(&format!("{name}.weight"), &[width, hidden])?;
        let mut bias = match self.settings.attention_bias {
            true => self.reordered(&(self.layers.source)(&format!("{name}.bias"), &[width])?, 1),
            false => vec![0.0; width],
        };
        if self.settings.names.head_norms.is_none() {
            // Where there are norms, they have the factor.
            weight.iter_mut().chain(&mut bias).for_each(|number| *number *= self.settings.query_scale);
        }
        Ok(Linear::fused(&[self.reordered(&weight, hidden)], &[bias], self.format_of_scores()))
    }

    fn out(&self, name: &str) -> Result<Linear, LoadError> {
        let LayerReader { config, format, .. } = self.layers;
        let (hidden, width) = (config.hidden_size, config.heads * self.settings.head_size);
        let weight = (self.layers.source)(&format!("{name}.weight"), &[hidden, width])?;
        let bias = match self.settings.attention_bias {
            true => (self.layers.source)(&format!("{name}.bias"), &[hidden])?,
            false => vec![0.0; hidden],
        };
        let weight = weight.chunks_exact(width).flat_map(|row| self.reordered(row, 1)).collect();
        Ok(Linear::fused(&[weight], &[bias], format))
    }
}

/// Returns name and shape of every tensor that [`Decoder::load`] reads.
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
