//! Reads `config.json` into one typed, validated [`Config`], whichever names the architecture uses for its fields.
//!
//! An absent field has the default of `transformers`; one that is invalid, or that changes vectors in an unsupported
//! way ([`crate::families::settings`]), is an error that names it.

use std::path::{Path, PathBuf};

use kernels::Activation;
use serde_json::{Map, Value};
use strum::VariantArray;

use crate::LoadError;
pub(crate) use crate::families::deberta_v2::{Convolution, ConvolutionActivation, DebertaConfig, Relative};
use crate::families::fields::Fields;
pub(crate) use crate::families::rotary::{RotaryAttention, RotaryConfig};

/// Every supported architecture: by [`crate::forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub(crate) enum Architecture {
    Bert,
    Roberta,
    XlmRoberta,
    Camembert,
    DistilBert,
    ModernBert,
    NomicBert,
    DebertaV2,
}

/// Returns the known `model_type`s for a message.
pub(crate) fn known_architectures() -> String {
    let names: Vec<String> =
        Architecture::VARIANTS.iter().map(|architecture| format!("`{}`", architecture.model_type())).collect();
    names.join(", ")
}

impl Architecture {
    /// Returns the `model_type` of the config, and the prefix of the class names in its `architectures`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Architecture::Bert => ("bert", "Bert"),
            Architecture::Roberta => ("roberta", "Roberta"),
            Architecture::XlmRoberta => ("xlm-roberta", "XLMRoberta"),
            Architecture::Camembert => ("camembert", "Camembert"),
            Architecture::DistilBert => ("distilbert", "DistilBert"),
            Architecture::ModernBert => ("modernbert", "ModernBert"),
            Architecture::NomicBert => ("nomic_bert", "NomicBert"),
            Architecture::DebertaV2 => ("deberta-v2", "DebertaV2"),
        }
    }

    pub(crate) fn model_type(self) -> &'static str {
        self.names().0
    }

    /// Whether positions start at `pad_token_id + 1` and skip padding ids, as in RoBERTa.
    pub(crate) fn positions_follow_padding(self) -> bool {
        match self {
            Architecture::Roberta | Architecture::XlmRoberta | Architecture::Camembert => true,
            Architecture::Bert
            | Architecture::DistilBert
            | Architecture::ModernBert
            | Architecture::NomicBert
            | Architecture::DebertaV2 => false,
        }
    }
}

/// The names of activations in configs.
const ACTIVATIONS: [(&str, Activation); 10] = [
    ("gelu", Activation::GeluErf),
    ("gelu_python", Activation::GeluErf),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

pub(crate) fn activation(name: &str) -> Option<Activation> {
    ACTIVATIONS.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
}

/// Returns the names of the activations for a message.
pub(crate) fn activation_names() -> String {
    ACTIVATIONS.map(|(name, _)| name).join(", ")
}

/// The settings of `config.json` that the forward pass and the tokenizer need.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) architecture: Architecture,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) max_positions: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) pad_token_id: u32,
    pub(crate) layer_norm_eps: f64,
    pub(crate) activation: Activation,
    /// Whether a head's decoder is the word embedding table.
    pub(crate) tied: bool,
    pub(crate) family: Family,
    /// The whole file, which may name the tokenizer class.
    pub(crate) raw: Map<String, Value>,
}

/// The forward pass of an architecture, with its own settings.
#[derive(Debug, Clone)]
pub(crate) enum Family {
    Bert,
    Rotary(RotaryConfig),
    Deberta(DebertaConfig),
}

impl Family {
    /// Returns whether it runs on GPUs and in number formats other than `f32`.
    pub(crate) fn runs_everywhere(&self) -> bool {
        match self {
            Family::Bert => true,
            Family::Rotary(_) | Family::Deberta(_) => false,
        }
    }
}

/// Default sizes of an architecture, and the names of its fields.
struct Sizes {
    vocab: usize,
    hidden: (&'static [&'static str], usize),
    layers: (&'static [&'static str], usize),
    heads: (&'static [&'static str], usize),
    intermediate: (&'static [&'static str], usize),
    /// The first name given wins.
    positions: (&'static [&'static str], usize),
    padding: u32,
    /// Without names: a constant of the architecture.
    epsilon: (&'static [&'static str], f64),
    activation: (&'static str, Activation),
}

const BERT_SIZES: Sizes = Sizes {
    vocab: 30522,
    hidden: (&["hidden_size"], 768),
    layers: (&["num_hidden_layers"], 12),
    heads: (&["num_attention_heads"], 12),
    intermediate: (&["intermediate_size"], 3072),
    positions: (&["max_position_embeddings"], 512),
    padding: 0,
    epsilon: (&["layer_norm_eps"], 1e-12),
    activation: ("hidden_act", Activation::GeluErf),
};

impl Sizes {
    fn of(architecture: Architecture) -> Sizes {
        match architecture {
            Architecture::Bert => BERT_SIZES,
            Architecture::Roberta | Architecture::XlmRoberta | Architecture::Camembert => {
                Sizes { vocab: 50265, padding: 1, ..BERT_SIZES }
            }
            Architecture::DistilBert => Sizes {
                hidden: (&["dim", "hidden_size"], 768),
                layers: (&["n_layers", "num_hidden_layers"], 6),
                heads: (&["n_heads", "num_attention_heads"], 12),
                intermediate: (&["hidden_dim"], 3072),
                epsilon: (&[], 1e-12),
                activation: ("activation", Activation::GeluErf),
                ..BERT_SIZES
            },
            Architecture::ModernBert => Sizes {
                vocab: 50368,
                layers: (&["num_hidden_layers"], 22),
                intermediate: (&["intermediate_size"], 1152),
                positions: (&["max_position_embeddings"], 8192),
                epsilon: (&["norm_eps"], 1e-5),
                activation: ("hidden_activation", Activation::GeluErf),
                ..BERT_SIZES
            },
            // The second names are those of the model's authors.
            Architecture::NomicBert => Sizes {
                vocab: 30528,
                hidden: (&["hidden_size", "n_embd"], 768),
                layers: (&["num_hidden_layers", "n_layer"], 12),
                heads: (&["num_attention_heads", "n_head"], 12),
                intermediate: (&["intermediate_size", "n_inner"], 3072),
                positions: (&["max_position_embeddings", "n_positions"], 2048),
                epsilon: (&["layer_norm_eps", "layer_norm_epsilon"], 1e-12),
                activation: ("hidden_act", Activation::Silu),
                ..BERT_SIZES
            },
            Architecture::DebertaV2 => Sizes {
                vocab: 128_100,
                hidden: (&["hidden_size"], 1536),
                layers: (&["num_hidden_layers"], 24),
                heads: (&["num_attention_heads"], 24),
                intermediate: (&["intermediate_size"], 6144),
                epsilon: (&["layer_norm_eps"], 1e-7),
                ..BERT_SIZES
            },
        }
    }
}

impl Config {
    /// Reads and validates a `config.json`.
    pub(crate) fn read(path: &Path) -> Result<Config, LoadError> {
        let fields = Fields { path, map: read_json_object(path)? };
        let architecture = architecture(&fields)?;
        crate::families::settings::check(&fields, architecture)?;
        let sizes = Sizes::of(architecture);
        let is_named = |name: &&&str| fields.get(name).is_some();
        let positions_name = sizes.positions.0.iter().find(is_named).unwrap_or(&sizes.positions.0[0]);
        let positions = fields.count(&[positions_name], sizes.positions.1)?;
        let mut config = Config {
            path: path.to_path_buf(),
            architecture,
            vocab_size: fields.count(&["vocab_size"], sizes.vocab)?,
            hidden_size: fields.count(sizes.hidden.0, sizes.hidden.1)?,
            layers: fields.count(sizes.layers.0, sizes.layers.1)?,
            heads: fields.count(sizes.heads.0, sizes.heads.1)?,
            intermediate: fields.count(sizes.intermediate.0, sizes.intermediate.1)?,
            max_positions: positions,
            type_vocab_size: fields.integer(&["type_vocab_size"], 2)?,
            pad_token_id: padding(&fields, architecture, sizes.padding)?,
            layer_norm_eps: fields.epsilon(sizes.epsilon.0, sizes.epsilon.1)?,
            activation: fields.activation(sizes.activation.0, sizes.activation.1)?,
            tied: fields.flag("tie_word_embeddings", true)?,
            family: Family::Bert,
            raw: fields.map.clone(),
        };
        if !config.hidden_size.is_multiple_of(config.heads) {
            let problem = format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                config.hidden_size, config.heads
            );
            return Err(fields.invalid(problem));
        }
        if config.pad_token_id as usize >= config.vocab_size && fields.get("pad_token_id").is_some() {
            let problem =
                format!("`pad_token_id` {} is not below `vocab_size` {}", config.pad_token_id, config.vocab_size);
            return Err(fields.invalid(problem));
        }
        if config.positions_used() == 0 {
            let problem = format!(
                "`max_position_embeddings` {} leaves no position after `pad_token_id` {}",
                config.max_positions, config.pad_token_id
            );
            return Err(fields.invalid(problem));
        }
        config.family = config.family(&fields)?;
        Ok(config)
    }

    /// Reads the settings specific to this architecture's forward pass.
    fn family(&self, fields: &Fields<'_>) -> Result<Family, LoadError> {
        match self.architecture {
            Architecture::Bert
            | Architecture::Roberta
            | Architecture::XlmRoberta
            | Architecture::Camembert
            | Architecture::DistilBert => {
                // Validated only: every token here has type 0.
                fields.count(&["type_vocab_size"], 2).map(|_| Family::Bert)
            }
            Architecture::ModernBert | Architecture::NomicBert => {
                let sizes = (self.layers, self.hidden_size / self.heads);
                RotaryConfig::read(fields, self.architecture, sizes).map(Family::Rotary)
            }
            Architecture::DebertaV2 => {
                let sizes = (self.hidden_size, self.heads, self.max_positions);
                DebertaConfig::read(fields, sizes).map(Family::Deberta)
            }
        }
    }

    /// Returns the maximum tokens of a text: RoBERTa never uses its first `pad_token_id + 1` positions.
    pub(crate) fn positions_used(&self) -> usize {
        match self.architecture.positions_follow_padding() {
            true => self.max_positions.saturating_sub(self.pad_token_id as usize + 1),
            false => self.max_positions,
        }
    }

    /// Returns the floating point operations of the linear layers per token, saturating on absurd sizes.
    pub(crate) fn flops_per_token(&self) -> u64 {
        let (hidden, intermediate) = (self.hidden_size as u64, self.intermediate as u64);
        let feed_forward_matrices: u64 = match self.architecture {
            Architecture::ModernBert | Architecture::NomicBert => 3,
            Architecture::Bert
            | Architecture::Roberta
            | Architecture::XlmRoberta
            | Architecture::Camembert
            | Architecture::DistilBert
            | Architecture::DebertaV2 => 2,
        };
        let attention = hidden.saturating_mul(hidden).saturating_mul(4);
        let feed_forward = hidden.saturating_mul(intermediate).saturating_mul(feed_forward_matrices);
        attention.saturating_add(feed_forward).saturating_mul(2 * self.layers as u64)
    }
}

/// Reads a JSON file whose top level must be an object.
pub(crate) fn read_json_object(path: &Path) -> Result<Map<String, Value>, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let invalid = |problem| LoadError::Invalid { path: path.into(), problem };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(invalid("expected a JSON object".into())),
        Err(error) => Err(invalid(format!("not JSON: {error}"))),
    }
}

/// Reads the padding id, which RoBERTa's positions require.
fn padding(fields: &Fields<'_>, architecture: Architecture, default: u32) -> Result<u32, LoadError> {
    if architecture.positions_follow_padding() && fields.map.get("pad_token_id").is_some_and(Value::is_null) {
        return Err(fields.invalid("`pad_token_id` is null, but positions count from it".into()));
    }
    fields.token_id("pad_token_id", default)
}

/// Determines the architecture by `model_type`, or by the class name in `architectures` of older files.
fn architecture(fields: &Fields<'_>) -> Result<Architecture, LoadError> {
    let unknown = |found: &str| LoadError::UnknownArchitecture { path: fields.path.into(), found: found.into() };
    if let Some(model_type) = fields.map.get("model_type").and_then(Value::as_str) {
        let known = Architecture::VARIANTS.iter().find(|architecture| architecture.model_type() == model_type);
        return known.copied().ok_or_else(|| unknown(model_type));
    }
    let class = fields.map.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
    let Some(class) = class else {
        return Err(
            fields.invalid("names no architecture: add `model_type`, one of ".to_string() + &known_architectures())
        );
    };
    let known = Architecture::VARIANTS.iter().find(|architecture| {
        let prefix = architecture.names().1;
        class.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("Model") || rest.starts_with("For"))
    });
    known.copied().ok_or_else(|| unknown(class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_dir::tiny_models;

    fn read(json: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Config::read(&path).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "."))
    }

    #[test]
    fn every_architecture_has_a_tiny_model() {
        let found: Vec<Architecture> = tiny_models().iter().map(|model| model.config.architecture).collect();
        for architecture in Architecture::VARIANTS {
            let model_type = architecture.model_type();
            assert!(found.contains(architecture), "add a tiny model of `{model_type}`: scripts/make_tiny_models.py");
        }
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let bert = read(r#"{"model_type": "bert"}"#).unwrap();
        assert_eq!((bert.hidden_size, bert.layers, bert.heads, bert.intermediate), (768, 12, 12, 3072));
        assert_eq!((bert.vocab_size, bert.positions_used(), bert.pad_token_id), (30522, 512, 0));
        assert_eq!((bert.layer_norm_eps, bert.activation), (1e-12, Activation::GeluErf));
        assert_eq!(bert.flops_per_token(), 2 * 12 * (4 * 768 * 768 + 2 * 768 * 3072));
        let roberta = read(r#"{"model_type": "roberta", "max_position_embeddings": 514, "hidden_act": null}"#).unwrap();
        assert_eq!((roberta.pad_token_id, roberta.positions_used()), (1, 512));
    }

    #[test]
    fn the_usable_length_of_roberta_follows_its_pad_id() {
        let json = r#"{"model_type": "xlm-roberta", "max_position_embeddings": 130, "pad_token_id": 9}"#;
        assert_eq!(read(json).unwrap().positions_used(), 120);
        let json = r#"{"model_type": "roberta", "max_position_embeddings": 2, "pad_token_id": 1}"#;
        assert!(read(json).unwrap_err().contains("leaves no position"));
    }

    #[test]
    fn the_class_name_replaces_a_missing_model_type() {
        let json = r#"{"architectures": ["BertForMaskedLM"], "hidden_size": 64.0, "num_attention_heads": 4}"#;
        let config = read(json).unwrap();
        assert_eq!((config.architecture, config.hidden_size), (Architecture::Bert, 64));
        assert!(
            read("{}")
                .unwrap_err()
                .starts_with("`./config.json`: names no architecture: add `model_type`, one of `bert`")
        );
    }

    #[test]
    fn an_unknown_architecture_error_lists_the_known_ones() {
        for json in [r#"{"model_type": "llama"}"#, r#"{"architectures": ["llama"]}"#] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with("unknown architecture `llama`"), "{error}");
            assert!(error.contains("`xlm-roberta`") && error.contains("`distilbert`"), "{error}");
        }
        assert!(read(r#"{"architectures": ["BertsonModel"]}"#).unwrap_err().contains("BertsonModel"));
    }

    #[test]
    fn invalid_values_are_errors_that_name_the_field() {
        let cases = [
            (r#"{"model_type": "bert", "hidden_size": "768"}"#, "`hidden_size`: expected a whole number"),
            (r#"{"model_type": "bert", "hidden_size": -1}"#, "`hidden_size`: expected a whole number"),
            (r#"{"model_type": "bert", "num_attention_heads": 0}"#, "`num_attention_heads`: expected at least 1"),
            (r#"{"model_type": "bert", "hidden_size": 100, "num_attention_heads": 12}"#, "is not a multiple of"),
            (r#"{"model_type": "bert", "layer_norm_eps": "tiny"}"#, "`layer_norm_eps`"),
            (r#"{"model_type": "bert", "hidden_act": "mish"}"#, "`hidden_act` is \"mish\""),
            (r#"{"model_type": "bert", "is_decoder": true}"#, "`is_decoder` is true, but only `false` is supported"),
            (
                r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#,
                "\"relative_key\", but only `absolute`",
            ),
            (r#"{"model_type": "distilbert", "dim": 64, "hidden_size": 32}"#, "`dim` is 64 and `hidden_size` is 32"),
            ("[]", "expected a JSON object"),
            ("{", "not JSON"),
        ];
        for (json, expected) in cases {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
            assert!(error.contains("config.json"), "{json}: {error}");
        }
    }

    #[test]
    fn each_architecture_reads_its_own_epsilon() {
        // DistilBERT has it in its code, ModernBERT under another name; transformers ignores `layer_norm_eps` for
        // both.
        let of = |model_type: &str| {
            read(&format!(r#"{{"model_type": "{model_type}", "layer_norm_eps": 0.5}}"#)).unwrap().layer_norm_eps
        };
        assert_eq!((of("distilbert"), of("modernbert"), of("deberta-v2"), of("bert")), (1e-12, 1e-5, 0.5, 0.5));
    }

    #[test]
    fn the_activation_is_read_from_the_config() {
        let of = |name: &str| {
            read(&format!(r#"{{"model_type": "distilbert", "activation": "{name}"}}"#)).unwrap().activation
        };
        assert_eq!(of("gelu"), Activation::GeluErf);
        assert_eq!(of("gelu_new"), Activation::GeluTanh);
        assert_eq!(of("gelu_pytorch_tanh"), Activation::GeluTanh);
        assert_eq!(of("relu"), Activation::Relu);
        assert_eq!(of("swish"), Activation::Silu);
    }
}
