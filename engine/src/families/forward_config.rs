//! What the forward passes beside BERT's take from `config.json`, beyond sizes.

use kernels::{Activation, Reach};

use super::description::DistanceBuckets;

/// DeBERTa's settings beyond sizes.
#[derive(Debug, Clone)]
pub(crate) struct DebertaConfig {
    /// Width of the word embeddings, which may be projected to the hidden size.
    pub(crate) embedding_size: usize,
    /// Number of token types; 0 without token type embeddings.
    pub(crate) token_types: usize,
    /// Whether absolute position embeddings are added to the words.
    pub(crate) absolute_positions: bool,
    /// Relative attention, if enabled.
    pub(crate) relative: Option<Relative>,
    /// `c2p` and `p2c` of `pos_att_type`. They scale the scores even without relative attention.
    pub(crate) content_to_position: bool,
    pub(crate) position_to_content: bool,
    /// Whether relative positions share the projections of content (`share_att_key`).
    pub(crate) share_keys: bool,
    /// Whether relative position embeddings are normalised.
    pub(crate) norm_distances: bool,
    /// The convolution beside the first layer.
    pub(crate) convolution: Option<Convolution>,
}

/// The mapping of relative positions to embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relative {
    /// Number of buckets for far positions; `None` where each has its own.
    pub(crate) buckets: Option<usize>,
    /// The largest relative position.
    pub(crate) farthest: usize,
}

impl Relative {
    /// Returns half the number of relative position embeddings.
    pub(crate) fn span(self) -> usize {
        self.buckets.unwrap_or(self.farthest)
    }
}

/// A convolution over the tokens of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) width: usize,
    pub(crate) groups: usize,
    pub(crate) activation: ConvolutionActivation,
}

/// The activations supported after the convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ConvolutionActivation {
    Tanh,
    Other(Activation),
}

/// The settings of rotary models beyond sizes.
#[derive(Debug, Clone)]
pub(crate) struct RotaryConfig {
    pub(crate) names: &'static RotaryNames,
    pub(crate) attention: Vec<RotaryAttention>,
    /// Whether the linear layers of attention have a bias.
    pub(crate) attention_bias: bool,
    /// Whether the first feed-forward layer has a bias.
    pub(crate) up_bias: bool,
    /// Whether the second feed-forward layer has a bias.
    pub(crate) down_bias: bool,
    /// Whether normalisations have a bias.
    pub(crate) norm_bias: bool,
    /// Number of token types; 0 without token type embeddings.
    pub(crate) token_types: usize,
}

/// The tokens that a layer's attention reaches, and its rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RotaryAttention {
    pub(crate) reach: Reach,
    pub(crate) rope: Rope,
}

/// A rotation by position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rope {
    /// The base of the frequencies.
    pub(crate) theta: f64,
    /// Divides the frequencies; 1 for none.
    pub(crate) slowdown: f64,
}

impl Rope {
    /// Returns the rotation that no context length scales.
    pub(crate) fn unscaled(theta: f64) -> Rope {
        Rope { theta, slowdown: 1.0 }
    }
}

/// Tensor names, without `.weight` and `.bias`.
#[derive(Debug)]
pub(crate) struct RotaryNames {
    pub(crate) norm: &'static str,
    /// What comes before the number of a layer.
    pub(crate) layers: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) qkv: &'static str,
    pub(crate) out: &'static str,
    pub(crate) output_norm: &'static str,
    pub(crate) up: UpNames,
    pub(crate) down: &'static str,
    /// After the last layer, in pre-norm models.
    pub(crate) final_norm: Option<&'static str>,
}

/// The settings of models in the shape of LLaMA beyond sizes.
#[derive(Debug, Clone)]
pub(crate) struct DecoderConfig {
    pub(crate) names: &'static DecoderNames,
    /// Heads of keys and of values, each shared by as many heads of queries.
    pub(crate) key_value_heads: usize,
    pub(crate) head_size: usize,
    pub(crate) positions: DecoderPositions,
    /// Whether the linear layers of attention have a bias.
    pub(crate) attention_bias: bool,
    /// Whether the feed-forward layers have a bias.
    pub(crate) mlp_bias: bool,
    /// In place of the one that every family's config has.
    pub(crate) activation: Option<Activation>,
    /// Added to the weights of every norm.
    pub(crate) norm_offset: f32,
    /// Multiplies the queries, beside the scale by the size of a head.
    pub(crate) query_scale: f32,
    /// Multiplies the word embeddings.
    pub(crate) embedding_scale: f32,
}

/// How attention depends on positions.
#[derive(Debug, Clone)]
pub(crate) enum DecoderPositions {
    /// The rotation and the reach of each layer.
    Rotary(Vec<RotaryAttention>),
    /// A bias of attention to all tokens; the name of its table is one of the layer.
    Distances { buckets: DistanceBuckets, tables: BiasTables },
}

/// The layers that have a table of biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BiasTables {
    /// The first one, for all.
    OfFirstLayer,
    OfEachLayer,
}

impl BiasTables {
    /// Returns how many of a model's layers, from the first on, have one.
    pub(crate) fn layers(self, layers: usize) -> usize {
        match self {
            BiasTables::OfFirstLayer => 1,
            BiasTables::OfEachLayer => layers,
        }
    }
}

/// Tensor names, without `.weight` and `.bias`.
#[derive(Debug)]
pub(crate) struct DecoderNames {
    /// What comes before the number of a layer.
    pub(crate) layers: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) queries: &'static str,
    pub(crate) keys: &'static str,
    pub(crate) values: &'static str,
    /// Of queries and keys, by head.
    pub(crate) head_norms: Option<[&'static str; 2]>,
    pub(crate) out: &'static str,
    pub(crate) feed_forward_norm: &'static str,
    pub(crate) up: UpNames,
    pub(crate) down: &'static str,
    /// Norms of the outputs of both halves, before they are added.
    pub(crate) output_norms: Option<[&'static str; 2]>,
    /// After the last layer.
    pub(crate) final_norm: &'static str,
}

/// Names of the first feed-forward layer: a gate and what it multiplies, or one layer without a gate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum UpNames {
    /// One tensor with the gate before what it multiplies.
    GateFirst(&'static str),
    /// One tensor with the gate after what it multiplies.
    GateLast(&'static str),
    /// A tensor of each.
    Apart([&'static str; 2]),
    NoGate(&'static str),
}

impl UpNames {
    pub(crate) fn has_gate(self) -> bool {
        match self {
            UpNames::GateFirst(_) | UpNames::GateLast(_) | UpNames::Apart(_) => true,
            UpNames::NoGate(_) => false,
        }
    }
}
