//! A model's tokenizer, assembled from its files like `AutoTokenizer` of transformers 5.24.
//!
//! The tokenizer class, not the architecture, decides what a setting means: there are RoBERTa models with a WordPiece
//! vocabulary. [`ModelTokenizer::open`] has the steps in order.

mod builders;
mod choice;
pub(crate) mod class;
mod files;
mod settings;
mod special;
mod token;
mod vocabulary_files;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{PostProcessor, PostProcessorWrapper, Tokenizer, TruncationDirection};

use crate::config::{Config, read_json_object};
use crate::{LoadError, TokenizerKind};
use builders::BuildInput;
pub(crate) use builders::QWEN2_WORDS;
pub(crate) use class::Class;
use files::TokenizerFiles;
use settings::Settings;
use special::SpecialTokens;
use token::TokenSpec;
use vocabulary_files::VocabularyFiles;

/// A model's tokenizer, with related settings.
#[derive(Clone)]
pub(crate) struct ModelTokenizer {
    files: TokenizerFiles,
    reads_older_files: bool,
    class: Class,
    /// Without truncation and padding: the presets in files only reflect the tokenizer's last use.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Which end of a long text is cut off.
    pub(crate) truncation_side: TruncationDirection,
    /// `model_max_length` in tokens, special ones included.
    pub(crate) model_max_length: Option<usize>,
}

impl ModelTokenizer {
    /// Finds and assembles the tokenizer in a directory. `lowercase` is sentence-transformers' `do_lower_case`:
    /// lowercases texts except for special tokens.
    ///
    /// # Errors
    /// When a file is missing or invalid, or a setting unsupported; names file and setting.
    pub(crate) fn open(dir: &Path, model: &Config, lowercase: bool) -> Result<ModelTokenizer, LoadError> {
        let files = TokenizerFiles::find(dir)?;
        let config = files.config.as_deref().map(read_json_object).transpose()?.unwrap_or_default();
        let reads_older_files = !config.contains_key("added_tokens_decoder");
        let class = choice::choose(model, &config, || files.mentions_byte_level())?;
        let mut source = VocabularyFiles::read(&files, class)?;
        let settings = Settings::read(&files, config, source.added_tokens.as_deref())?;
        let special = SpecialTokens::of(class, &settings, source.pad_token.as_deref())?;
        let given = BuildInput { class, settings: &settings, special: &special };

        let mut tokenizer = builders::pipeline(&given, &mut source)?;
        add_tokens(&mut tokenizer, &given)?;
        let post_processor = builders::post_processor(&given, &tokenizer, source.post_processor.take())?;
        tokenizer.with_post_processor(Some(post_processor));
        refuse_token_types(&tokenizer, &given)?;
        tokenizer.set_encode_special_tokens(settings.flag("split_special_tokens", false)?);
        if lowercase {
            lower(&mut tokenizer, &settings)?;
        }
        tokenizer.with_truncation(None).expect("no truncation has no parameters to be wrong");
        tokenizer.with_padding(None);
        settings.is_left("padding_side")?;
        Ok(ModelTokenizer {
            truncation_side: match settings.is_left("truncation_side")? {
                Some(true) => TruncationDirection::Left,
                Some(false) => TruncationDirection::Right,
                None => source.truncation_side.unwrap_or(TruncationDirection::Right),
            },
            model_max_length: settings.model_max_length()?,
            tokenizer: Arc::new(tokenizer),
            files,
            reads_older_files,
            class,
        })
    }

    /// Reads the tokenizer of a StaticEmbedding module: `tokenizer.json` as it is, without tokens around a text, with
    /// the truncation that the file presets.
    ///
    /// # Errors
    /// When the file is missing or invalid.
    pub(crate) fn of_static_embedding(dir: &Path) -> Result<ModelTokenizer, LoadError> {
        let files = TokenizerFiles::of_static_embedding(dir)?;
        let invalid = |error: tokenizers::Error| LoadError::Invalid {
            path: files.main().into(),
            problem: format!("not a tokenizer: {error}"),
        };
        let mut tokenizer = Tokenizer::from_file(files.main()).map_err(invalid)?;
        let preset = tokenizer.get_truncation().map(|preset| (preset.max_length, preset.direction));
        tokenizer.with_truncation(None).expect("no truncation has no parameters to be wrong");
        tokenizer.with_padding(None).with_post_processor(None::<PostProcessorWrapper>);
        Ok(ModelTokenizer {
            truncation_side: preset.map_or(TruncationDirection::Right, |(_, side)| side),
            model_max_length: preset.map(|(length, _)| length),
            tokenizer: Arc::new(tokenizer),
            files,
            reads_older_files: false,
            class: Class::Backend,
        })
    }

    pub(crate) fn kind(&self) -> TokenizerKind {
        self.files.kind()
    }

    /// Returns how many tokens it puts around every text.
    pub(crate) fn special_tokens(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }

    /// Returns the files that determine the token ids, for the digest.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.all(self.reads_older_files)
    }
}

impl fmt::Debug for ModelTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelTokenizer").field("class", &self.class).field("files", &self.files).finish_non_exhaustive()
    }
}

/// Adds the files' tokens that the tokenizer lacks: those with properties in the order of their ids, then the special
/// ones.
fn add_tokens(tokenizer: &mut Tokenizer, given: &BuildInput<'_>) -> Result<(), LoadError> {
    let BuildInput { settings, special, .. } = given;
    let in_file: HashSet<String> =
        tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let mut required: Vec<TokenSpec> = settings.added.values().cloned().map(TokenSpec::Token).collect();
    let known: HashSet<String> =
        in_file.iter().cloned().chain(required.iter().map(|token| token.content().to_owned())).collect();
    for token in special.named().chain(special.extra()) {
        if !known.contains(token.content()) && !required.contains(token) {
            required.push(token.clone());
        }
    }
    let named: HashSet<&str> = special.named().map(TokenSpec::content).collect();
    let tokens = required.into_iter().map(|token| match token {
        TokenSpec::Text(content) => tokenizers::AddedToken::from(content, true),
        TokenSpec::Token(mut token) => {
            token.special |= named.contains(token.content.as_str());
            token.token()
        }
    });
    tokenizer.add_tokens(tokens).map_err(|error| settings.invalid(format!("a token cannot be added: {error}")))?;
    add_again(tokenizer, given)?;
    for (id, token) in settings.added.iter().filter(|(_, token)| !in_file.contains(&token.content)) {
        let found = tokenizer.token_to_id(&token.content);
        if found != Some(*id) {
            let found = found.map_or("none".into(), |id| id.to_string());
            let problem = format!("token `{}` should have id {id}, but gets {found}", token.content);
            return Err(settings.invalid(problem));
        }
    }
    Ok(())
}

/// Adds all special tokens again as plain ones, as `Qwen2Tokenizer` does.
fn add_again(tokenizer: &mut Tokenizer, given: &BuildInput<'_>) -> Result<(), LoadError> {
    if given.class != Class::Qwen2 {
        return Ok(());
    }
    let all = given.special.named().chain(given.special.extra());
    let tokens = all.map(|token| tokenizers::AddedToken::from(token.content().to_owned(), true));
    let added = tokenizer.add_tokens(tokens.collect::<Vec<_>>());
    added.map(|_| ()).map_err(|error| given.settings.invalid(format!("a token cannot be added: {error}")))
}

/// Refuses tokenizers with token types other than 0, which is always fed to models here.
fn refuse_token_types(tokenizer: &Tokenizer, given: &BuildInput<'_>) -> Result<(), LoadError> {
    if !matches!(given.class, Class::Backend | Class::FNet) || !given.settings.feeds_token_types() {
        return Ok(());
    }
    let probe = tokenizer.encode("a", true).map(|encoding| encoding.get_type_ids().iter().any(|id| *id != 0));
    match probe {
        Ok(true) => Err(LoadError::Unsupported {
            what:
                "`tokenizer.json`: its `post_processor` gives tokens a `type_id` other than 0, which the model is not \
                   fed here"
                    .into(),
        }),
        // A text that cannot be tokenized only affects its row.
        Ok(false) | Err(_) => Ok(()),
    }
}

/// Prepends lowercasing to the normaliser, like sentence-transformers, unless present.
fn lower(tokenizer: &mut Tokenizer, settings: &Settings) -> Result<(), LoadError> {
    let is_lowercase = |step: &NormalizerWrapper| matches!(step, NormalizerWrapper::Lowercase(_));
    let mut steps: Vec<NormalizerWrapper> = match tokenizer.get_normalizer() {
        None => Vec::new(),
        Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
        Some(step) => vec![step.clone()],
    };
    if steps.iter().any(is_lowercase) {
        return Ok(());
    }
    steps.insert(0, Lowercase.into());
    let normalizer = NormalizerWrapper::Sequence(Sequence::new(steps));
    tokenizer.with_normalizer(Some(normalizer)).map_err(|error| settings.invalid(error.to_string()))?;
    Ok(())
}
