//! Reads `config.json` into one typed, validated [`Config`], whichever names the family uses for its fields.
//!
//! An absent field has the default of `transformers`; one that is invalid, or that changes vectors in an unsupported
//! way, is an error that names it.

use std::path::{Path, PathBuf};

use kernels::Activation;
use serde_json::{Map, Value};

use crate::LoadError;
use crate::families::{self, Dimensions, Family, Fields, Forward, Positions};

/// The settings of `config.json` that the forward pass and the tokenizer need.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) family: &'static Family,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) max_positions: usize,
    pub(crate) pad_token_id: u32,
    pub(crate) layer_norm_eps: f64,
    pub(crate) activation: Activation,
    /// Whether a head's decoder is the word embedding table.
    pub(crate) tied: bool,
    pub(crate) forward: Forward,
    /// The whole file, which may name the tokenizer class.
    pub(crate) raw: Map<String, Value>,
}

impl Config {
    /// Reads and validates a `config.json`.
    pub(crate) fn read(path: &Path) -> Result<Config, LoadError> {
        let fields = Fields { path, map: read_json_object(path)? };
        let family = family(&fields)?;
        families::check_settings(&fields, family.settings)?;
        let sizes = family.sizes;
        let position_names = sizes.positions.0;
        let positions_name = position_names.iter().find(|name| fields.get(name).is_some()).or(position_names.first());
        let dimensions = Dimensions {
            hidden_size: fields.count(sizes.hidden.0, sizes.hidden.1)?,
            layers: fields.count(sizes.layers.0, sizes.layers.1)?,
            heads: fields.count(sizes.heads.0, sizes.heads.1)?,
            max_positions: match positions_name {
                Some(name) => fields.count(&[name], sizes.positions.1)?,
                None => sizes.positions.1,
            },
        };
        let Dimensions { hidden_size, heads, .. } = dimensions;
        if family.heads_divide_hidden && !hidden_size.is_multiple_of(heads) {
            let problem = format!("`hidden_size` {hidden_size} is not a multiple of `num_attention_heads` {heads}");
            return Err(fields.invalid(problem));
        }
        let config = Config {
            path: path.to_path_buf(),
            family,
            vocab_size: fields.count(&["vocab_size"], sizes.vocab)?,
            hidden_size,
            layers: dimensions.layers,
            heads,
            intermediate: fields.count(sizes.intermediate.0, sizes.intermediate.1)?,
            max_positions: dimensions.max_positions,
            pad_token_id: padding(&fields, family, sizes.padding)?,
            layer_norm_eps: fields.epsilon(sizes.epsilon.0, sizes.epsilon.1)?,
            activation: fields.activation(sizes.activation.0, sizes.activation.1)?,
            tied: fields.flag("tie_word_embeddings", true)?,
            forward: (family.forward)(&fields, dimensions)?,
            raw: fields.map.clone(),
        };
        if config.pad_token_id as usize >= config.vocab_size && fields.get("pad_token_id").is_some() {
            let problem =
                format!("`pad_token_id` {} is not below `vocab_size` {}", config.pad_token_id, config.vocab_size);
            return Err(fields.invalid(problem));
        }
        if config.positions_used() == 0 {
            let problem = format!(
                "`max_position_embeddings` {} leaves no position after `pad_token_id` {}",
                config.max_positions,
                config.padding_before_positions().unwrap_or_default(),
            );
            return Err(fields.invalid(problem));
        }
        Ok(config)
    }

    /// Returns the padding id after which positions start; `None` where they start at 0.
    pub(crate) fn padding_before_positions(&self) -> Option<u32> {
        match self.family.positions {
            Positions::Zero => None,
            Positions::AfterPadding => Some(self.pad_token_id),
            Positions::After(padding) => Some(padding),
        }
    }

    /// Returns the maximum tokens of a text: RoBERTa never uses its first `pad_token_id + 1` positions.
    pub(crate) fn positions_used(&self) -> usize {
        match self.padding_before_positions() {
            Some(padding) => self.max_positions.saturating_sub(padding as usize + 1),
            None => self.max_positions,
        }
    }

    /// Returns the floating point operations of the linear layers per token, saturating on absurd sizes.
    pub(crate) fn flops_per_token(&self) -> u64 {
        let (hidden, intermediate) = (self.hidden_size as u64, self.intermediate as u64);
        let [queries, keys] = self.forward.attention_widths(self.hidden_size, self.heads).map(|width| width as u64);
        let attention = hidden.saturating_mul(queries.saturating_add(keys)).saturating_mul(2);
        let feed_forward = hidden.saturating_mul(intermediate).saturating_mul(self.forward.feed_forward_matrices());
        attention.saturating_add(feed_forward).saturating_mul(2 * self.forward.layers_run(self.layers) as u64)
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
fn padding(fields: &Fields<'_>, family: &Family, default: u32) -> Result<u32, LoadError> {
    let is_null = || fields.map.get("pad_token_id").is_some_and(Value::is_null);
    match family.positions {
        Positions::AfterPadding if is_null() => {
            Err(fields.invalid("`pad_token_id` is null, but positions count from it".into()))
        }
        Positions::AfterPadding | Positions::Zero | Positions::After(_) => fields.token_id("pad_token_id", default),
    }
}

/// Determines the family by `model_type`, or by the class name in `architectures` of older files.
fn family(fields: &Fields<'_>) -> Result<&'static Family, LoadError> {
    let unknown = |found: &str| LoadError::UnknownArchitecture { path: fields.path.into(), found: found.into() };
    if let Some(model_type) = fields.map.get("model_type").and_then(Value::as_str) {
        return families::of_model_type(model_type).ok_or_else(|| unknown(model_type));
    }
    let class = fields.map.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
    let Some(class) = class else {
        return Err(fields
            .invalid("names no architecture: add `model_type`, one of ".to_string() + &families::known_model_types()));
    };
    families::of_class_name(class).ok_or_else(|| unknown(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        Config::read(&path).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "."))
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
    fn the_positions_of_mpnet_follow_a_constant_and_its_buckets_are_all_there() {
        let json = r#"{"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 9}"#;
        assert_eq!(read(json).unwrap().positions_used(), 512);
        let json = r#"{"model_type": "mpnet", "relative_attention_num_buckets": 16}"#;
        assert!(read(json).unwrap_err().contains("`relative_attention_num_buckets` is 16, but transformers reads 32"));
    }

    #[test]
    fn the_class_name_replaces_a_missing_model_type() {
        let json = r#"{"architectures": ["BertForMaskedLM"], "hidden_size": 64.0, "num_attention_heads": 4}"#;
        let config = read(json).unwrap();
        assert_eq!((config.family.model_type, config.hidden_size), ("bert", 64));
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
