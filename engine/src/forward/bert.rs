//! The forward pass of the BERT and RoBERTa families on packed tokens, without padding or mask.
//!
//! Linear layers and norms take one flat `[tokens, hidden]`; only attention uses text boundaries.

use kernels::{Activation, Heads};

use super::distances::bias_by_distance;
use super::kept_tokens::KeptTokens;
use crate::backend::{Backend, Cpu};
use crate::config::Config;
use crate::families::{BertConfig, DistanceBuckets, Projection};
use crate::ops::add;
use crate::{Batch, LoadError};

/// Reads the numbers of a tensor by name and shape, in the order of its shape.
pub(crate) type Source<'a> = &'a dyn Fn(&str, &[usize]) -> Result<Vec<f32>, LoadError>;

/// Name and shape of a required tensor.
pub(crate) type TensorShape = (String, Vec<usize>);

/// A loaded model on the device of its backend.
pub(crate) struct Bert<B: Backend> {
    words: B::Table,
    /// Position embeddings plus the embedding of token type 0, which every token here has.
    positions: B::Table,
    norm: B::Norm,
    /// From the width of the embeddings to that of the layers, where it is another.
    projection: Option<B::Linear>,
    layers: Vec<Layer<B>>,
    /// Which of `layers` run, in their order.
    passes: Vec<usize>,
    /// The last layer's weights of keys and values, for when only first tokens are needed.
    last_keys_values: B::KeysValues,
    activation: Activation,
    heads: Heads,
    /// The bias of every layer's attention.
    bias: Option<B::ScoreBias>,
    /// The padding id after which RoBERTa's positions start; `None` where positions count from 0.
    padding: Option<u32>,
}

/// Which token vectors the last layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenSelection {
    /// `[tokens, hidden]`
    EveryToken,
    /// Only the first of each text: `[texts, hidden]`
    FirstToken,
}

struct Layer<B: Backend> {
    /// Queries, keys and values, side by side.
    qkv: B::Linear,
    attention_out: B::Linear,
    attention_norm: B::Norm,
    up: B::Linear,
    down: B::Linear,
    output_norm: B::Norm,
}

impl<B: Backend> Bert<B> {
    /// Reads the weights and uploads them to the backend's device.
    pub(crate) fn load(
        config: &Config,
        settings: BertConfig,
        source: Source<'_>,
        backend: &B,
    ) -> Result<Self, LoadError> {
        let hidden = config.hidden_size;
        let width = settings.embedding_size(hidden);
        let reader = Reader { config, settings, source, backend };
        let mut positions = source("embeddings.position_embeddings.weight", &[config.max_positions, width])?;
        if settings.token_types > 0 {
            let types = source("embeddings.token_type_embeddings.weight", &[settings.token_types, width])?;
            positions.chunks_exact_mut(width).for_each(|position| add(position, &types[..width]));
        }
        let words = source(config.family.words, &[config.vocab_size, width])?;
        let (stored, passes) = (settings.stored_layers(config.layers), settings.passes(config.layers));
        Ok(Bert {
            words: reader.placed(backend.table(words, width))?,
            positions: reader.placed(backend.table(positions, width))?,
            norm: reader.norm("embeddings.LayerNorm", width)?,
            projection: settings
                .projection
                .map(|Projection { name, width }| reader.linear(&[name.to_owned()], width, hidden))
                .transpose()?,
            layers: (0..stored).map(|layer| reader.layer(layer)).collect::<Result<_, _>>()?,
            last_keys_values: reader.keys_values(passes[passes.len() - 1])?,
            passes,
            activation: config.activation,
            heads: Heads { count: config.heads, size: hidden / config.heads },
            bias: settings.distances.map(|distances| reader.bias(distances)).transpose()?,
            padding: config.padding_before_positions(),
        })
    }

    /// Returns the token vectors of the last layer. The batch must have been checked against the config.
    pub(crate) fn forward(&self, backend: &B, batch: &Batch, selection: TokenSelection) -> Result<B::Matrix, B::Error> {
        let places = tokens_with_positions(batch, self.padding);
        let mut x = backend.embed(&self.words, &self.positions, &self.norm, &places)?;
        if let Some(projection) = &self.projection {
            x = backend.project(projection, 0..self.heads.count * self.heads.size, &x)?;
        }
        let (last, others) = self.passes.split_last().expect("a config has at least one layer");
        for layer in others {
            x = self.layer(backend, &self.layers[*layer], x, batch)?;
        }
        let last = &self.layers[*last];
        match selection {
            TokenSelection::EveryToken => self.layer(backend, last, x, batch),
            TokenSelection::FirstToken => self.layer_of_first_tokens(backend, last, &x, batch),
        }
    }

    fn layer(&self, backend: &B, layer: &Layer<B>, x: B::Matrix, batch: &Batch) -> Result<B::Matrix, B::Error> {
        let context = backend.context(&layer.qkv, &x, batch, (self.heads, self.bias.as_ref()))?;
        self.after_attention(backend, layer, &context, &x)
    }

    /// As [`layer`](Bert::layer), for the first token of each text only. Exact, since no later layer reads the others.
    fn layer_of_first_tokens(
        &self,
        backend: &B,
        layer: &Layer<B>,
        x: &B::Matrix,
        batch: &Batch,
    ) -> Result<B::Matrix, B::Error> {
        let hidden = self.heads.count * self.heads.size;
        let first = backend.select(x, batch, KeptTokens::First)?;
        let queries = backend.project(&layer.qkv, 0..hidden, &first)?;
        let keys_values = (&layer.qkv, &self.last_keys_values);
        let context = backend.first_context(&queries, x, keys_values, batch, (self.heads, self.bias.as_ref()))?;
        self.after_attention(backend, layer, &context, &first)
    }

    fn after_attention(
        &self,
        backend: &B,
        layer: &Layer<B>,
        context: &B::Matrix,
        x: &B::Matrix,
    ) -> Result<B::Matrix, B::Error> {
        let x = backend.add_norm(&layer.attention_out, &layer.attention_norm, context, x)?;
        backend.feed_forward(&x, &layer.up, self.activation, &layer.down, &layer.output_norm)
    }
}

impl Bert<Cpu> {
    /// Returns what [`forward`](Bert::forward) does, row-major.
    pub(crate) fn rows(&self, cpu: &Cpu, batch: &Batch, selection: TokenSelection) -> Vec<f32> {
        let Ok(rows) = self.forward(cpu, batch, selection);
        rows.numbers
    }
}

/// Returns id and position of every token.
///
/// BERT counts positions from 0 in each text. RoBERTa follows `transformers`' cumulative sum: a token with the padding
/// id gets position `padding` and is not counted; any other gets `padding` plus the number of counted tokens up to
/// itself. This matters for tokenizers that use the padding id for an ordinary word.
fn tokens_with_positions(batch: &Batch, padding: Option<u32>) -> Vec<(u32, u32)> {
    let mut tokens = Vec::with_capacity(batch.tokens());
    for row in 0..batch.rows() {
        let mut counted = 0;
        for (index, &id) in batch.row(row).iter().enumerate() {
            let position = match padding {
                None => index as u32,
                Some(padding) if id == padding => padding,
                Some(padding) => {
                    counted += 1;
                    padding + counted
                }
            };
            tokens.push((id, position));
        }
    }
    tokens
}

/// Returns the name and shape of every tensor that [`Bert::load`] reads.
pub(crate) fn tensors(config: &Config, settings: BertConfig) -> Vec<TensorShape> {
    let (hidden, inner, names) = (config.hidden_size, config.intermediate, settings.names);
    let width = settings.embedding_size(hidden);
    let mut tensors = vec![
        (config.family.words.to_owned(), vec![config.vocab_size, width]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_positions, width]),
    ];
    if settings.token_types > 0 {
        tensors.push(("embeddings.token_type_embeddings.weight".into(), vec![settings.token_types, width]));
    }
    if let Some(distances) = settings.distances {
        tensors.push((distances.table.into(), vec![distances.rows, config.heads]));
    }
    if let Some(Projection { name, width }) = settings.projection {
        tensors.extend(linear(name, width, hidden));
    }
    tensors.extend(vectors("embeddings.LayerNorm", width));
    for layer in 0..settings.stored_layers(config.layers) {
        let full = |name: &str| format!("{}.{name}", settings.layer_name(layer));
        for name in names.qkv.iter().chain([&names.attention_out]) {
            tensors.extend(linear(&full(name), hidden, hidden));
        }
        tensors.extend(linear(&full(names.up), hidden, inner));
        tensors.extend(linear(&full(names.down), inner, hidden));
        tensors.extend(vectors(&full(names.attention_norm), hidden));
        tensors.extend(vectors(&full(names.output_norm), hidden));
    }
    tensors
}

/// Returns the tensors of a linear layer.
pub(crate) fn linear(name: &str, inputs: usize, outputs: usize) -> [TensorShape; 2] {
    [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
}

/// Returns the tensors of a layer norm.
pub(crate) fn vectors(name: &str, width: usize) -> [TensorShape; 2] {
    ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![width]))
}

struct Reader<'a, B> {
    config: &'a Config,
    settings: BertConfig,
    source: Source<'a>,
    backend: &'a B,
}

impl<B: Backend> Reader<'_, B> {
    fn keys_values(&self, layer: usize) -> Result<B::KeysValues, LoadError> {
        let (names, hidden) = (self.settings.names, self.config.hidden_size);
        let [_, keys, values] = names.qkv.map(|name| format!("{}.{name}", self.settings.layer_name(layer)));
        let weight = |name: &str| (self.source)(&format!("{name}.weight"), &[hidden, hidden]);
        let bias = (self.source)(&format!("{values}.bias"), &[hidden])?;
        self.placed(self.backend.keys_values(weight(&keys)?, weight(&values)?, bias))
    }

    fn bias(&self, distances: DistanceBuckets) -> Result<B::ScoreBias, LoadError> {
        let (heads, tokens) = (self.config.heads, self.config.positions_used());
        let table = (self.source)(distances.table, &[distances.rows, heads])?;
        self.placed(self.backend.score_bias(bias_by_distance(&table, distances, heads, tokens), tokens))
    }

    fn layer(&self, index: usize) -> Result<Layer<B>, LoadError> {
        let names = self.settings.names;
        let (hidden, intermediate) = (self.config.hidden_size, self.config.intermediate);
        let full = |name: &str| format!("{}.{name}", self.settings.layer_name(index));
        Ok(Layer {
            qkv: self.linear(&names.qkv.map(full), hidden, hidden)?,
            attention_out: self.linear(&[full(names.attention_out)], hidden, hidden)?,
            attention_norm: self.norm(&full(names.attention_norm), hidden)?,
            up: self.linear(&[full(names.up)], hidden, intermediate)?,
            down: self.linear(&[full(names.down)], intermediate, hidden)?,
            output_norm: self.norm(&full(names.output_norm), hidden)?,
        })
    }

    /// Reads linear layers of the same shape and joins them.
    fn linear(&self, names: &[String], inputs: usize, outputs: usize) -> Result<B::Linear, LoadError> {
        let read = |suffix: &str, shape: &[usize]| -> Result<Vec<Vec<f32>>, LoadError> {
            names.iter().map(|name| (self.source)(&format!("{name}.{suffix}"), shape)).collect()
        };
        self.placed(self.backend.linear(&read("weight", &[outputs, inputs])?, &read("bias", &[outputs])?))
    }

    fn norm(&self, name: &str, width: usize) -> Result<B::Norm, LoadError> {
        let read = |suffix: &str| (self.source)(&format!("{name}.{suffix}"), &[width]);
        self.placed(self.backend.norm(read("weight")?, read("bias")?, self.config.layer_norm_eps))
    }

    fn placed<T, E: std::error::Error + Send + Sync + 'static>(&self, result: Result<T, E>) -> Result<T, LoadError> {
        result.map_err(|source| LoadError::Device { path: self.config.path.clone(), source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(ids: &[u32], padding: Option<u32>) -> Vec<u32> {
        let batch: Batch = [ids].iter().collect();
        tokens_with_positions(&batch, padding).into_iter().map(|(_, position)| position).collect()
    }

    #[test]
    fn bert_counts_positions_from_zero() {
        assert_eq!(positions(&[4, 7, 1, 5], None), [0, 1, 2, 3]);
    }

    #[test]
    fn roberta_counts_from_after_its_padding_id() {
        assert_eq!(positions(&[0, 7, 8, 2], Some(1)), [2, 3, 4, 5]);
    }

    #[test]
    fn a_real_token_with_the_padding_id_does_not_advance_roberta_positions() {
        assert_eq!(positions(&[0, 1, 8, 1, 2], Some(1)), [2, 1, 3, 1, 4]);
    }

    #[test]
    fn positions_restart_in_every_text_of_a_batch() {
        let batch: Batch = [vec![0u32, 9, 2], vec![0, 2]].iter().collect();
        let places: Vec<u32> =
            tokens_with_positions(&batch, Some(1)).into_iter().map(|(_, position)| position).collect();
        assert_eq!(places, [2, 3, 4, 2, 3]);
    }
}
