//! Reads `config.json` into one typed, checked [`Config`], whatever dialect of names the architecture uses.
//!
//! A field that is absent takes the value that `transformers` gives it; a field that is there and cannot be right is an
//! error that names it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::LoadError;

/// Every architecture that can be run. The first four and DistilBERT by [`crate::bert`], the rest by [`crate::padded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// `model_type` of the config, prefix of the class names in its `architectures`, and what they stand for.
const ARCHITECTURES: [(&str, &str, Architecture); 8] = [
    ("bert", "Bert", Architecture::Bert),
    ("roberta", "Roberta", Architecture::Roberta),
    ("xlm-roberta", "XLMRoberta", Architecture::XlmRoberta),
    ("camembert", "Camembert", Architecture::Camembert),
    ("distilbert", "DistilBert", Architecture::DistilBert),
    ("modernbert", "ModernBert", Architecture::ModernBert),
    ("nomic_bert", "NomicBert", Architecture::NomicBert),
    ("deberta-v2", "DebertaV2", Architecture::DebertaV2),
];

/// Returns the known `model_type`s, as prose.
pub(crate) fn known_architectures() -> String {
    ARCHITECTURES.map(|(model_type, ..)| format!("`{model_type}`")).join(", ")
}

impl Architecture {
    /// Returns the `model_type` that stands for it.
    pub(crate) fn model_type(self) -> &'static str {
        ARCHITECTURES
            .iter()
            .find(|(.., architecture)| *architecture == self)
            .expect("the table has every architecture")
            .0
    }

    /// Whether the packed forward of this crate runs it.
    pub(crate) fn native(self) -> bool {
        match self {
            Architecture::Bert
            | Architecture::Roberta
            | Architecture::XlmRoberta
            | Architecture::Camembert
            | Architecture::DistilBert => true,
            Architecture::ModernBert | Architecture::NomicBert | Architecture::DebertaV2 => false,
        }
    }

    /// Whether positions count from `pad_token_id + 1` and skip padding ids, as RoBERTa's do.
    pub(crate) fn positions_follow_padding(self) -> bool {
        matches!(self, Architecture::Roberta | Architecture::XlmRoberta | Architecture::Camembert)
    }
}

/// The function between the two feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x * Φ(x)`, by the error function: what `gelu` means in a config.
    GeluErf,
    /// The approximation by tanh: `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`.
    GeluTanh,
    Relu,
    Silu,
}

impl Activation {
    fn parse(name: &str) -> Option<Activation> {
        match name {
            "gelu" | "gelu_python" => Some(Activation::GeluErf),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Some(Activation::GeluTanh),
            "relu" => Some(Activation::Relu),
            "silu" | "swish" => Some(Activation::Silu),
            _ => None,
        }
    }
}

/// What the forward pass and the tokenizer need to know of `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) architecture: Architecture,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    /// Rows of the position table.
    pub(crate) max_positions: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) pad_token_id: u32,
    pub(crate) layer_norm_eps: f64,
    pub(crate) activation: Activation,
    /// The whole file, for the architectures of candle-transformers, which read their own.
    pub(crate) raw: Map<String, Value>,
}

impl Config {
    /// Reads and checks a `config.json`.
    pub(crate) fn read(path: &Path) -> Result<Config, LoadError> {
        let fields = Fields { path, map: read_json_object(path)? };
        let architecture = architecture(&fields)?;
        refuse_what_we_do_not_compute(&fields)?;
        let (default_layers, default_pad) = match architecture {
            Architecture::DistilBert => (6, 0),
            _ if architecture.positions_follow_padding() => (12, 1),
            _ => (12, 0),
        };
        let config = Config {
            path: path.to_path_buf(),
            architecture,
            vocab_size: fields.count(&["vocab_size"], 30522)?,
            hidden_size: fields.count(&["hidden_size", "dim", "n_embd"], 768)?,
            layers: fields.count(&["num_hidden_layers", "n_layers", "n_layer"], default_layers)?,
            heads: fields.count(&["num_attention_heads", "n_heads", "n_head"], 12)?,
            intermediate: fields.count(&["intermediate_size", "hidden_dim", "n_inner"], 3072)?,
            max_positions: fields.count(&["max_position_embeddings", "n_positions"], 512)?,
            type_vocab_size: fields.integer(&["type_vocab_size"], 2)?,
            pad_token_id: fields.token_id("pad_token_id", default_pad)?,
            layer_norm_eps: fields.epsilon(&["layer_norm_eps", "layer_norm_epsilon"], 1e-12)?,
            activation: fields.activation(architecture)?,
            raw: fields.map.clone(),
        };
        if !config.hidden_size.is_multiple_of(config.heads) {
            let problem = format!(
                "`hidden_size` {} is not a multiple of `num_attention_heads` {}",
                config.hidden_size, config.heads
            );
            return Err(fields.invalid(problem));
        }
        if config.positions_used() == 0 {
            let problem = format!(
                "`max_position_embeddings` {} leaves no position after `pad_token_id` {}",
                config.max_positions, config.pad_token_id
            );
            return Err(fields.invalid(problem));
        }
        Ok(config)
    }

    /// Returns the number of tokens that a text may have: RoBERTa's first `pad_token_id + 1` positions are never used.
    pub(crate) fn positions_used(&self) -> usize {
        match self.architecture.positions_follow_padding() {
            true => self.max_positions.saturating_sub(self.pad_token_id as usize + 1),
            false => self.max_positions,
        }
    }

    /// Returns the floating point operations of the linear layers, per token.
    pub(crate) fn flops_per_token(&self) -> u64 {
        let (hidden, intermediate) = (self.hidden_size as u64, self.intermediate as u64);
        let feed_forward_matrices = match self.architecture {
            Architecture::ModernBert | Architecture::NomicBert => 3,
            _ => 2,
        };
        2 * self.layers as u64 * (4 * hidden * hidden + feed_forward_matrices * hidden * intermediate)
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

/// Finds the architecture by `model_type`, or by the class name in `architectures` where older files have no type.
fn architecture(fields: &Fields<'_>) -> Result<Architecture, LoadError> {
    let unknown = |found: &str| LoadError::UnknownArchitecture { path: fields.path.into(), found: found.into() };
    if let Some(model_type) = fields.map.get("model_type").and_then(Value::as_str) {
        let known = ARCHITECTURES.iter().find(|(name, ..)| *name == model_type);
        return known.map(|(.., architecture)| *architecture).ok_or_else(|| unknown(model_type));
    }
    let class = fields.map.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
    let Some(class) = class else {
        return Err(
            fields.invalid("names no architecture: add `model_type`, one of ".to_string() + &known_architectures())
        );
    };
    let known = ARCHITECTURES.iter().find(|(_, prefix, _)| {
        class.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("Model") || rest.starts_with("For"))
    });
    known.map(|(.., architecture)| *architecture).ok_or_else(|| unknown(class))
}

/// Settings that change the vectors in ways which no forward pass here follows.
fn refuse_what_we_do_not_compute(fields: &Fields<'_>) -> Result<(), LoadError> {
    let unsupported = |what: String| LoadError::Unsupported { what: format!("`{}`: {what}", fields.path.display()) };
    if fields.map.get("is_decoder").and_then(Value::as_bool) == Some(true) {
        return Err(unsupported("`is_decoder` is true, but only encoders give text vectors".into()));
    }
    match fields.map.get("position_embedding_type").and_then(Value::as_str) {
        // `rotary` is how the files of NomicBERT and ModernBERT describe what these models do anyway.
        None | Some("absolute" | "rotary" | "rope" | "sans_pos") => Ok(()),
        Some(other) => Err(unsupported(format!("`position_embedding_type` is `{other}`, but only `absolute` is done"))),
    }
}

/// The fields of one `config.json`, with errors that name file and field. `null` counts as absent.
struct Fields<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl Fields<'_> {
    fn invalid(&self, problem: String) -> LoadError {
        LoadError::Invalid { path: self.path.into(), problem }
    }

    /// Returns the first of `names` that is there, with its value.
    fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &Value)> {
        names.iter().find_map(|name| self.map.get(*name).filter(|value| !value.is_null()).map(|value| (*name, value)))
    }

    fn integer(&self, names: &[&str], default: usize) -> Result<usize, LoadError> {
        let Some((name, value)) = self.find(names) else { return Ok(default) };
        // Counts written as 768.0 are found in files that went through other tools.
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
        match whole {
            Some(count) if count <= u64::from(u32::MAX) => Ok(count as usize),
            _ => Err(self.invalid(format!("`{name}`: expected a whole number, found {value}"))),
        }
    }

    fn count(&self, names: &[&str], default: usize) -> Result<usize, LoadError> {
        match self.integer(names, default)? {
            0 => Err(self.invalid(format!("`{}`: expected at least 1, found 0", names[0]))),
            count => Ok(count),
        }
    }

    fn token_id(&self, name: &str, default: u32) -> Result<u32, LoadError> {
        Ok(u32::try_from(self.integer(&[name], default as usize)?).expect("integers are at most u32::MAX"))
    }

    fn epsilon(&self, names: &[&str], default: f64) -> Result<f64, LoadError> {
        let Some((name, value)) = self.find(names) else { return Ok(default) };
        match value.as_f64() {
            Some(epsilon) if (0.0..1.0).contains(&epsilon) => Ok(epsilon),
            _ => Err(self.invalid(format!("`{name}`: expected a small number such as 1e-12, found {value}"))),
        }
    }

    fn activation(&self, architecture: Architecture) -> Result<Activation, LoadError> {
        if !architecture.native() {
            return Ok(Activation::GeluErf);
        }
        let Some((name, value)) = self.find(&["hidden_act", "activation"]) else { return Ok(Activation::GeluErf) };
        value.as_str().and_then(Activation::parse).ok_or_else(|| LoadError::Unsupported {
            what: format!(
                "`{}`: `{name}` is {value}; known are gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu",
                self.path.display()
            ),
        })
    }
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
    fn a_file_without_model_type_is_known_by_its_class() {
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
    fn an_unknown_architecture_is_refused_by_name_with_the_known_ones() {
        for json in [r#"{"model_type": "llama"}"#, r#"{"architectures": ["llama"]}"#] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with("unknown architecture `llama`"), "{error}");
            assert!(error.contains("`xlm-roberta`") && error.contains("`distilbert`"), "{error}");
        }
        assert!(read(r#"{"architectures": ["BertsonModel"]}"#).unwrap_err().contains("BertsonModel"));
    }

    #[test]
    fn weird_values_are_errors_that_name_the_field() {
        let cases = [
            (r#"{"model_type": "bert", "hidden_size": "768"}"#, "`hidden_size`: expected a whole number"),
            (r#"{"model_type": "bert", "hidden_size": -1}"#, "`hidden_size`: expected a whole number"),
            (r#"{"model_type": "bert", "num_attention_heads": 0}"#, "`num_attention_heads`: expected at least 1"),
            (r#"{"model_type": "bert", "hidden_size": 100, "num_attention_heads": 12}"#, "is not a multiple of"),
            (r#"{"model_type": "bert", "layer_norm_eps": "tiny"}"#, "`layer_norm_eps`"),
            (r#"{"model_type": "bert", "hidden_act": "mish"}"#, "`hidden_act` is \"mish\""),
            (r#"{"model_type": "bert", "is_decoder": true}"#, "only encoders"),
            (r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#, "`relative_key`"),
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
    fn the_activation_is_the_one_the_config_names() {
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
