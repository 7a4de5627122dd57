//! The parts of a tokenizer that classes take from the vocabulary files.

use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{PaddingParams, PostProcessorWrapper, Tokenizer, TruncationDirection, TruncationParams};

use super::class::Class;
use super::files::{Main, TokenizerFiles};
use crate::LoadError;

/// The content of the main files.
pub(super) struct VocabularyFiles {
    /// The whole tokenizer, for classes that keep it.
    pub(super) whole: Option<Tokenizer>,
    pub(super) vocabulary: Vocabulary,
    pub(super) merges: Merges,
    pub(super) post_processor: Option<PostProcessorWrapper>,
    /// The preset truncation side of `tokenizer.json`.
    pub(super) truncation_side: Option<TruncationDirection>,
    /// The preset padding token of `tokenizer.json`.
    pub(super) pad_token: Option<String>,
    /// sentencepiece's normaliser in `tokenizer.json`.
    pub(super) charsmap: Option<Value>,
    /// The `added_tokens` of `tokenizer.json`, if it exists.
    pub(super) added_tokens: Option<Vec<Map<String, Value>>>,
}

/// Pieces with their ids, or in id order with their scores.
pub(super) enum Vocabulary {
    Ids(Vocab),
    Scores(Vec<(String, f64)>),
}

impl Vocabulary {
    pub(super) fn ids(self) -> Vocab {
        match self {
            Vocabulary::Ids(ids) => ids,
            Vocabulary::Scores(scores) => scores.into_iter().zip(0..).map(|((piece, _), id)| (piece, id)).collect(),
        }
    }
}

impl Default for Vocabulary {
    fn default() -> Self {
        Vocabulary::Ids(Vocab::default())
    }
}

impl VocabularyFiles {
    /// Reads the parts of the main files that a class needs.
    pub(super) fn read(files: &TokenizerFiles, class: Class) -> Result<VocabularyFiles, LoadError> {
        match (files.vocabulary(), class) {
            (Main::Json { path }, _) => VocabularyFiles::from_json(path, class),
            (Main::WordPiece { vocab }, Class::Bert | Class::ConvBert | Class::MpNet) => {
                let ids = WordPiece::read_file(&vocab.to_string_lossy()).map_err(|error| unreadable(vocab, &error))?;
                Ok(VocabularyFiles::from_text(ids, Merges::new()))
            }
            (
                Main::ByteLevelBpe { vocab, merges },
                Class::Roberta | Class::Deberta | Class::Gpt2 | Class::Qwen2 | Class::Herbert,
            ) => {
                let (ids, merges) = BPE::read_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
                    .map_err(|error| unreadable(vocab, &error))?;
                Ok(VocabularyFiles::from_text(ids, merges))
            }
            (Main::WordPiece { vocab } | Main::ByteLevelBpe { vocab, .. }, _) => Err(LoadError::Unsupported {
                what: format!(
                    "`{}`: the model's tokenizer is a `{}`, which does not read this file: save a `tokenizer.json`, or \
                     name the right `tokenizer_class` in `tokenizer_config.json`",
                    vocab.display(),
                    class.name()
                ),
            }),
        }
    }

    fn from_text(ids: Vocab, merges: Merges) -> VocabularyFiles {
        VocabularyFiles {
            whole: None,
            vocabulary: Vocabulary::Ids(ids),
            merges,
            post_processor: None,
            truncation_side: None,
            pad_token: None,
            charsmap: None,
            added_tokens: None,
        }
    }

    fn from_json(path: &Path, class: Class) -> Result<VocabularyFiles, LoadError> {
        let invalid = |problem: String| LoadError::Invalid { path: path.into(), problem };
        let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
        let not_one = |error: &dyn fmt::Display| invalid(format!("not a tokenizer: {error}"));
        let (json, whole) = if class.uses_file_pipeline() {
            // Only the library reads its vocabulary.
            let json: Json<Unread> = serde_json::from_slice(&bytes).map_err(|error| not_one(&error))?;
            if json.model.dropout.is_some_and(|dropout| dropout > 0.0) {
                return Err(invalid("`dropout` of the model makes its tokens random: remove it".into()));
            }
            let whole = Tokenizer::from_bytes(&bytes).map_err(|error| not_one(&error))?;
            let empty = Pieces { vocab: Vocabulary::default(), merges: None };
            (json.with(empty), Some(whole))
        } else {
            (serde_json::from_slice(&bytes).map_err(|error| not_one(&error))?, None)
        };
        let merges = json.model.merges.unwrap_or_default().into_iter().map(Merge::pair).collect::<Option<Merges>>();
        let merges = merges.ok_or_else(|| invalid("not a tokenizer: a merge is not two pieces".into()))?;
        Ok(VocabularyFiles {
            whole,
            vocabulary: json.model.vocab,
            merges,
            post_processor: json.post_processor,
            truncation_side: json.truncation.map(|truncation| truncation.direction),
            pad_token: json.padding.map(|padding| padding.pad_token),
            charsmap: json.normalizer.as_ref().and_then(charsmap).cloned(),
            added_tokens: Some(json.added_tokens),
        })
    }
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> LoadError {
    LoadError::Invalid { path: path.into(), problem: format!("not a vocabulary: {error}") }
}

/// Finds sentencepiece's normaliser: the whole normaliser, or a step of it.
fn charsmap(normalizer: &Value) -> Option<&Value> {
    let is_charsmap = |step: &&Value| {
        step["type"] == "Precompiled" && step.get("precompiled_charsmap").is_some_and(|charsmap| !charsmap.is_null())
    };
    match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array()?.iter().find(is_charsmap),
        _ => Some(normalizer).filter(is_charsmap),
    }
}

/// `tokenizer.json`, with a part `M` of its model.
#[derive(Deserialize)]
struct Json<M> {
    #[serde(default)]
    truncation: Option<TruncationParams>,
    #[serde(default)]
    padding: Option<PaddingParams>,
    #[serde(default)]
    added_tokens: Vec<Map<String, Value>>,
    #[serde(default)]
    normalizer: Option<Value>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    model: M,
}

impl<M> Json<M> {
    fn with<N>(self, model: N) -> Json<N> {
        Json {
            truncation: self.truncation,
            padding: self.padding,
            added_tokens: self.added_tokens,
            normalizer: self.normalizer,
            post_processor: self.post_processor,
            model,
        }
    }
}

/// A model whose vocabulary is not read here.
#[derive(Deserialize)]
struct Unread {
    #[serde(default)]
    dropout: Option<f64>,
}

#[derive(Deserialize)]
struct Pieces {
    vocab: Vocabulary,
    #[serde(default)]
    merges: Option<Vec<Merge>>,
}

/// Two pieces that are merged; older files write them as one string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

impl Merge {
    fn pair(self) -> Option<(String, String)> {
        match self {
            Merge::Pair(left, right) => Some((left, right)),
            Merge::Text(text) => {
                let (left, right) = text.split_once(' ')?;
                (!right.contains(' ')).then(|| (left.to_owned(), right.to_owned()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Vocabulary, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pieces with ids, or a list of pieces and scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pieces: A) -> Result<Vocabulary, A::Error> {
        let mut ids = Vocab::default();
        while let Some((piece, id)) = pieces.next_entry()? {
            ids.insert(piece, id);
        }
        Ok(Vocabulary::Ids(ids))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<Vocabulary, A::Error> {
        let mut scores = Vec::new();
        while let Some(piece) = pieces.next_element()? {
            scores.push(piece);
        }
        Ok(Vocabulary::Scores(scores))
    }
}
