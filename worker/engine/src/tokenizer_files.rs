//! Which files hold a model's tokenizer, and the tokenizer they describe.
//!
//! The files decide, never the architecture: there are RoBERTa models with a WordPiece vocabulary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::config::read_json_object;
use crate::{LoadError, TokenizerKind};

/// The tokenizer files of a model directory.
#[derive(Debug, Clone)]
pub(crate) struct TokenizerFiles {
    main: Main,
    /// `tokenizer_config.json`.
    pub(crate) config: Option<PathBuf>,
    special_tokens_map: Option<PathBuf>,
    added_tokens: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum Main {
    Json { path: PathBuf },
    WordPiece { vocab: PathBuf },
    ByteLevelBpe { vocab: PathBuf, merges: PathBuf },
}

impl TokenizerFiles {
    /// Finds the tokenizer in a directory: the newest format that is there.
    pub(crate) fn find(dir: &Path) -> Result<TokenizerFiles, LoadError> {
        let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        let main = if let Some(path) = file("tokenizer.json") {
            Main::Json { path }
        } else if let Some(vocab) = file("vocab.txt") {
            Main::WordPiece { vocab }
        } else if let (Some(vocab), Some(merges)) = (file("vocab.json"), file("merges.txt")) {
            Main::ByteLevelBpe { vocab, merges }
        } else {
            let mut missing =
                "it has no `tokenizer.json`, no `vocab.txt`, and no `vocab.json` with `merges.txt`".to_string();
            let pieces = ["sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model"];
            if let Some(name) = pieces.into_iter().find(|name| file(name).is_some()) {
                missing += &format!(
                    "; `{name}` alone is not enough: save a `tokenizer.json` with \
                     `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
                );
            }
            return Err(LoadError::Missing { dir: dir.into(), missing });
        };
        Ok(TokenizerFiles {
            main,
            config: file("tokenizer_config.json"),
            special_tokens_map: file("special_tokens_map.json"),
            added_tokens: file("added_tokens.json"),
        })
    }

    /// Returns the kind of the main file.
    pub(crate) fn kind(&self) -> TokenizerKind {
        match self.main {
            Main::Json { .. } => TokenizerKind::TokenizerJson,
            Main::WordPiece { .. } => TokenizerKind::WordPiece,
            Main::ByteLevelBpe { .. } => TokenizerKind::ByteLevelBpe,
        }
    }

    /// Returns the files that decide the token ids, for the digest.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.config.iter().cloned().collect();
        match &self.main {
            Main::Json { path } => files.push(path.clone()),
            Main::WordPiece { vocab } => files.push(vocab.clone()),
            Main::ByteLevelBpe { vocab, merges } => files.extend([vocab.clone(), merges.clone()]),
        }
        if !matches!(self.main, Main::Json { .. }) {
            files.extend(self.special_tokens_map.iter().chain(&self.added_tokens).cloned());
        }
        files
    }

    /// Builds the tokenizer, without truncation and padding: whatever a file presets of these is not the model's word
    /// but a trace of how somebody last used it.
    pub(crate) fn build(&self) -> Result<Tokenizer, LoadError> {
        let settings = Settings::read(self)?;
        let mut tokenizer = match &self.main {
            Main::Json { path } => from_json(path, &settings)?,
            Main::WordPiece { vocab } => word_piece(vocab, &settings)?,
            Main::ByteLevelBpe { vocab, merges } => byte_level_bpe(vocab, merges, &settings)?,
        };
        tokenizer.with_truncation(None).expect("no truncation has no parameters to be wrong");
        tokenizer.with_padding(None);
        Ok(tokenizer)
    }
}

/// What the small files beside a vocabulary say.
struct Settings {
    config: Map<String, Value>,
    special_tokens: Map<String, Value>,
    /// Tokens outside the vocabulary file, or with properties of their own, by id.
    added: BTreeMap<u32, AddedToken>,
    added_path: PathBuf,
}

impl Settings {
    fn read(files: &TokenizerFiles) -> Result<Settings, LoadError> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_json_object).transpose();
        let config = read(&files.config)?.unwrap_or_default();
        let mut settings = Settings {
            special_tokens: read(&files.special_tokens_map)?.unwrap_or_default(),
            added: BTreeMap::new(),
            added_path: files.added_tokens.clone().or(files.config.clone()).unwrap_or_default(),
            config,
        };
        for (content, id) in read(&files.added_tokens)?.unwrap_or_default() {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| settings.invalid(format!("the id of `{content}` is not a token id")))?;
            settings.added.insert(id, AddedToken::from(content, true));
        }
        if let Some(Value::Object(decoder)) = settings.config.get("added_tokens_decoder").cloned() {
            for (id, token) in decoder {
                let (Ok(id), Some(token)) = (id.parse(), added_token(&token)) else {
                    return Err(settings.invalid(format!("`added_tokens_decoder`: entry `{id}` is not a token")));
                };
                settings.added.insert(id, token);
            }
        }
        Ok(settings)
    }

    fn invalid(&self, problem: String) -> LoadError {
        LoadError::Invalid { path: self.added_path.clone(), problem }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Value::as_bool)
    }

    /// Returns a special token by its role, such as `cls_token`: from the map, else the config, else the default.
    fn special(&self, role: &str, default: &str) -> AddedToken {
        let found = self.special_tokens.get(role).or_else(|| self.config.get(role)).and_then(added_token);
        found.unwrap_or_else(|| AddedToken::from(default, true)).special(true)
    }
}

/// Reads a token written as a string, or as an object with properties.
fn added_token(value: &Value) -> Option<AddedToken> {
    let object = match value {
        Value::String(content) => return Some(AddedToken::from(content.clone(), true)),
        Value::Object(object) => object,
        _ => return None,
    };
    let flag = |name: &str, default| object.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", true);
    let token = AddedToken::from(object.get("content")?.as_str()?, special)
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .single_word(flag("single_word", false))
        .normalized(flag("normalized", !special));
    Some(token)
}

/// Reads `tokenizer.json`. As in transformers, what `tokenizer_config.json` says about case and accents wins over the
/// normaliser in the file: it is what people edit.
fn from_json(path: &Path, settings: &Settings) -> Result<Tokenizer, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.into(), source })?;
    let mut tokenizer = Tokenizer::from_bytes(bytes)
        .map_err(|error| LoadError::Invalid { path: path.into(), problem: format!("not a tokenizer: {error}") })?;
    if let Some(NormalizerWrapper::BertNormalizer(in_file)) = tokenizer.get_normalizer() {
        let mut wanted = *in_file;
        if let Some(lowercase) = settings.flag("do_lower_case") {
            wanted.lowercase = lowercase;
        }
        if let Some(value) = settings.config.get("strip_accents") {
            wanted.strip_accents = value.as_bool();
        }
        if let Some(handle) = settings.flag("tokenize_chinese_chars") {
            wanted.handle_chinese_chars = handle;
        }
        tokenizer.with_normalizer(Some(wanted)).map_err(|error| LoadError::Invalid {
            path: path.into(),
            problem: format!("its normaliser cannot be set: {error}"),
        })?;
    }
    Ok(tokenizer)
}

/// Builds BERT's tokenizer around a `vocab.txt`, with the defaults of transformers' `BertTokenizer`.
fn word_piece(vocab: &Path, settings: &Settings) -> Result<Tokenizer, LoadError> {
    let unknown = settings.special("unk_token", "[UNK]");
    let invalid = |problem: String| LoadError::Invalid { path: vocab.into(), problem };
    let mut pieces = WordPiece::read_file(&vocab.to_string_lossy())
        .map_err(|error| invalid(format!("not a vocabulary: {error}")))?;
    // The algorithm looks for the unknown token in the vocabulary proper, even where it is one of the added ones.
    if let Some((&id, _)) = settings.added.iter().find(|(_, token)| token.content == unknown.content) {
        pieces.insert(unknown.content.clone(), id);
    }
    let model = WordPiece::builder()
        .vocab(pieces)
        .unk_token(unknown.content.clone())
        .build()
        .map_err(|error| invalid(format!("not a vocabulary: {error}")))?;
    let mut tokenizer = Tokenizer::new(model);
    let lowercase = settings.flag("do_lower_case").unwrap_or(true);
    let chinese = settings.flag("tokenize_chinese_chars").unwrap_or(true);
    let normalizer = BertNormalizer::new(true, chinese, settings.flag("strip_accents"), lowercase);
    tokenizer.with_normalizer(Some(normalizer)).map_err(|error| settings.invalid(error.to_string()))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(WordPieceDecoder::default()));
    let (cls, sep) = (settings.special("cls_token", "[CLS]"), settings.special("sep_token", "[SEP]"));
    let (pad, mask) = (settings.special("pad_token", "[PAD]"), settings.special("mask_token", "[MASK]"));
    let ids = add_tokens(&mut tokenizer, settings, vocab, [&cls, &sep, &unknown, &pad, &mask])?;
    tokenizer.with_post_processor(Some(BertProcessing::new((sep.content, ids[1]), (cls.content, ids[0]))));
    Ok(tokenizer)
}

/// Builds RoBERTa's tokenizer around a `vocab.json` and its `merges.txt`.
fn byte_level_bpe(vocab: &Path, merges: &Path, settings: &Settings) -> Result<Tokenizer, LoadError> {
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy())
        .build()
        .map_err(|error| LoadError::Invalid { path: vocab.into(), problem: format!("not a vocabulary: {error}") })?;
    let mut tokenizer = Tokenizer::new(model);
    let prefix_space = settings.flag("add_prefix_space").unwrap_or(false);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(prefix_space, true, true)));
    let (cls, sep) = (settings.special("cls_token", "<s>"), settings.special("sep_token", "</s>"));
    let (unknown, pad) = (settings.special("unk_token", "<unk>"), settings.special("pad_token", "<pad>"));
    // RoBERTa's mask takes the space before it along, whether or not a file says so.
    let mask = settings.special("mask_token", "<mask>").lstrip(true);
    let ids = add_tokens(&mut tokenizer, settings, vocab, [&cls, &sep, &unknown, &pad, &mask])?;
    let processing = RobertaProcessing::new((sep.content, ids[1]), (cls.content, ids[0]));
    tokenizer.with_post_processor(Some(processing.trim_offsets(true).add_prefix_space(prefix_space)));
    Ok(tokenizer)
}

/// Adds the tokens beyond the vocabulary and the special ones, checks that each got the id that the files promise, and
/// returns the ids of the first two special tokens: start and end.
fn add_tokens(
    tokenizer: &mut Tokenizer,
    settings: &Settings,
    vocab: &Path,
    specials: [&AddedToken; 5],
) -> Result<[u32; 2], LoadError> {
    // In the order of ids: a token that the vocabulary lacks gets the next free id.
    for (&id, token) in &settings.added {
        let mut token = token.clone();
        if let Some(special) = specials.iter().find(|special| special.content == token.content) {
            token = (*special).clone();
        }
        let added = match token.special {
            true => tokenizer.add_special_tokens([token.clone()]),
            false => tokenizer.add_tokens([token.clone()]),
        };
        added.map_err(|error| settings.invalid(format!("token `{}` cannot be added: {error}", token.content)))?;
        let given = tokenizer.token_to_id(&token.content);
        if given != Some(id) {
            let given = given.map_or("none".into(), |id| id.to_string());
            return Err(settings.invalid(format!("token `{}` should have id {id}, but gets {given}", token.content)));
        }
    }
    for special in specials {
        // A vocabulary without, say, a mask is no fault: only the start and the end are needed.
        if tokenizer.token_to_id(&special.content).is_some() {
            tokenizer
                .add_special_tokens([special.clone()])
                .map_err(|error| settings.invalid(format!("token `{}` cannot be added: {error}", special.content)))?;
        }
    }
    let id_of = |token: &AddedToken| {
        tokenizer.token_to_id(&token.content).ok_or_else(|| LoadError::Invalid {
            path: vocab.into(),
            problem: format!("the special token `{}` is not in the vocabulary", token.content),
        })
    };
    Ok([id_of(specials[0])?, id_of(specials[1])?])
}
