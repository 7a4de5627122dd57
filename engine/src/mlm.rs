//! The masked-language-model heads of the BERT and RoBERTa families, which predict the token at a mask. They see few
//! rows, once per text, so they run in plain f32 on the host.

use std::borrow::Cow;

use kernels::{Activation, WeightFormat};

use crate::backend::Cpu;
use crate::config::Config;
use crate::families::{Forward, HeadNames};
use crate::forward::bert::{Bert, TokenSelection};
use crate::ops::{Linear, Matrix};
use crate::weights::Weights;
use crate::{Batch, FillError, LoadError, ModelDir, TextEncoder};

/// The head runs on the host in f32 on every device.
const CPU: Cpu = Cpu { format: WeightFormat::F32 };

/// The spellings of a mask that are accepted for every model.
const MASKS: [&str; 2] = ["[MASK]", "<mask>"];

/// A model with its masked-language-model head.
pub struct MaskFiller {
    bert: Bert<Cpu>,
    head: Head,
    encoder: TextEncoder,
    mask: (String, u32),
    vocab_size: usize,
    row_tokens_max: usize,
}

/// A predicted token, as reported by `transformers`' pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// Its probability at this mask, over the whole vocabulary.
    pub score: f64,
    /// The token id.
    pub token: u32,
    /// The token alone, decoded.
    pub token_str: String,
    /// The decoded text with the token in place of the mask. Other masks and special tokens stay in.
    pub sequence: String,
}

impl MaskFiller {
    /// Reads tokenizer, weights and head.
    ///
    /// # Errors
    /// When a file cannot be read, the architecture has no supported head, the weights have none, or the tokenizer has
    /// no mask.
    pub fn load(model: &ModelDir) -> Result<MaskFiller, LoadError> {
        let Some(config) = model.config() else {
            return Err(LoadError::Unsupported { what: "filling masks with a StaticEmbedding module".into() });
        };
        let (Some(names), Forward::Bert(settings)) = (&config.family.fill_mask, &config.forward) else {
            let what = format!("filling masks with `{}` models", config.family.model_type);
            return Err(LoadError::Unsupported { what });
        };
        let weights = Weights::of_family(&model.weights, config.family)?;
        let encoder = TextEncoder::load(model, None, "")?;
        let of_tokenizer = MASKS.iter().filter_map(|mask| Some((*mask, encoder.token_id(mask)?)));
        // MPNet's vocabulary has BERT's mask as an ordinary word.
        let named = of_tokenizer.min_by_key(|(mask, _)| !encoder.is_added_token(mask));
        let (mask, id) = named.ok_or_else(|| LoadError::Unsupported {
            what: format!("`{}`: its tokenizer has neither `[MASK]` nor `<mask>`", model.path.display()),
        })?;
        Ok(MaskFiller {
            bert: Bert::load(config, *settings, &|name, shape| weights.read(name, shape), &CPU)?,
            head: Head::load(config, settings.embedding_size(config.hidden_size), &weights, names)?,
            encoder,
            mask: (mask.to_owned(), id),
            vocab_size: config.vocab_size,
            row_tokens_max: config.positions_used(),
        })
    }

    /// Returns the mask as this model's tokenizer writes it.
    pub fn mask(&self) -> &str {
        &self.mask.0
    }

    /// Returns the `top` most probable tokens of each mask, best first. `[MASK]` and `<mask>` are equivalent.
    ///
    /// # Errors
    /// When the text has no mask, or a mask beyond the model's maximum length.
    pub fn fill(&self, text: &str, top: usize) -> Result<Vec<Vec<Filled>>, FillError> {
        let text = self.own_masks(text);
        let encoded = self.encoder.encode_for_model(&text)?;
        let places: Vec<usize> = (0..encoded.ids.len()).filter(|&at| encoded.ids[at] == self.mask.1).collect();
        let written = text.matches(self.mask.0.as_str()).count();
        if written == 0 {
            return Err(FillError::NoMask { mask: self.mask.0.clone() });
        }
        if places.len() < written {
            return Err(FillError::MaskCutOff { tokens_max: self.encoder.max_length().min(self.row_tokens_max) });
        }
        let batch: Batch = [&encoded.ids].into_iter().collect();
        let scores = self.scores(&batch, &places);
        scores
            .chunks_exact(self.vocab_size)
            .zip(&places)
            .map(|(scores, &place)| {
                best(scores, top)
                    .into_iter()
                    .map(|(token, score)| {
                        let mut ids = encoded.ids.clone();
                        ids[place] = token;
                        let sequence = self.encoder.decode_as(&ids, places.len() == 1)?;
                        Ok(Filled { score, token, token_str: self.encoder.decode_as(&[token], false)?, sequence })
                    })
                    .collect()
            })
            .collect()
    }

    /// Rewrites every mask to this model's spelling.
    fn own_masks<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let foreign: Vec<&str> = MASKS.into_iter().filter(|mask| *mask != self.mask.0).collect();
        match foreign.iter().any(|mask| text.contains(mask)) {
            false => Cow::Borrowed(text),
            true => Cow::Owned(foreign.iter().fold(text.to_owned(), |text, mask| text.replace(mask, &self.mask.0))),
        }
    }

    /// Returns the logits of the whole vocabulary at each position, row-major.
    fn scores(&self, batch: &Batch, places: &[usize]) -> Vec<f32> {
        let Ok(tokens) = self.bert.forward(&CPU, batch, TokenSelection::EveryToken);
        self.head.forward(&tokens.select(places.iter().copied()))
    }
}

impl std::fmt::Debug for MaskFiller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskFiller").field("mask", &self.mask).finish_non_exhaustive()
    }
}

/// Dense layer, norm, decoder.
struct Head {
    dense: Linear,
    activation: Activation,
    norm: (Vec<f32>, Vec<f32>),
    eps: f64,
    /// `[vocabulary, width]`.
    decoder: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Head {
    /// `width` is that of the word embeddings, which are the decoder of a tied head.
    fn load(config: &Config, width: usize, weights: &Weights, names: &HeadNames) -> Result<Head, LoadError> {
        let dense = |suffix: &str| format!("{}.{suffix}", names.dense);
        let vector = |name: &str, length: usize| weights.read_at_root(name, &[length]);
        if !weights.contains_at_root(&dense("weight")) {
            let what = format!(
                "filling masks with `{}`: its weights hold no masked-language-model head (`{}` is missing), only the \
                 body that embeds; take the model's version with `ForMaskedLM` in its config",
                config.path.parent().unwrap_or(&config.path).display(),
                dense("weight"),
            );
            return Err(LoadError::Unsupported { what });
        }
        let weight = weights.read_at_root(&dense("weight"), &[width, config.hidden_size])?;
        let bias = vector(&dense("bias"), width)?;
        let decoder_weight = format!("{}.weight", names.decoder);
        let decoder = match weights.contains_at_root(&decoder_weight) {
            true => weights.read_at_root(&decoder_weight, &[config.vocab_size, width])?,
            false if config.tied => weights.read(config.family.words, &[config.vocab_size, width])?,
            false => {
                let what = format!(
                    "`{}`: `tie_word_embeddings` is false, but the weights have no `{decoder_weight}`",
                    config.path.display()
                );
                return Err(LoadError::Unsupported { what });
            }
        };
        // The decoder's own bias wins, since transformers does not tie differing ones; without any it is zero.
        let own_bias = format!("{}.bias", names.decoder);
        let tied_bias = names.tied_bias.filter(|_| config.tied);
        let biases =
            [Some(own_bias.as_str()), tied_bias].into_iter().flatten().find(|name| weights.contains_at_root(name));
        Ok(Head {
            dense: Linear::fused(&[weight], &[bias], WeightFormat::F32),
            activation: names.activation.unwrap_or(config.activation),
            norm: (vector(&format!("{}.weight", names.norm), width)?, vector(&format!("{}.bias", names.norm), width)?),
            eps: config.layer_norm_eps,
            decoder,
            bias: biases.map(|name| vector(name, config.vocab_size)).transpose()?,
        })
    }

    /// Returns logits for `[rows, hidden]`, row-major.
    fn forward(&self, rows: &Matrix) -> Vec<f32> {
        let width = self.norm.0.len();
        let mut x = self.dense.forward(&rows.numbers, Some(self.activation));
        let mut logits = Vec::with_capacity(rows.rows() * self.decoder.len() / width);
        for row in x.chunks_exact_mut(width) {
            self.normalize(row);
            let first = logits.len();
            logits.extend(self.decoder.chunks_exact(width).map(|token| dot(token, row)));
            if let Some(bias) = &self.bias {
                logits[first..].iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
            }
        }
        logits
    }

    fn normalize(&self, row: &mut [f32]) {
        let count = row.len() as f64;
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + self.eps).sqrt();
        for (x, (weight, bias)) in row.iter_mut().zip(self.norm.0.iter().zip(&self.norm.1)) {
            *x = ((f64::from(*x) - mean) * scale) as f32 * weight + bias;
        }
    }
}

/// Returns an inner product, summed in f64.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// Returns the `top` largest softmax values with their indices, largest first, ties by index.
fn best(logits: &[f32], top: usize) -> Vec<(u32, f64)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(|logit| exponential(*logit)).sum();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    order.into_iter().take(top).map(|token| (token, exponential(logits[token as usize]) / sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_tokens_come_first_and_probabilities_sum_to_one() {
        let logits = [0.0, 3.0, -1.0, 3.0];
        let all = best(&logits, 10);
        assert_eq!(all.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 3, 0, 2]);
        assert!((all.iter().map(|(_, score)| score).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(best(&logits, 2).len(), 2);
    }
}
