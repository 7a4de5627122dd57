//! The forward pass of DeBERTa-v2 and v3 on packed tokens: disentangled attention, and in the largest models a
//! convolution beside the first layer.

use kernels::{Activation, Heads, RelativePositions, RowsView, WeightFormat, attend_disentangled};

use super::layers::LayerReader;
use crate::backend::Cpu;
use crate::config::Config;
use crate::families::{Convolution, ConvolutionActivation, DebertaConfig, Relative};
use crate::forward::bert::{Source, TensorShape, linear, vectors};
use crate::ops::{LayerNorm, Linear, add};
use crate::{Batch, LoadError};

/// A loaded model.
pub(crate) struct Deberta {
    /// `[vocabulary, embedding]`, plus the embedding of token type 0 where the model has types.
    words: Vec<f32>,
    embedding_size: usize,
    /// Absolute position embeddings, added to the words where the model has them.
    positions: Option<Vec<f32>>,
    /// From the embedding width to the hidden width.
    projection: Option<Linear>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    convolution: Option<ConvolutionLayer>,
    relative: Option<Relative>,
    /// Number of score terms (content-content, content-position, position-content); divides the scale.
    parts: usize,
    activation: Activation,
    heads: Heads,
}

struct Layer {
    qkv: Linear,
    /// Relative position embeddings projected as keys and as queries.
    distance_keys: Option<Vec<f32>>,
    distance_queries: Option<Vec<f32>>,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
}

struct ConvolutionLayer {
    /// Reads the rows of all tokens that it spans, side by side.
    dense: Linear,
    width: usize,
    activation: ConvolutionActivation,
    norm: LayerNorm,
}

impl Deberta {
    pub(crate) fn load(config: &Config, settings: &DebertaConfig, source: Source<'_>) -> Result<Deberta, LoadError> {
        let (hidden, width) = (config.hidden_size, settings.embedding_size);
        let reader = LayerReader { config, source, backend: &Cpu { format: WeightFormat::F32 } };
        let mut words = source(config.family.words, &[config.vocab_size, width])?;
        if settings.token_types > 0 {
            let types = source("embeddings.token_type_embeddings.weight", &[settings.token_types, width])?;
            words.chunks_exact_mut(width).for_each(|word| add(word, &types[..width]));
        }
        let positions = settings
            .absolute_positions
            .then(|| source("embeddings.position_embeddings.weight", &[config.max_positions, width]))
            .transpose()?;
        let projection = (width != hidden)
            .then(|| reader.dense(&["embeddings.embed_proj".into()], (width, hidden), false))
            .transpose()?;
        let distances = distances(&reader, settings)?;
        let layers = (0..config.layers).map(|index| layer(&reader, settings, distances.as_deref(), index));
        Ok(Deberta {
            words,
            embedding_size: width,
            positions,
            projection,
            norm: reader.norm("embeddings.LayerNorm", true)?,
            layers: layers.collect::<Result<_, _>>()?,
            convolution: settings.convolution.map(|settings| convolution(&reader, settings)).transpose()?,
            relative: settings.relative,
            parts: 1 + usize::from(settings.content_to_position) + usize::from(settings.position_to_content),
            activation: config.activation,
            heads: Heads { count: config.heads, size: hidden / config.heads },
        })
    }

    /// Returns the token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, batch: &Batch) -> Vec<f32> {
        let embedded = self.embed(batch);
        let mut x = embedded.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            self.layer(layer, &mut x, batch);
            if let Some(convolution) = self.convolution.as_ref().filter(|_| index == 0) {
                convolution.add_to(&mut x, &embedded, batch);
            }
        }
        x
    }

    fn embed(&self, batch: &Batch) -> Vec<f32> {
        let width = self.embedding_size;
        let mut x = Vec::with_capacity(batch.ids.len() * width);
        for row in 0..batch.rows() {
            for (position, id) in batch.row(row).iter().enumerate() {
                let start = x.len();
                x.extend_from_slice(&self.words[*id as usize * width..][..width]);
                if let Some(positions) = &self.positions {
                    add(&mut x[start..], &positions[position * width..][..width]);
                }
            }
        }
        if let Some(projection) = &self.projection {
            x = projection.forward(&x, None);
        }
        self.norm.apply(&mut x);
        x
    }

    fn layer(&self, layer: &Layer, x: &mut [f32], batch: &Batch) {
        let hidden = self.heads.count * self.heads.size;
        let qkv = layer.qkv.forward(x, None);
        let mut context = vec![0.0; x.len()];
        let scale = 1.0 / ((self.heads.size * self.parts) as f32).sqrt();
        for span in batch.offsets.windows(2) {
            let (start, end) = (span[0] as usize, span[1] as usize);
            let queries =
                RowsView { data: &qkv[start * 3 * hidden..end * 3 * hidden], rows: end - start, stride: 3 * hidden };
            let views = [queries, queries.without_columns(hidden), queries.without_columns(2 * hidden)];
            let rows = self.relative.map(|relative| distance_rows(relative, end - start)).unwrap_or_default();
            let distances = RelativePositions {
                keys: layer.distance_keys.as_deref(),
                queries: layer.distance_queries.as_deref(),
                span: self.relative.map_or(0, Relative::span),
                rows: &rows,
            };
            attend_disentangled(&mut context[start * hidden..end * hidden], views, distances, (self.heads, scale));
        }
        add(x, &layer.attention_out.forward(&context, None));
        layer.attention_norm.apply(x);
        add(x, &layer.down.forward(&layer.up.forward(x, Some(self.activation)), None));
        layer.output_norm.apply(x);
    }
}

impl ConvolutionLayer {
    /// Adds the convolution of `read` to `x` and normalises the sum.
    fn add_to(&self, x: &mut [f32], read: &[f32], batch: &Batch) {
        let hidden = x.len() / batch.ids.len();
        let mut wide = vec![0.0; read.len() * self.width];
        for span in batch.offsets.windows(2) {
            let text = span[0] as usize..span[1] as usize;
            for token in text.clone() {
                for tap in 0..self.width {
                    // Zero padding beyond the text.
                    let Some(from) = (token + tap).checked_sub(self.width / 2).filter(|from| text.contains(from))
                    else {
                        continue;
                    };
                    wide[(token * self.width + tap) * hidden..][..hidden]
                        .copy_from_slice(&read[from * hidden..][..hidden]);
                }
            }
        }
        let convolved = match self.activation {
            ConvolutionActivation::Tanh => {
                let mut convolved = self.dense.forward(&wide, None);
                convolved.iter_mut().for_each(|number| *number = number.tanh());
                convolved
            }
            ConvolutionActivation::Other(activation) => self.dense.forward(&wide, Some(activation)),
        };
        add(x, &convolved);
        self.norm.apply(x);
    }
}

/// Reads the relative position embeddings, `[2 * span, hidden]`.
fn distances(reader: &LayerReader<'_, Cpu>, settings: &DebertaConfig) -> Result<Option<Vec<f32>>, LoadError> {
    let Some(relative) = settings.relative else { return Ok(None) };
    let mut vectors =
        (reader.source)("encoder.rel_embeddings.weight", &[2 * relative.span(), reader.config.hidden_size])?;
    if settings.norm_distances {
        reader.norm("encoder.LayerNorm", true)?.apply(&mut vectors);
    }
    Ok(Some(vectors))
}

fn layer(
    reader: &LayerReader<'_, Cpu>,
    settings: &DebertaConfig,
    distances: Option<&[f32]>,
    index: usize,
) -> Result<Layer, LoadError> {
    let (hidden, inner) = (reader.config.hidden_size, reader.config.intermediate);
    let full = |name: &str| format!("encoder.layer.{index}.{name}");
    let square = |name: &str| reader.dense(&[full(name)], (hidden, hidden), true);
    let projected = |present: bool, shared: &str, own: &str| -> Result<Option<Vec<f32>>, LoadError> {
        let Some(distances) = distances.filter(|_| present) else { return Ok(None) };
        let name = if settings.share_keys { shared } else { own };
        Ok(Some(square(&format!("attention.self.{name}"))?.forward(distances, None)))
    };
    let qkv = ["query_proj", "key_proj", "value_proj"].map(|name| full(&format!("attention.self.{name}")));
    Ok(Layer {
        qkv: reader.dense(&qkv, (hidden, hidden), true)?,
        distance_keys: projected(settings.content_to_position, "key_proj", "pos_key_proj")?,
        distance_queries: projected(settings.position_to_content, "query_proj", "pos_query_proj")?,
        attention_out: square("attention.output.dense")?,
        attention_norm: reader.norm(&full("attention.output.LayerNorm"), true)?,
        up: reader.dense(&[full("intermediate.dense")], (hidden, inner), true)?,
        down: reader.dense(&[full("output.dense")], (inner, hidden), true)?,
        output_norm: reader.norm(&full("output.LayerNorm"), true)?,
    })
}

/// Returns the name and shape of every tensor that [`Deberta::load`] reads.
pub(crate) fn tensors(config: &Config, settings: &DebertaConfig) -> Vec<TensorShape> {
    let (hidden, inner, width) = (config.hidden_size, config.intermediate, settings.embedding_size);
    let mut tensors = vec![(config.family.words.to_owned(), vec![config.vocab_size, width])];
    let mut table = |present: bool, name: &str, shape: &[usize]| {
        if present {
            tensors.push((name.to_owned(), shape.to_vec()));
        }
    };
    table(settings.token_types > 0, "embeddings.token_type_embeddings.weight", &[settings.token_types, width]);
    table(settings.absolute_positions, "embeddings.position_embeddings.weight", &[config.max_positions, width]);
    table(width != hidden, "embeddings.embed_proj.weight", &[hidden, width]);
    let span = settings.relative.map_or(0, Relative::span);
    table(span > 0, "encoder.rel_embeddings.weight", &[2 * span, hidden]);
    if let Some(Convolution { width, groups, .. }) = settings.convolution {
        table(true, "encoder.conv.conv.weight", &[hidden, hidden / groups, width]);
        table(true, "encoder.conv.conv.bias", &[hidden]);
        tensors.extend(vectors("encoder.conv.LayerNorm", hidden));
    }
    if span > 0 && settings.norm_distances {
        tensors.extend(vectors("encoder.LayerNorm", hidden));
    }
    tensors.extend(vectors("embeddings.LayerNorm", hidden));
    let own = |present: bool, name: &'static str| (span > 0 && !settings.share_keys && present).then_some(name);
    let distances =
        [own(settings.content_to_position, "pos_key_proj"), own(settings.position_to_content, "pos_query_proj")];
    for index in 0..config.layers {
        let full = |name: &str| format!("encoder.layer.{index}.{name}");
        for name in ["query_proj", "key_proj", "value_proj"].into_iter().chain(distances.into_iter().flatten()) {
            tensors.extend(linear(&full(&format!("attention.self.{name}")), hidden, hidden));
        }
        tensors.extend(linear(&full("attention.output.dense"), hidden, hidden));
        tensors.extend(vectors(&full("attention.output.LayerNorm"), hidden));
        tensors.extend(linear(&full("intermediate.dense"), hidden, inner));
        tensors.extend(linear(&full("output.dense"), inner, hidden));
        tensors.extend(vectors(&full("output.LayerNorm"), hidden));
    }
    tensors
}

/// Expresses a grouped convolution as a linear layer over the rows that it spans, with zero weights for other groups.
fn convolution(reader: &LayerReader<'_, Cpu>, settings: Convolution) -> Result<ConvolutionLayer, LoadError> {
    let (hidden, Convolution { width, groups, activation }) = (reader.config.hidden_size, settings);
    let inputs = hidden / groups;
    let stored = (reader.source)("encoder.conv.conv.weight", &[hidden, inputs, width])?;
    let mut weights = vec![0.0; hidden * width * hidden];
    for (output, stored) in stored.chunks_exact(inputs * width).enumerate() {
        let first = output / inputs * inputs;
        for (at, weight) in stored.iter().enumerate() {
            let (input, tap) = (at / width, at % width);
            weights[(output * width + tap) * hidden + first + input] = *weight;
        }
    }
    let bias = (reader.source)("encoder.conv.conv.bias", &[hidden])?;
    Ok(ConvolutionLayer {
        dense: Linear::fused(&[weights], &[bias], reader.backend.format),
        width,
        activation,
        norm: reader.norm("encoder.conv.LayerNorm", true)?,
    })
}

/// Returns the table row of each relative position from `1 - tokens` to `tokens - 1`.
fn distance_rows(relative: Relative, tokens: usize) -> Vec<usize> {
    let span = relative.span() as i64;
    let row = |distance: i64| (bucket(relative, distance) + span).clamp(0, 2 * span - 1) as usize;
    (1 - tokens as i64..tokens as i64).map(row).collect()
}

/// Returns the bucket of a relative position: linear when near, logarithmic when far, in f32 like the reference.
fn bucket(relative: Relative, distance: i64) -> i64 {
    let Some(buckets) = relative.buckets else { return distance };
    let middle = (buckets / 2) as i64;
    if distance.abs() <= middle {
        return distance;
    }
    let scale = ((relative.farthest as f64 - 1.0) / middle as f64) as f32;
    let logarithm = (distance.abs() as f32 / middle as f32).ln() / scale.ln() * (middle - 1) as f32;
    (logarithm.ceil() as i64 + middle) * distance.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_distances_share_buckets() {
        // From transformers' `make_log_bucket_position` with 16 buckets and 64 positions.
        let relative = Relative { buckets: Some(16), farthest: 64 };
        let found: Vec<i64> =
            [0, 1, -7, 8, -8, 9, 12, 20, -20, 40, 63].map(|distance| bucket(relative, distance)).into();
        assert_eq!(found, [0, 1, -7, 8, -8, 9, 10, 12, -12, 14, 15]);
        assert_eq!(distance_rows(Relative { buckets: None, farthest: 2 }, 4), [0, 0, 1, 2, 3, 3, 3]);
    }
}
