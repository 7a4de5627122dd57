//! What a family of models is: the data that its file gives, and all that the rest of the engine knows of it.

use kernels::Activation;

use super::fields::Fields;
use super::forward_config::{DebertaConfig, DecoderConfig, DecoderPositions, RotaryConfig};
use super::settings::Setting;
use crate::LoadError;
use crate::tokenizer::class::Class;

/// A family of models: one `model_type` of `config.json`.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) model_type: &'static str,
    /// Prefix of the class names in `architectures`, which identify the family where `model_type` is missing.
    pub(super) class_prefix: &'static str,
    /// Prefix of the body's tensors in a model with a head.
    pub(super) body_prefix: &'static str,
    /// As [`body_prefix`](Family::body_prefix), of files from before transformers had the family.
    pub(super) older_prefix: Option<&'static str>,
    /// The word embeddings, which also reveal the prefix of the tensor names in a file.
    pub(crate) words: &'static str,
    /// Their name where a file has them under that of a tensor that they share.
    pub(crate) other_words: Option<&'static str>,
    pub(crate) sizes: Sizes,
    /// Whether `hidden_size` has to be a multiple of the number of heads.
    pub(crate) heads_divide_hidden: bool,
    /// Settings that change vectors and are only partly supported, beside those of every family.
    pub(crate) settings: &'static [Setting],
    pub(crate) positions: Positions,
    /// The class that transformers registers.
    pub(crate) tokenizer: Class,
    /// Whether transformers ignores the tokenizer class that a model declares.
    pub(crate) ignores_tokenizer_class: bool,
    pub(crate) fill_mask: Option<HeadNames>,
    /// Reads the settings of its forward pass.
    pub(crate) forward: fn(&Fields<'_>, Dimensions) -> Result<Forward, LoadError>,
}

impl Family {
    /// Returns the possible prefixes of tensor names: none, or the name of the body in a model with a head.
    pub(crate) fn prefixes(&self) -> Vec<&'static str> {
        ["", self.body_prefix].into_iter().chain(self.older_prefix).collect()
    }
}

/// Default sizes, and the names of their fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) vocab: usize,
    pub(crate) hidden: (&'static [&'static str], usize),
    pub(crate) layers: (&'static [&'static str], usize),
    pub(crate) heads: (&'static [&'static str], usize),
    pub(crate) intermediate: (&'static [&'static str], usize),
    /// The first name that is present counts. Without names: no limit by the model.
    pub(crate) positions: (&'static [&'static str], usize),
    pub(crate) padding: u32,
    /// Without names: a constant of the architecture.
    pub(crate) epsilon: (&'static [&'static str], f64),
    pub(crate) activation: (&'static str, Activation),
}

/// Where positions start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// At 0 in each text.
    Zero,
    /// At `pad_token_id + 1`; tokens with that id are skipped.
    AfterPadding,
    /// As [`AfterPadding`](Positions::AfterPadding), whatever `pad_token_id` is.
    After(u32),
}

/// The sizes that the settings of a forward pass depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dimensions {
    pub(crate) hidden_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) max_positions: usize,
}

/// A forward pass, with its settings.
#[derive(Debug, Clone)]
pub(crate) enum Forward {
    /// [`crate::forward::bert`]
    Bert(BertConfig),
    /// [`crate::forward::rotary`]
    Rotary(RotaryConfig),
    /// [`crate::forward::deberta`]
    Deberta(DebertaConfig),
    /// [`crate::forward::decoder`]
    Decoder(DecoderConfig),
}

impl Forward {
    /// Returns whether it runs on GPUs.
    pub(crate) fn runs_on_gpus(&self) -> bool {
        match self {
            Forward::Bert(_) | Forward::Rotary(_) => true,
            // Scores of T5 lose too much in 16 bits, and its outputs exceed f16.
            Forward::Decoder(settings) => match settings.positions {
                DecoderPositions::Rotary(_) => true,
                DecoderPositions::Distances { .. } => false,
            },
            Forward::Deberta(_) => false,
        }
    }

    /// Returns whether it runs in number formats other than `f32`.
    pub(crate) fn runs_in_every_format(&self) -> bool {
        match self {
            Forward::Bert(_) | Forward::Rotary(_) | Forward::Decoder(_) => true,
            Forward::Deberta(_) => false,
        }
    }

    /// Returns the matrices of a feed-forward layer: a gate is a third one.
    pub(crate) fn feed_forward_matrices(&self) -> u64 {
        let has_gate = match self {
            Forward::Bert(_) | Forward::Deberta(_) => false,
            Forward::Rotary(settings) => settings.names.up.has_gate(),
            Forward::Decoder(settings) => settings.names.up.has_gate(),
        };
        2 + u64::from(has_gate)
    }

    /// Returns how many layers run in a model that says to have `layers`.
    pub(crate) fn layers_run(&self, layers: usize) -> usize {
        match self {
            Forward::Bert(settings) => layers.saturating_mul(settings.shared.map_or(1, |shared| shared.members)),
            Forward::Rotary(_) | Forward::Deberta(_) | Forward::Decoder(_) => layers,
        }
    }

    /// Returns the components of a head of a model with layers of `hidden`.
    pub(crate) fn head_size(&self, hidden: usize, heads: usize) -> usize {
        self.attention_widths(hidden, heads)[0] / heads
    }

    /// Returns the width of the queries, and that of keys and values, of a model with layers of `hidden`.
    pub(crate) fn attention_widths(&self, hidden: usize, heads: usize) -> [usize; 2] {
        match self {
            Forward::Bert(_) | Forward::Rotary(_) | Forward::Deberta(_) => [hidden, hidden],
            Forward::Decoder(settings) => [heads, settings.key_value_heads].map(|heads| heads * settings.head_size),
        }
    }
}

/// The settings of the forward pass of BERT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BertConfig {
    pub(crate) names: &'static BertNames,
    /// Number of token types; 0 without token type embeddings.
    pub(crate) token_types: usize,
    /// A bias of attention by the distance between tokens.
    pub(crate) distances: Option<DistanceBuckets>,
    /// Embeddings of another width than the layers.
    pub(crate) projection: Option<Projection>,
    /// Layers that share weights.
    pub(crate) shared: Option<SharedLayers>,
}

impl BertConfig {
    /// Returns how many layers have weights of their own in a model that says to have `layers`.
    pub(crate) fn stored_layers(&self, layers: usize) -> usize {
        self.shared.map_or(layers, |shared| shared.groups * shared.members)
    }

    /// Returns which stored layers run, in their order.
    pub(crate) fn passes(&self, layers: usize) -> Vec<usize> {
        let Some(SharedLayers { groups, members, .. }) = self.shared else { return (0..layers).collect() };
        // In floating point numbers like the reference.
        let passes_of_group = layers as f64 / groups as f64;
        let group = |pass: usize| (pass as f64 / passes_of_group) as usize;
        (0..layers).flat_map(|pass| group(pass) * members..(group(pass) + 1) * members).collect()
    }

    /// Returns what comes before the tensor names of a stored layer.
    pub(crate) fn layer_name(&self, stored: usize) -> String {
        match self.shared {
            None => format!("{}.{stored}", self.names.layers),
            Some(SharedLayers { members, name, .. }) => {
                format!("{}.{}.{name}.{}", self.names.layers, stored / members, stored % members)
            }
        }
    }

    /// Returns the width of the embeddings of a model with layers of `hidden`.
    pub(crate) fn embedding_size(&self, hidden: usize) -> usize {
        self.projection.map_or(hidden, |projection| projection.width)
    }
}

/// Groups of layers, each of which runs several times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedLayers {
    pub(crate) groups: usize,
    /// Layers of a group.
    pub(crate) members: usize,
    /// What comes before the number of a layer in its group.
    pub(crate) name: &'static str,
}

/// A linear layer from the embeddings to the layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Projection {
    /// Name of its tensors, without `.weight` and `.bias`.
    pub(crate) name: &'static str,
    /// The width of the embeddings.
    pub(crate) width: usize,
}

/// The buckets of T5: near distances have their own, farther ones share them by their logarithm. Half of them are for
/// tokens before, half for tokens after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DistanceBuckets {
    /// The tensor of a bias per bucket and head, shared by all layers.
    pub(crate) table: &'static str,
    /// The buckets in that tensor, of which only `count` are used.
    pub(crate) rows: usize,
    pub(crate) count: usize,
    /// The distance from which on all share one bucket.
    pub(crate) farthest: usize,
}

/// Names of a layer's tensors, without `.weight` and `.bias`.
#[derive(Debug)]
pub(crate) struct BertNames {
    /// What comes before the number of a layer, or of a group of them.
    pub(crate) layers: &'static str,
    pub(crate) qkv: [&'static str; 3],
    pub(crate) attention_out: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) output_norm: &'static str,
}

/// Tensor names of a masked-language-model head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadNames {
    pub(crate) dense: &'static str,
    pub(crate) norm: &'static str,
    pub(crate) decoder: &'static str,
    /// Second name of the decoder's bias, used where weights are tied.
    pub(crate) tied_bias: Option<&'static str>,
    /// A fixed activation, whatever the config says.
    pub(crate) activation: Option<Activation>,
}
