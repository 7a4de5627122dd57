//! The forward pass of the BERT and RoBERTa families, on packed tokens: no padding, hence no mask.
//!
//! Linear layers and normalisations see one flat `[tokens, hidden]`; only attention knows where a text ends. RoBERTa,
//! XLM-RoBERTa and CamemBERT differ from BERT in how positions count, DistilBERT in the names of its tensors and in
//! having no token types.

use candle_core::{Result, Tensor};

use crate::config::{Activation, Architecture, Config};
use crate::kernels::Heads;
use crate::ops::{self, LayerNorm, Linear};
use crate::weights::Weights;
use crate::{Batch, Dtype, LoadError};

/// The tensor by which the prefix of a file's names is found.
pub(crate) const ANCHOR: &str = "embeddings.word_embeddings.weight";

/// A loaded model.
pub(crate) struct Bert {
    words: Tensor,
    /// Position vectors, with the vector of token type 0 added: every token here is of type 0.
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    activation: Activation,
    heads: Heads,
    /// The id that RoBERTa's positions skip; `None` where positions simply count from 0.
    padding: Option<u32>,
}

/// Which token vectors the last layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of every token: `[tokens, hidden]`.
    EveryToken,
    /// That of each text's first token: `[texts, hidden]`.
    FirstToken,
}

struct Layer {
    /// Queries, keys and values, side by side.
    qkv: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
}

impl Bert {
    /// Reads the weights of a native architecture.
    pub(crate) fn load(config: &Config, weights: &Weights, dtype: Dtype) -> std::result::Result<Bert, LoadError> {
        let hidden = config.hidden_size;
        let reader = Reader { config, weights, dtype };
        let positions = weights.read("embeddings.position_embeddings.weight", &[config.max_positions, hidden])?;
        let token_types = "embeddings.token_type_embeddings.weight";
        // A config with zero token types, and DistilBERT, have no such tensor.
        let positions = match config.architecture == Architecture::DistilBert || config.type_vocab_size == 0 {
            true => positions,
            false => {
                let types = weights.read(token_types, &[config.type_vocab_size, hidden])?;
                reader.placed(types.get(0).and_then(|first| positions.broadcast_add(&first)))?
            }
        };
        Ok(Bert {
            words: weights.read(ANCHOR, &[config.vocab_size, hidden])?,
            positions,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(|layer| reader.layer(layer)).collect::<std::result::Result<_, _>>()?,
            activation: config.activation,
            heads: Heads { count: config.heads, size: hidden / config.heads },
            padding: config.architecture.positions_follow_padding().then_some(config.pad_token_id),
        })
    }

    /// Returns the token vectors of the last layer. The batch must have been checked against the config.
    pub(crate) fn forward(&self, batch: &Batch, wanted: Wanted) -> Result<Tensor> {
        let mut x = ops::embed(&self.words, &self.positions, &self.norm, &placed_tokens(batch, self.padding))?;
        let (last, others) = self.layers.split_last().expect("a config has at least one layer");
        for layer in others {
            x = self.layer(layer, &x, batch)?;
        }
        match wanted {
            Wanted::EveryToken => self.layer(last, &x, batch),
            Wanted::FirstToken => self.layer_of_first_tokens(last, &x, batch),
        }
    }

    fn layer(&self, layer: &Layer, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let hidden = self.heads.count * self.heads.size;
        let qkv = layer.qkv.forward(x, None)?;
        let (queries, keys_values) = (qkv.narrow(1, 0, hidden)?, qkv.narrow(1, hidden, 2 * hidden)?);
        let context = ops::attention(&queries, &keys_values, &batch.offsets, self.heads)?;
        self.after_attention(layer, &context, x)
    }

    /// As [`layer`](Bert::layer), for the first token of each text alone. The others give their keys and values, and
    /// after that nothing looks at them: the result is exact.
    fn layer_of_first_tokens(&self, layer: &Layer, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let hidden = self.heads.count * self.heads.size;
        let starts = Tensor::new(&batch.offsets[..batch.rows()], x.device())?;
        let first = x.index_select(&starts, 0)?;
        let queries = layer.qkv.outputs(0, hidden)?.forward(&first, None)?;
        let keys_values = layer.qkv.outputs(hidden, 2 * hidden)?.forward(x, None)?;
        let context = ops::attention(&queries, &keys_values, &batch.offsets, self.heads)?;
        self.after_attention(layer, &context, &first)
    }

    fn after_attention(&self, layer: &Layer, context: &Tensor, x: &Tensor) -> Result<Tensor> {
        let x = layer.attention_norm.forward(&layer.attention_out, context, x)?;
        ops::feed_forward(&x, &layer.up, self.activation, &layer.down, &layer.output_norm)
    }
}

/// Returns id and position of every token.
///
/// BERT counts positions from 0 in each text. RoBERTa's are `transformers`' cumulative sum: a token whose id is the
/// padding id sits at position `padding` and does not count, any other at `padding` plus the number of counted tokens
/// up to and including it. With a tokenizer that uses the model's padding id for an ordinary word, that matters.
fn placed_tokens(batch: &Batch, padding: Option<u32>) -> Vec<(u32, u32)> {
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

/// The names of one layer's tensors, without `.weight` and `.bias`.
struct LayerNames {
    qkv: [&'static str; 3],
    attention_out: &'static str,
    attention_norm: &'static str,
    up: &'static str,
    down: &'static str,
    output_norm: &'static str,
}

const BERT_NAMES: LayerNames = LayerNames {
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT_NAMES: LayerNames = LayerNames {
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

struct Reader<'a> {
    config: &'a Config,
    weights: &'a Weights,
    dtype: Dtype,
}

impl Reader<'_> {
    fn layer(&self, index: usize) -> std::result::Result<Layer, LoadError> {
        let (stem, names) = match self.config.architecture {
            Architecture::DistilBert => ("transformer.layer", &DISTILBERT_NAMES),
            _ => ("encoder.layer", &BERT_NAMES),
        };
        let (hidden, intermediate) = (self.config.hidden_size, self.config.intermediate);
        let full = |name: &str| format!("{stem}.{index}.{name}");
        Ok(Layer {
            qkv: self.linear(&names.qkv.map(full), hidden, hidden)?,
            attention_out: self.linear(&[full(names.attention_out)], hidden, hidden)?,
            attention_norm: self.norm(&full(names.attention_norm))?,
            up: self.linear(&[full(names.up)], hidden, intermediate)?,
            down: self.linear(&[full(names.down)], intermediate, hidden)?,
            output_norm: self.norm(&full(names.output_norm))?,
        })
    }

    /// Reads linear layers of the same shape, to be computed as one.
    fn linear(&self, names: &[String], inputs: usize, outputs: usize) -> std::result::Result<Linear, LoadError> {
        let read = |suffix: &str, shape: &[usize]| -> std::result::Result<Vec<Tensor>, LoadError> {
            names.iter().map(|name| self.weights.read(&format!("{name}.{suffix}"), shape)).collect()
        };
        self.placed(Linear::fused(&read("weight", &[outputs, inputs])?, &read("bias", &[outputs])?, self.dtype))
    }

    fn norm(&self, name: &str) -> std::result::Result<LayerNorm, LoadError> {
        let read = |suffix: &str| self.weights.read(&format!("{name}.{suffix}"), &[self.config.hidden_size]);
        Ok(LayerNorm::new(read("weight")?, read("bias")?, self.config.layer_norm_eps))
    }

    fn placed<T>(&self, result: Result<T>) -> std::result::Result<T, LoadError> {
        result.map_err(|source| LoadError::Device { path: self.config.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(ids: &[u32], padding: Option<u32>) -> Vec<u32> {
        let batch: Batch = [ids].iter().collect();
        placed_tokens(&batch, padding).into_iter().map(|(_, position)| position).collect()
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
    fn every_text_of_a_batch_starts_anew() {
        let batch: Batch = [vec![0u32, 9, 2], vec![0, 2]].iter().collect();
        let places: Vec<u32> = placed_tokens(&batch, Some(1)).into_iter().map(|(_, position)| position).collect();
        assert_eq!(places, [2, 3, 4, 2, 3]);
    }
}
