//! The forward pass of ModernBERT, NomicBERT, GTE and Jina v3 on packed tokens: rotary positions, feed-forward layers that
//! mostly have a gate, and in ModernBERT sliding-window attention.

use kernels::{Heads, Reach, RowsView, WeightFormat, Window, attend_within};

use super::bert::{Source, TensorShape, TokenSelection};
use super::layers::{LayerReader, add, up_weights};
use super::rotation::{Angles, Rotations};
use crate::config::Config;
use crate::families::RotaryConfig;
use crate::ops::{FeedForward, LayerNorm, Linear};
use crate::{Batch, LoadError};

/// A loaded model.
pub(crate) struct Rotary {
    /// `[vocabulary, hidden]`, plus the embedding of token type 0 where the model has types.
    words: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// After the last layer, in pre-norm models.
    final_norm: Option<LayerNorm>,
    heads: Heads,
    rotations: Rotations,
}

struct Layer {
    reach: Reach,
    qkv: Linear,
    out: Linear,
    feed_forward: FeedForward,
    norms: Norms,
}

enum Norms {
    /// Each half normalises its input and adds its output to the residual. ModernBERT's first layer has no norm before
    /// attention, since its input is normalised.
    Before { attention: Option<LayerNorm>, feed_forward: LayerNorm },
    /// Each half adds its output to its input and normalises the sum.
    After { attention: LayerNorm, feed_forward: LayerNorm },
}

impl Rotary {
    pub(crate) fn load(
        config: &Config,
        settings: &RotaryConfig,
        source: Source<'_>,
        format: WeightFormat,
    ) -> Result<Rotary, LoadError> {
        let hidden = config.hidden_size;
        let heads = Heads { count: config.heads, size: hidden / config.heads };
        let reader = LayerReader { config, source, format };
        let names = settings.names;
        let mut words = source(config.family.words, &[config.vocab_size, hidden])?;
        if settings.token_types > 0 {
            let types = source(TOKEN_TYPES, &[settings.token_types, hidden])?;
            words.chunks_exact_mut(hidden).for_each(|word| add(word, &types[..hidden]));
        }
        let layers = settings.attention.iter().enumerate();
        Ok(Rotary {
            words,
            norm: reader.norm(names.norm, settings.norm_bias)?,
            layers: layers
                .map(|(index, attention)| layer(&reader, settings, index, attention.reach))
                .collect::<Result<_, _>>()?,
            final_norm: names.final_norm.map(|name| reader.norm(name, settings.norm_bias)).transpose()?,
            heads,
            rotations: Rotations::new(settings.attention.iter().map(|attention| attention.rope), heads.size),
        })
    }

    /// Returns the selected token vectors of the last layer, packed as the batch is. The batch must have been checked.
    pub(crate) fn forward(&self, batch: &Batch, selection: TokenSelection) -> Vec<f32> {
        let hidden = self.heads.count * self.heads.size;
        let mut x = Vec::with_capacity(batch.ids.len() * hidden);
        for id in &batch.ids {
            x.extend_from_slice(&self.words[*id as usize * hidden..][..hidden]);
        }
        self.norm.apply(&mut x);
        let angles = self.rotations.angles(batch);
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let selection = if index == last { selection } else { TokenSelection::EveryToken };
            x = self.layer(layer, x, batch, (angles.of(index), selection));
        }
        if let Some(norm) = &self.final_norm {
            norm.apply(&mut x);
        }
        x
    }

    /// Returns a layer's outputs for the selected tokens. Exact in the last layer, since no later one reads the others.
    fn layer(
        &self,
        layer: &Layer,
        mut x: Vec<f32>,
        batch: &Batch,
        (angles, selection): (&Angles, TokenSelection),
    ) -> Vec<f32> {
        let context = match &layer.norms {
            Norms::Before { attention: Some(norm), .. } => {
                self.context(layer, &normalized(&x, norm), batch, (angles, selection))
            }
            Norms::Before { attention: None, .. } | Norms::After { .. } => {
                self.context(layer, &x, batch, (angles, selection))
            }
        };
        match selection {
            TokenSelection::EveryToken => {}
            TokenSelection::FirstToken => {
                let width = self.heads.count * self.heads.size;
                let firsts = &batch.offsets[..batch.rows()];
                x = firsts.iter().flat_map(|first| &x[*first as usize * width..][..width]).copied().collect();
            }
        }
        add(&mut x, &layer.out.forward(&context, None));
        match &layer.norms {
            Norms::Before { feed_forward, .. } => {
                let output = layer.feed_forward.forward(&normalized(&x, feed_forward));
                add(&mut x, &output);
            }
            Norms::After { attention, feed_forward } => {
                attention.apply(&mut x);
                let output = layer.feed_forward.forward(&x);
                add(&mut x, &output);
                feed_forward.apply(&mut x);
            }
        }
        x
    }

    fn context(
        &self,
        layer: &Layer,
        x: &[f32],
        batch: &Batch,
        (angles, selection): (&Angles, TokenSelection),
    ) -> Vec<f32> {
        let hidden = self.heads.count * self.heads.size;
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        layer.qkv.by_texts(x, &batch.offsets, |texts, qkv| {
            for span in texts.windows(2) {
                let (start, end) = ((span[0] - texts[0]) as usize, (span[1] - texts[0]) as usize);
                let rows = &mut qkv[start * 3 * hidden..end * 3 * hidden];
                angles.rotate(rows, 3 * hidden, 2 * hidden);
                let queries = RowsView { data: rows, rows: end - start, stride: 3 * hidden };
                let (keys, values) = (queries.without_columns(hidden), queries.without_columns(2 * hidden));
                let selected = match selection {
                    TokenSelection::EveryToken => end - start,
                    TokenSelection::FirstToken => 1,
                };
                let done = out.len();
                out.resize(done + selected * hidden, 0.0);
                attend_within(
                    &mut out[done..],
                    [queries.block(0, selected), keys, values],
                    Window { reach: layer.reach, first: 0, group: 1 },
                    (self.heads, layer.qkv.precision()),
                    &mut scratch,
                );
            }
        });
        out
    }
}

fn normalized(x: &[f32], norm: &LayerNorm) -> Vec<f32> {
    let mut x = x.to_vec();
    norm.apply(&mut x);
    x
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

fn layer(reader: &LayerReader<'_>, settings: &RotaryConfig, index: usize, reach: Reach) -> Result<Layer, LoadError> {
    let (hidden, names) = (reader.config.hidden_size, settings.names);
    let full = |name: &str| format!("{}.{index}.{name}", names.layers);
    let norm = |name: &str| reader.norm(&full(name), settings.norm_bias);
    let feed_forward = norm(names.output_norm)?;
    Ok(Layer {
        reach,
        qkv: reader.dense(&[full(names.qkv)], (hidden, 3 * hidden), settings.attention_bias)?,
        out: reader.dense(&[full(names.out)], (hidden, hidden), settings.attention_bias)?,
        feed_forward: reader.feed_forward(
            (names.up, names.down),
            full,
            [settings.up_bias, settings.down_bias],
            reader.config.activation,
        )?,
        norms: match names.final_norm {
            Some(_) if index == 0 => Norms::Before { attention: None, feed_forward },
            Some(_) => Norms::Before { attention: Some(norm(names.attention_norm)?), feed_forward },
            None => Norms::After { attention: norm(names.attention_norm)?, feed_forward },
        },
    })
}
