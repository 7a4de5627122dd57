//! Which tokenizer class of transformers `AutoTokenizer` picks for a model. Most classes take only the vocabulary from
//! `tokenizer.json` and build the rest from their own settings.

use serde_json::{Map, Value};

use crate::LoadError;
use crate::config::{Architecture, Config};

/// A tokenizer class whose tokens can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `TokenizersBackend`, alias `PreTrainedTokenizerFast`: the pipeline of `tokenizer.json` unchanged.
    Backend,
    Bert,
    ConvBert,
    Herbert,
    MpNet,
    Roberta,
    Deberta,
    Gpt2,
    Qwen2,
    XlmRoberta,
    Camembert,
    DebertaV2,
    Albert,
    FNet,
    T5,
    BigBird,
    Barthez,
    Llama,
    Gemma,
}

/// Class names without the irrelevant suffix `Fast`. The first name of a class is canonical.
const NAMES: [(&str, Class); 32] = [
    ("TokenizersBackend", Class::Backend),
    ("PreTrainedTokenizer", Class::Backend),
    ("BloomTokenizer", Class::Backend),
    ("BertTokenizer", Class::Bert),
    ("DistilBertTokenizer", Class::Bert),
    ("ElectraTokenizer", Class::Bert),
    ("LayoutLMTokenizer", Class::Bert),
    ("LxmertTokenizer", Class::Bert),
    ("MobileBertTokenizer", Class::Bert),
    ("SqueezeBertTokenizer", Class::Bert),
    ("ConvBertTokenizer", Class::ConvBert),
    ("HerbertTokenizer", Class::Herbert),
    ("MPNetTokenizer", Class::MpNet),
    ("RobertaTokenizer", Class::Roberta),
    ("BartTokenizer", Class::Roberta),
    ("LEDTokenizer", Class::Roberta),
    ("LongformerTokenizer", Class::Roberta),
    ("MvpTokenizer", Class::Roberta),
    ("DebertaTokenizer", Class::Deberta),
    ("GPT2Tokenizer", Class::Gpt2),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
    ("CamembertTokenizer", Class::Camembert),
    ("DebertaV2Tokenizer", Class::DebertaV2),
    ("AlbertTokenizer", Class::Albert),
    ("FNetTokenizer", Class::FNet),
    ("T5Tokenizer", Class::T5),
    ("BigBirdTokenizer", Class::BigBird),
    ("BarthezTokenizer", Class::Barthez),
    ("LlamaTokenizer", Class::Llama),
    ("Phi3Tokenizer", Class::Llama),
    ("GemmaTokenizer", Class::Gemma),
];

/// Classes of transformers 5.24 with rules in code, which are unsupported. Names in neither list are unknown to
/// transformers too, which then uses [`Class::Backend`].
const UNSUPPORTED_CLASSES: [&str; 85] = [
    "BartphoTokenizer",
    "BertGenerationTokenizer",
    "BertJapaneseTokenizer",
    "BertTokenizerLegacy",
    "BertweetTokenizer",
    "BioGptTokenizer",
    "BlenderbotSmallTokenizer",
    "BlenderbotTokenizer",
    "ByT5Tokenizer",
    "CLIPTokenizer",
    "CTRLTokenizer",
    "CanineTokenizer",
    "ClvpTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "CpmAntTokenizer",
    "CpmTokenizer",
    "DPRContextEncoderTokenizer",
    "DPRQuestionEncoderTokenizer",
    "DPRReaderTokenizer",
    "DiaTokenizer",
    "EsmTokenizer",
    "EsmcTokenizer",
    "FSMTTokenizer",
    "FastSpeech2ConformerTokenizer",
    "FlaubertTokenizer",
    "FunnelTokenizer",
    "GPTNeoXJapaneseTokenizer",
    "GPTNeoXTokenizer",
    "GPTSw3Tokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "M2M100Tokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MarianTokenizer",
    "MarkupLMTokenizer",
    "MgpstrTokenizer",
    "MistralCommonBackend",
    "MyT5Tokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PLBartTokenizer",
    "ParakeetTokenizer",
    "PegasusTokenizer",
    "PerceiverTokenizer",
    "PhobertTokenizer",
    "Pop2PianoTokenizer",
    "ProphetNetTokenizer",
    "Qwen3_5Tokenizer",
    "RagTokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RoCBertTokenizer",
    "RoFormerTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SiglipTokenizer",
    "Speech2TextTokenizer",
    "SpeechT5Tokenizer",
    "SplinterTokenizer",
    "TapasTokenizer",
    "Tipsv2Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "VitsTokenizer",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2PhonemeCTCTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMTokenizer",
    "XLNetTokenizer",
    // Registered in transformers as tokenizers, but failing to load.
    "AutoTokenizer",
    "BasicTokenizer",
    "CharacterTokenizer",
    "MecabTokenizer",
    "PreTrainedTokenizerBase",
    "SentencePieceBackend",
    "WordpieceTokenizer",
];

/// Models (`model_name` of `config.json`) whose `tokenizer_class` transformers treats as wrong.
const WRONG_CLASS: [&str; 1] = ["camembertv2-base"];

impl Class {
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, class)| *class == self).expect("every class has a name").0
    }

    /// Whether the pipeline of `tokenizer.json` is used, instead of one built from the class's settings.
    pub(super) fn uses_file_pipeline(self) -> bool {
        matches!(self, Class::Backend | Class::ConvBert | Class::FNet)
    }

    /// Returns the class that transformers registers for an architecture.
    fn registered(architecture: Architecture) -> Class {
        match architecture {
            Architecture::Bert | Architecture::DistilBert | Architecture::NomicBert => Class::Bert,
            Architecture::Roberta => Class::Roberta,
            Architecture::XlmRoberta => Class::XlmRoberta,
            Architecture::Camembert => Class::Camembert,
            Architecture::ModernBert => Class::Backend,
            Architecture::DebertaV2 => Class::DebertaV2,
        }
    }

    /// Finds a class by name; `None` where transformers does not know it either.
    fn named(declared: Declared<'_>) -> Result<Option<Class>, LoadError> {
        let name = without_fast(declared.name);
        if UNSUPPORTED_CLASSES.contains(&name) {
            return Err(declared.refused());
        }
        Ok(NAMES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class))
    }
}

/// A `tokenizer_class` and the file that declares it.
#[derive(Clone, Copy)]
struct Declared<'a> {
    name: &'a str,
    file: &'a str,
}

impl<'a> Declared<'a> {
    fn find(map: &'a Map<String, Value>, file: &'a str) -> Option<Declared<'a>> {
        let name = map.get("tokenizer_class").and_then(Value::as_str).filter(|name| !name.is_empty())?;
        Some(Declared { name, file })
    }

    fn refused(&self) -> LoadError {
        let Declared { name, file } = self;
        LoadError::Unsupported {
            what: format!(
                "`{file}`: `tokenizer_class` is `{name}`, whose rules are in its code and not in the files of the model; use a \
                 model whose `tokenizer.json` holds all of its tokenizer"
            ),
        }
    }
}

/// Whether `transformers` ignores the tokenizer classes that models of this architecture declare.
fn has_wrong_classes(architecture: Architecture) -> bool {
    match architecture {
        Architecture::ModernBert => true,
        Architecture::Bert
        | Architecture::Roberta
        | Architecture::XlmRoberta
        | Architecture::Camembert
        | Architecture::DistilBert
        | Architecture::NomicBert
        | Architecture::DebertaV2 => false,
    }
}

/// Chooses the class like `AutoTokenizer` of transformers 5.24. `byte_level`, called only if needed, returns whether
/// `tokenizer.json` mentions `"ByteLevel"`.
pub(super) fn choose(
    model: &Config,
    settings: &Map<String, Value>,
    byte_level: impl FnOnce() -> Result<bool, LoadError>,
) -> Result<Class, LoadError> {
    let in_settings = Declared::find(settings, "tokenizer_config.json");
    let in_model = Declared::find(&model.raw, "config.json");
    let registered = Class::registered(model.architecture);
    let known_as_wrong = has_wrong_classes(model.architecture)
        || model.raw.get("model_name").and_then(Value::as_str).is_some_and(|name| WRONG_CLASS.contains(&name));
    // Code of the model's repository is not run, but its presence skips the comparison of classes.
    if !has_own_code(settings)
        && let Some(declared) = in_settings.or(in_model)
    {
        if without_fast(declared.name) == "LlamaTokenizer" && !known_as_wrong && byte_level()? {
            return Ok(Class::Backend);
        }
        if without_fast(declared.name) != registered.name() {
            return match (registered, known_as_wrong) {
                (Class::Backend, _) => Ok(Class::Backend),
                (registered, true) => Ok(registered),
                (_, false) => Ok(Class::named(declared)?.unwrap_or(Class::Backend)),
            };
        }
    }
    match (in_settings, in_model) {
        (Some(declared), _) => Ok(Class::named(declared)?.unwrap_or(Class::Backend)),
        (None, Some(declared)) => Class::named(declared)?.ok_or_else(|| declared.refused()),
        (None, None) => Ok(registered),
    }
}

fn has_own_code(settings: &Map<String, Value>) -> bool {
    match settings.get("auto_map") {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => map.get("AutoTokenizer").is_some_and(|class| !class.is_null()),
        Some(_) => true,
    }
}

fn without_fast(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(model: Value, settings: Value) -> Result<Class, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, model.to_string()).unwrap();
        let model = Config::read(&path).unwrap();
        choose(&model, settings.as_object().unwrap(), || Ok(true)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_architecture_decides_without_a_declared_class() {
        assert_eq!(chosen(json!({"model_type": "bert"}), json!({})), Ok(Class::Bert));
        assert_eq!(chosen(json!({"model_type": "roberta"}), json!({})), Ok(Class::Roberta));
        assert_eq!(chosen(json!({"model_type": "modernbert"}), json!({})), Ok(Class::Backend));
    }

    #[test]
    fn a_declared_class_wins_over_the_architecture() {
        let roberta = || json!({"model_type": "roberta"});
        let class = |name: &str| chosen(roberta(), json!({"tokenizer_class": name}));
        assert_eq!(class("BertTokenizerFast"), Ok(Class::Bert));
        assert_eq!(class("PreTrainedTokenizerFast"), Ok(Class::Backend));
        assert_eq!(class("NobodyKnowsThisTokenizer"), Ok(Class::Backend));
        assert_eq!(class("LlamaTokenizer"), Ok(Class::Backend), "its file is byte-level");
        let in_model = json!({"model_type": "roberta", "tokenizer_class": "MPNetTokenizer"});
        assert_eq!(chosen(in_model, json!({})), Ok(Class::MpNet));
    }

    #[test]
    fn modernbert_and_known_wrong_declarations_ignore_the_class() {
        let modernbert = json!({"model_type": "modernbert"});
        assert_eq!(chosen(modernbert, json!({"tokenizer_class": "BertTokenizer"})), Ok(Class::Backend));
        let camembert = json!({"model_type": "roberta", "model_name": "camembertv2-base"});
        assert_eq!(chosen(camembert, json!({"tokenizer_class": "CamembertTokenizer"})), Ok(Class::Roberta));
    }

    #[test]
    fn a_class_with_rules_in_code_is_refused_by_name() {
        let error =
            chosen(json!({"model_type": "bert"}), json!({"tokenizer_class": "BertJapaneseTokenizer"})).unwrap_err();
        assert!(error.contains("`tokenizer_config.json`: `tokenizer_class` is `BertJapaneseTokenizer`"), "{error}");
        let model = json!({"model_type": "roberta", "tokenizer_class": "BertweetTokenizer"});
        assert!(
            chosen(model, json!({})).unwrap_err().contains("`config.json`: `tokenizer_class` is `BertweetTokenizer`")
        );
    }
}
